"""csv, tsv and their like: a header, then one record per row; values are strings."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.lines import Progress, check_encoding, decode, record_offsets
from ofasys_lite.data.source import NoRows, RowSource, combined, row_error
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.doubled import column_names

_LONG_NAME = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are written.

    Attributes:
        separator: One character between fields.
        quote: The character around fields that hold separators or line ends; empty: quotes mean nothing.
        header: Column names, where the file has none of its own; empty: the first record holds them.
        escape: The character before a quote that means itself, such as a backslash; empty: quotes are doubled.
        skip: Records before the header that are none, such as Excel's `sep=;`.
    """

    separator: str = ","
    quote: str = '"'
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()
    escape: str = ""
    skip: int = 0

    def with_(self, **changes: Any) -> Dialect:
        """The same with other values."""
        return replace(self, **changes)

    def check(self, name: str) -> Dialect:
        """Itself; raises DataError if a mark is not one ASCII character, or the encoding is no use."""
        for what, value in (("separator", self.separator), ("quote", self.quote), ("escape", self.escape)):
            if (not value and what != "separator") or (len(value) == 1 and value.isascii() and value not in "\r\n"):
                continue
            raise DataError(
                f"{name}: {what} is {value!r}", help=f"a {what} is one ASCII character, such as ',' or '\\t'"
            )
        check_encoding(self.encoding, name)
        return self

    def split(self, record: bytes, place: str, columns: Sequence[str] = ()) -> list[str]:
        """The fields of one record, one a column; DataError if they are not, it is malformed or in another encoding."""
        text = decode(record, self.encoding, place)
        fields = self._quoted(text, place) if self.quote and self.quote in text else text.split(self.separator)
        if columns and len(fields) != len(columns):
            what = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            raise row_error(
                place,
                f"{what}, and the header has {len(columns)} ({', '.join(columns[:12])})",
                help="quote fields that hold the separator or a line end"
                if len(fields) > len(columns)
                else "check the separator, and whether a line is cut short",
            )
        return fields

    def _quoted(self, text: str, place: str) -> list[str]:
        limit = csv.field_size_limit()
        if len(text) > limit:
            csv.field_size_limit(len(text))
        how: dict[str, Any] = {"escapechar": self.escape, "doublequote": True} if self.escape else {}
        try:
            rows = list(csv.reader([text], delimiter=self.separator, quotechar=self.quote, strict=True, **how))
        except csv.Error as error:
            raise DataError(f"{place}: {error}", help=self._help(text)) from None
        finally:
            csv.field_size_limit(limit)
        return rows[0]

    def _help(self, text: str) -> str:
        if f"\\{self.quote}" in text and not self.escape:
            return "a backslash stands before quotes: give `escape: '\\'`"
        return f"write {self.quote * 2} for a quote inside quotes, or give `quote: ''` if they mean nothing"


def header_names(names: list[str], name: str, given: bool = False) -> tuple[tuple[str, ...], str]:
    """(a name for every column, why the names may be no names).

    Columns without a name, and several of one name, are called by their places: a line that does not ask for them need
    not care.

    Args:
        names: The first record, or what the card names.
        name: Of the file.
        given: The card names them: then each must be a name of its own.

    Raises:
        DataError: If all look like data, or a card names one twice.
    """
    names = [one.strip() for one in names]
    data = "if the file has no header, give the names: `header: [image, question, answer]`"
    if any("\r" in one for one in names):
        raise DataError(f"{name}: its lines end with carriage returns only", help="save it with Unix line ends")
    if given:
        odd = next((one for one in names if not one or names.count(one) > 1), None)
        if odd is not None:
            raise DataError(f"{name}: `header` names {f'`{odd}` twice' if odd else 'a column by nothing'}")
        return tuple(names), ""
    numbers = [one for one in names if len(one) > _LONG_NAME or one.replace(".", "", 1).isdigit()]
    filled = [one for one in names if one]
    counted = filled == [str(number) for number in range(len(filled))]  # what pandas writes where nobody gave names
    if numbers == filled and not counted:
        shown = f" ({numbers[0][:40]!r})" if numbers else ""
        raise DataError(f"{name}: the first line looks like data, not like column names{shown}", help=data)
    doubt = f"`{numbers[0][:40]}` in its first line looks like data; {data}" if numbers and not counted else ""
    return column_names(names), doubt


class DelimitedSource(RowSource):
    """Rows of a csv or tsv file; DataError if it is empty, its header cannot be one, or a quote never closes."""

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
        fields = self.dialect.split(self.file.read(start, stop), self.place(i), self.columns)
        return dict(zip(self.columns, fields, strict=True))
