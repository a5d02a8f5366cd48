"""Where the records of a text file start and end: scanned once, kept by content hash."""

from __future__ import annotations

import codecs
import re
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import Arrays, cached_arrays
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.source import combined
from ofasys_lite.errors import DataError

# (what is being done, bytes done, bytes in all)
Progress = Callable[[str, int, int], None]


class Marks(Protocol):
    """What splits records: of a Dialect."""

    @property
    def separator(self) -> str:
        """Between fields."""

    @property
    def quote(self) -> str:
        """Around fields."""

    @property
    def escape(self) -> str:
        """Before a quote that is none."""


#: Bytes that are quotes, dashes and the like in cp1252, and control characters in latin-1.
_WINDOWS = re.compile(rb"[\x80-\x9f]")
_BOM8 = b"\xef\xbb\xbf"
_WIDE = (b"\xff\xfe", b"\xfe\xff")
_EVERY = 1 << 22


def check_encoding(encoding: str, name: str) -> str:
    """`encoding`, if its line ends and separators are single bytes as in ASCII.

    Raises:
        DataError: If it is unknown, or a wide one such as UTF-16.
    """
    try:
        plain = ',"\t\n{}'.encode(encoding) == b',"\t\n{}'
    except LookupError:
        raise DataError(f"{name}: unknown encoding `{encoding}`", help="such as utf-8, latin-1, cp1252") from None
    if not plain:
        raise DataError(f"{name}: encoding `{encoding}` cannot be read at random places", help="save it as UTF-8")
    return encoding


def record_offsets(
    file: DataFile, digest: str, marks: Marks | None = None, progress: Progress | None = None
) -> NDArray[np.int64]:
    """(records, 2) start and end of every record without its line end, from the cache or a scan.

    Args:
        marks: Separator and quotes within which line ends do not count; None: records are whole lines.

    Raises:
        DataError: On a quote that never closes, or a file that is not plain text of one-byte line ends.
    """

    separator, quote, escape = (
        (b"", b"", b"") if marks is None else (marks.separator.encode(), marks.quote.encode(), marks.escape.encode())
    )

    def build() -> Arrays:
        found = array("q")
        with file.open() as handle:
            for start, stop, _ in scan_records(handle, file.name, separator, quote, escape, progress, file.size()):
                found.append(start)
                found.append(stop)
        return {"records": np.array(found, np.int64).reshape(-1, 2)}

    return cached_arrays("lines-2", combined(digest, separator, quote, *([escape] if escape else [])), build)["records"]


def scan_records(
    lines: Iterable[bytes],
    name: str,
    separator: bytes = b"",
    quote: bytes = b"",
    escape: bytes = b"",
    progress: Progress | None = None,
    size: int = 0,
    at: int = 0,
) -> Iterator[tuple[int, int, bytes]]:
    """(start, end, bytes) of every record in an open file; empty lines, and lines of blanks, are none.

    Args:
        at: Where in the file the first of `lines` begins.
    """
    offset = start = at
    inside = False
    kept: list[bytes] = []
    number = reported = 0
    for line in lines:
        if offset == 0:
            if line[:2] in _WIDE:
                raise DataError(f"{name} is UTF-16 text", help="give `encoding: utf-16`, or save it as UTF-8")
            if line[:3] == _BOM8:
                offset = start = 3
                line = line[3:]
        if quote and (inside or quote in line):
            shown = line.replace(escape + escape, b"__").replace(escape + quote, b"__") if escape else line
            inside = _ends_inside(shown, separator, quote, inside)
        kept.append(line)
        offset += len(line)
        if inside:
            continue
        record = b"".join(kept) if len(kept) > 1 else line
        body = record.rstrip(b"\r\n")
        if body.strip(b" \t") or (separator and separator in body):
            number += 1
            yield start, start + len(body), body
        start = offset
        kept = []
        if progress is not None and offset - reported >= _EVERY:
            reported = offset
            progress(f"index of {name}", offset, size)
    if inside:
        raise DataError(
            f"{name}, record {number + 1} (from byte {start}): a quote opens and never closes",
            help="close it, double quotes inside a quoted field, or give `quote: ''` where quotes have no meaning",
        )


def _ends_inside(line: bytes, separator: bytes, quote: bytes, inside: bool) -> bool:
    """True if a quoted field is still open at the end of `line` (`inside`: one was open at its start)."""
    at = 0
    while True:
        if not inside:
            if line[at : at + 1] != quote:  # an unquoted field: quotes in it are ordinary characters
                found = line.find(separator, at)
                if found < 0:
                    return False
                at = found + len(separator)
                continue
            at += 1
        close = line.find(quote, at)
        while close >= 0 and line[close + 1 : close + 2] == quote:
            close = line.find(quote, close + 2)
        if close < 0:
            return True
        inside = False
        found = line.find(separator, close + 1)
        if found < 0:
            return False
        at = found + len(separator)


def decode(record: bytes, encoding: str, place: str) -> str:
    """The text of a record; DataError with the place and the byte if it is not in that encoding.

    latin-1 gives every byte a character; those that are control characters nobody writes, and quotes and dashes in
    Windows' encoding, are refused in it, unless the record holds bytes that are none of Windows' either.
    """
    at = None
    if not record.isascii() and _is_latin_1(encoding):
        windows = _WINDOWS.search(record)
        at = windows.start() if windows is not None and _is_windows(record) else None
    if at is None:
        try:
            return record.decode(encoding)
        except UnicodeDecodeError as error:
            at = error.start
    raise DataError(f"{place}: byte {record[at]:#04x} at position {at + 1} is not {encoding}", help=_help_for(record))


def _help_for(record: bytes) -> str:
    """What encoding a record may have that is none of its own."""
    # of what is no UTF-8: bytes of a character that is some count for nothing
    if re.search("[\udc80-\udc9f]", record.decode("utf-8", "surrogateescape")) is None:
        return "save the file as UTF-8, or name its encoding, such as `encoding: latin-1`"
    if _is_windows(record):
        return "save the file as UTF-8, or name its encoding, such as `encoding: cp1252`"
    return "save the file as UTF-8, or name its encoding: neither latin-1 nor cp1252; cp437, mac-roman, shift_jis?"


@lru_cache(maxsize=64)
def _is_latin_1(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "iso8859-1"


def _is_windows(record: bytes) -> bool:
    """Whether all bytes have a character in cp1252: five have none."""
    try:
        record.decode("cp1252")
    except UnicodeDecodeError:
        return False
    return True
