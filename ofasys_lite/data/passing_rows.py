"""Rows of a stream that are held: those at its beginning, by which all is settled before the first step, and others."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.data.fields import MISSING, column_help, field
from ofasys_lite.data.readers.memory import feed
from ofasys_lite.data.readers.stream import Record, Stream
from ofasys_lite.data.source import RowSource, combined, has_column, mapped_row, rooted
from ofasys_lite.data.subset import Subset
from ofasys_lite.errors import DataError

#: Bytes of rows at the beginning of a stream that are held, at most.
_MOST = 1 << 26
#: Rows whose keys are the columns.
_NAMED = 1000
#: Rows at the beginning that are not trained on where valid or test are not given: of each, at most and as a share.
_ASIDE, _SHARE = 500, 0.05


class PassingRows(RowSource):
    """Some rows of a stream.

    Args:
        mapping: Slot column -> data column.
    """

    kept = False

    def __init__(self, stream: Stream, records: Sequence[Record], mapping: Mapping[str, str]) -> None:
        self.stream, self.records, self.mapping = stream, records, dict(mapping)
        self.name, self.base, self.notes = stream.name, stream.base, stream.notes
        self.columns = (*stream.columns, *(slot for slot in mapping if slot not in stream.columns))

    def __deepcopy__(self, memo: Any) -> PassingRows:
        return self  # what can be read once has no copy

    def __len__(self) -> int:
        return len(self.records)

    def _raw(self, i: int) -> dict[str, Any]:
        record = self.records[self.check_row(i)]
        row = self.stream.row(record)
        folder = self.stream.folder(record)
        return row if folder == self.base else {key: rooted(value, folder) for key, value in row.items()}

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`, slot columns added; DataError if it cannot be read."""
        return mapped_row(self._raw(i), self.mapping)

    def ids(self, i: int, row: Mapping[str, Any] | None = None) -> str:
        """Its column `id`, or what its place in the stream makes of it."""
        if "id" in self.stream.columns:
            try:
                found = field(self._raw(i) if row is None or "id" in self.mapping else row, "id")
                if found is not MISSING and found not in (None, ""):
                    return str(found)
            except DataError:
                pass  # an unreadable row must still have a name in the ledger
        return self.stream.id(self.records[i])

    def place(self, i: int) -> str:
        """The file and the line."""
        return self.records[i].place


class StepRows(PassingRows):
    """The rows of a stream that one step draws, read once.

    Attributes:
        epochs: How often the stream had been gone through before each.
    """

    def __init__(
        self, stream: Stream, records: Sequence[Record], mapping: Mapping[str, str], epochs: Sequence[int]
    ) -> None:
        super().__init__(stream, records, mapping)
        self.epochs = tuple(epochs)
        self._read: dict[int, dict[str, Any]] = {}

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`."""
        if i not in self._read:
            self._read[i] = super().row(i)
        return self._read[i]


class FirstRows(PassingRows):
    """The rows at the beginning of a stream: what stands for it wherever rows are looked at by number.

    Args:
        aside: How many rows before these are not trained on, by number of their file.
    """

    kept = True

    def __init__(
        self,
        stream: Stream,
        records: Sequence[Record],
        mapping: Mapping[str, str],
        aside: Mapping[int, int] | None = None,
    ) -> None:
        super().__init__(stream, records, mapping)
        self.aside = dict(aside or {})

    @staticmethod
    def of(stream: Stream, columns: Mapping[str, str] | None = None) -> FirstRows:
        """The first rows of a stream; DataError if it has none, or not the columns that a mapping asks for."""
        records = stream.head(_MOST)
        if not stream.columns:
            names: dict[str, None] = {}
            for record in records[:_NAMED]:
                try:
                    names.update(dict.fromkeys(stream.row(record)))
                except DataError:
                    continue  # a broken row is reported where it is used
            stream.columns = tuple(names)
        for slot, column in (columns or {}).items():
            if not has_column(stream.columns, column):
                raise DataError(
                    f"column `{slot}` is to come from `{column}`, which {stream.name} does not have",
                    help=column_help(column, stream.columns),
                )
        return FirstRows(stream, records, columns or {})

    def _hash(self) -> str:
        """Hash of these rows: of the others nothing is known."""
        state = hashlib.blake2b(digest_size=16)
        for i in range(len(self)):
            try:
                feed(state, self.row(i))
            except DataError:
                feed(state, None)
        return combined("first", state.hexdigest())

    def set_aside(self, missing: Collection[str], group: str | None) -> tuple[dict[str, RowSource], tuple[str, ...]]:
        """(training rows and the splits that are missing, notes): they are the first rows, which are not trained on.

        Of what can be read only once nothing is set aside: evaluating later nobody could read it again.

        Args:
            group: The card's column of groups, which are not kept together here.
        """
        each = 0 if self.stream.once else min(_ASIDE, int(len(self) * _SHARE))
        found: dict[str, RowSource] = {}
        for number, split in enumerate(missing):
            rows = np.arange(number * each, (number + 1) * each)
            key = combined(self.fingerprint, "aside", split, each, number)
            found[split] = Subset(self, rows, f"{self.name} ({split})", key)
        count = each * len(missing)
        aside = Counter(record.part for record in self.records[:count])
        found["train"] = FirstRows(self.stream, self.records[count:], self.mapping, aside)
        if not count:
            return found, ()
        said = " and ".join(missing)
        be = "are" if len(missing) > 1 else "is"
        note = f"{said} {be} the first {count:,} rows of {self.name}, which are not trained on"
        note += f" ({each:,} each)" if len(missing) > 1 else ""
        apart = f"; rows of one `{group}` may stand among them and behind them" if group else ""
        return found, (note + apart,)

    def order_note(self, epochs: int | None) -> str:
        """What is to be said of the order of its rows and of going on with a run."""
        stream = self.stream
        shuffled = f"shuffled in windows of {stream.buffer:,} rows" if stream.buffer > 1 else "in its own order"
        looked = f"closed sets and the tokenizer are made of its first {len(self.records):,} rows"
        if stream.once:
            return (
                f"{self.name} is read as a stream, {shuffled}; it can be read once: its order is not reproducible, its "
                "end is the task's, and a resumed run takes what comes then (rows that were read and not trained on "
                f"are lost); {looked}"
            )
        ends = "over and over" if epochs is None else f"{epochs} times" if epochs > 1 else "once"
        return f"{self.name} is read as a stream, {shuffled}, {ends}; {looked}"
