"""Rows in the order in which they come, for sources too large or too remote for an index, and for such as have none.

A stream that can be opened again goes on at any record by a cursor, a few plain values. What can be read only once (a
pipe, an iterator) keeps what was looked at before the training, so that no row of it is lost at the start.
"""

from __future__ import annotations

import copy
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ofasys_lite.data.readers.arrow import batch_row
from ofasys_lite.data.readers.arrow_values import Reading, readings
from ofasys_lite.data.readers.delimited import Dialect
from ofasys_lite.data.readers.jsonl import line_row
from ofasys_lite.data.readers.passing import Batch, Mark, Part, part_records
from ofasys_lite.data.readers.tar import KEY, member_value
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.plain import plain
from ofasys_lite.preprocess.web import is_web

#: Where a record begins, in plain values; empty: at the first.
Cursor = Mapping[str, Any]
#: Tries to go on with an answer that breaks off, before one that gives nothing new ends the stream.
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Record:
    """A row that has come by, not read yet.

    Attributes:
        raw: What its stream reads it from.
        part: Number of its file.
        number: Number of the row in its file, from 0 on.
        place: Where it stands, `big.jsonl, line 17`.
        size: Bytes that it takes, about; 0 where nobody knows.
    """

    raw: Any
    part: int
    number: int
    place: str
    size: int


class Records(ABC):
    """Records from some cursor on, to be iterated once."""

    @abstractmethod
    def __iter__(self) -> Iterator[Record]:
        """Those that are left."""

    @abstractmethod
    def cursor(self) -> dict[str, Any]:
        """Where the record behind the last one begins."""


class Stream(ABC):
    """Rows without number.

    Attributes:
        name: Name for messages.
        base: Folder that relative media paths start from.
        parts: Number of its files, which may come in any order.
        once: It can be read once only, by one process.
        buffer: Rows that are shuffled with each other; 1 keeps the order.
        look: Rows at its beginning that are looked at before the first step.
        notes: What was taken for granted when it was opened.
        columns: Those of the first rows.
    """

    name: str
    base: str = ""
    parts: int = 1
    once: bool = False
    buffer: int = 1
    look: int = 0
    notes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    _head: tuple[Record, ...] | None = None
    _rest: Iterator[Record] | None = None

    @abstractmethod
    def open(self, cursor: Cursor, order: Sequence[int], skip: Mapping[int, int], epoch: int) -> Records:
        """The records from `cursor` on.

        Args:
            order: The files in the order in which they are read.
            skip: File -> rows at its beginning that are left out.
            epoch: How often it was gone through before.
        """

    @abstractmethod
    def row(self, record: Record) -> dict[str, Any]:
        """What a record holds; DataError with its place if it cannot be read."""

    def folder(self, record: Record) -> str:
        """The folder that relative media paths of a record start from."""
        return self.base

    def id(self, record: Record) -> str:
        """What names a record that has no column `id`."""
        return f"{record.part}-{record.number}" if self.parts > 1 else str(record.number)

    def head(self, most: int) -> tuple[Record, ...]:
        """The first records, `look` of them or as many as hold `most` bytes; the same whenever it is asked for them.

        Raises:
            DataError: There is none.
        """
        if self._head is None:
            records = iter(self.open({}, range(self.parts), {}, 0))
            found, size = list[Record](), 0
            for record in records:
                found.append(record)
                size += record.size
                if len(found) >= self.look or size >= most:
                    break
            if not found:
                raise DataError(f"{self.name} has no rows", help="a stream gives at least one row")
            self._head = tuple(found)
            if self.once:
                self._rest = records
        return self._head

    def whole(self) -> Iterator[Record]:
        """All records of what can be read once, those that were looked at first among them; DataError if it was."""
        if self._head is None or self._rest is None:
            raise DataError(f"{self.name} can be read once, and was", help="open it anew")
        rest, self._rest = self._rest, None
        return chain(self._head, rest)


# ------------------------------------------------------------------ files


class FileStream(Stream):
    """Rows of files, one file after another.

    Args:
        files: At least one; a pipe only by itself.
        dialect: Of csv and tsv.
    """

    def __init__(self, files: Sequence[Part], dialect: Dialect, notes: Sequence[str] = ()) -> None:
        self.files = tuple(files)
        self.dialect = dialect
        self.parts = len(files)
        self.name = files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more"
        self.base = files[0].folder
        self.once = any(file.pipe for file in files)
        self.notes = tuple(notes)

    def open(self, cursor: Cursor, order: Sequence[int], skip: Mapping[int, int], epoch: int) -> Records:
        """The records from `cursor` on; an answer of a web server that breaks off is asked for again from there."""
        return _FileRecords(self, cursor, order, skip)

    def folder(self, record: Record) -> str:
        """The folder of its file."""
        return self.files[record.part].folder

    def id(self, record: Record) -> str:
        """The key of a sample of a tar; else the number of the row."""
        return str(record.raw[0]) if self.files[record.part].kind == "tar" else super().id(record)

    def row(self, record: Record) -> dict[str, Any]:
        """What a record holds, read as its format says."""
        raw, place = record.raw, record.place
        kind = self.files[record.part].kind
        if kind == "jsonl":
            return line_row(raw, self.dialect.encoding, place, self.columns)
        if kind == "csv":
            line, names = raw
            return dict(zip(names, self.dialect.split(line, place, names), strict=True))
        if kind == "tar":
            key, files = raw
            return {KEY: key, **{name: member_value(name, content, place) for name, content in files.items()}}
        if kind in ("parquet", "arrow"):
            batch: Batch = raw[0]
            return batch_row(batch.columns, raw[1], batch.columns, batch.read, lambda: place)
        return _plain_row(raw, place)


class _FileRecords(Records):
    def __init__(self, stream: FileStream, cursor: Cursor, order: Sequence[int], skip: Mapping[int, int]) -> None:
        self._stream, self._order, self._skip = stream, order, skip
        self._file = int(cursor.get("file", 0))
        self._mark: Mark = tuple(cursor.get("mark", ()))
        self._number = int(cursor.get("row", 0))

    def cursor(self) -> dict[str, Any]:
        return {"file": self._file, "mark": list(self._mark), "row": self._number}

    def __iter__(self) -> Iterator[Record]:
        while self._file < len(self._order):
            part = self._order[self._file]
            file, left = self._stream.files[part], self._skip.get(part, 0)
            for raw, label, size, mark in self._steady(file):
                number = self._number
                self._mark, self._number = mark, number + 1
                if file.kind == "csv" and not self._stream.columns:
                    self._stream.columns = raw[1]
                if number >= left:
                    yield Record(raw, part, number, f"{file.name}, {label}", size)
            self._file, self._mark, self._number = self._file + 1, (), 0

    def _steady(self, file: Part) -> Iterator[tuple[Any, str, int, Mark]]:
        """The records of a file from here on; where a server breaks off it is asked again."""
        tries = 0
        while True:
            begun = self._mark
            try:
                yield from part_records(file, self._mark, self._stream.dialect, self._stream.columns)
                return
            except DataError:
                tries = 1 if self._mark != begun else tries + 1
                if not is_web(file.path) or tries >= _TRIES:
                    raise
                time.sleep(2.0 ** (tries - 1) / 2)


def _plain_row(raw: Any, place: str) -> dict[str, Any]:
    """A row that a Python object gave."""
    if not isinstance(raw, Mapping):
        raise DataError(f"{place}: found {type(raw).__name__}, not a dict", help='such as {"q": "...", "a": "..."}')
    return {str(key): plain(value) for key, value in raw.items()}


# ------------------------------------------------------------------ Python objects


class ObjectStream(Stream):
    """Rows that Python gives: by a function, each call of which begins anew, by an iterable, or by an iterator, once.

    To go on within it the rows before are asked for again and dropped.
    """

    def __init__(self, rows: Callable[[], Iterable[Any]] | Iterable[Any], name: str, once: bool) -> None:
        self.rows, self.name, self.once = rows, name, once

    def open(self, cursor: Cursor, order: Sequence[int], skip: Mapping[int, int], epoch: int) -> Records:
        """The records from `cursor` on."""
        rows = self.rows() if callable(self.rows) else self.rows
        try:
            found = iter(rows)
        except TypeError:
            help = "a generator function, or one that gives a list or an iterable of dicts"
            raise DataError(f"{self.name} gives {type(rows).__name__}, which is no rows", help=help) from None
        return _ObjectRecords(self.name, found, int(cursor.get("row", 0)), skip.get(0, 0))

    def row(self, record: Record) -> dict[str, Any]:
        """What a record holds."""
        return _plain_row(record.raw, record.place)


class _ObjectRecords(Records):
    def __init__(self, name: str, rows: Iterator[Any], done: int, skip: int) -> None:
        self._name, self._rows, self._done, self._skip = name, rows, done, skip
        self._dropped = 0

    def cursor(self) -> dict[str, Any]:
        return {"row": self._done}

    def __iter__(self) -> Iterator[Record]:
        for number, raw in enumerate(self._rows, self._dropped):
            self._dropped = number + 1
            if number < self._done:
                continue
            self._done = number + 1
            if number >= self._skip:
                yield Record(raw, 0, number, f"{self._name}, row {number + 1}", 0)


class IterableStream(Stream):
    """Rows of a `datasets.IterableDataset`, which goes on by its own state.

    Where it shuffles in a buffer of its own, whose rows its state does not hold, its rows are read again and dropped.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        self.name = name
        self.dataset = dataset
        if dataset.features is not None:
            for column, feature in list(dataset.features.items()):
                if type(feature).__name__ in ("Image", "Audio", "Video") and hasattr(feature, "decode"):
                    self.dataset = self.dataset.cast_column(column, type(feature)(decode=False))
        self.again = _shuffles(self.dataset)

    def open(self, cursor: Cursor, order: Sequence[int], skip: Mapping[int, int], epoch: int) -> Records:
        """The records from `cursor` on; each epoch has another order where the data set shuffles."""
        dataset = copy.copy(self.dataset)
        if hasattr(dataset, "_epoch"):
            dataset._epoch = 0  # a number that processes share, and they may be in different epochs
        dataset.set_epoch(epoch)
        state = None if self.again else cursor.get("state")
        if state is not None:
            dataset.load_state_dict(copy.deepcopy(state))
        return _IterableRecords(self.name, dataset, cursor, self.again, skip.get(0, 0))

    def row(self, record: Record) -> dict[str, Any]:
        """What a record holds, its values as those of a stored data set are read."""
        features = self.dataset.features
        read: Mapping[str, Reading] = {} if features is None else readings(features.arrow_schema)
        try:
            return {str(key): read[key](v) if key in read else plain(v) for key, v in record.raw.items()}
        except DataError as error:
            raise DataError(f"{record.place}: {error.message}", help=error.help) from None


class _IterableRecords(Records):
    def __init__(self, name: str, dataset: Any, cursor: Cursor, again: bool, skip: int) -> None:
        self._name, self._dataset, self._again, self._skip = name, dataset, again, skip
        self._number = int(cursor.get("row", 0))
        self._state = cursor.get("state")

    def cursor(self) -> dict[str, Any]:
        return {"row": self._number, "state": self._state if self._again else self._dataset.state_dict()}

    def __iter__(self) -> Iterator[Record]:
        first = self._number if self._again else 0
        # by batches of one: within a loader's process the library would give each process other rows
        for batch in self._dataset.iter(1):
            if first:
                first -= 1
                continue
            number = self._number
            self._number = number + 1
            if number >= self._skip:
                raw = {key: values[0] for key, values in batch.items()}
                yield Record(raw, 0, number, f"{self._name}, row {number + 1}", 0)


def _shuffles(dataset: Any) -> bool:
    """Whether a data set has a shuffle buffer somewhere within."""
    inner = getattr(dataset, "_ex_iterable", None)
    while inner is not None:
        if "BufferShuffled" in type(inner).__name__:
            return True
        inner = getattr(inner, "ex_iterable", None)
    return False
