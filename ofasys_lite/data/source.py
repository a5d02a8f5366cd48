"""Rows by number: what every reader gives, and what is made of several of them."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, groupby
from typing import Any

from ofasys_lite.data.fields import MISSING, column_help, field
from ofasys_lite.errors import DataError, few


class NoRows(DataError):
    """A source without rows; as one of several parts it is no mistake."""


class RowSource(ABC):
    """Rows with a length, random access and a content hash; it can be pickled, and opens its files where it is used.

    Attributes:
        name: Name for messages, such as `qa.csv`.
        columns: Names of the columns, in the order of the data.
        base: Folder that relative media paths in the rows start from; empty: the working directory.
        notes: What was taken for granted when it was opened, for the user.
        doubt: Why its columns' names may be none; empty where they are.
        ratios: Shares of train, valid and test in percent, where the card gives them.
        kept: Whether what is measured of its rows is worth keeping: False where they are looked at once.
    """

    name: str
    columns: tuple[str, ...]
    base: str = ""
    notes: tuple[str, ...] = ()
    doubt: str = ""
    ratios: tuple[float, ...] | None = None
    kept: bool = True
    _fingerprint = ""

    @property
    def fingerprint(self) -> str:
        """Hash of the content and the way it is read: equal rows that are read alike have equal ones."""
        if not self._fingerprint:
            self._fingerprint = self._hash()
        return self._fingerprint

    def _hash(self) -> str:
        """The fingerprint of a source that did not set it when it was opened."""
        raise DataError(
            f"{type(self).__name__} has no fingerprint",
            help="define `fingerprint`, a hash of its content: what is measured of its rows is kept by it",
        )

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows."""

    @abstractmethod
    def row(self, i: int) -> dict[str, Any]:
        """Row `i` (0-based) with raw values; raises DataError with source and row number if it cannot be read."""

    def value(self, i: int, column: str) -> Any:
        """The raw value of `column` (dotted names open records) in row `i`; MISSING if the row has none."""
        return field(self.row(i), column)

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[list[Any] | DataError]:
        """The raw values of `columns` of some rows, a list a row; the error of a row in its place if it cannot be read.

        For whatever looks at all rows: what a source reads at once for many of them costs a fraction of `value`.
        """
        whole = type(self).value is RowSource.value  # the data have no way to a single value
        for i in numbers:
            try:
                row = self.row(i) if whole else {}
                yield [field(row, column) if whole else self.value(i, column) for column in columns]
            except DataError as error:
                yield error

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The sample id of row `i`: its column `id` where there is one, else its number from 0 on.

        Args:
            row: The row, where it has been read: then it is not read again.
        """
        if "id" in self.columns:
            try:
                found = self.value(i, "id") if row is None else field(row, "id")
            except DataError:
                return str(i)  # an unreadable row must still have a name in the ledger
            if found is not MISSING and found is not None and found != "":
                return str(found)
        return str(i)

    def place(self, i: int) -> str:
        """Where row `i` stands, for messages: `qa.csv, row 17` (rows count from 1)."""
        return f"{self.name}, row {i + 1}"

    def origin(self, i: int) -> tuple[RowSource, int]:
        """The source whose rows are measured once for all its parts, and the number of row `i` there."""
        return self, i

    def check_row(self, i: int) -> int:
        """`i`, if there is such a row; IndexError if not; this is a mistake of the caller, not of the data."""
        if not 0 <= i < len(self):
            raise IndexError(f"{self.name} has {len(self)} rows; there is no row {i}")
        return i


def row_error(place: str, what: str, *, column: str = "", help: str = "") -> DataError:
    """A DataError with the place of the row before the message: `qa.csv, row 17, column answer: ...`."""
    where = f"{place}, column {column}" if column else place
    return DataError(f"{where}: {what}", help=help)


def combined(*parts: object) -> str:
    """One hash over the texts of `parts`."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        text = str(part).encode("utf-8", "surrogatepass")
        state.update(f"{len(text)}:".encode() + text)
    return state.hexdigest()


def has_column(columns: Sequence[str], name: str) -> bool:
    """True if `name`, or a record that its dots open, is among `columns`."""
    parts = name.split(".")
    return any(".".join(parts[:count]) in columns for count in range(1, len(parts) + 1))


def spread(total: int, most: int | None) -> tuple[int, ...]:
    """At most `most` row numbers, evenly spread over `total` rows: files are often sorted.

    Example:
        >>> spread(10, 3)
        (0, 3, 6)
    """
    if most is None or most >= total:
        return tuple(range(total))
    return tuple(i * total // most for i in range(most))


class View(RowSource):
    """Rows of another source, all or some of them, seen otherwise."""

    def __init__(self, source: RowSource) -> None:
        self.source = source
        self.name, self.base, self.columns = source.name, source.base, source.columns
        self.notes, self.doubt, self.ratios = source.notes, source.doubt, source.ratios

    def original(self, i: int) -> int:
        """The number of row `i` in the source."""
        return i

    def __len__(self) -> int:
        return len(self.source)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`, as the source has it."""
        return self.source.row(self.original(i))

    def value(self, i: int, column: str) -> Any:
        """The value of `column` in row `i`, as the source has it."""
        return self.source.value(self.original(i), column)

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[list[Any] | DataError]:
        """The values of some rows, as the source has them."""
        return self.source.values([self.original(i) for i in numbers], columns)

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The id that the source gives."""
        return self.source.ids(self.original(i), row)

    def place(self, i: int) -> str:
        """Where row `i` stands in its file."""
        return self.source.place(self.original(i))


class Mapped(View):
    """A source whose rows also have slot columns, taken from data columns.

    Args:
        columns: Slot column -> data column; dots open records unless the whole name is a column.

    Raises:
        DataError: If a data column is not there; the nearest name is offered.
    """

    def __init__(self, source: RowSource, columns: Mapping[str, str]) -> None:
        for slot, column in columns.items():
            if not has_column(source.columns, column):
                raise DataError(
                    f"column `{slot}` is to come from `{column}`, which {source.name} does not have",
                    help=column_help(column, source.columns),
                )
        super().__init__(source)
        self.mapping = dict(columns)
        self.columns += tuple(slot for slot in columns if slot not in source.columns)

    def _hash(self) -> str:
        """Hash of the content and the mapping."""
        return combined("mapped", self.source.fingerprint, sorted(self.mapping.items()))

    def row(self, i: int) -> dict[str, Any]:
        """Row `i` with the slot columns added; a slot whose value is not in this row is left out."""
        return mapped_row(self.source.row(i), self.mapping)

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """The id that the source gives, whatever a slot of that name is."""
        return self.source.ids(i, None if "id" in self.mapping else row)

    def value(self, i: int, column: str) -> Any:
        """The value of a slot column or data column in row `i`."""
        return self.source.value(i, self._data_column(column))

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[list[Any] | DataError]:
        """The values of slot columns or data columns of some rows."""
        return self.source.values(numbers, [self._data_column(column) for column in columns])

    def _data_column(self, column: str) -> str:
        """Where the data have what is called `column`."""
        if column in self.mapping:
            return self.mapping[column]
        head, dot, rest = column.partition(".")
        if dot and head in self.mapping and column not in self.source.columns:
            return f"{self.mapping[head]}.{rest}"
        return column


def mapped_row(raw: Mapping[str, Any], mapping: Mapping[str, str]) -> dict[str, Any]:
    """The row `raw` with slot columns (slot column -> data column) in the place of columns of their names."""
    out = {name: value for name, value in raw.items() if name not in mapping}
    for slot, column in mapping.items():
        value = field(raw, column)
        if value is not MISSING:
            out[slot] = value
    return out


def names_medium(name: str) -> bool:
    """Whether files of such a name hold an image, a sound or a film."""
    return _is_medium(os.path.splitext(name)[1])


@lru_cache  # asked of every value
def _is_medium(ending: str) -> bool:
    return (mimetypes.guess_type(f"a{ending}")[0] or "").startswith(("image/", "audio/", "video/"))


def rooted(value: Any, base: str) -> Any:
    """`value`, paths of media files that lie in the folder `base` made absolute."""
    if isinstance(value, list):
        return [rooted(one, base) for one in value]
    if not isinstance(value, str) or len(value) > 255 or "\0" in value or not base:
        return value
    path = os.path.abspath(os.path.join(base, value))
    return path if names_medium(value) and os.path.isfile(path) else value


class Chained(RowSource):
    """Several sources, one after another: shards of one table.

    A path of an image, sound or film that a shard of another folder than the first one gives, relative to its own
    folder, comes as an absolute path.

    Args:
        sources: At least one; all with the same columns, in any order.

    Raises:
        DataError: If the columns of two differ.
    """

    def __init__(self, sources: Sequence[RowSource]) -> None:
        first = sources[0]
        for other in sources[1:]:
            if set(other.columns) != set(first.columns):
                odd = sorted(set(other.columns) ^ set(first.columns))[0]
                raise DataError(
                    f"{first.name} and {other.name} are read as one table, and only one of them has column `{odd}`",
                    help=f"{first.name} has {few(first.columns)}; {other.name} has {few(other.columns)}",
                )
        self.sources = tuple(sources)
        self.ends = list(accumulate(len(source) for source in sources))
        self.name = f"{first.name} and {len(sources) - 1} more" if len(sources) > 1 else first.name
        self.base, self.columns, self.doubt = first.base, first.columns, first.doubt
        told = [source for source in sources if source.notes]
        more = f" (and {len(told) - 1} more files)" if len(told) > 1 else ""
        self.notes = tuple(note + more for note in (told[0].notes if told else ()))

    def _hash(self) -> str:
        """Hash of the contents in order."""
        return combined("chained", *(source.fingerprint for source in self.sources))

    def __len__(self) -> int:
        return self.ends[-1]

    def _find(self, i: int) -> tuple[RowSource, int]:
        number = bisect_right(self.ends, self.check_row(i))
        return self.sources[number], i - (self.ends[number - 1] if number else 0)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`, counted over all sources."""
        source, inner = self._find(i)
        row = source.row(inner)
        return row if source.base == self.base else {key: rooted(value, source.base) for key, value in row.items()}

    def value(self, i: int, column: str) -> Any:
        """The value of `column` in row `i`, counted over all sources."""
        source, inner = self._find(i)
        value = source.value(inner, column)
        return value if source.base == self.base else rooted(value, source.base)

    def values(self, numbers: Sequence[int], columns: Sequence[str]) -> Iterator[list[Any] | DataError]:
        """The values of some rows, counted over all sources."""
        for number, run in groupby(numbers, lambda i: bisect_right(self.ends, self.check_row(i))):
            source, start = self.sources[number], self.ends[number - 1] if number else 0
            for found in source.values([i - start for i in run], columns):
                if isinstance(found, DataError) or source.base == self.base:
                    yield found
                else:
                    yield [rooted(value, source.base) for value in found]

    def place(self, i: int) -> str:
        """The shard and the row in it."""
        source, inner = self._find(i)
        return source.place(inner)
