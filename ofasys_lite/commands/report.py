"""`ofasys-lite report runs/x`: scores and report.html made anew from the predictions that the last evaluation left.

No model is loaded and no data are read.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.errors import CardError
from ofasys_lite.run.find_run import find_run
from ofasys_lite.writing import claim_file, write_atomic


def main(arguments: Sequence[str]) -> int:
    """0 when the report is written."""
    parser = FlagParser("ofasys-lite report", description=__doc__)
    parser.add_argument("run", help="a folder under runs/ that was evaluated")
    parser.add_argument("--out", type=Path, help="file to write; report.html in the run if not given")
    parser.add_argument("--overwrite", action="store_true", help="replace the file of --out if it is there")
    given = parser.parse_args(list(arguments))
    folder = find_run(given.run.removeprefix("run=")).folder
    if given.out is not None:
        if given.out.suffix.lower() not in (".html", ".htm"):
            raise CardError(f"--out {given.out}: a report is a page of HTML", help=f"--out {given.out.stem}.html")
        claim_file(given.out, given.overwrite, [folder / "evaluation.json"])

    from rich.console import Console

    from ofasys_lite.report import load_results, metrics_json, print_table, rescored, write_report
    from ofasys_lite.run.run_folder import RunFolder

    results = replace(load_results(folder / "evaluation.json"), history=RunFolder(folder).history())
    results = rescored(results, folder / "predictions")
    if given.out is None:
        write_atomic(folder / "metrics.json", json.dumps(metrics_json(results), indent=1, ensure_ascii=False))
    path = write_report(results, given.out or folder / "report.html")
    print_table(results, Console())
    print(path)
    return 0
