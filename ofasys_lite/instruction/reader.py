"""What all parts of the parser share: the text, the known types, the errors so far, and how names are cut out."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NoReturn

from ofasys_lite.errors import InstructionError, raise_all
from ofasys_lite.instruction.places import Origin, place_of
from ofasys_lite.instruction.syntax_tree import Quoted, Span

#: Reading stops after this many errors in one line.
MOST_ERRORS = 10

#: Whatever can stand in a name: no white space, no ASCII punctuation but `_`. Characters beyond ASCII are looked at
#: one by one in `name_end`, because `\w` misses the vowel signs of many scripts.
NAME = r"[^\s\x00-\x2f:-@\[-^`{-\x7f]+"

_SPACE = re.compile(r"\s+")
_QUOTED = {mark: re.compile(rf"{mark}((?:[^{mark}\\]|\\.)*){mark}", re.DOTALL) for mark in "\"'"}
_QUOTED_ESCAPE = re.compile(r"""\\(["'\\])""")
_FOUND = re.compile(rf"\s*({NAME}|\S)")
_STOP = re.compile(r"[\[\]]")
_CLOSING_ANGLE = re.compile(r"(?<!-)>")
_MARK = re.compile(r"\|\|\||<->|->|;;")


class Broken(Exception):
    """A slot or quantifier that cannot be read on from `position`; its error is on record. Never leaves the parser."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class TooManyErrors(Exception):
    """Reading stops here; the errors are on record. Never leaves the parser."""


def name_end(text: str, start: int, end: int, extra: str = "") -> int:
    """The offset at which the name in `text[start:end]` ends: letters, digits, `_` of any script, and `extra`."""
    name = text[start:end]
    if name.isascii():
        return end
    for offset, char in enumerate(name):
        # one letter before it: whether `char` may go on in an identifier
        if char not in extra and not ("a" + char).isidentifier():
            return start + offset
    return end


def next_word(text: str, position: int) -> Span:
    """The span of the word or mark that follows `position`; the end of the text if nothing does."""
    found = _FOUND.match(text, position)
    if found is None:
        return Span(len(text.rstrip()), len(text.rstrip()))
    start, end = found.span(1)
    return Span(start, max(start + 1, name_end(text, start, end)))


@dataclass(slots=True)
class Reader:
    """The text being read and what has gone wrong so far.

    Attributes:
        types: All known types, aliases included.
        listed: The same in the order in which messages list them.
        errors: Errors on record: span, code, message, help.
        lost_mark: An unclosed slot may have swallowed an arrow, so its absence is no error of its own.
    """

    text: str
    types: frozenset[str]
    listed: tuple[str, ...]
    origin: Origin
    errors: list[tuple[Span, str, str, str]] = field(default_factory=list)
    lost_mark: bool = False

    def fail(self, code: str, message: str, span: Span, help: str = "") -> None:
        """Puts an error on record; reading goes on. Stops all reading after too many."""
        self.errors.append((span, code, message, help))
        if len(self.errors) >= MOST_ERRORS:
            end = Span(len(self.text.rstrip()), len(self.text.rstrip()))
            self.errors.append((end, "E034", f"reading stopped after {MOST_ERRORS} errors", "mend those first"))
            raise TooManyErrors

    def broken(self, code: str, message: str, span: Span, help: str = "") -> NoReturn:
        """Puts an error on record and leaves the slot or quantifier that is being read; Broken: always."""
        self.fail(code, message, span, help)
        raise Broken(span.start)

    def raise_errors(self) -> None:
        """Raises what is on record, in the order of the text; nothing if there is nothing.

        Raises:
            InstructionError: One error as itself, several as `InstructionErrors`.
        """
        raise_all(
            [
                InstructionError(message, code=code, place=place_of(self.text, span, self.origin), help=help)
                for span, code, message, help in sorted(self.errors, key=lambda error: (error[0].start, error[1]))
            ]
        )

    def skip(self, position: int) -> int:
        """The offset of the first character from `position` on that is no white space."""
        if not self.text[position : position + 1].isspace():
            return position
        found = _SPACE.match(self.text, position)
        return found.end() if found else position

    def found(self, position: int) -> str:
        """What stands at `position`, for a message."""
        span = next_word(self.text, position)
        if span.start == span.end:
            return "the end of the line"
        return f"`{shorten(self.text[span.start : span.end])}`"

    def quoted(self, position: int) -> Quoted:
        """The quoted string that opens at `position`; Broken: it is never closed."""
        mark = self.text[position]
        found = _QUOTED[mark].match(self.text, position)
        if found is None:
            self.broken(
                "E024",
                f"the quote {mark} is not closed",
                Span(position, position + 1),
                f"a quote inside quotes is written \\{mark}",
            )
        inner = found.group(1)
        if "\\" in inner:
            inner = _QUOTED_ESCAPE.sub(r"\1", inner)
        return Quoted(inner, Span(position, found.end()))

    def closes(self, position: int, close: str) -> bool:
        """Whether `close` stands after `position` and before another slot opens."""
        bracket = _STOP.search(self.text, position)
        if close == "]":
            return bracket is not None and bracket.group() == "]"
        limit = bracket.start() if bracket else len(self.text)
        return _CLOSING_ANGLE.search(self.text, position, limit) is not None

    def resume(self, position: int, close: str = "]") -> int:
        """The offset where reading goes on after a broken slot (or `<...>`): after its closing mark if it has one.

        A slot whose next bracket opens another one was not closed; it ends before the next mark or bracket.
        """
        bracket = _STOP.search(self.text, position)
        limit = bracket.start() if bracket else len(self.text)
        if close == "]":
            if bracket is not None and bracket.group() == "]":
                self.lost_mark = self.lost_mark or _MARK.search(self.text, position, limit) is not None
                return bracket.end()
        else:
            closing = _CLOSING_ANGLE.search(self.text, position, limit)
            if closing is not None:
                return closing.end()
        mark = _MARK.search(self.text, position, limit)
        return mark.start() if mark else limit


def shorten(text: str) -> str:
    """`text`, or its first 40 characters and dots."""
    return text if len(text) <= 40 else text[:40] + "..."
