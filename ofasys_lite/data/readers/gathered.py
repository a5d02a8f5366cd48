"""Rows that belong together as one: a table of one box per row becomes a row per image with a list of records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.data.array_cache import Arrays, cached_arrays
from ofasys_lite.data.fields import MISSING, column_help, is_empty
from ofasys_lite.data.source import RowSource, combined, row_error
from ofasys_lite.errors import DataError

#: The column of the records.
INTO = "objects"
_CORNERS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("left", "top", "right", "bottom"),
    ("xtl", "ytl", "xbr", "ybr"),
)
_SIZES = (
    ("x", "y", "w", "h"),
    ("x", "y", "width", "height"),
    ("left", "top", "width", "height"),
    ("xmin", "ymin", "width", "height"),
    ("bbox_x", "bbox_y", "bbox_width", "bbox_height"),
)


class GatheredSource(RowSource):
    """One row per value of a column, in the order of their first rows.

    A row has that column, the columns that never differ within a group, and `objects`: the records of the group, one
    per row of the table, with all other columns. Where four columns hold a box (`xmin, ymin, xmax, ymax` and the
    like), each record has it as `box`; a row without a box makes no record.

    Args:
        by: The column that says which rows belong together.
        box: The columns of a box's corners, where their names do not say it.

    Raises:
        DataError: A column that is not there, or one that is called `objects` already.
    """

    def __init__(self, source: RowSource, by: str, box: Sequence[str] = ()) -> None:
        for column in (by, *box):
            if column not in source.columns:
                raise DataError(f"{source.name} has no column `{column}`", help=column_help(column, source.columns))
        if INTO in source.columns:
            raise DataError(f"{source.name} has a column `{INTO}` already", help="gathering makes one; rename it")
        self.source = source
        self.by = by
        self.base, self.name, self.doubt = source.base, source.name, source.doubt
        self._box, self._sized = (tuple(box), False) if box else _box_columns(source.columns)
        self._fingerprint = combined("gathered", source.fingerprint, by, *self._box, self._sized)
        arrays = cached_arrays("gathered-1", combined(source.fingerprint, by), lambda: _groups(source, by))
        self._rows, self._ends = arrays["rows"], arrays["ends"]
        kept = set(np.flatnonzero(arrays["alike"]).tolist())
        alike = (one for number, one in enumerate(source.columns) if number in kept and one != by)
        self.columns = (by, *(one for one in alike if one not in self._box), INTO)
        self._inner = tuple(one for one in source.columns if one != by and one not in self._box)
        told = f"; `box` from {', '.join(self._box)}" if self._box else ""
        told += f"; {lost:,} that cannot be read left out" if (lost := int(arrays["lost"][0])) else ""
        self.notes = (
            *source.notes,
            f"{source.name}: {len(source):,} rows gathered to {len(self):,} by `{by}`, in `{INTO}`{told}",
        )

    def __len__(self) -> int:
        return len(self._ends)

    def _members(self, i: int) -> list[int]:
        """The rows of the table in group `i`."""
        start = int(self._ends[i - 1]) if self.check_row(i) else 0
        return [int(number) for number in self._rows[start : self._ends[i]]]

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The value that the rows of group `i` share."""
        return str(self.source.value(self._members(i)[0], self.by))

    def place(self, i: int) -> str:
        """The first row of the group in its file."""
        return self.source.place(self._members(i)[0])

    def row(self, i: int) -> dict[str, Any]:
        """Group `i` as one row."""
        members = self._members(i)
        rows = [self.source.row(number) for number in members]
        out = {name: rows[0][name] for name in self.columns[:-1] if name in rows[0]}
        out[INTO] = [
            record
            for number, row in zip(members, rows, strict=True)
            if (record := self._record(row, self.source.place(number))) is not None
        ]
        return out

    def _record(self, row: Mapping[str, Any], place: str) -> dict[str, Any] | None:
        record = {name: row[name] for name in self._inner if name in row}
        if not self._box:
            return record
        values = [row.get(name, MISSING) for name in self._box]
        if all(map(is_empty, values)):
            return None
        try:
            x0, y0, x1, y1 = (float(value) for value in values)
        except (TypeError, ValueError):
            shown = ", ".join(str(value)[:20] for value in values)
            raise row_error(place, f"no box: {', '.join(self._box)} hold {shown}", help="four numbers") from None
        box = [x0, y0, round(x0 + x1, 6), round(y0 + y1, 6)] if self._sized else [x0, y0, x1, y1]
        return {"box": box, **record}


def _box_columns(columns: Sequence[str]) -> tuple[tuple[str, ...], bool]:
    """(the four columns of a box by their usual names, whether they are corner and size); none where there are none."""
    known = {name.casefold(): name for name in columns}
    if "box" in known:
        return (), False
    for names in (*_CORNERS, *_SIZES):
        if all(name in known for name in names):
            return tuple(known[name] for name in names), names in _SIZES
    return (), False


def _groups(source: RowSource, by: str) -> Arrays:
    """Rows in the order of their groups, the end of each group, and which columns never differ within one."""
    members: dict[str, list[int]] = {}
    columns = source.columns
    first: dict[str, list[str]] = {}
    lost = 0
    alike = np.ones(len(columns), np.int64)
    for number in range(len(source)):
        try:
            row = source.row(number)
        except DataError:
            lost += 1  # nobody knows of which group it is
            continue
        key = str(row.get(by))
        texts = [str(row.get(name)) for name in columns]
        if key not in members:
            members[key], first[key] = [], texts
        elif texts != first[key]:
            alike &= np.array([one == other for one, other in zip(texts, first[key], strict=True)], np.int64)
        members[key].append(number)
    rows = [number for group in members.values() for number in group]
    return {
        "rows": np.array(rows, np.int64),
        "ends": np.cumsum([len(group) for group in members.values()], dtype=np.int64),
        "alike": alike,
        "lost": np.array([lost], np.int64),
    }
