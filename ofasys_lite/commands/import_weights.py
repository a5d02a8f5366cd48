"""`ofasys-lite import SOURCE --to runs/x`: weights of OFASys, OFA, fairseq or Hugging Face become a run."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ofasys_lite.commands.flags import FlagParser
from ofasys_lite.errors import CheckpointError

if TYPE_CHECKING:
    from ofasys_lite.interop.imported import Imported
    from ofasys_lite.interop.stored_cases import Difference


def main(arguments: Sequence[str]) -> int:
    """0 when the run was written; what does not fit its reference is not written."""
    given = _parser().parse_args(list(arguments))
    from ofasys_lite.interop.importing import account, import_model

    imported = import_model(given.source, given.tokenizer, given.dictionary)
    print("\n".join(account(imported)))
    if given.check is not None:
        _check(imported, given.source, given.check)
    place = imported.generalist.save_pretrained(given.to / "export", overwrite=given.overwrite)
    use = f"use it: ofasys-lite predict {given.to} '[TEXT:src] -> [TEXT:tgt]' ..."
    if not imported.generalist.network.config.decoder_layers:
        use = f"it writes nothing; a training gives it a decoder: ofasys-lite train start.text={given.source} ..."
    print(f"written to {place}; {use}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = FlagParser("ofasys-lite import", description=__doc__)
    parser.add_argument("source", type=Path, help="a .pt of OFASys, OFA or fairseq, or a folder of Hugging Face")
    parser.add_argument("--to", type=Path, required=True, help="folder of the run: runs/x")
    parser.add_argument(
        "--check",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="compare before anything is written: with stored references, or, without FILE, with the live library",
    )
    parser.add_argument("--tokenizer", type=Path, metavar="FOLDER", help="of the text model, if not beside the weights")
    parser.add_argument("--dictionary", type=Path, metavar="FILE", help="dict.txt, if not beside the weights")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that the run holds")
    return parser


def _check(imported: Imported, source: Path, references: Sequence[Path]) -> None:
    """Prints every difference; CheckpointError where one is above its limit."""
    from ofasys_lite.interop.stored_cases import compare, read_case

    found: list[Difference] = []
    if references:
        for path in references:
            found += compare(imported, read_case(path))
    elif source.is_file():
        help = "name the stored reference: --check text2text.pt"
        raise CheckpointError(f"{imported.house} cannot run beside this package, and no reference is named", help=help)
    else:
        from ofasys_lite.interop.live import compare_live

        found = compare_live(imported, source)
    for each in found:
        mark = "ok  " if each.fits else "MORE"
        print(f"  {mark} {each.what}: {each.value:.3g} (limit {each.limit:g}; {each.about})")
    beyond = [each.what for each in found if not each.fits]
    if beyond:
        more = f" and {len(beyond) - 1} more" if len(beyond) > 1 else ""
        raise CheckpointError(
            f"{source} does not compute what its reference says: {beyond[0]}{more}",
            help="is the reference of these weights? nothing was written",
        )
    print(f"greatest difference: {max((d.value / d.limit for d in found if d.limit), default=0.0):.2g} of its limit")
