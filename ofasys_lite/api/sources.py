"""What `Task.add_dataset` takes, made into what a card's `data` may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.data.fields import column_names
from ofasys_lite.data.readers.arrow_values import table_rows
from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.spec import is_paths
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.plain import plain


def as_source(source: Any, name: str = "") -> Any:
    """A path, URL, `recipe:split`, `hf:name:split` or mapping as it is; Python objects as a RowSource.

    Args:
        source: What `open_source` takes, or a table of pandas, polars or pyarrow.
        name: What a list is called in messages.

    Raises:
        DataError: The object holds no rows by number, and what to give instead.
    """
    library = type(source).__module__.partition(".")[0]
    if (isinstance(source, (str, Path, Mapping, RowSource)) and library != "datasets") or is_paths(source):
        return source
    rows = _records(source, library)
    if rows is not None or (isinstance(source, Sequence) and not isinstance(source, (bytes, bytearray))):
        return ListSource(source if rows is None else rows, name=name or type(source).__name__)
    module = type(source).__module__
    if module.startswith("torch.utils.data") and hasattr(source, "batch_sampler"):
        raise DataError("a DataLoader has batches, not rows", help="give the data set in it: loader.dataset")
    return open_source(source)


def _records(source: Any, library: str) -> list[dict[str, Any]] | None:
    """The rows of a table in memory as dicts, values that are missing as None; None for anything else."""
    if library == "pandas" and hasattr(source, "notna"):
        if not hasattr(source, "columns"):
            raise DataError("a pandas Series has no columns", help="give a DataFrame: series.to_frame('column')")
        named = [level for level, name in enumerate(source.index.names) if name is not None]  # as its files have it
        names = column_names([*(source.index.names[level] for level in named), *source.columns])
        columns = [_held(source.index.get_level_values(level).to_series()) for level in named]
        columns += [_held(source.iloc[:, place]) for place in range(source.shape[1])]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    if library == "polars" and hasattr(source, "to_arrow"):
        return table_rows(source.to_arrow())
    if library == "pyarrow" and hasattr(source, "to_pylist") and hasattr(source, "column_names"):
        return table_rows(source if hasattr(source, "to_batches") else _table_of(source))
    return None


def _table_of(batch: Any) -> Any:
    import pyarrow as pa

    return pa.Table.from_batches([batch])


def _held(column: Any) -> list[Any]:
    """The values of a column of pandas, plain ones."""
    held = column.astype(object).where(column.notna(), None)
    if str(column.dtype).lower() in ("float32", "float16"):  # Python's floats would show digits that nobody wrote
        return [value if value is None else plain(getattr(np, str(column.dtype).lower())(value)) for value in held]
    return [plain(value) for value in held]
