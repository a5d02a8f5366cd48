"""Tables on a narrow terminal: lines are broken between words, names behind their underscores."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def folded(name: str, most: int = 13) -> str:
    r"""A long name on several lines, broken where its words meet.

    Example:
        >>> folded("majority_per_question")
        'majority_per_\nquestion'
    """
    lines = [""]
    for word in re.findall(r"[^_./-]*[_./-]?", name):
        if lines[-1] and len(lines[-1]) + len(word) > most:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def width(piped: int) -> int | None:
    """For a Console: None where a terminal or COLUMNS says how wide it is, else what a file or a pipe gets."""
    return None if sys.stdout.isatty() or "COLUMNS" in os.environ else piped


def keep_words(table: Table, console: Console) -> None:
    """Sets the widths of columns so that no word is broken, without a frame where only that makes room."""
    from rich.measure import Measurement

    # rich takes from the widest columns, whether or not they hold one long word
    least, most = [], []
    for column in table.columns:
        cells = [Measurement.get(console, console.options, cell) for cell in (column.header, *column.cells)]
        most.append(max(cell.maximum for cell in cells))
        least.append(most[-1] if column.no_wrap else max(cell.minimum for cell in cells))
    room = console.width - _between(table)
    if sum(least) > room:
        table.box, table.padding = None, (0, 1, 0, 0)
        room = console.width - _between(table)
    while sum(least) > room and max(least) > 1:  # only the longest words of all are broken
        least[least.index(max(least))] -= 1
    while sum(most) > room and most != least:
        widest = max(range(len(most)), key=lambda i: (most[i] > least[i], most[i]))
        most[widest] -= 1
    for column, found in zip(table.columns, most, strict=True):
        column.width = found


def _between(table: Table) -> int:
    """Cells of a line that are not of its columns."""
    count, both = len(table.columns), table.padding[1] + table.padding[3]
    return (0 if table.box is None else count + 1) + both * (count if table.pad_edge else count - 1)
