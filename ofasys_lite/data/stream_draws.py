"""Which rows of streams a step draws: read on from a cursor, shuffled in windows, the same in every process.

Draw number n of a stream is its n-th row, over all epochs, where each window of `buffer` rows is permuted by a key. So
a window's place in the stream is all that a checkpoint needs: the rows that are held are read again from there. Every
rank and every loader reads the whole stream, and makes samples of the rows of its own steps; so all meet the end of a
stream at the same row, and what it means for the steps to come follows from that number alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.mixture import Draw, Mixture
from ofasys_lite.data.passing_rows import FirstRows, StepRows
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.readers.stream import Record, Records
from ofasys_lite.errors import DataError

#: Task -> where its stream stands, in plain values.
States = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Window:
    """Rows that are shuffled with each other.

    Attributes:
        state: Where the stream stood before them.
        begun: Number of the first draw that they serve.
        order_N: Which of them each draw takes.
    """

    state: Mapping[str, Any]
    begun: int
    epoch: int
    records: tuple[Record, ...]
    order_N: NDArray[np.int64]

    @property
    def end(self) -> int:
        return self.begun + len(self.records)


class Walker:
    """A stream that is drawn from: forward only.

    Args:
        first: Its beginning.
        task: Name of the task; with `seed` it keys the shuffles.
        epochs: How often it is gone through; None: without end.
        state: What `state` gave before.

    Attributes:
        rows: Rows of all its epochs, once its end was met.
    """

    def __init__(
        self, first: FirstRows, task: str, seed: int, epochs: int | None, state: Mapping[str, Any] | None = None
    ) -> None:
        self._first, self._stream = first, first.stream
        self._task, self._seed = task, seed
        self._epochs = 1 if self._stream.once else epochs
        state = state or {}
        self._epoch = int(state.get("epoch", 0))
        self._number = int(state.get("window", 0))
        self._begun = int(state.get("begun", 0))
        self._cursor: Mapping[str, Any] = state.get("cursor") or {}
        ended = state.get("rows")
        # where rows are left before the end it is met again
        self.rows: int | None = ended if ended is not None and self._begun >= ended else None
        self._windows: deque[_Window] = deque()
        self._open: tuple[Records | None, Iterator[Record]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        if self._open is not None:  # it would be read on in two processes
            raise DataError(f"{self._stream.name} is being read", help="hand it over before its first row is drawn")
        return self.__dict__

    def state(self) -> dict[str, Any]:
        """Where the first row that may be asked for again begins, in plain values."""
        held = self._windows[0].state if self._windows else self._here()
        return {**held, "rows": self.rows}

    def _here(self) -> dict[str, Any]:
        cursor = dict(self._cursor)
        return {"epoch": self._epoch, "window": self._number, "begun": self._begun, "cursor": cursor}

    def reach(self, first: int, stop: int) -> int | None:
        """Holds the rows of draws first, ..., stop - 1; the number of all rows where the stream ends before.

        Raises:
            DataError: The stream cannot be read on.
        """
        if self._stream.once and self._open is None and not self._windows:
            self._begun = max(first, self._begun)  # what a resumed run would skip is not there any more
        while True:
            while self._windows and self._windows[0].end <= first:
                self._windows.popleft()
            reached = self._windows[-1].end if self._windows else self._begun
            if reached >= stop or self.rows is not None or not self._load():
                return self.rows if self.rows is not None and self.rows < stop else None

    def take(self, first: int, stop: int) -> StepRows:
        """The rows of draws first, ..., stop - 1, which are held."""
        records, epochs = list[Record](), list[int]()
        for window in self._windows:
            for draw in range(max(first, window.begun), min(stop, window.end)):
                records.append(window.records[window.order_N[draw - window.begun]])
                epochs.append(window.epoch)
        return StepRows(self._stream, records, self._first.mapping, epochs)

    def _load(self) -> bool:
        """Reads the next window; False where the stream ends."""
        while True:
            state = self._here()
            records = tuple(islice(self._records(), self._stream.buffer))
            if records:
                break
            if not self._number:
                help = "the rows behind those that are set aside are trained on; name valid and test in `data`"
                raise DataError(f"{self._stream.name} has no rows to train on", help=help if self._first.aside else "")
            self._open, self._cursor = None, {}
            self._epoch, self._number = self._epoch + 1, 0
            if self._epochs is not None and self._epoch >= self._epochs:
                self.rows = self._begun
                return False
        rng = sample_rng(self._seed, self._task, f"window {self._number}", self._epoch)
        order_N = rng.permutation(len(records)) if len(records) > 1 else np.zeros(1, np.int64)
        self._windows.append(_Window(state, self._begun, self._epoch, records, order_N))
        self._begun += len(records)
        self._number += 1
        opened = self._open[0] if self._open is not None else None
        self._cursor = {} if opened is None else opened.cursor()
        return True

    def _records(self) -> Iterator[Record]:
        """The records from here on."""
        if self._open is None and self._stream.once:
            self._open = None, self._stream.whole()
        elif self._open is None:
            parts = range(self._stream.parts)
            order: Any = parts
            if self._stream.buffer > 1 and len(parts) > 1:
                order = sample_rng(self._seed, self._task, "files", self._epoch).permutation(len(parts)).tolist()
            opened = self._stream.open(self._cursor, order, self._first.aside, self._epoch)
            self._open = opened, iter(opened)
        return self._open[1]


@dataclass(slots=True)
class StreamDraws:
    """The samples of steps in rising order, where some tasks are streams.

    Attributes:
        mixture: Knows of the ends of streams that were met.
        walkers: Number of a task -> its stream.
    """

    mixture: Mixture
    walkers: Mapping[int, Walker] = field(default_factory=dict)

    def draw(self, step: int) -> tuple[tuple[Draw, ...], dict[int, StepRows]] | None:
        """(the samples of a step, the rows of those that are of streams by task); None: all tasks have ended before.

        Raises:
            DataError: A stream cannot be read on.
        """
        while self.mixture.steps is None or step < self.mixture.steps:
            draws = self.mixture.draw(step)
            spans = dict[int, tuple[int, int]]()
            before, after = self.mixture.counts(step), self.mixture.counts(step + 1)
            for task in self.walkers:
                spans[task] = before[task], after[task]
            ends = {task: self.walkers[task].reach(*span) for task, span in spans.items() if span[0] < span[1]}
            met = {task: rows for task, rows in ends.items() if rows is not None}
            if not met:
                rows = {task: self.walkers[task].take(*spans[task]) for task in ends}
                return tuple(self._numbered(draw, spans, rows) for draw in draws), rows
            # the samples before its end are as they were, its share behind it goes to the others
            self.mixture = self.mixture.ending({self.mixture.tasks[task].name: rows for task, rows in met.items()})
        return None

    def _numbered(self, draw: Draw, spans: Mapping[int, tuple[int, int]], rows: Mapping[int, StepRows]) -> Draw:
        """A draw of a stream with its epoch, and its place among the rows of the step as its index."""
        if draw.task not in rows:
            return draw
        index = draw.ordinal - spans[draw.task][0]
        return Draw(draw.task, rows[draw.task].epochs[index], index, draw.ordinal)

    def states(self) -> dict[str, dict[str, Any]]:
        """Task -> where its stream stands, for a checkpoint."""
        return {self.mixture.tasks[task].name: walker.state() for task, walker in self.walkers.items()}
