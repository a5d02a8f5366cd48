"""What a check finds in rows: one finding per kind and place in the line, with its first row and its count; remarks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.columns import label
from ofasys_lite.data.quarantine import allowed
from ofasys_lite.errors import DataError
from ofasys_lite.instruction.places import place_of
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.preprocess.base import Look

#: Kinds of a mistake at one place that are told apart.
_KINDS = 4
#: Rows of a finding that are shown.
_ROWS = 5
#: Notes of a task that a training prints.
_MOST = 6


@dataclass(slots=True)
class Finding:
    """One mistake, seen in one or more rows.

    Attributes:
        message: What is wrong in the first row that has it, without the task.
        span: Place in the line, or None for a row that cannot be read at all.
        rows: The rows that have it, such as `qa.csv, row 17`.
    """

    code: str
    message: str
    span: Span | None
    help: str
    rows: list[str]


def _places(rows: Sequence[str]) -> str:
    """Where some rows stand, the first few of them: `qa.csv, rows 4, 29, 41 ...`."""
    name, mark, _ = rows[0].rpartition(", row ")
    shown = [row for row in rows[:_ROWS] if row.startswith(f"{name}{mark}")]
    if len(rows) == 1 or not mark or len(shown) < len(rows[:_ROWS]):
        return rows[0]
    numbers = ", ".join(row[len(name) + len(mark) :] for row in shown)
    return f"{name}, rows {numbers}" + (" ..." if len(rows) > _ROWS else "")


class Tally:
    """Findings of one task in one source."""

    def __init__(self, card: TaskCard) -> None:
        self.card = card
        self.rows = 0
        self.counted = 0
        self._found: dict[tuple[str, Span | None, str], Finding] = {}
        self._bad: set[str] = set()
        self._row, self._counts = "", True

    @property
    def bad(self) -> int:
        """Rows with a finding, of those that count."""
        return len(self._bad)

    @property
    def codes(self) -> frozenset[str]:
        """Codes of the findings."""
        return frozenset(code for code, *_ in self._found)

    def next_row(self, place: str, counts: bool = True, again: bool = False) -> None:
        """What is added from now on belongs to the row at `place`.

        Args:
            counts: False for a row of another split, which is not lost for this one.
            again: It was looked at before.
        """
        self.rows += not again
        self.counted += counts and not again
        self._row, self._counts = place, counts

    def add(self, code: str, span: Span | None, message: str, help: str = "", kind: str = "") -> None:
        """Notes a mistake of the current row; the same code, place and kind counts once a row."""
        kinds = [key for key in self._found if key[:2] == (code, span)]
        if (code, span, kind) not in kinds and len(kinds) >= _KINDS:
            kind = kinds[-1][2]
        found = self._found.setdefault((code, span, kind), Finding(code, message, span, help, []))
        if self._row not in found.rows[-1:]:
            found.rows.append(self._row)
            if self._counts:
                self._bad.add(self._row)

    def error(self, finding: Finding) -> DataError:
        """The finding as the error that is shown."""
        count = len(finding.rows)
        share = f"; {count} of {self.rows} rows looked at" if self.rows > 1 else ""
        where = f" ({_places(finding.rows)}{share})" if finding.rows else ""
        if finding.span is None:
            place = None
            where = f" ({share[2:]})" if share else ""
        else:
            place = place_of(self.card.instruction, finding.span, self.card.origin)
        message = f"task {self.card.name}: {finding.message}{where}."
        return DataError(message, code=finding.code, place=place, help=finding.help)

    def errors(self) -> Iterator[DataError]:
        """One error per finding."""
        for finding in self._found.values():
            yield self.error(finding)

    def tolerated(self, rows: int, limit: float) -> bool:
        """Whether a training would go on without the rows that have a finding.

        Args:
            rows: Rows of the split; where not all of them were looked at, there must surely be too many.
            limit: Share of unreadable rows that the training allows.
        """
        if limit == 0:
            return not self._found
        if self.counted >= rows:
            return self.bad <= allowed(rows, limit)
        # two standard deviations of a count
        return self.bad - 2 * math.sqrt(self.bad) <= limit * self.counted


def shortened(notes: Iterable[str]) -> list[str]:
    """The notes once each, those of a task together and at most `_MOST` of them: what a training says of its data."""
    kept: dict[str, list[str]] = {}
    listed = list(dict.fromkeys(notes))
    for note in listed:
        # what is said in full elsewhere
        if any(other != note and other.startswith(note) for other in listed):
            continue
        head, _, rest = note.partition(": ")
        owner = head if head.startswith("task ") and rest else note
        kept.setdefault(owner, []).append(note)
    found: list[str] = []
    for owner, of_task in kept.items():
        found += of_task[:_MOST]
        if len(of_task) > _MOST:
            name = owner.removeprefix("task ")
            found.append(f"{owner}: {len(of_task) - _MOST} more notes: ofasys-lite check {name}")
    return found


#: Places with all numbers up to this are shares of their picture, not pixels of it.
_SHARES = 1.5


class Remarks:
    """What values of the slots of one task have in common, counted over the rows of one source.

    Attributes:
        work: Pixels and samples that would be decoded to read all values whole.
    """

    def __init__(self) -> None:
        self.work = 0
        self._values: Counter[str] = Counter()
        self._found: dict[tuple[str, str], list[Any]] = {}
        self._largest: dict[str, float] = {}

    def see(self, slot: SlotSegment, look: Look) -> None:
        """Notes what was learned of one value of `slot`."""
        self.work += look.work
        who = label(slot)
        self._values[who] += 1
        for kind, example in look.remarks:
            found = self._found.setdefault((who, kind), [0, example])
            found[0] += 1
        if look.largest is not None:
            self._largest[who] = max(self._largest.get(who, 0.0), look.largest)

    def lines(self, name: str) -> Iterator[str]:
        """One line a kind, of the values seen in the source `name`; forgets them."""
        for (who, kind), (count, example) in self._found.items():
            share = f"{100 * count / self._values[who]:.1f} % of the values in {name}"
            yield f"{who}: {kind} {share}" + (f", such as {example}" if example else "")
        for who, largest in self._largest.items():
            if 0 < largest <= _SHARES:
                hint = f"{who[len('slot ') : -1]},size=1]"
                yield f"{who}: no number is above {largest:g}, read as pixels; shares of the picture are written {hint}"
        self.__init__()  # type: ignore[misc]
