"""Some of the rows of a source: those of one split, or those whose columns say so (`where`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.fields import MISSING, column_help
from ofasys_lite.data.readers.media_folders import SPLIT_WORDS
from ofasys_lite.data.source import RowSource, View, combined, has_column
from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.preprocess.plain import plain
from ofasys_lite.recipes.recipe import SPLITS

#: Columns that often say which split a row belongs to.
_COLUMNS = ("split", "subset", "partition", "fold")
#: Rows of which such a column is looked at.
_LOOKED = 200


class Subset(View):
    """Some rows of a source, in its order."""

    def __init__(self, source: RowSource, rows_N: NDArray[np.int64], name: str, key: str) -> None:
        super().__init__(source)
        self.name = name
        self._rows = rows_N
        self._fingerprint = key

    def __len__(self) -> int:
        return len(self._rows)

    def original(self, i: int) -> int:
        """The number of row `i` in the source."""
        return int(self._rows[self.check_row(i)])

    def origin(self, i: int) -> tuple[RowSource, int]:
        """The whole source, and row `i` there."""
        return self.source.origin(self.original(i))


def chosen(source: RowSource, where: Mapping[str, tuple[str, ...]]) -> Subset:
    """The rows in which each column of `where` holds one of its values, compared as text.

    Raises:
        DataError: A column is not there, or no row is chosen.
    """
    for column in where:
        if not has_column(source.columns, column):
            raise DataError(f"{source.name} has no column `{column}`", help=column_help(column, source.columns))
    said = json.dumps(sorted(where.items()))
    key = combined(source.fingerprint, "where", said)

    def rows() -> dict[str, NDArray[np.int64]]:
        kept = [i for i in range(len(source)) if all(_text(source, i, c) in v for c, v in where.items())]
        return {"rows": np.array(kept, np.int64)}

    rows_N = cached_arrays("where-1", key, rows)["rows"]
    if not len(rows_N):
        column, values = next(iter(where.items()))
        held = Counter(_text(source, i, column) for i in range(len(source)))
        what = " and ".join(f"`{' or '.join(v)}` in column `{c}`" for c, v in where.items())
        raise DataError(
            f"{source.name}: no row has {what}",
            help=did_you_mean(values[0], [name for name, _ in held.most_common(20)], f"values of `{column}`"),
        )
    what = ", ".join(f"{column} {'/'.join(values)}" for column, values in where.items())
    return Subset(source, rows_N, f"{source.name} ({what})", key)


def _text(source: RowSource, i: int, column: str) -> str:
    """What a column holds in a row; nothing where it or the row cannot be read, as its own error tells later."""
    try:
        value = source.value(i, column)
    except DataError:
        return ""
    return "" if value is MISSING else as_said(value)


def as_said(value: Any) -> str:
    """A value as a card may name it: numbers and labels as text, truth values in small letters, nothing as nothing."""
    value = plain(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def named_splits(source: RowSource) -> tuple[str, dict[str, str]]:
    """A column that seems to say which split a row belongs to: its name, and split -> value; empty if there is none."""
    for column in source.columns:
        if column.lower() not in _COLUMNS:
            continue
        rows = np.unique(np.linspace(0, max(len(source) - 1, 0), min(_LOOKED, len(source)), dtype=np.int64)).tolist()
        values = {_text(source, i, column) for i in rows}
        found = {split: v for split in SPLITS for v in sorted(values) if SPLIT_WORDS.get(v.lower()) == split}
        if len(found) > 1 and set(found.values()) == values:
            return column, found
    return "", {}
