"""Parquet, Arrow and Feather: tables read through one memory-mapped Arrow file, so a row costs no decoding of others.

Parquet has no random access to single rows; it is turned into an Arrow file in the cache once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.files import DataFile, is_url
from ofasys_lite.data.readers.lines import Progress
from ofasys_lite.data.readers.memory import plain_media
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError, WriteError
from ofasys_lite.writing import atomic, cache_folder

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ArrowSource", "stream_arrow"]

_ROWS = 1024


class ArrowSource(RowSource):
    """Rows of a Parquet, Arrow or Feather file.

    Args:
        file: The file.
        kind: `parquet` or `arrow`.
        progress: Called while a Parquet file is turned into an Arrow file for the first time.

    Raises:
        DataError: If pyarrow is missing, the file is broken, or it has no rows.
    """

    def __init__(self, file: DataFile, kind: str, progress: Progress | None = None) -> None:
        self.file = file
        self.kind = kind
        self.name = file.name
        self.base = file.folder
        self._progress = progress
        self._digest = file.digest()
        self._open()
        if not self._count:
            raise DataError(f"{file.name} has no rows")

    def _open(self) -> None:
        """Maps the table and lists its batches."""
        table = _table(self.file, self.kind, self._digest, self._progress)
        self._columns = tuple(str(name) for name in table.column_names)
        self._media = frozenset(name for name in self._columns if _is_media(table.schema.field(name).type))
        records = {name for name in self._columns if _is_record(table.schema.field(name).type)}
        self._records = frozenset(records - self._media)
        self._batches = [dict(zip(self._columns, batch.columns, strict=True)) for batch in table.to_batches()]
        self._ends = list(accumulate(batch.num_rows for batch in table.to_batches()))
        self._count = int(table.num_rows)

    def __getstate__(self) -> dict[str, Any]:
        kept = ("file", "kind", "name", "base", "_digest")
        return {key: self.__dict__[key] for key in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _progress=None)
        self._open()

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns."""
        return self._columns

    @property
    def fingerprint(self) -> str:
        """Hash of the file."""
        return combined(self.kind, self._digest)

    def __len__(self) -> int:
        return self._count

    def _find(self, i: int) -> tuple[dict[str, Any], int]:
        number = bisect_right(self._ends, self.check_row(i))
        return self._batches[number], i - (self._ends[number - 1] if number else 0)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i` as Python values; media stored as {bytes, path} come as bytes, else as path."""
        batch, inner = self._find(i)
        row = {name: column[inner].as_py() for name, column in batch.items()}
        for name in self._media:
            row[name] = plain_media(row[name])
        for name in self._records:
            row[name] = _without_absent(row[name])
        return row

    def value(self, i: int, column: str) -> Any:
        """One value of row `i`; the other columns are not touched."""
        if column not in self._columns:
            if column.isdigit():
                return super().value(i, column)  # a place among the columns
            head = next((name for name in self._columns if column.startswith(f"{name}.")), None)
            return MISSING if head is None else super().value(i, column)
        batch, inner = self._find(i)
        found = batch[column][inner].as_py()
        if column in self._records:
            return _without_absent(found)
        return plain_media(found) if column in self._media else found


def _without_absent(value: Any) -> Any:
    """The value without keys that are null: an Arrow record has every key of its column, used or not."""
    if isinstance(value, dict):
        return {key: _without_absent(inner) for key, inner in value.items() if inner is not None}
    return [_without_absent(inner) for inner in value] if isinstance(value, list) else value


def _is_record(kind: Any) -> bool:
    """True for records, and lists of them."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_record(kind.value_type)
    return bool(types.is_struct(kind))


def _is_media(kind: Any) -> bool:
    """True for the record {bytes, path} in which media are stored, and lists of it."""
    import pyarrow.types as types

    if types.is_list(kind) or types.is_large_list(kind):
        return _is_media(kind.value_type)
    return bool(types.is_struct(kind)) and {kind.field(i).name for i in range(kind.num_fields)} == {"bytes", "path"}


def _pyarrow(name: str) -> Any:
    """The pyarrow module; DataError that says how to install it."""
    try:
        import pyarrow
        import pyarrow.ipc
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{name} needs pyarrow", help="pip install 'ofasys_lite[data]'") from None
    return pyarrow


def _table(file: DataFile, kind: str, digest: str, progress: Progress | None) -> pa.Table:
    """The table of a file, memory-mapped where the disk allows it."""
    pa = _pyarrow(file.name)
    try:
        if kind == "arrow" and not is_url(file.path):
            return _read_ipc(pa, pa.memory_map(file.path))
        path = cache_folder() / "tables" / f"{digest}.arrow"
        if not path.exists():
            try:
                _convert(pa, file, kind, path, progress)
            except (OSError, WriteError) as error:
                if isinstance(error, pa.ArrowException):
                    raise
                return _in_memory(pa, file, kind)  # no room or no right to write: the table is held in memory
        return _read_ipc(pa, pa.memory_map(str(path)))
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read as {kind}: {str(error).splitlines()[0] if str(error) else 'broken file'}",
            help="it may be cut off or of another format; give `format:` if the name misleads",
        ) from None


def _read_ipc(pa: Any, source: Any) -> pa.Table:
    """The table of an Arrow file or stream, told apart by its first bytes."""
    head = source.read(6)
    source.seek(0)
    reader = pa.ipc.open_file(source) if head == b"ARROW1" else pa.ipc.open_stream(source)
    return reader.read_all()


def _convert(pa: Any, file: DataFile, kind: str, path: Path, progress: Progress | None) -> None:
    """Writes the Arrow file of a Parquet or remote file to the cache."""
    with atomic(path) as temporary, file.open() as handle:
        if kind == "arrow":
            table = _read_ipc(pa, pa.BufferReader(handle.read()))
            with pa.ipc.new_file(str(temporary), table.schema) as out:
                out.write_table(table)
            return
        source = pa.parquet.ParquetFile(handle)
        done, total = 0, source.metadata.num_rows
        with pa.ipc.new_file(str(temporary), source.schema_arrow) as out:
            for batch in source.iter_batches(_ROWS):
                out.write_batch(batch)
                done += batch.num_rows
                if progress is not None:
                    progress(f"table of {file.name}", done, total)


def _in_memory(pa: Any, file: DataFile, kind: str) -> pa.Table:
    """The table of a file, held in memory."""
    with file.open() as handle:
        return pa.parquet.read_table(handle) if kind == "parquet" else _read_ipc(pa, pa.BufferReader(handle.read()))


def stream_arrow(file: DataFile, kind: str) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet or Arrow file from first to last, batch by batch."""
    pa = _pyarrow(file.name)
    with file.open() as handle:
        try:
            if kind == "parquet":
                batches: Any = pa.parquet.ParquetFile(handle).iter_batches(_ROWS)
            else:
                batches = _read_ipc(pa, pa.PythonFile(handle, mode="r")).to_batches(_ROWS)
            for batch in batches:
                for row in batch.to_pylist():
                    yield {name: plain_media(value) for name, value in row.items()}
        except pa.ArrowException as error:
            raise DataError(f"{file.name} cannot be read as {kind}: {error}") from None
