"""Which sample is drawn when: a pure function (seed, tasks and weights, step) -> samples of that step.

Nothing is iterated and nothing is stored: step 10,000,000 costs what step 0 costs, so resuming needs only the number
of the step, and every rank and every loader worker computes the same draws by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from itertools import pairwise
from math import lcm

import numpy as np

from ofasys_lite.data.allotment import Allotment, whole_weights
from ofasys_lite.data.block_draws import BlockDraws, block_draws
from ofasys_lite.data.permutation import key_of, permute, permute_many, sides
from ofasys_lite.errors import CardError

_HELP = "write a number (`weight: 2`) or points (`weight: [[0, 1], [1000, 0.2]]`, a straight line between them)"
# a ramp is a staircase of at most this many flat parts in all ramps of a mixture together, so that counts stay exact
MAX_STAIRS = 1024


#: What stands for the number of rows of a stream.
_ENDLESS = 2**62


@dataclass(frozen=True, slots=True)
class Schedule:
    """A weight over steps: straight lines between points, flat before the first and after the last.

    Two points at one step are a jump: `[[0, 1], [500, 1], [500, 0]]` is 1 before step 500 and 0 from it on.

    Attributes:
        points: (step, weight) pairs, steps not falling.
    """

    points: tuple[tuple[int, float], ...]

    @classmethod
    def parse(cls, value: object, what: str = "weight") -> Schedule:
        """The schedule a card's value means.

        Args:
            value: A number, a Schedule, or a list of [step, weight] pairs.
            what: Name for messages, such as `task vqa: weight`.

        Raises:
            CardError: On anything else, a negative or endless weight, or steps that fall.
        """
        if isinstance(value, Schedule):
            return value
        if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
            if not value:
                raise CardError(f"{what} is an empty list", help=_HELP)
            points = tuple(_point(item, number, what) for number, item in enumerate(value, 1))
            for (before, _), (after, _) in pairwise(points):
                if after < before:
                    raise CardError(f"{what}: step {after} comes after step {before}", help="sort the points by step")
            return cls(points)
        return cls(((0, _weight(value, what)),))

    def at(self, step: int) -> float:
        """The weight at `step`."""
        return float(self.line(step)[0])

    def line(self, step: int) -> tuple[Fraction, Fraction]:
        """(weight at `step`, change per step up to the next point), exact for the decimal numbers in the card."""
        before = [point for point in self.points if point[0] <= step]
        if not before or len(before) == len(self.points):
            return Fraction(str((before or self.points[:1])[-1][1])), Fraction(0)
        (s0, w0), (s1, w1) = before[-1], self.points[len(before)]
        slope = (Fraction(str(w1)) - Fraction(str(w0))) / (s1 - s0)
        return Fraction(str(w0)) + slope * (step - s0), slope


def _point(item: object, number: int, what: str) -> tuple[int, float]:
    """One [step, weight] pair of a card."""
    if not isinstance(item, Sequence) or isinstance(item, (str, bytes)) or len(item) != 2:
        raise CardError(f"{what}: point {number} is {item!r}, not a pair [step, weight]", help=_HELP)
    step, weight = item
    if isinstance(step, bool) or not isinstance(step, int) or step < 0:
        raise CardError(f"{what}: point {number} has step {step!r}; a step is a whole number from 0 on", help=_HELP)
    return step, _weight(weight, f"{what}: point {number}")


def _weight(value: object, what: str) -> float:
    """A weight: a number, not negative, not endless."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise CardError(f"{what} is {value!r}; a weight is a number", help=_HELP)
    if not math.isfinite(value) or value < 0:
        raise CardError(f"{what} is {value!r}; a weight is 0 or more", help=_HELP)
    return value


def stairs(schedules: Sequence[Schedule]) -> list[tuple[int, list[int]]]:
    """(first step, weights as whole numbers of one unit) of the flat parts that all schedules together have, in order.

    Where any weight moves, the interval is cut into flat parts of equal length, each with the weights at its middle:
    one part per step where there are few steps, and never more than MAX_STAIRS in all. The last part never ends.
    """
    edges = sorted({0} | {step for schedule in schedules for step, _ in schedule.points})
    intervals = [(start, end, [schedule.line(start) for schedule in schedules]) for start, end in pairwise(edges)]
    moving = [any(slope for _, slope in lines) for _, _, lines in intervals]
    most = max(1, MAX_STAIRS // max(1, sum(moving)))
    parts: list[tuple[int, list[int]]] = []
    for (start, end, lines), moves in zip(intervals, moving, strict=True):
        count = min(end - start, most) if moves else 1
        unit = lcm(*(number.denominator for line in lines for number in line))
        whole = [(int(weight * unit) * 2, int(slope * unit)) for weight, slope in lines]
        for first, stop in pairwise(start + (end - start) * j // count for j in range(count + 1)):
            twice = first + stop - 1 - 2 * start  # twice the distance of the middle from the start, a whole number
            parts.append((first, [weight + slope * twice for weight, slope in whole]))
    last = [schedule.line(edges[-1])[0] for schedule in schedules]
    unit = lcm(*(weight.denominator for weight in last))
    parts.append((edges[-1], [int(weight * unit) for weight in last]))
    return parts


@dataclass(frozen=True, slots=True)
class Draw:
    """One sample of a step.

    Attributes:
        task: Index of the task in the mixture.
        epoch: How often the task's data had been gone through before.
        ordinal: How many samples of the task were drawn before this one, over the whole run.
    """

    task: int
    epoch: int
    index: int
    ordinal: int


@dataclass(frozen=True, slots=True)
class MixtureTask:
    """One task of a mixture.

    Attributes:
        name: Task name; it keys the task's shuffles, so adding another task never changes this one's order.
        size: Rows it has; None: it is a stream, of which nobody knows.
        weight: How often it is drawn, against the other tasks, in samples; a number or a schedule over steps.
        epochs: At most so many passes over its rows, then its share goes to the other tasks; None: no limit.
        block: It is drawn in blocks of at least so many samples, which lie in one step (`block_draws.py`).
        rows: Of a stream, rows of all its epochs, once its end was met.
    """

    name: str
    size: int | None
    weight: float | Schedule = 1.0
    epochs: int | None = None
    block: int = 1
    # found on the way: no part of what decides which sample is when
    rows: int | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise CardError(f"task {self.name} has no rows to train on", help="give it data, or leave it out")
        if self.epochs is not None and self.epochs < 1:
            raise CardError(
                f"task {self.name}: epochs is {self.epochs}", help="epochs is 1 or more; leave it out for no limit"
            )

    @property
    def limit(self) -> int | None:
        """Samples that may be drawn of it in the whole run; None: no limit."""
        if self.size is None:
            return self.rows
        return None if self.epochs is None else self.epochs * self.size


class Mixture:
    """The samples of every step, in exact proportions and closed form.

    Args:
        tasks: The tasks, at least one, with different names.
        samples_per_step: Samples of one step, over all ranks.

    Attributes:
        steps: Number of full steps that the tasks' `epochs` allow; None: endless.

    Raises:
        CardError: On tasks or weights that make no mixture.
    """

    def __init__(self, tasks: Sequence[MixtureTask], seed: int, samples_per_step: int) -> None:
        self.tasks = tuple(tasks)
        self.seed = seed
        self.samples_per_step = samples_per_step
        _check(self.tasks, samples_per_step)
        parts = _parts(self.tasks)
        shares = [[weight / sum(weights) for weight in weights] for _, weights in parts]
        mean = [sum(share[t] for share in shares) / len(parts) for t in range(len(self.tasks))]
        self._allotment = Allotment(mean)
        self._ends: dict[int, int] = {}  # task -> draw at which it has used its epochs
        self._blocks: BlockDraws | None = None
        if any(task.block > 1 for task in self.tasks):
            self._blocks = block_draws(self.tasks, parts, samples_per_step)
            self._ends, self.steps = self._blocks.ends, self._blocks.steps
        else:
            stop = self._lay(parts)
            self.steps = None if stop is None else stop // samples_per_step
        # of a stream the number of a draw is all that is known
        sizes = [_ENDLESS if task.size is None else task.size for task in self.tasks]
        self._table = np.array([(size, *(sides(size) if size < _ENDLESS else (1, 1))) for size in sizes], np.int64)

    def ending(self, rows: Mapping[str, int]) -> Mixture:
        """The same mixture, in which streams end after so many rows; the draws before the first end are the same."""
        tasks = [replace(task, rows=rows.get(task.name, task.rows)) for task in self.tasks]
        return Mixture(tasks, self.seed, self.samples_per_step)

    def _lay(self, parts: Sequence[tuple[int, list[int]]]) -> int | None:
        """Lays the pieces of constant weights, cut where a task's epochs end; returns the draw where all have ended."""
        for number, (step, weights) in enumerate(parts):
            start = step * self.samples_per_step
            stop = parts[number + 1][0] * self.samples_per_step if number + 1 < len(parts) else None
            while stop is None or start < stop:
                live = [0 if task in self._ends else weight for task, weight in enumerate(weights)]
                if not any(live):
                    return start
                self._allotment.add_piece(start, whole_weights(live))
                end = self._next_end(start, stop)
                if end is None:
                    break
                start = end
        return None

    def _next_end(self, start: int, stop: int | None) -> int | None:
        """The first draw in [start, stop) at which some task has used its epochs; notes which."""
        found: list[tuple[int, int]] = []
        for number, task in enumerate(self.tasks):
            if task.limit is None or number in self._ends:
                continue
            full = self._allotment.full_at(number, task.limit, start, stop)
            if full is not None:
                found.append((full, number))
        if not found:
            return None
        first = min(found)[0]
        self._ends |= {number: first for at, number in found if at == first}
        return first

    def draw(self, step: int) -> tuple[Draw, ...]:
        """The samples of `step`, tasks interleaved; the same on every machine.

        Raises:
            CardError: If `step` is negative, or every task has used its epochs before the end of it.
        """
        if step < 0:
            raise CardError(f"step {step} is before the first step, 0")
        if self.steps is not None and step >= self.steps:
            raise CardError(
                f"every task has used its epochs after step {self.steps}; step {step} has no samples left",
                help="raise `epochs`, take it away from one task, or train for fewer steps",
            )
        if self._blocks is not None:
            task_N, ordinal_N = self._blocks.route(step)
        else:
            task_N, ordinal_N = self._allotment.route(step * self.samples_per_step, self.samples_per_step)
        rows_N = self._table[task_N]
        epoch_N, place_N = np.divmod(ordinal_N, rows_N[:, 0])
        epochs = [(self.tasks[t].name, e) for t, e in zip(task_N.tolist(), epoch_N.tolist(), strict=True)]
        key_N = np.array([key_of("shuffle", self.seed, name, epoch) for name, epoch in epochs], np.uint64)
        index_N = place_N.copy()
        known_N = np.flatnonzero(rows_N[:, 0] < _ENDLESS)
        rows_N = rows_N[known_N]
        index_N[known_N] = permute_many(place_N[known_N], rows_N[:, 0], rows_N[:, 1], rows_N[:, 2], key_N[known_N])
        return tuple(map(Draw, task_N.tolist(), epoch_N.tolist(), index_N.tolist(), ordinal_N.tolist()))

    def spare(self, task: int, epoch: int, attempt: int, index: int, rows: int | None = None) -> int:
        """The row that stands in for row `index`, which cannot be read, at its `attempt`-th replacement (from 1 on).

        It is the row at the same place of a permutation keyed (task, epoch, attempt): equal on every rank and worker.

        Args:
            rows: How many rows there are to choose from; None: those of the task.
        """
        card = self.tasks[task]
        count = rows or card.size or 1
        return permute(index % count, count, key_of("spare", self.seed, card.name, epoch, attempt))

    def counts(self, step: int) -> tuple[int, ...]:
        """Samples of every task that the steps before `step` hold."""
        if self._blocks is not None:
            return tuple(self._blocks.counts(step))
        return tuple(self._allotment.counts(step * self.samples_per_step))

    def shares(self, step: int) -> tuple[float, ...]:
        """The share of every task among the samples drawn at `step` (sums to 1)."""
        if self._blocks is not None:
            return tuple(self._blocks.shares(step))
        piece = self._allotment.piece_at(step * self.samples_per_step)
        total = sum(piece.weights)
        return tuple(weight / total for weight in piece.weights)

    def notes(self) -> tuple[str, ...]:
        """What a log should say: tasks whose epochs end and when, tasks drawn less than once a step."""
        out: list[str] = []
        for number, task in enumerate(self.tasks):
            share = self.shares(0)[number]
            if 0 < share * self.samples_per_step < task.block:
                every = task.block / (share * self.samples_per_step)
                what = "one sample" if task.block == 1 else f"a block of {task.block} samples"
                out.append(f"task {task.name}: {what} about every {every:.1f} steps")
            if number in self._ends:
                end = self._ends[number] // self.samples_per_step
                out.append(
                    f"task {task.name}: its epochs ({task.epochs}) end in step {end}; "
                    "from there its share goes to the other tasks"
                )
        if self.steps is not None:
            out.append(f"every task has used its epochs after step {self.steps}: the mixture ends there")
        return tuple(out)

    @property
    def fingerprint(self) -> str:
        """A hash of all that decides which sample is when; equal fingerprints draw equal samples."""
        facts = (self.tasks, self.seed, self.samples_per_step)
        return hashlib.blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _check(tasks: Sequence[MixtureTask], samples_per_step: int) -> None:
    """Raises CardError on tasks that make no mixture."""
    if not tasks:
        raise CardError("a mixture needs at least one task")
    names = [task.name for task in tasks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise CardError(f"task {twice[0]} is in the mixture twice", help="give each task a name of its own")
    if samples_per_step < 1:
        raise CardError(f"{samples_per_step} samples per step", help="a step has 1 sample or more")


def _parts(tasks: Sequence[MixtureTask]) -> list[tuple[int, list[int]]]:
    """(first step, weight of every task) of the stretches with constant weights; CardError: in one nothing is drawn."""
    schedules = [Schedule.parse(task.weight, f"task {task.name}: weight") for task in tasks]
    parts = stairs(schedules)
    for step, weights in parts:
        if not any(weights):
            raise CardError(
                f"every task has weight 0 at step {step}: nothing can be drawn", help="give one of them a weight"
            )
    return parts
