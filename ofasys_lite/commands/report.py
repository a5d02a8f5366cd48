"""`ofasys-lite report runs/x`: report.html once more, from what the last evaluation left; no model is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.commands.runs import find_run
from ofasys_lite.writing import claim_file

__all__ = ["main"]


def main(arguments: Sequence[str]) -> int:
    """0 when the report is written."""
    parser = FlagParser("ofasys-lite report", description=__doc__)
    parser.add_argument("run", help="a folder under runs/ that was evaluated")
    parser.add_argument("--out", type=Path, help="file to write; report.html in the run if not given")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out if it is there")
    given = parser.parse_args(list(arguments))
    folder = find_run(given.run.removeprefix("run=")).folder
    if given.out is not None:
        claim_file(given.out, given.overwrite, [folder / "evaluation.json"])

    from rich.console import Console

    from ofasys_lite.report import load_results, print_table, write_report
    from ofasys_lite.training.files import RunFolder

    results = replace(load_results(folder / "evaluation.json"), history=RunFolder(folder).history())
    path = write_report(results, given.out or folder / "report.html")
    print_table(results, Console())
    print(path)
    return 0
