"""Parquet, Arrow and Feather: tables read through one memory-mapped Arrow file, so a row costs no decoding of others.

Parquet has no random access to single rows; it is turned into an Arrow file in the cache once.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.data.array_cache import turn
from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.data.file_access import DataFile, Pool, is_url
from ofasys_lite.data.readers.arrow_values import Reading, readings
from ofasys_lite.data.readers.lines import Progress
from ofasys_lite.data.source import NoRows, RowSource, combined, row_error
from ofasys_lite.errors import DataError, WriteError, needed
from ofasys_lite.preprocess.doubled import column_names
from ofasys_lite.writing import atomic, cache_folder

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS = 1024
#: Bytes of rows that are turned into Python values at once.
_BYTES = 1 << 24


class ArrowSource(RowSource):
    """Rows of a Parquet, Arrow or Feather file.

    Args:
        kind: `parquet` or `arrow`.

    Raises:
        DataError: If pyarrow is missing, the file is broken, or it has no rows.
    """

    def __init__(self, file: DataFile, kind: str, progress: Progress | None = None) -> None:
        self.file = file
        self.kind = kind
        self.name = file.name
        self.base = file.folder
        self._digest = file.digest()
        self._fingerprint = combined(f"{kind}-2", self._digest)
        self._held: _Table | None = None
        table = self._open(progress)
        self.columns = tuple(table.batches[0]) if table.batches else ()
        self._count = table.ends[-1] if table.ends else 0
        if not self._count:
            raise NoRows(f"{file.name} has no rows", help="each row of the table is a sample")

    def _open(self, progress: Progress | None = None) -> _Table:
        """The mapped table by batches, and how values of its columns are read."""
        table = _table(self.file, self.kind, self._digest, progress)
        names = column_names(table.column_names)
        batches = table.to_batches()
        held = _Table(
            [dict(zip(names, batch.columns, strict=True)) for batch in batches],
            list(accumulate(batch.num_rows for batch in batches)),
            readings(table.schema),
        )
        self._held = held
        _OPEN.add(self)
        return held

    def release(self) -> None:
        """Lets the table go; it is opened again when it is read."""
        self._held = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_held": None}

    def __len__(self) -> int:
        return self._count

    def _raw(self, i: int, columns: Sequence[str]) -> dict[str, Any]:
        """Values of row `i`, read as people write them."""
        table = self._held or self._open()
        number = bisect_right(table.ends, self.check_row(i))
        inner = i - (table.ends[number - 1] if number else 0)
        return batch_row(table.batches[number], inner, columns, table.read, lambda: self.place(i))

    def row(self, i: int) -> dict[str, Any]:
        """Row `i` as Python values; media stored as {bytes, path} come as bytes, else as path."""
        return self._raw(i, self.columns)

    def value(self, i: int, column: str) -> Any:
        """One value of row `i`; the other columns are not touched."""
        if column in self.columns:
            return self._raw(i, (column,))[column]
        if column.isdigit():
            return super().value(i, column)  # a place among the columns
        head = self._head(column)
        return MISSING if head is None else field(self._raw(i, (head,)), column)

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[list[Any] | DataError]:
        """The values of some rows, converted for many rows at once."""
        heads = [self._head(column) for column in columns]
        if not all(heads):
            yield from super().values(numbers, columns)
            return
        named = list(zip(columns, heads, strict=True))
        for start in range(0, len(numbers), most := self._at_once(heads)):
            part = numbers[start : start + most]
            try:
                held = self._lists(part, heads)
            except (ValueError, OverflowError):  # one of the rows cannot be read: each for itself
                yield from super().values(part, columns)
                continue
            for k in range(len(part)):
                # the value of a whole column, or what its dots open
                yield [held[h][k] if c == h else field({h: held[h][k]}, c) for c, h in named]

    def _head(self, column: str) -> Any:
        """The column of the file that `column` names or opens; None where there is none."""
        if column in self.columns:
            return column
        return next((name for name in self.columns if column.startswith(f"{name}.")), None)

    def _at_once(self, columns: Sequence[str]) -> int:
        """How many rows are held as Python values at a time: about `_BYTES` of them."""
        batch = (self._held or self._open()).batches[0]
        held = sum(batch[name].nbytes / max(1, len(batch[name])) for name in set(columns))
        return max(1, min(_ROWS, int(_BYTES / max(1.0, held))))

    def _lists(self, numbers: Sequence[int], columns: Sequence[str]) -> dict[str, list[Any]]:
        """Column -> its values in some rows."""
        table = self._held or self._open()
        found: dict[str, list[Any]] = {name: [] for name in columns}
        for number, run in groupby(numbers, lambda i: bisect_right(table.ends, self.check_row(i))):
            batch, start = table.batches[number], table.ends[number - 1] if number else 0
            rows = [i - start for i in run]
            together = rows[-1] - rows[0] + 1 == len(rows) and rows == list(range(rows[0], rows[-1] + 1))
            for name, values in found.items():
                array = batch[name].slice(rows[0], len(rows)) if together else batch[name].take(rows)
                read = table.read.get(name)
                values += array.to_pylist() if read is None else map(read, array.to_pylist())
        return found


def batch_row(
    batch: Mapping[str, Any], i: int, columns: Iterable[str], read: Mapping[str, Reading], place: Callable[[], str]
) -> dict[str, Any]:
    """Row `i` of a batch (column -> array), its values as people write them; DataError with its place."""
    try:
        return {
            name: read[name](batch[name][i].as_py()) if name in read else batch[name][i].as_py() for name in columns
        }
    except (ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise row_error(place(), error.message, help=error.help) from None
        raise row_error(place(), f"a value cannot be read: {error}") from None


@dataclass(frozen=True, slots=True)
class _Table:
    """An open table.

    Attributes:
        batches: Column -> array, batch by batch.
        ends: Rows up to the end of each batch.
        read: Column -> what makes a plain value of its raw one.
    """

    batches: list[dict[str, Any]]
    ends: list[int]
    read: Mapping[str, Reading]


#: Those with an open table: each has a handle as long as it is mapped.
_OPEN = Pool()


def arrow_library(name: str) -> Any:
    """pyarrow with what reads the file of that name; DataError where it is missing."""
    for module in ("pyarrow.ipc", "pyarrow.parquet"):
        needed(module, name, "data")
    return needed("pyarrow", name, "data")


def _table(file: DataFile, kind: str, digest: str, progress: Progress | None) -> pa.Table:
    """The table of a file, memory-mapped where the disk allows it."""
    pa = arrow_library(file.name)
    try:
        if kind == "arrow" and not is_url(file.path):
            return _read_ipc(pa, pa.memory_map(file.path))
        path = cache_folder() / "tables" / f"{digest}.arrow"
        if not path.exists():
            try:
                with turn(path):
                    if not path.exists():  # another process may have been faster
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
