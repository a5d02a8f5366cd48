"""What `Task.add_dataset` takes, made into what a card's `data` may hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.spec import is_paths
from ofasys_lite.errors import DataError

__all__ = ["as_source"]


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
    """The rows of a data frame as dicts, values that are missing as None; None for anything else."""
    if library == "pandas" and hasattr(source, "notna"):
        if not hasattr(source, "columns"):
            raise DataError("a pandas Series has no columns", help="give a DataFrame: series.to_frame('column')")
        held = source.astype(object).where(source.notna(), None)
        return [{str(key): value for key, value in row.items()} for row in held.to_dict("records")]
    if library == "polars" and hasattr(source, "to_dicts"):
        return list(source.to_dicts())
    if library == "pyarrow" and hasattr(source, "to_pylist") and hasattr(source, "column_names"):
        return list(source.to_pylist())
    return None
