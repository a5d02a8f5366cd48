"""Slots, `[TYPE:column,attributes]`, and quantifiers, `*` and `{m,n}` with their `<attributes>`."""

from __future__ import annotations

import re
from typing import NoReturn

from ofasys_lite.errors import nearest
from ofasys_lite.instruction.parse_values import read_attributes
from ofasys_lite.instruction.reader import NAME, Broken, Reader, name_end, next_word, shorten
from ofasys_lite.instruction.syntax_tree import Attribute, Quantifier, Slot, Span

ATTEMPT = re.compile(rf"\[\s*({NAME})\s*")
QUANTIFIER_START = re.compile(r"\*|\{\s*,?\s*[0-9]")

_QUANTIFIER = re.compile(r"\*|\{\s*([0-9]+)\s*(,?)\s*([0-9]*)\s*\}")
_QUANTIFIER_TEXT = re.compile(r"\{[\s0-9,]*\}?")
_COLUMN = re.compile(rf"{NAME}(?:[.-]{NAME})*")
_MISPLACED_ATTRIBUTE = re.compile(rf";?\s*({NAME})\s*=")
_SPACED_COLUMN = re.compile(r"[^\s\[\]\"',>?\\]+(?: [^\s\[\]\"',>?\\]+)+(?=\s*[\],])")
_MOST_DIGITS = 9
_PROSE = "a bracket of prompt text is written `\\[`"


def attempted_name(text: str, position: int) -> tuple[Span, int] | None:
    """The span of the identifier after the bracket at `position` and the offset of what follows; None without one."""
    found = ATTEMPT.match(text, position)
    if found is None:
        return None
    start, end = found.span(1)
    if text[start] in "0123456789":
        return None
    cut = name_end(text, start, end)
    if cut == end:
        # a decimal digit of any script opens no identifier either
        return (Span(start, end), found.end()) if text[start:end].isidentifier() else None
    return (Span(start, cut), cut) if text[start:cut].isidentifier() else None


def read_slot(reader: Reader, position: int) -> tuple[Slot, int] | None:
    """The slot whose bracket stands at `position` and the offset after it; None where the bracket is prose.

    A slot that cannot be read puts its errors on record and comes back as far as it was understood.
    """
    text = reader.text
    attempt = attempted_name(text, position)
    if attempt is None:
        return None
    type_span, after = attempt
    name = text[type_span.start : type_span.end]
    known = name in reader.types
    if not known and text[after : after + 1] not in ("]", ":", ","):
        return None
    if not known and not _refuse_type(reader, name, type_span):
        return Slot(name, None, type_span=type_span), reader.resume(after)
    try:
        return _slot(reader, position, name, type_span, after)
    except Broken as stop:
        return Slot(name, None, type_span=type_span), reader.resume(stop.position)


def _refuse_type(reader: Reader, name: str, span: Span) -> bool:
    """Puts the unknown type on record; True if a near one exists, so that the rest is worth reading."""
    near = nearest(name, reader.listed)
    listed = ", ".join(reader.listed)
    hint = f"did you mean `{near}`? " if near else ""
    reader.fail("E011", f"unknown type `{shorten(name)}`", span, f"{hint}types: {listed}; {_PROSE}")
    return near is not None


def _slot(reader: Reader, opening: int, name: str, type_span: Span, position: int) -> tuple[Slot, int]:
    """The slot from after its type on."""
    text = reader.text
    column, exact, optional, rejected, rejected_exact = None, False, False, None, False
    column_span = Span(position, position)
    mark = text[position : position + 1]
    if mark == ":":
        column, exact, column_span = _column(reader, position + 1, "E014", name)
        position = reader.skip(column_span.end)
        mark = text[position : position + 1]
        if mark == "?":
            optional = True
            position = reader.skip(position + 1)
        elif mark == ">":
            rejected, rejected_exact, rejected_span = _column(reader, position + 1, "E018", name)
            position = reader.skip(rejected_span.end)
        mark = text[position : position + 1]
        if mark in ("?", ">") and mark:
            _refuse_second_mark(reader, position)
    elif mark in ("?", ">") and mark:
        help = f"write `[{name}:column?]` or `[{name}:better>worse]`; {_PROSE}"
        reader.broken("E016", f"`{mark}` needs a column", Span(position, position + 1), help)
    attributes: tuple[Attribute, ...] = ()
    if mark == ",":
        attributes, end = read_attributes(reader, position + 1, "]")
    elif mark == "]":
        end = position + 1
    else:
        _refuse_rest(reader, name, None if column is None else column_span, position)
    span = Span(opening, end)
    slot = Slot(name, column, exact, optional, rejected, rejected_exact, attributes, span, type_span, column_span)
    return slot, end


def _refuse_second_mark(reader: Reader, position: int) -> NoReturn:
    reader.broken(
        "E017",
        f"`{reader.text[position]}` cannot stand here",
        Span(position, position + 1),
        "one of the two, once: `[TEXT:column?]` is optional, `[TEXT:better>worse]` is a preference pair",
    )


def _refuse_rest(reader: Reader, name: str, column: Span | None, position: int) -> NoReturn:
    """Refuses what stands after the type or the column of a slot."""
    text, span, here = reader.text, next_word(reader.text, position), reader.found(position)
    if not reader.closes(position, "]"):
        reader.broken("E013", f"the slot is not closed: expected `]`, found {here}", span, "a slot ends with `]`")
    if column is None:
        word = text[span.start : span.end]
        example = f"`[{name}:{word}]`" if word.isidentifier() and len(word) <= 40 else f"`[{name}:column]`"
        help = f"a column follows a colon, attributes follow a comma: {example}; {_PROSE}"
        reader.broken("E012", f"expected `:`, `,` or `]` after `{name}`, found {here}", span, help)
    written = shorten(text[column.start : column.end])
    spaced, attribute = _SPACED_COLUMN.match(text, column.start), _MISPLACED_ATTRIBUTE.match(text, position)
    if attribute:
        help = f"attributes follow a comma: `[{name}:{written},{shorten(attribute.group(1))}=...]`"
    elif text.startswith("->", position):
        help = f"a preference pair is written `[{name}:{written}>worse]`; a column name with other characters in quotes"
    else:
        example = shorten(spaced.group()) if spaced else "column name"
        help = f'a column name with spaces or other characters is written in quotes: `[{name}:"{example}"]`'
    reader.broken("E026", f"expected `,` or `]` after the column, found {here}", span, help)


def _column(reader: Reader, position: int, missing: str, name: str) -> tuple[str, bool, Span]:
    """The column name after `:` or `>`: the name, whether it was quoted, and its span."""
    text = reader.text
    position = reader.skip(position)
    if text[position : position + 1] in ('"', "'") and position < len(text):
        quoted = reader.quoted(position)
        if not quoted.text:
            reader.broken(missing, "the column name is empty", quoted.span, "write the name of a column of the data")
        return quoted.text, True, quoted.span
    found = _COLUMN.match(text, position)
    if found is None:
        if missing == "E014":
            which, help = "a column name", f"write `[{name}:column]`, or `[{name}]` for a slot without a name"
        else:
            which, help = "the second column of the pair", f"write both: `[{name}:better>worse]`"
        reader.broken(missing, f"{which} is missing, found {reader.found(position)}", next_word(text, position), help)
    column = found.group()
    if not column.isidentifier() and column_problem(column):
        help = f'write it in quotes: `[{name}:"{shorten(column)}"]`'
        reader.broken("E015", f"`{shorten(column)}` is no column name without quotes", Span(*found.span()), help)
    return column, False, Span(*found.span())


def column_problem(column: str) -> bool:
    """Whether a column name needs quotes: its parts are identifiers or digits, with inner `-`, joined by dots."""
    for part in column.split("."):
        head, *rest = part.split("-")
        if not (head.isidentifier() or (head.isascii() and head.isdigit())):
            return True
        if not all(("a" + piece).isidentifier() and piece for piece in rest):
            return True
    return False


def read_quantifier(reader: Reader, position: int) -> Quantifier | None:
    """The quantifier at `position` with its attributes; None where there is none.

    One that cannot be read puts its errors on record and comes back as far as it was understood.
    """
    text = reader.text
    if QUANTIFIER_START.match(text, position) is None:
        return None
    least, most, end = _bounds(reader, position)
    attributes: tuple[Attribute, ...] = ()
    if text[end : end + 1] == "<" and not text.startswith("<->", end):
        try:
            attributes, end = read_attributes(reader, end + 1, ">")
        except Broken as stop:
            end = reader.resume(stop.position, ">")
    span = Span(position, end)
    second = QUANTIFIER_START.match(text, end)
    if second is not None:
        help = "put one more pair of parentheses around the group; as prompt text it is written `\\*` or `\\{`"
        reader.fail("E030", "a second quantifier follows the first", Span(end, end + 1), help)
        while text[end : end + 1] == "*":
            end += 1
        span = Span(position, end)
    return Quantifier(least, most, attributes, span)


def _bounds(reader: Reader, position: int) -> tuple[int, int | None, int]:
    """Least and most of the quantifier at `position`, and the offset after it."""
    found = _QUANTIFIER.match(reader.text, position)
    if found is None or (found.group(3) and not found.group(2)):
        written = _QUANTIFIER_TEXT.match(reader.text, position)
        end = written.end() if written else position + 1
        reader.fail(
            "E027",
            "the quantifier is not complete",
            Span(position, position + len(reader.text[position:end].rstrip())),
            "write `*`, `{3}`, `{3,}` or `{0,5}`; a brace of prompt text is written `\\{`",
        )
        return 0, None, end
    end = found.end()
    low, comma, high = found.groups()
    if low is None:
        return 0, None, end
    span = Span(position, end)
    if len(low) > _MOST_DIGITS or len(high) > _MOST_DIGITS:
        reader.fail(
            "E029", "the bound is too large", span, f"at most {_MOST_DIGITS} digits; `{{3,}}` has no upper bound"
        )
        return 0, None, end
    least = int(low)
    most = int(high) if high else (None if comma else least)
    if most is not None and most < least:
        help = f"did you mean `{{{most},{least}}}`?"
        reader.fail("E028", f"at least {least} and at most {most} elements is impossible", span, help)
    elif most == 0:
        reader.fail("E029", "a group of at most 0 elements holds nothing", span, "remove the group, or raise the bound")
    return least, most, end
