"""Places in a line: from a span of characters to file, line and column, through the indentation of a card."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ofasys_lite.errors import Place
from ofasys_lite.instruction.syntax_tree import Span

#: Characters that would move the carets away from what they mark; shown as one space each.
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the text of an instruction stands.

    A literal block whose text is indented by 4 and begins on line 7 of a card is
    `Origin("tasks/caption.yaml", line=7, column=5, indent=4)`; a one-line quoted scalar has the column of its first
    character after the quote; text typed by hand is `Origin()`.

    Attributes:
        file: Path as the user wrote it, or None.
        line: 1-based line of the file that holds the first character of the text.
        column: 1-based column of the file where the first character stands.
        indent: Number of characters that the file has before every further line of the text.
        exact: False where the file's characters are not those of the text (folded or escaped scalars): then only the
            line of the file is told, and the carets stand under the text.
    """

    file: str | None = None
    line: int = 1
    column: int = 1
    indent: int = 0
    exact: bool = True


TYPED = Origin()


def place_of(text: str, span: Span, origin: Origin | None = None) -> Place:
    """The place of `span` in `text`: the physical line that holds its first character, and the columns in it.

    Args:
        text: The whole text that was parsed; a line break is white space in it.
        span: Offsets into `text`; cut at the end of the line where it goes on to the next.
        origin: Where the text stands; None for text typed by hand.
    """
    origin = origin or TYPED
    start = min(span.start, len(text))
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    shown = _UNPRINTABLE.sub(" ", text[line_start:line_end].rstrip("\r"))
    before = text.count("\n", 0, start)
    column = start - line_start + 1
    shift = origin.indent if before else origin.column - 1
    return Place(
        file=origin.file,
        line=origin.line + before if origin.exact else origin.line,
        column=column,
        text=shown if shown.strip() else "",
        width=max(1, min(span.end, line_start + len(shown)) - start),
        file_column=column + shift if origin.exact else -1,
    )
