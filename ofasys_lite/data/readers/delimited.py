"""csv, tsv and their like: a header, then one record per row; values are strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.dialect import Dialect, header_names
from ofasys_lite.data.readers.lines import Progress, record_offsets, scan_records
from ofasys_lite.data.source import NoRows, RowSource, combined, row_error
from ofasys_lite.errors import DataError


class DelimitedSource(RowSource):
    """Rows of a csv or tsv file.

    Raises:
        DataError: If it is empty, its header cannot be one, or a quote never closes.
    """

    def __init__(
        self, file: DataFile, dialect: Dialect, progress: Progress | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.file = file
        digest = file.digest()
        self.dialect = dialect.check(file.name)
        self._fingerprint = combined("delimited", digest, self.dialect)
        self.name = file.name
        self.base = file.folder
        self.notes = tuple(notes)
        records = record_offsets(file, digest, dialect, progress)[dialect.skip :]
        if not len(records):
            raise DataError(
                f"{file.name} is empty", help="its first line holds the column names, each other line a row"
            )
        if dialect.header:
            self.columns, _ = header_names(list(dialect.header), file.name, given=True)
        else:
            first = dialect.split(file.read(int(records[0, 0]), int(records[0, 1])), f"{file.name}, header")
            self.columns, self.doubt = header_names(first, file.name)
            records = records[1:]
        if not len(records):
            raise NoRows(
                f"{file.name} has a header and no rows",
                help="each line after the first is a row; if the first is one too, give the names: `header: [...]`",
            )
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: column -> text."""
        start, stop = self._records[self.check_row(i)].tolist()
        place = self.place(i)
        return as_row(self.columns, self.dialect.split(self.file.read(start, stop), place), place)


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


def stream_delimited(file: DataFile, dialect: Dialect) -> Iterator[dict[str, Any]]:
    """The rows of a file from first to last, without an index."""
    dialect.check(file.name)
    with file.open() as handle:
        columns = header_names(list(dialect.header), file.name, given=True)[0] if dialect.header else ()
        number = 0
        marks = (dialect.separator.encode(), dialect.quote.encode(), dialect.escape.encode())
        for place, (_, _, record) in enumerate(scan_records(handle, file.name, *marks)):
            if place < dialect.skip:
                continue
            if not columns:
                columns, _ = header_names(dialect.split(record, f"{file.name}, header"), file.name)
                continue
            number += 1
            where = f"{file.name}, row {number}"
            yield as_row(columns, dialect.split(record, where), where)
