"""Files read once through, from any record on, without an index: the bytes of streams, and their records by format.

A record comes raw, with what names it for people, and with the mark behind it: whole numbers that tell where the next
one begins. Opened at that mark again, the file gives the same records.
"""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from ofasys_lite.cards.classes import load_object
from ofasys_lite.data.copies import BROKEN, incomplete, packing_of, unpacking
from ofasys_lite.data.file_access import DataFile, unreadable
from ofasys_lite.data.readers.arrow import arrow_library
from ofasys_lite.data.readers.arrow_values import Reading, readings
from ofasys_lite.data.readers.delimited import Dialect, header_names
from ofasys_lite.data.readers.lines import scan_records
from ofasys_lite.data.readers.tar import EndMarked, no_tar, split_name, twice
from ofasys_lite.errors import DataError, OfasysError
from ofasys_lite.preprocess.doubled import column_names
from ofasys_lite.preprocess.web import fetching, is_web

Mark = tuple[int, ...]
#: (raw record, what people call it within its file, bytes of it, the mark behind it).
Raw = tuple[Any, str, int, Mark]

_BLOCK = 1 << 20
#: Rows of a table that are read at once.
_ROWS = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a stream.

    Attributes:
        name: What messages call it.
        kind: jsonl, csv, tar, parquet, arrow, or the dotted path of a reader of the user's.
        packing: How it is compressed; empty where it is not.
        folder: Where relative paths of media start from.
        pipe: It cannot be opened a second time.
    """

    path: str
    name: str
    kind: str
    packing: str = ""
    folder: str = ""
    pipe: bool = False


class _Whole(io.RawIOBase):
    """The body of an answer; ConnectionError where it ends before the length that the server told."""

    def __init__(self, answer: Any) -> None:
        self._answer = answer

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._answer.readinto(buffer))
        if not count and len(buffer) and self._answer.length:
            raise ConnectionError("it breaks off")
        return count


@contextmanager
def raw_bytes(path: str, start: int = 0) -> Iterator[BinaryIO]:
    """The bytes of a file, a pipe or an address from `start` on, as they are stored."""
    with ExitStack() as stack:
        if is_web(path):
            answer = stack.enter_context(fetching(path, start))
            handle: BinaryIO = cast(BinaryIO, io.BufferedReader(_Whole(answer), _BLOCK))
            if start and answer.status != 206:
                _skip(handle, start, path)
        else:
            handle = stack.enter_context(DataFile(path).open())
            if start:
                handle.seek(start)
        yield handle


@contextmanager
def content(part: Part, start: int = 0) -> Iterator[BinaryIO]:
    """The unpacked bytes of a part from `start` on; what is compressed is unpacked up to there.

    Raises:
        DataError: It cannot be opened or read, breaks off, or is no complete file of its packing.
    """
    with raw_bytes(part.path, 0 if part.packing else start) as raw, ExitStack() as stack:
        packing = part.packing
        if part.pipe:
            packing = packing_of(cast(io.BufferedReader, raw).peek(8)[:8], part.name)
        try:
            if not packing:
                yield raw
                return
            opened = stack.enter_context(unpacking(raw, packing, part.name))
            handle = cast(BinaryIO, io.BufferedReader(opened, _BLOCK))
            _skip(handle, start, part.name)
            yield handle
        except (DataError, ConnectionError):
            raise
        except BROKEN as error:
            if packing:
                raise incomplete(part.name, packing, error) from None
            if isinstance(error, OSError):
                raise unreadable(part.name, error, "read") from None
            raise


def _skip(handle: BinaryIO, count: int, name: str) -> None:
    while count:
        block = handle.read(min(count, _BLOCK))
        if not block:
            raise DataError(f"{name} is shorter than it was", help="do not change data while it is read")
        count -= len(block)


def head_of(path: str, count: int) -> tuple[bytes, str]:
    """(the first unpacked bytes of a file, how it is compressed)."""
    with raw_bytes(path) as raw:
        packing = packing_of(raw.read(8), path.partition("?")[0])
    with content(Part(path, path, "", packing)) as handle:
        return handle.read(count), packing


# ------------------------------------------------------------------ records by format


def part_records(part: Part, mark: Mark, dialect: Dialect, columns: Sequence[str]) -> Iterator[Raw]:
    """The records of a part from `mark` on; an empty mark is its beginning.

    Args:
        columns: Of a csv, what its header must say.
    """
    if "." in part.kind:
        return _own(part, mark)
    if part.kind == "tar":
        return _samples(part, mark)
    if part.kind in ("parquet", "arrow"):
        return _rows(part, mark)
    return _lines(part, mark, dialect if part.kind == "csv" else None, columns)


class _Lines:
    """Lines of an open file, bytes and lines counted."""

    def __init__(self, handle: BinaryIO, at: int, number: int) -> None:
        self.handle, self.at, self.number = handle, at, number

    def __iter__(self) -> Iterator[bytes]:
        for line in self.handle:
            self.at += len(line)
            self.number += 1
            yield line


def _lines(part: Part, mark: Mark, dialect: Dialect | None, columns: Sequence[str]) -> Iterator[Raw]:
    """Records of text, of a csv with the names of its fields; the mark is (bytes, lines)."""
    at, number = mark or (0, 0)
    separator, quote, escape = (
        (b"", b"", b"")
        if dialect is None
        else (dialect.separator.encode(), dialect.quote.encode(), dialect.escape.encode())
    )
    names: tuple[str, ...] = ()
    skip = 0 if dialect is None or mark else dialect.skip + (not dialect.header)
    if dialect is not None and dialect.header:
        names, _ = header_names(list(dialect.header), part.name, given=True)
    elif dialect is not None and mark:  # the header stands at the beginning
        names = next(_lines(part, (), dialect, columns))[0][1]
    with content(part, at) as handle:
        lines = _Lines(handle, at, number)
        for _, _, record in scan_records(lines, part.name, separator, quote, escape, at=at):
            if skip:
                skip -= 1
                if not skip and dialect is not None and not dialect.header:
                    names = _header(part, record, dialect, columns)
                continue
            first = lines.number - record.count(b"\n")
            raw = record if dialect is None else (record, names)
            yield raw, f"line {first}", len(record), (lines.at, lines.number)


def _header(part: Part, record: bytes, dialect: Dialect, columns: Sequence[str]) -> tuple[str, ...]:
    names, _ = header_names(dialect.split(record, f"{part.name}, header"), part.name)
    if columns and set(names) != set(columns):
        raise DataError(
            f"{part.name} has the columns {', '.join(names[:12])}, and files before it {', '.join(columns[:12])}",
            help="files of one stream have the same columns",
        )
    return names


def _samples(part: Part, mark: Mark) -> Iterator[Raw]:
    """Samples of a tar (WebDataset), (key, files by column); the mark is (bytes) or (-1), its end."""
    start = mark[0] if mark else 0
    if start < 0:
        return
    key, files = "", dict[str, bytes]()
    with content(part, start) as handle:
        try:
            with tarfile.open(fileobj=handle, mode="r|", tarinfo=EndMarked) as tar:
                while (member := tar.next()) is not None:
                    tar.members = []  # type: ignore[attr-defined]  # it would keep every member that it has met
                    parts = split_name(member.name) if member.isfile() else None
                    if parts is None:
                        continue
                    if files and parts[0] != key:
                        yield (key, files), f"sample {key}", _size(files), (start + member.offset,)
                        files = {}
                    key, name = parts
                    if name in files:
                        raise twice(part.name, key, name)
                    opened = tar.extractfile(member)
                    files[name] = b"" if opened is None else opened.read()
        except (tarfile.TarError, EOFError) as error:
            raise no_tar(part.name, error) from None
    if files:
        yield (key, files), f"sample {key}", _size(files), (-1,)


def _size(files: Mapping[str, bytes]) -> int:
    return sum(map(len, files.values()))


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows of a table: column -> array, and what makes plain values of some columns."""

    columns: Mapping[str, Any]
    read: Mapping[str, Reading]


def _rows(part: Part, mark: Mark) -> Iterator[Raw]:
    """Rows of a table, (batch, number in it); the mark is (rows)."""
    done, first = 0, mark[0] if mark else 0
    pa = arrow_library(part.name)
    with content(part) as handle:
        try:
            for found in _batches(pa, part, handle, first):
                if isinstance(found, int):
                    done += found  # rows that need not be read
                    continue
                names, size = column_names(found.schema.names), found.nbytes // max(1, found.num_rows)
                batch = Batch(dict(zip(names, found.columns, strict=True)), readings(found.schema))
                for i in range(max(0, first - done), found.num_rows):
                    yield (batch, i), f"row {done + i + 1}", size, (done + i + 1,)
                done += found.num_rows
        except pa.ArrowException as error:
            what = str(error).splitlines()[0] if str(error) else "broken file"
            help = "it may be cut off or of another format"
            raise DataError(f"{part.name} cannot be read as {part.kind}: {what}", help=help) from None


def _batches(pa: Any, part: Part, handle: BinaryIO, first: int) -> Iterator[Any]:
    """Batches of a table; a number stands for so many rows before `first`."""
    if part.kind == "parquet":
        table = pa.parquet.ParquetFile(handle)
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if count <= first:
                first -= count
                yield count
            else:
                first = 0
                yield from table.iter_batches(_ROWS, row_groups=[group])
        return
    if cast(io.BufferedReader, handle).peek(6)[:6] != b"ARROW1":
        yield from pa.ipc.open_stream(handle)
        return
    if part.packing or part.pipe:
        help = "unpack it, or write it as a stream: pyarrow.ipc.new_stream"
        raise DataError(f"{part.name} is an Arrow file, whose index stands at its end", help=help)
    table = pa.ipc.open_file(handle)
    for number in range(table.num_record_batches):
        yield table.get_batch(number)


def _own(part: Part, mark: Mark) -> Iterator[Raw]:
    """What a reader of the user's gives of a path, one after another; the mark is (rows)."""
    first = mark[0] if mark else 0
    try:
        for number, row in enumerate(load_object(part.kind, "format")(part.path)):
            if number >= first:
                yield row, f"row {number + 1}", 0, (number + 1,)
    except OfasysError:
        raise
    except Exception as error:
        help = f"it is read by {part.kind}, as `format` says"
        raise DataError(f"{part.path}: {type(error).__name__}: {error}", help=help) from error


def is_pipe(path: str) -> bool:
    """True for a pipe, a terminal or another device: what can be read once."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)
