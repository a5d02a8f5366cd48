"""Attribute values: from the spelling in the tree to typed, hashable Python values, by the declaration of a card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ofasys_lite.cards.types import AttributeSpec
from ofasys_lite.errors import InstructionError, Place, listed, nearest
from ofasys_lite.instruction.syntax_tree import Attribute, Bare, Call, ListValue, Number, Quoted, Value


@dataclass(frozen=True, slots=True)
class CallValue:
    """`name(a, key=b)` as plain values; a bareword is a call without arguments; `keyed`: (key, value) pairs."""

    name: str
    positional: tuple[object, ...] = ()
    keyed: tuple[tuple[str, object], ...] = ()

    def get(self, key: str, default: object = None) -> object:
        """The value of `key`, or `default`."""
        return dict(self.keyed).get(key, default)

    def options(self) -> dict[str, object]:
        """The values by key, `true` and `false` as booleans."""
        return {key: value == "true" if value in ("true", "false") else value for key, value in self.keyed}


def scalar_text(value: Value) -> str | None:
    """The text of a number, bareword or quoted value; None for a list or call."""
    return value.text if isinstance(value, (Number, Bare, Quoted)) else None


def plain(value: Value) -> object:
    """A hashable Python value: numbers as int or float, words as str, lists as tuples, calls as CallValue."""
    if isinstance(value, Number):
        try:
            return int(value.text)
        except ValueError:
            return float(value.text)
    if isinstance(value, (Bare, Quoted)):
        return value.text
    if isinstance(value, ListValue):
        return tuple(plain(item) for item in value.items)
    keyed = tuple((a.key, plain(a.value)) for a in value.arguments if a.key is not None)
    return CallValue(value.name, tuple(plain(a.value) for a in value.arguments if a.key is None), keyed)


def typed(attribute: Attribute, spec: AttributeSpec, place: Place) -> object:
    """The value of `attribute` as `spec` declares it; InstructionError E106, E107 or E113 if it does not fit."""
    value = attribute.value
    if spec.type == "flag":
        return _flag(attribute, place)
    if value is None:
        if spec.type in ("any", "call") and spec.default is not None:
            return spec.default
        raise _wrong(attribute, spec, place, "no value")
    if spec.type in ("int", "float"):
        return _number(attribute, value, spec, place)
    if spec.type == "str":
        text = scalar_text(value)
        if text is None:
            raise _wrong(attribute, spec, place, _kind(value))
        return text
    if spec.type == "choice":
        return _choice(attribute, scalar_text(value), spec, place)
    if spec.type == "list":
        return _list(value)
    if spec.type == "call":
        call = value if isinstance(value, Call) else None
        name = call.name if call is not None else scalar_text(value)
        _choice(attribute, name, spec, place)
        found = plain(value)
        return found if isinstance(found, CallValue) else CallValue(str(found))
    return plain(value)


def _flag(attribute: Attribute, place: Place) -> bool:
    if attribute.value is None:
        return True
    text = scalar_text(attribute.value)
    if text not in ("true", "false"):
        raise InstructionError(
            f"`{attribute.key}` takes no value, or true or false; got {_kind(attribute.value)}",
            code="E106",
            place=place,
            help=f"write `{attribute.key}`",
        )
    return text == "true"


def _number(attribute: Attribute, value: Value, spec: AttributeSpec, place: Place) -> int | float:
    text = value.text if isinstance(value, Number) else None
    try:
        number: int | float = int(text or "") if spec.type == "int" else float(text or "")
    except ValueError:
        raise _wrong(attribute, spec, place, _kind(value)) from None
    below = spec.low is not None and number < spec.low
    above = spec.high is not None and number > spec.high
    if below or above:
        raise InstructionError(
            f"`{attribute.key}={text}` is out of range", code="E107", place=place, help=f"allowed: {_range(spec)}"
        )
    return number


def _choice(attribute: Attribute, name: str | None, spec: AttributeSpec, place: Place) -> str:
    if name is None or (spec.choices and name not in spec.choices):
        shown = _kind(attribute.value) if name is None else f"`{name}`"
        near = nearest(name or "", spec.choices)
        hint = f"did you mean `{near}`?" if near else ""
        raise InstructionError(
            f"`{attribute.key}` cannot be {shown}",
            code="E113",
            place=place,
            help=listed("allowed", spec.choices, hint),
        )
    return name


def _list(value: Value) -> tuple[str, ...]:
    items: Sequence[Value] = value.items if isinstance(value, ListValue) else (value,)
    return tuple(text if (text := scalar_text(item)) is not None else str(plain(item)) for item in items)


def _wrong(attribute: Attribute, spec: AttributeSpec, place: Place, found: str) -> InstructionError:
    wanted = {
        "int": f"a whole number ({_range(spec)})",
        "float": f"a number ({_range(spec)})",
        "str": "a word or a quoted text",
        "list": "a list such as (a,b)",
        "choice": f"one of {', '.join(spec.choices)}",
        "call": f"one of {', '.join(spec.choices)}, with or without arguments",
    }
    return InstructionError(
        f"`{attribute.key}` takes {wanted.get(spec.type, 'a value')}; got {found}",
        code="E106",
        place=place,
        help=f"{attribute.key}: {spec.help}" if spec.help else "",
    )


def _range(spec: AttributeSpec) -> str:
    if spec.low is not None and spec.high is not None:
        return f"{spec.low:g} to {spec.high:g}"
    if spec.low is not None:
        return f"{spec.low:g} or more"
    return f"at most {spec.high:g}" if spec.high is not None else "any"


def _kind(value: Value | None) -> str:
    names: Mapping[type, str] = {Number: "the number", Bare: "the word", Quoted: "the quoted text"}
    if value is None:
        return "no value"
    if isinstance(value, ListValue):
        return "a list"
    if isinstance(value, Call):
        return f"the call `{value.name}(...)`"
    return f"{names[type(value)]} `{value.text}`"
