"""fairseq's dict.txt: the symbol of each row, a line each, behind four controls that stand in no line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ofasys_lite.errors import CheckpointError

#: Rows 0 to 3.
CONTROLS = ("<s>", "<pad>", "</s>", "<unk>")
_COUNT = re.compile(r" \d+( #fairseq:overwrite)?$")
_HELP = "a dictionary of fairseq is UTF-8, a symbol and a count a line"


def read_symbols(path: Path) -> list[str]:
    """The symbol of each row, the four controls first.

    Raises:
        CheckpointError: The file is missing, is no UTF-8, has a line without a count, or a symbol twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}", help=_HELP) from None
    names = list[str](CONTROLS)
    known = set(names)
    # pieces may hold what Python calls the end of a line
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        line = line.rstrip("\r")
        found = _COUNT.search(line)
        if not line and text == "":
            break
        if found is None:
            raise CheckpointError(f"{path}, line {number}: no count stands behind `{line}`", help=_HELP)
        symbol = line[: found.start()]
        if symbol in known and found[1] is None:
            help = "a row for each symbol; `#fairseq:overwrite` behind the count makes one more of the same name"
            raise CheckpointError(f"{path}, line {number}: `{symbol}` is there twice", help=help)
        known.add(symbol)
        names.append(symbol)
    return names


def symbols_text(names: Sequence[str]) -> str:
    """dict.txt of rows, whose first four are the controls; counts are nothing that we know, and fall with the row."""
    rows = enumerate(names[len(CONTROLS) :])
    return "".join(f"{name} {len(names) - row}\n" for row, name in rows)


def distinct_symbols(names: Sequence[str]) -> list[str]:
    """The names as dict.txt can hold them: on one line, none empty, none twice."""
    found = dict.fromkeys(CONTROLS)
    for row, name in enumerate(names):
        symbol = re.sub(r"[\r\n]", "_", name) or f"<row_{row}>"
        while symbol in found:
            symbol += "_"
        found[symbol] = None
    return list(found)
