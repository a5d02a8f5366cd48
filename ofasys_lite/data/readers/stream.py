"""Rows in the order they come, for sources too large or too remote for an index: `stream: true`.

The order is not reproducible across changes of ranks or of the source; check, explain and the report say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import mapped_row
from ofasys_lite.errors import DataError

Rows = Callable[[], Iterable[Mapping[str, Any]]]


class StreamSource:
    """Rows without length or random access, shuffled within a buffer; iterating never ends, epoch follows epoch.

    Args:
        rows: Starts the rows from the first; called once per epoch.
        buffer: Rows held back for shuffling; 1 keeps the order.

    Attributes:
        epoch: Epoch of the next row.
        taken: Rows of that epoch already given out.
    """

    def __init__(
        self, rows: Rows, name: str, buffer: int = 1000, seed: int = 0, columns: Mapping[str, str] | None = None
    ) -> None:
        if buffer < 1:
            raise DataError(f"{name}: a shuffle buffer of {buffer} rows", help="`buffer` is 1 row or more")
        self._rows = rows
        self.name = name
        self.buffer = buffer
        self.seed = seed
        self.mapping = dict(columns or {})
        self.epoch = 0
        self.taken = 0
        self._rank, self._ranks = 0, 1

    def share(self, rank: int, ranks: int) -> StreamSource:
        """The same stream, of which only every `ranks`-th row, from `rank` on, is given out."""
        if not 0 <= rank < ranks:
            raise DataError(f"{self.name}: rank {rank} of {ranks}")
        other = StreamSource(self._rows, self.name, self.buffer, self.seed, self.mapping)
        other.epoch, other.taken = self.epoch, self.taken
        other._rank, other._ranks = rank, ranks
        return other

    def first(self, count: int) -> list[dict[str, Any]]:
        """The first rows of the stream in their own order, for checks."""
        found = []
        for row in self._own_rows():
            found.append(row)
            if len(found) == count:
                break
        return found

    def state_dict(self) -> dict[str, int]:
        """Epoch and rows taken: resuming reads that many rows again and drops them."""
        return {"epoch": self.epoch, "taken": self.taken}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Goes on after the row that `state_dict` was taken at."""
        self.epoch, self.taken = int(state["epoch"]), int(state["taken"])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        while True:
            skip, given = self.taken, 0
            for row in self._shuffled():
                given += 1
                if given <= skip:
                    continue
                self.taken = given
                yield row
            if not given:
                raise DataError(f"{self.name} has no rows", help="a stream must give at least one row per rank")
            self.epoch, self.taken = self.epoch + 1, 0

    def _own_rows(self) -> Iterator[dict[str, Any]]:
        """This rank's rows of one epoch in their own order, slot columns added."""
        for number, raw in enumerate(self._rows()):
            if number % self._ranks != self._rank:
                continue
            yield mapped_row(raw, self.mapping)

    def _shuffled(self) -> Iterator[dict[str, Any]]:
        """One epoch through the buffer: each new row takes the place of one drawn from it."""
        rng = sample_rng(self.seed, self.name, f"rank {self._rank}", self.epoch)
        held: list[dict[str, Any]] = []
        for row in self._own_rows():
            if len(held) < self.buffer:
                held.append(row)
                continue
            place = int(rng.integers(self.buffer))
            held[place], row = row, held[place]
            yield row
        for place in rng.permutation(len(held)).tolist():
            yield held[place]
