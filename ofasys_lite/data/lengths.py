"""Cheap sizes of raw values, for dealing samples to ranks and packs: nothing is decoded, headers are enough.

What a size is, and how it is read, is what the modality's Preprocess says (`measure`). Shapes: N rows, K numbers of a
size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.base import Preprocess, Size

# arrays of a source live as long as it does; the key is its identity plus column and measure
_ATTRIBUTE = "_sizes"


def size_hint(source: RowSource, i: int, column: str, tool: type[Preprocess]) -> Size | None:
    """A cheap size of one value, from the source's index; None if it cannot be told.

    The first call for a column measures all rows once and keeps the result by content hash.
    """
    whole, row = source.origin(i)
    found = column_sizes(whole, column, tool)[row].tolist()
    return None if found[0] < 0 else tuple(found)


def measure_name(tool: type[Preprocess]) -> tuple[str, bytes]:
    """What tells one way of measuring from another, for keys of caches."""
    function = getattr(tool.measure, "__func__", tool.measure)
    return f"{function.__module__}.{function.__qualname__}", function.__code__.co_code


def column_sizes(source: RowSource, column: str, tool: type[Preprocess]) -> NDArray[np.int64]:
    """The sizes (N, K) of one column, -1 where a value has none; measured once, kept by content hash."""
    kept: dict[object, NDArray[np.int64]] = source.__dict__.setdefault(_ATTRIBUTE, {})
    name = measure_name(tool)
    if (column, name) not in kept:
        key = combined(source.fingerprint, column, *name, source.base)
        arrays = cached_arrays("sizes-1", key, lambda: {"sizes": _measure(source, column, tool)})
        kept[column, name] = arrays["sizes"]
    return kept[column, name]


def _measure(source: RowSource, column: str, tool: type[Preprocess]) -> NDArray[np.int64]:
    """The sizes of all rows; unreadable rows get -1 and meet their error where they are used."""
    out_NK = np.full((len(source), len(tool.typical)), -1, np.int64)
    for i in range(len(source)):
        try:
            size = size_of(source.value(i, column), tool, source.base or None)
        except DataError:
            continue
        if size is not None:
            out_NK[i] = size
    return out_NK


def size_of(value: Any, tool: type[Preprocess], folder: str | None = None) -> Size | None:
    """The size of one raw value, None if it has none; raises DataError if it cannot be read."""
    return None if value is MISSING or value is None else tool.measure(value, folder)
