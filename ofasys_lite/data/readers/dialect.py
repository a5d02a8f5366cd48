"""How the fields of a csv or tsv file are written."""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from typing import Any

from ofasys_lite.data.fields import column_names
from ofasys_lite.data.readers.lines import check_encoding, decode
from ofasys_lite.errors import DataError

_LONG_NAME = 200


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are written.

    Attributes:
        separator: One character between fields.
        quote: The character around fields that hold separators or line ends; empty: quotes mean nothing.
        encoding: Text encoding.
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

    def split(self, record: bytes, place: str) -> list[str]:
        """The fields of one record; DataError if it is malformed or not in the encoding."""
        text = decode(record, self.encoding, place)
        if not self.quote or self.quote not in text:
            return text.split(self.separator)
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
