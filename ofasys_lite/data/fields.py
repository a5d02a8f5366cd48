"""Looking a column up in a row: an exact name wins over a nested one, unnamed slots are filled by position."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.errors import DataError, did_you_mean

__all__ = ["MISSING", "as_list", "field", "is_empty"]

#: What `field` gives for a column that is not there and may be absent.
MISSING: Any = object()


def field(row: Any, column: str, exact: bool = False) -> Any:
    """The value of `column` in `row`, MISSING if there is none.

    Args:
        row: A mapping of columns; anything else is the value of an unnamed slot (`column` all digits).
        column: Column name; dots open nested records unless the whole name is a column.
        exact: Never open nested records.
    """
    if not isinstance(row, Mapping):
        return row if column.isdigit() else MISSING
    if column in row:
        return row[column]
    if not exact and "." in column:
        head, _, rest = column.partition(".")
        inner = field(row, head)
        while inner is MISSING and "." in rest:
            more, _, rest = rest.partition(".")
            head = f"{head}.{more}"
            inner = field(row, head, exact=True)
        if inner is not MISSING:
            inner = _record(inner)
            return field(inner, rest) if isinstance(inner, Mapping) else MISSING
    if column.isdigit() and not exact and int(column) < len(row):
        return list(row.values())[int(column)]
    return MISSING


def _record(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in "[{":
        try:
            return json.loads(value)
        except json.JSONDecodeError:
            return value
    return value


def as_list(value: Any, column: str) -> Sequence[Any]:
    """The list that `value` is, or that its JSON text spells; DataError otherwise."""
    found = _record(value)
    if isinstance(found, np.ndarray):
        found = list(found)
    if not isinstance(found, (list, tuple)):
        shown = f"the text `{found[:40]}`" if isinstance(found, str) else type(found).__name__
        raise DataError(f"column `{column}` must hold a list; found {shown}")
    return found


def is_empty(value: Any) -> bool:
    """True for what an optional slot counts as absent: no column, None, NaN, empty text."""
    return value is MISSING or value is None or (isinstance(value, float) and value != value) or value == ""


def missing(column: str, row: Any) -> DataError:
    """The error for a column that must be there."""
    columns = [str(c) for c in row] if isinstance(row, Mapping) else []
    return DataError(f"no column `{column}` in this row", help=did_you_mean(column, columns, "columns"))
