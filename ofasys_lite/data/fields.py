"""Looking a column up in a row: an exact name wins over a nested one, unnamed slots are filled by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.preprocess.doubled import read_json

#: What `field` gives for a column that is not there and may be absent.
MISSING: Any = object()


class Element(dict[str, Any]):
    """A record of a list that a group with `over=` walks: there a slot without a name is the record itself."""

    __slots__ = ()


def field(row: Any, column: str, exact: bool = False) -> Any:
    """The value of `column` in `row`, MISSING if there is none.

    Args:
        row: A mapping of columns; anything else is the value of an unnamed slot (`column` all digits).
        column: Column name; dots open nested records and lists (`turns.0.text`) unless the whole name is a column.
            A number that is no column is a place among the row's columns.
        exact: Never open nested records.
    """
    if not isinstance(row, Mapping):
        return row if column.isdigit() else MISSING
    if column in row:
        return row[column]
    if exact:
        return MISSING
    if column.isdigit():
        if isinstance(row, Element):
            return row
        return list(row.values())[int(column)] if int(column) < len(row) else MISSING
    return _inside(row, column)


def _inside(value: Any, path: str) -> Any:
    """What `path` leads to within a record, a list or the JSON text of one; MISSING if it leads nowhere."""
    value = opened_text(value)
    if isinstance(value, Mapping):
        if path in value:
            return value[path]
        parts = path.split(".")
        for count in range(1, len(parts)):
            head = ".".join(parts[:count])
            found = _inside(value[head], ".".join(parts[count:])) if head in value else MISSING
            if found is not MISSING:
                return found
        return MISSING
    head, _, rest = path.partition(".")
    if not isinstance(value, (list, tuple, np.ndarray)) or not head.isdigit() or int(head) >= len(value):
        return MISSING
    return _inside(value[int(head)], rest) if rest else value[int(head)]


def opened_text(value: Any) -> Any:
    """The list or record that a text spells in JSON; anything else as it is."""
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return read_json(value)
        except ValueError:
            return value
    return value


def as_list(value: Any, column: str) -> Sequence[Any]:
    """The list that `value` is, or that its JSON text spells; DataError otherwise."""
    found = opened_text(value)
    if isinstance(found, np.ndarray):
        found = list(found)
    if not isinstance(found, (list, tuple)):
        shown = f"the text `{found[:40]}`" if isinstance(found, str) else type(found).__name__
        raise DataError(f"column `{column}` must hold a list; found {shown}")
    return found


def column_help(column: str, columns: Sequence[str]) -> str:
    """What to do about a column that is not there: it stands twice, or the nearest name and all of them."""
    same = [name for name in columns if name.startswith(f"{column} (column ")]
    if same:
        return f'`{column}` is {len(same)} columns; rename the one that is meant, or write its place: "{same[0]}"'
    return did_you_mean(column, columns, "columns")


def is_empty(value: Any) -> bool:
    """True for what is no label and no target, and absent in an optional slot: no column, None, NaN, white space."""
    return (
        value is MISSING
        or value is None
        or (isinstance(value, (float, np.floating)) and bool(value != value))
        or (isinstance(value, str) and not value.strip())
    )


def missing(column: str, row: Any) -> DataError:
    """The error for a column that must be there."""
    if field(row, column) is None:
        return DataError(f"column `{column}` is empty in this row", help=f"write [...:{column}?] if it may be")
    columns = [str(c) for c in row] if isinstance(row, Mapping) else []
    return DataError(f"no column `{column}` in this row", help=column_help(column, columns))
