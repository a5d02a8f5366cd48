"""`ofasys-lite export RUN --to TARGET`: a model becomes files that others read."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.run.find_run import find_run


def main(arguments: Sequence[str]) -> int:
    """0 when the files were written; what has no counterpart there is refused, with the reason."""
    given = _parser().parse_args(list(arguments))
    found = find_run(given.run)
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.interop.exporting import export_model

    folder: Path = given.out or found.folder / given.to
    model = Generalist.from_pretrained(found.export, device="cpu")
    lines = export_model(model, given.to, folder, given.overwrite)
    print("\n".join([*lines, f"written to {folder}"]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser("ofasys-lite export", description=__doc__)
    parser.add_argument("run", help="a run (runs/x), or a folder written by save_pretrained")
    parser.add_argument(
        "--to",
        required=True,
        choices=("hf", "fairseq", "onnx"),
        help="hf: a folder that transformers loads (BART, mBART, Marian or T5); fairseq: model.pt and dict.txt; "
        "onnx: graphs of one sample",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where it goes; else RUN/TARGET")
    parser.add_argument("--overwrite", action="store_true", help="replace an older export of ours")
    return parser
