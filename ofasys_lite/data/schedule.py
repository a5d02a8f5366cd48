"""How often a task is drawn, over the steps of a run: a number, or points with straight lines between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import lcm

from ofasys_lite.errors import CardError

_HELP = "write a number (`weight: 2`) or points (`weight: [[0, 1], [1000, 0.2]]`, a straight line between them)"
# a ramp is a staircase of at most this many flat parts in all ramps of a mixture together, so that counts stay exact
MAX_STAIRS = 1024


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
