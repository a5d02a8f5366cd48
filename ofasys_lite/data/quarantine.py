"""Rows that could not be read: noted with the reason, replaced by spare rows, and counted against a limit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.writing import as_utf8, atomic

#: What to do where a task loses more rows than it may.
TOO_MANY = (
    "too many rows cannot be read: mend or remove them, or allow a larger share: trainer.quarantine=0.2, in Python "
    "fit(..., quarantine=0.2); now {:g}"
)
#: Rows that small tasks may lose whatever the limit, unless it is 0; a quarter of their rows at most, but one always.
_FEW = 3


def allowed(rows: int, limit: float) -> int:
    """Most rows of a task of `rows` that may be unreadable under the limit, a share.

    A share of a small task says little, so three rows are always allowed, or a quarter of them where that is less, and
    one in any case. A limit of 0 allows none.

    Example:
        >>> [allowed(rows, 0.01) for rows in (4, 8, 24, 1000)]
        [1, 2, 3, 10]
    """
    return max(int(limit * rows + 1e-9), 1, min(_FEW, rows // 4)) if limit > 0 else 0


@dataclass(frozen=True, slots=True)
class Quarantined:
    """One row that could not be read.

    Attributes:
        row: Row number in the task's training split, from 0 on.
        place: Where it stands, `qa.csv, row 17` (rows count from 1 on); empty in checkpoints from before this was kept.
    """

    task: str
    row: int
    id: str
    reason: str
    attempts: int = 1
    place: str = ""


class Quarantine:
    """All rows that a run could not read; above the limit the run stops.

    Args:
        sizes: Task -> number of rows of its training split.
        limit: Largest share of a task's rows that may be unreadable, 0 to 1; `allowed` says what small tasks may lose.
    """

    def __init__(self, sizes: Mapping[str, int], limit: float = 0.01) -> None:
        if not 0 <= limit <= 1:
            raise DataError(f"a quarantine limit of {limit:g}", help="it is a share of the rows: 0 to 1, such as 0.01")
        self.sizes = dict(sizes)
        self.limit = limit
        self._entries: dict[tuple[str, int], Quarantined] = {}
        self._counts: Counter[str] = Counter()

    @property
    def entries(self) -> tuple[Quarantined, ...]:
        """The rows, by task and row number."""
        return tuple(self._entries[key] for key in sorted(self._entries))

    @property
    def counts(self) -> dict[str, int]:
        """Task -> number of different rows in quarantine, tasks with none left out."""
        return dict(self._counts)

    def __len__(self) -> int:
        return len(self._entries)

    def grow(self, task: str, rows: int) -> None:
        """Counts the rows of a stream, of which at first only the beginning is known."""
        self.sizes[task] = max(self._size(task), rows)

    def merge(self, reports: Iterable[Quarantined]) -> list[str]:
        """Notes what workers or ranks report; one line for the log per report.

        Raises:
            DataError: If more of a task's rows cannot be read than the limit allows; all reports are noted before.
        """
        noted: list[Quarantined] = []
        for report in reports:
            known = self._entries.get((report.task, report.row))
            if known is None:
                self._counts[report.task] += 1
            else:
                report = replace(report, attempts=known.attempts + report.attempts)
            self._entries[report.task, report.row] = report
            noted.append(report)
        for report in noted:
            size = self._size(report.task)
            if self._counts[report.task] > allowed(size, self.limit):
                raise DataError(self.line(report), help=TOO_MANY.format(self.limit))
        return [self.line(report) for report in noted]

    def line(self, entry: Quarantined) -> str:
        """What a log says of one row: task, its place in the file, id, reason, and how many there are."""
        reason = entry.reason.strip().rstrip(".")
        count = f"{self._counts[entry.task]} of {self._size(entry.task)} rows, limit {self._limit(entry.task)}"
        place = entry.place or f"row {entry.row + 1}"
        return f"task {entry.task}, {place} (id {entry.id}): {reason}. Quarantined ({count})."

    def summary(self) -> list[str]:
        """What to say at the end of a run: per task how many rows could not be read, and the first of them."""
        told = []
        for task, count in sorted(self._counts.items()):
            first = next(entry for entry in self.entries if entry.task == task)
            what = "could not be read and was" if count == 1 else "could not be read and were"
            begun = "" if count == 1 else "the first is "
            told.append(
                f"task {task}: {count} of {self._size(task)} training rows {what} replaced by others: "
                f"{begun}{first.place or f'row {first.row + 1}'}: {first.reason.strip().rstrip('.')}"
            )
        return told

    def _limit(self, task: str) -> str:
        most = allowed(self._size(task), self.limit)
        share = f"{self.limit * 100:g} %"
        few = most > self.limit * self._size(task)
        return f"{share}, and {most} row{'s' if most > 1 else ''} in any case" if few else share

    def _size(self, task: str) -> int:
        """Rows of a task."""
        if task not in self.sizes:
            raise DataError(f"the quarantine ledger knows no task `{task}`", help=f"tasks: {', '.join(self.sizes)}")
        return self.sizes[task]

    def state_dict(self) -> dict[str, Any]:
        """All entries as plain values, for checkpoints."""
        return {"entries": [asdict(entry) for entry in self.entries]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Takes over the entries of a checkpoint, in place of its own; rows of tasks that are gone stay listed."""
        entries = [Quarantined(**entry) for entry in state["entries"]]
        self._entries = {(entry.task, entry.row): entry for entry in entries}
        self._counts = Counter(entry.task for entry in entries)

    def write(self, path: Path) -> None:
        """Writes the entries as jsonl, whole or not at all."""
        lines = [json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in self.entries]
        with atomic(path) as temporary:
            temporary.write_bytes(as_utf8("".join(lines)))
