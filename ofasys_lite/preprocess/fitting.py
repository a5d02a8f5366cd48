"""Does a JSON value fit its schema? Cells of grids and fields of records, checked."""

from __future__ import annotations

from typing import Any

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.preprocess.schemas import Field, Grid, Record, scalar_text

_BLANKS = ("", ".", "0", "None")


def cells(value: Any, grid: Grid) -> list[Any]:
    """All cells, row by row, of a list of rows, a flat list, or text (a character or a word a cell)."""
    rows, columns = grid.rows, grid.columns
    if isinstance(value, str):
        words = value.replace("/", " ").split()
        value = words if len(words) > 1 else list(value.strip())
    if not isinstance(value, list):
        raise DataError(f"a grid is a list of rows; found {type(value).__name__}")
    if value and all(isinstance(row, (list, str)) for row in value) and len(value) == rows:
        value = [list(row) for row in value]
        if all(len(row) == columns for row in value):
            return [cell for row in value for cell in row]
        raise DataError(f"a grid of {rows} x {columns} has a row of {max(len(r) for r in value)} cells")
    if len(value) != rows * columns or any(isinstance(cell, (list, dict)) for cell in value):
        raise DataError(f"a grid of {rows} x {columns} is {rows} rows of {columns} cells; found {len(value)} elements")
    return value


def checked_cell(cell: Any, known: set[str], grid: Grid) -> str | None:
    """The cell's text, None if it is blank; DataError if the grid does not know it."""
    text = scalar_text(cell)
    if text in known:
        return text
    if text in _BLANKS:
        return None
    raise DataError(f"a cell of the grid is {cell!r}", help=did_you_mean(text, map(scalar_text, grid.values), "cells"))


def checked_record(value: Any, schema: Record) -> dict[str, Any]:
    """The record without its keys that are None and optional; DataError for missing and unknown keys."""
    if not isinstance(value, dict):
        raise DataError(f"the schema is a record; found {type(value).__name__}")
    keys = [f.key for f in schema.fields]
    for key in value:
        if key not in keys:
            raise DataError(f"the record's key `{key}` is not in the schema", help=did_you_mean(key, keys, "keys"))
    found = dict(value)
    for field in schema.fields:
        if field.key not in found and not field.optional:
            have = did_you_mean(field.key, found, "it has")
            raise DataError(f"the record lacks the key `{field.key}`", help=f"{have}; or write optional=({field.key})")
        if field.optional and found.get(field.key) is None:
            found.pop(field.key, None)
    return found


def checked_field(value: Any, field: Field) -> Any:
    """The value of a field; DataError if it is of the wrong type."""
    if field.type == "closed":
        texts = [scalar_text(v) for v in field.values]
        if scalar_text(value) not in texts:
            raise DataError(f"`{field.key}` is {value!r}", help=did_you_mean(scalar_text(value), texts))
        return value
    if field.type == "text" and isinstance(value, (int, float)) and not isinstance(value, bool):
        return scalar_text(value)
    wanted: dict[str, Any] = {
        "text": str,
        "flag": bool,
        "number": (int, float),
        "list": list,
        "record": dict,
        "json": object,
    }
    wrong = not isinstance(value, wanted[field.type]) or (field.type == "number" and isinstance(value, bool))
    if wrong:
        raise DataError(f"`{field.key}` is {value!r:.60}", help=f"the schema says {field.type}")
    return value
