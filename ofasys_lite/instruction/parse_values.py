"""Attributes and their values: `key`, `key=value`, lists and calls, inside a slot or a quantifier's `<...>`."""

from __future__ import annotations

import re
from typing import NoReturn

from ofasys_lite.instruction.reader import NAME, Reader, name_end, next_word
from ofasys_lite.instruction.syntax_tree import Argument, Attribute, Bare, Call, ListValue, Number, Span, Value

#: Groups in groups, and lists and calls in one another, may be this deep.
MOST_DEPTH = 16

BAREWORD_MARKS = "./:@+-"

_KEY = re.compile(rf"\s*({NAME}(?:[-.]{NAME})*)\s*(=?)\s*")
_BARE = re.compile(r"[^\s\x00-*,;-?\[-^`{-\x7f]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?\Z")


def is_number(text: str) -> bool:
    """Whether a bareword is read as a number."""
    return _NUMBER.match(text) is not None


def is_bareword(text: str) -> bool:
    """Whether `text` can stand as a value without quotes."""
    found = _BARE.match(text)
    return found is not None and found.end() == len(text) == name_end(text, 0, len(text), BAREWORD_MARKS)


def read_attributes(reader: Reader, position: int, close: str) -> tuple[tuple[Attribute, ...], int]:
    """The attributes from `position` on and the offset after `close`; Broken: what stands there cannot be read on."""
    text = reader.text
    attributes: list[Attribute] = []
    while True:
        attribute, position = _attribute(reader, position, close)
        if attribute is not None:
            attributes.append(attribute)
        mark = text[position : position + 1]
        if mark == ",":
            position += 1
        elif mark == close:
            return tuple(attributes), position + 1
        else:
            _refuse_rest(reader, position, close)


def _attribute(reader: Reader, position: int, close: str) -> tuple[Attribute | None, int]:
    """One attribute (None if its name is missing) and the offset of what follows it."""
    found = _KEY.match(reader.text, position)
    if found is None:
        position = reader.skip(position)
        if reader.text[position : position + 1] not in (",", close, "="):
            _refuse_rest(reader, position, close, "an attribute name")
        reader.fail(
            "E019",
            f"an attribute name is missing before `{reader.text[position]}`",
            Span(position, position + 1),
            "attributes are written `key` or `key=value`, with one comma between them",
        )
        if reader.text[position] == "=":
            _, position = _value(reader, reader.skip(position + 1), close, 0)
        return None, reader.skip(position)
    start, end = found.span(1)
    if not found.group(1).isascii() and name_end(reader.text, start, end, "-.") < end:
        _refuse_rest(reader, name_end(reader.text, start, end, "-."), close)
    key, key_span, position = found.group(1), Span(start, end), found.end()
    if not found.group(2):
        return Attribute(key, None, key_span, key_span), position
    value, position = _value(reader, position, close, 0)
    return Attribute(key, value, Span(start, position), key_span), reader.skip(position)


def _refuse_rest(reader: Reader, position: int, close: str, wanted: str = "") -> NoReturn:
    """Refuses what stands at `position` instead of a comma or the closing mark."""
    span, here = next_word(reader.text, position), reader.found(position)
    if not reader.closes(position, close):
        if close == "]":
            reader.broken("E013", f"the slot is not closed: expected `]`, found {here}", span, "a slot ends with `]`")
        help = "`<` at once after a quantifier opens attributes and `>` closes them; as prompt text it is written `\\<`"
        reader.broken("E031", f"the attributes are not closed: expected `>`, found {here}", span, help)
    reader.broken(
        "E026",
        f"expected {wanted or f'`,` or `{close}`'}, found {here}",
        span,
        'attributes are written `key=value`, with commas between them; a value with other characters in quotes: "a b"',
    )


def _value(reader: Reader, position: int, close: str, depth: int) -> tuple[Value, int]:
    """The value at `position` and the offset after it."""
    text = reader.text
    first = text[position : position + 1]
    if first in ('"', "'"):
        quoted = reader.quoted(position)
        return quoted, quoted.span.end
    if first == "(":
        items, end = _arguments(reader, position, close, depth, keyed=False)
        return ListValue(tuple(item.value for item in items), Span(position, end)), end
    found = _BARE.match(text, position)
    end = name_end(text, position, found.end(), BAREWORD_MARKS) if found else position
    if end == position:
        return _missing_value(reader, position, close, depth), position
    word, span = text[position:end], Span(position, end)
    opening = reader.skip(end)
    if text[opening : opening + 1] == "(":
        arguments, end = _arguments(reader, opening, close, depth, keyed=True)
        return Call(word, arguments, Span(position, end)), end
    return (Number(word, span) if is_number(word) else Bare(word, span)), end


def _missing_value(reader: Reader, position: int, close: str, depth: int) -> Value:
    """A stand-in after an error on record where nothing stands; leaves where something unreadable does."""
    mark, here, span = reader.text[position : position + 1], reader.found(position), next_word(reader.text, position)
    if mark and mark not in (",", ")", close):
        help = 'a value is a number, a word of letters, digits and _ . / : @ + -, "quoted text", (a,list) or call(x=1)'
        reader.broken("E021", f"expected a value, found {here}", span, help)
    help = "write values with one comma between them" if depth else "write `key=value`, or the key alone for a switch"
    help += '; an empty value is written in quotes: ""'
    reader.fail("E020", f"a value is missing, found {here}", span, help)
    return Bare("", Span(position, position))


def _arguments(
    reader: Reader, opening: int, close: str, depth: int, *, keyed: bool
) -> tuple[tuple[Argument, ...], int]:
    """The arguments of a list or call whose parenthesis stands at `opening`, and the offset after `)`."""
    text = reader.text
    if depth >= MOST_DEPTH:
        reader.broken(
            "E025",
            f"lists and calls are nested more than {MOST_DEPTH} deep",
            Span(opening, opening + 1),
            "values in a line are small; put large ones into the card",
        )
    position = reader.skip(opening + 1)
    if text[position : position + 1] == ")":
        if not keyed:
            reader.fail("E022", "the list is empty", Span(opening, position + 1), "write its values: (a,b)")
        return (), position + 1
    arguments: list[Argument] = []
    while True:
        if text[position : position + 1] in ("", close):
            _refuse_end(reader, opening, position, keyed)
        argument, position = _argument(reader, position, close, depth, keyed)
        arguments.append(argument)
        mark = text[position : position + 1]
        if mark == ")":
            return tuple(arguments), position + 1
        if mark != ",":
            if mark in ("", "[", close):
                _refuse_end(reader, opening, position, keyed)
            _refuse_argument(reader, position)
        position = reader.skip(position + 1)


def _argument(reader: Reader, position: int, close: str, depth: int, keyed: bool) -> tuple[Argument, int]:
    """One argument, `value` or (in a call) `key=value`, and the offset of what follows it."""
    value, end = _value(reader, position, close, depth + 1)
    after = reader.skip(end)
    if not keyed or reader.text[after : after + 1] != "=" or isinstance(value, (ListValue, Call)):
        return Argument(None, value, Span(position, end)), after
    key = value.text
    value, end = _value(reader, reader.skip(after + 1), close, depth + 1)
    return Argument(key, value, Span(position, end)), reader.skip(end)


def _refuse_argument(reader: Reader, position: int) -> NoReturn:
    """Refuses what stands at `position` instead of a comma or the closing parenthesis."""
    reader.broken(
        "E026",
        f"expected `,` or `)`, found {reader.found(position)}",
        next_word(reader.text, position),
        'a value with spaces or other characters is written in quotes: "new york"',
    )


def _refuse_end(reader: Reader, opening: int, position: int, keyed: bool) -> NoReturn:
    """Refuses the end of the slot inside a list or call."""
    what = "call" if keyed else "list"
    message = f"the {what} is not closed: expected `)`, found {reader.found(position)}"
    help = f"the {what} opened at column {opening - reader.text.rfind(chr(10), 0, opening)} ends with `)`"
    reader.broken("E023", message, next_word(reader.text, position), help)
