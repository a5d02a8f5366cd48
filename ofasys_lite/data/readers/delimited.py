"""csv, tsv and their like: a header, then one record per row; values are strings."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ofasys_lite.data.files import DataFile
from ofasys_lite.data.readers.lines import Progress, check_encoding, decode, record_offsets, scan_records
from ofasys_lite.data.source import RowSource, combined, row_error
from ofasys_lite.errors import DataError

__all__ = ["DelimitedSource", "Dialect", "stream_delimited"]

_LONG_NAME = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are written.

    Attributes:
        separator: One character between fields.
        quote: The character around fields that hold separators or line ends; empty: quotes mean nothing.
        encoding: Text encoding.
        header: Column names, where the file has none of its own; empty: the first record holds them.
    """

    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()

    def check(self, name: str) -> Dialect:
        """Itself; raises DataError if separator or quote is not one ASCII character, or the encoding is no use."""
        for what, value in (("separator", self.separator), ("quote", self.quote)):
            if (not value and what == "quote") or (len(value) == 1 and value.isascii() and value not in "\r\n"):
                continue
            raise DataError(
                f"{name}: {what} is {value!r}", help=f"a {what} is one ASCII character, such as ',' or '\\t'"
            )
        check_encoding(self.encoding, name)
        return self

    def split(self, record: bytes, place: str) -> list[str]:
        """The fields of one record; DataError if it is malformed or not in the encoding."""
        text = decode(record, self.encoding, place)
        if not self.quote or self.quote not in text:
            return text.split(self.separator)
        limit = csv.field_size_limit()
        if len(text) > limit:
            csv.field_size_limit(len(text))
        try:
            rows = list(csv.reader([text], delimiter=self.separator, quotechar=self.quote, strict=True))
        except csv.Error as error:
            raise DataError(
                f"{place}: {error}",
                help=f"write {self.quote * 2} for a quote inside quotes, or give `quote: ''` if they mean nothing",
            ) from None
        finally:
            csv.field_size_limit(limit)
        return rows[0]


class DelimitedSource(RowSource):
    """Rows of a csv or tsv file.

    Args:
        file: The file.
        dialect: How fields are written.
        progress: Called while the file is indexed for the first time.

    Raises:
        DataError: If it is empty, its header cannot be one, or a quote never closes.
    """

    def __init__(self, file: DataFile, dialect: Dialect, progress: Progress | None = None) -> None:
        self.file = file
        self._digest = file.digest()
        self.dialect = dialect.check(file.name)
        self.name = file.name
        self.base = file.folder
        records = record_offsets(file, self._digest, dialect.separator.encode(), dialect.quote.encode(), progress)
        if not len(records):
            raise DataError(
                f"{file.name} is empty", help="its first line holds the column names, each other line a row"
            )
        if dialect.header:
            self._columns = check_header(list(dialect.header), file.name)
        else:
            first = dialect.split(file.read(int(records[0, 0]), int(records[0, 1])), f"{file.name}, header")
            self._columns = check_header(first, file.name)
            records = records[1:]
        self._records = records

    @property
    def columns(self) -> tuple[str, ...]:
        """The names in the header."""
        return self._columns

    @property
    def fingerprint(self) -> str:
        """Hash of the file and the dialect."""
        return combined("delimited", self._digest, self.dialect)

    def __len__(self) -> int:
        return len(self._records)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: column -> text."""
        start, stop = self._records[self.check_row(i)]
        place = self.place(i)
        return as_row(self._columns, self.dialect.split(self.file.read(int(start), int(stop)), place), place)


def as_row(columns: Sequence[str], fields: list[str], place: str) -> dict[str, Any]:
    """The row that `fields` make; DataError if their number is not that of the columns."""
    if len(fields) != len(columns):
        what = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
        raise row_error(
            place,
            f"{what}, and the header has {len(columns)} ({', '.join(columns[:12])})",
            help="quote fields that hold the separator or a line end"
            if len(fields) > len(columns)
            else "check the separator, and whether a line is cut short",
        )
    return dict(zip(columns, fields, strict=True))


def check_header(names: list[str], name: str) -> tuple[str, ...]:
    """The column names; DataError if two are alike, one is empty, or they look like data."""
    names = [one.strip() for one in names]
    data = "if the file has no header, give the names: `header: [image, question, answer]`"
    for number, one in enumerate(names, 1):
        if not one:
            raise DataError(f"{name}: column {number} of the header has no name", help=f"name it; {data}")
        if len(one) > _LONG_NAME or one.replace(".", "", 1).isdigit():
            raise DataError(f"{name}: the first line looks like data, not like column names ({one[:40]!r})", help=data)
        if "\r" in one:
            raise DataError(f"{name}: its lines end with carriage returns only", help="save it with Unix line ends")
    twice = [one for one in names if names.count(one) > 1]
    if twice:
        raise DataError(f"{name}: column `{twice[0]}` is twice in the header", help=f"rename one of them; {data}")
    return tuple(names)


def stream_delimited(file: DataFile, dialect: Dialect) -> Iterator[dict[str, Any]]:
    """The rows of a file from first to last, without an index."""
    dialect.check(file.name)
    with file.open() as handle:
        columns = check_header(list(dialect.header), file.name) if dialect.header else ()
        number = 0
        records = scan_records(handle, file.name, dialect.separator.encode(), dialect.quote.encode())
        for _, _, record in records:
            if not columns:
                columns = check_header(dialect.split(record, f"{file.name}, header"), file.name)
                continue
            number += 1
            place = f"{file.name}, row {number}"
            yield as_row(columns, dialect.split(record, place), place)
