"""Schemas of STRUCT, read from the attribute: `json`, `grid(...)`, `record(...)`, `triplets`, `table(by=row)`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from ofasys_lite.errors import InstructionError, did_you_mean
from ofasys_lite.plan.attribute_values import CallValue

Scalar = str | int | float

#: Types of a record's field beside a list of its values.
FIELD_TYPES = ("text", "number", "flag", "list", "record", "json")
_FORMS = (
    "schema=json (any value), schema=grid(rows=4,columns=4,values=(1,2,3,4)), "
    "schema=record(intent=(on,off),name=text,level=number,optional=(level)), schema=triplets, "
    "schema=table(by=row|column)"
)
_LARGEST = 128


@dataclass(frozen=True, slots=True)
class AnyJson:
    """Any JSON value."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows and columns of cells that hold one of a few values.

    Attributes:
        values: What a cell may hold, as the line spells it.
        blank: A target's cell may be blank; a source's always may.
    """

    rows: int
    columns: int
    values: tuple[Scalar, ...]
    blank: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One key of a record: its type, or the values it may have; `optional` ones may be missing."""

    key: str
    type: str
    values: tuple[Scalar, ...] = ()
    optional: bool = False


@dataclass(frozen=True, slots=True)
class Record:
    """Fixed keys, in this order."""

    fields: tuple[Field, ...]


@dataclass(frozen=True, slots=True)
class Triplets:
    """Subject, relation and object, any number of them."""


@dataclass(frozen=True, slots=True)
class Table:
    """A head and rows, in one line `by` row or by column; it is read, not written."""

    by: str = "row"


Schema = AnyJson | Grid | Record | Triplets | Table


def scalar_text(value: object) -> str:
    """How a cell or a closed value is compared and named: numbers without a fraction as whole numbers."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value)


@functools.lru_cache(maxsize=256)
def read_schema(value: CallValue | str | None) -> Schema:
    """The schema that the attribute names; InstructionError that says what is allowed."""
    if value is None:
        return AnyJson()
    call = value if isinstance(value, CallValue) else CallValue(value)
    if call.name == "json" and not call.positional and not call.keyed:
        return AnyJson()
    if call.name == "triplets" and not call.positional and not call.keyed:
        return Triplets()
    if call.name == "table":
        return _table(call)
    if call.name == "grid":
        return _grid(call)
    if call.name == "record":
        return _record(call)
    bare = call.name in ("json", "triplets")
    raise _error(f"schema `{call.name}` takes no arguments" if bare else f"schema `{call.name}` is not known")


def _table(call: CallValue) -> Table:
    given = dict(call.keyed)
    by = given.pop("by", "row")
    if call.positional or given or by not in ("row", "column"):
        raise _error("table takes by=row or by=column", "write schema=table, schema=table(by=column)")
    return Table(str(by))


def _error(message: str, help: str = "") -> InstructionError:
    return InstructionError(message, help=help or f"allowed: {_FORMS}")


def _grid(call: CallValue) -> Grid:
    keys = ("rows", "columns", "values", "blank")
    given = dict(zip(keys, call.positional, strict=False))
    if len(call.positional) > 2:
        raise _error("grid takes rows and columns; the rest is named")
    for key, value in call.keyed:
        if key not in keys:
            raise _error(f"grid has no argument `{key}`", did_you_mean(key, keys))
        if key in given:
            raise _error(f"grid has `{key}` twice")
        given[key] = value
    rows, columns = _size(given.get("rows"), "rows"), _size(given.get("columns"), "columns")
    values = given.get("values", tuple(range(1, max(rows, columns) + 1)))
    blank = given.get("blank", "false")
    if blank not in ("true", "false"):
        raise _error(f"grid's blank is `{blank}`", "allowed: true, false")
    return Grid(rows, columns, _values(values, "grid"), blank == "true")


def _size(value: object, key: str) -> int:
    if not isinstance(value, int) or not 1 <= value <= _LARGEST:
        raise _error(f"grid needs {key}" if value is None else f"grid's {key} is {value}", f"{key}: 1 to {_LARGEST}")
    return value


def _values(value: object, what: str) -> tuple[Scalar, ...]:
    listed = value if isinstance(value, tuple) else (value,)
    found = tuple(v for v in listed if isinstance(v, (str, int, float)))
    if not found or len(found) != len(listed):
        raise _error(f"{what}: values are words and numbers, at least one")
    texts = [scalar_text(v) for v in found]
    for text in texts:
        if texts.count(text) > 1:
            raise _error(f"{what}: the value `{text}` stands twice")
    return found


def _record(call: CallValue) -> Record:
    found: dict[str, tuple[str, tuple[Scalar, ...]]] = {}
    optional: tuple[str, ...] = ()
    entries = [(str(key), "text") for key in call.positional if isinstance(key, (str, int))]
    if len(entries) != len(call.positional):
        raise _error("record: a key without a type is a word")
    for key, value in (*entries, *call.keyed):
        if key == "optional":
            optional = tuple(map(str, value if isinstance(value, tuple) else (value,)))
        elif key in found:
            raise _error(f"record: the key `{key}` stands twice")
        elif isinstance(value, tuple):
            found[key] = ("closed", _values(value, f"record: {key}"))
        elif value in FIELD_TYPES:
            found[key] = (str(value), ())
        else:
            allowed = did_you_mean(str(value), FIELD_TYPES)
            raise _error(f"record: `{key}` cannot be `{value}`", f"{allowed}, or a list of values: {key}=(a,b)")
    if not found:
        raise _error("record has no keys")
    for key in optional:
        if key not in found:
            raise _error(f"record: optional names `{key}`, which is no key", did_you_mean(key, found))
    return Record(tuple(Field(k, type, values, k in optional) for k, (type, values) in found.items()))
