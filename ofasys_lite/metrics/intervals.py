"""95 % intervals from leaving out groups in turn: whole groups are what another draw of the data would change.

The spread comes from the jackknife (from the bootstrap for functions of the user's that know no sums), its multiple
from Student's t with as many degrees of freedom as the groups are worth (Kish), and the ends are taken on the scale
the value lives on: log odds of shares, logarithms of error rates. Crossed groups (voices that say the same phrases):
the variances of both ways less that of their cells, or the wider way alone (Cameron, Gelbach and Miller 2011).
Margins: both intervals and their correlation (MOVER, Zou and Donner 2008).

Legend: N items, K sums kept per item, P parts that are left out in turn, R deviations.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Array, Statistics

#: Group of each item; of crossed groups a pair.
Groups: TypeAlias = Sequence[str | tuple[str, str]]

_CELLS = 4_000_000  # numbers in one block of totals: 32 MB
_SIDE = 0.025  # of chance at each end


@dataclass(frozen=True, slots=True)
class Parts:
    """One way to leave out: the part (N,) each item is in, and how many groups there were."""

    parts_N: NDArray[np.int64]
    groups: int

    @property
    def count(self) -> int:
        """Number of parts."""
        return int(self.parts_N.max()) + 1 if len(self.parts_N) else 0

    @property
    def freedom(self) -> float:
        """Degrees of freedom: the parts as many of equal size would be worth, less one; at least 1."""
        sizes = np.bincount(self.parts_N).astype(np.float64)
        return max(1.0, float(sizes.sum() ** 2 / (sizes**2).sum()) - 1)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, and for every way (one, or both and their cells) deviations (R,) whose squares sum to its variance."""

    value: float
    ways: tuple[Array, ...]


def partition(groups: Groups | None, items: int, seed: int, most: int) -> tuple[Parts, ...]:
    """The ways to leave out groups (items, where `groups` is None): one; of crossed groups both and their cells.

    Args:
        seed: Deals groups to parts where there are more groups than parts.
        most: Most parts of a way.

    Raises:
        DataError: Items with one and items with two groups.
    """
    if groups is None or not items:
        return (_parts(np.arange(items), seed, most),)
    names = [group if isinstance(group, tuple) else (group,) for group in groups]
    widths = sorted({len(name) for name in names})
    if len(widths) > 1 or widths[-1:] > [2]:
        raise DataError(f"groups of {' and '.join(map(str, widths))} names", help="give each item one name, or two")
    found = [_parts(_numbers(way), seed, most) for way in zip(*names, strict=True)]
    return tuple(found) if len(found) < 2 else (*found, _parts(_numbers(names), seed, most))


def _numbers(names: Sequence[object]) -> NDArray[np.int64]:
    known: dict[object, int] = {}
    return np.fromiter((known.setdefault(name, len(known)) for name in names), np.int64, len(names))


def _parts(groups_N: NDArray[np.int64], seed: int, most: int) -> Parts:
    count = int(groups_N.max()) + 1 if len(groups_N) else 0
    if count <= most:
        return Parts(groups_N, count)
    dealt_G = np.random.default_rng([seed, count]).permutation(count) % most
    return Parts(dealt_G[groups_N], count)


def from_sums(statistics: Statistics, ways: Sequence[Parts]) -> Estimate:
    """The metric on all items, and how far it is from it without each part."""
    total_K = statistics.sums_NK.sum(0)
    value = float(statistics.combine(total_K))
    return Estimate(value, tuple(_jackknife(statistics, total_K, value, parts) for parts in ways))


def _jackknife(statistics: Statistics, total_K: Array, value: float, parts: Parts) -> Array:
    if parts.count < 2:
        return np.zeros(0)
    order = np.argsort(parts.parts_N, kind="stable")
    starts = np.searchsorted(parts.parts_N[order], np.arange(parts.count))
    sums_PK = np.add.reduceat(statistics.sums_NK[order], starts, axis=0)
    block = max(1, _CELLS // max(1, len(total_K)))
    blocks = [sums_PK[start : start + block] for start in range(0, parts.count, block)]
    without_P: Array = np.concatenate([statistics.combine(total_K - part) for part in blocks])
    deviations_P: Array = (without_P - value) * math.sqrt((parts.count - 1) / parts.count)
    return deviations_P


def from_function(
    function: Callable[[NDArray[np.int64]], float], value: float, ways: Sequence[Parts], seed: int, samples: int
) -> Estimate:
    """The same of a function of item numbers, which need not be smooth (a median): by drawing parts again."""
    return Estimate(value, tuple(_bootstrap(function, parts, seed, samples) for parts in ways))


def _bootstrap(function: Callable[[NDArray[np.int64]], float], parts: Parts, seed: int, samples: int) -> Array:
    if parts.count < 2:
        return np.zeros(0)
    generator = np.random.default_rng([seed, parts.count])
    values = []
    for _ in range(samples):
        times_P = np.bincount(generator.integers(parts.count, size=parts.count), minlength=parts.count)
        values.append(function(np.repeat(np.arange(len(parts.parts_N)), times_P[parts.parts_N])))
    drawn_R = np.asarray(values, dtype=np.float64)
    deviations_R: Array = (drawn_R - drawn_R.mean()) * math.sqrt(parts.count / (parts.count - 1) / samples)
    return deviations_R


def interval(estimate: Estimate, ways: Sequence[Parts], unit: str, higher: bool) -> tuple[float, float]:
    """(low, high) around the value; NaN where a way has fewer than two groups, whose spread is unknown.

    A share that is the same in all groups at an edge of its range, say 1, reaches to where all groups would be right
    by chance once in forty times.
    """
    low, high = _ends(estimate, ways, unit, higher)
    top = _top(unit)
    edge = next((end for end in (0.0, top) if math.isclose(estimate.value, end, abs_tol=1e-9)), None)
    if low == high and edge is not None:
        reach = _reach(ways) * (1.0 if math.isinf(top) else top)
        return (0.0, reach) if edge == 0 else (top - reach, top)
    return low, high


def difference(
    first: Estimate, second: Estimate, ways: Sequence[Parts], unit: str, higher: bool
) -> tuple[float, float]:
    """(low, high) around first - second on the same items; NaN as in `interval`."""
    value = first.value - second.value
    (low, high), (under, over) = (_ends(side, ways, unit, higher) for side in (first, second))
    if low == high and under == over:  # no group says anything else: not less wide than one side alone would be
        top = _top(unit)
        reach = _reach(ways) * (top if math.isfinite(top) else 1.0)
        return max(-top, value - reach), min(top, value + reach)
    spread = math.sqrt(_variance(first, ways) * _variance(second, ways))
    together = _covariance(first, second, ways)[0] / spread if spread > 0 else 0.0
    together = min(1.0, max(-1.0, together))
    down, up, other_down, other_up = first.value - low, high - first.value, second.value - under, over - second.value
    below = down**2 - 2 * together * down * other_up + other_up**2
    above = up**2 - 2 * together * up * other_down + other_down**2
    return value - math.sqrt(max(0.0, below)), value + math.sqrt(max(0.0, above))


def _ends(estimate: Estimate, ways: Sequence[Parts], unit: str, higher: bool) -> tuple[float, float]:
    variance, value = _variance(estimate, ways), estimate.value
    if math.isnan(variance) or math.isnan(value):
        return math.nan, math.nan
    if variance <= (1e-9 * max(1.0, abs(value))) ** 2:  # rounding of equal groups
        return value, value
    half, top = student(min(parts.freedom for parts in ways[:2])) * math.sqrt(variance), _top(unit)
    if not higher and value > 0:
        return value * math.exp(-half / value), value * math.exp(half / value)
    if higher and 0 < value < top < math.inf:
        slope = value * (top - value) / top
        odds = math.log(value / (top - value))
        low, high = (top / (1 + math.exp(min(700.0, -odds - side * half / slope))) for side in (-1, 1))
        return low, high
    return value - half, value + half


def _top(unit: str) -> float:
    """The most a value in this unit can be."""
    return {"share": 1.0, "points": 100.0}.get(unit, math.inf)


def _reach(ways: Sequence[Parts]) -> float:
    """The share that groups without a single miss leave open: Clopper and Pearson 1934 for as many draws."""
    draws = min(parts.freedom for parts in ways[:2]) + 1
    return 1 - math.pow(_SIDE, 1 / draws)


def _variance(estimate: Estimate, ways: Sequence[Parts]) -> float:
    return max(_covariance(estimate, estimate, ways))


def _covariance(one: Estimate, other: Estimate, ways: Sequence[Parts]) -> list[float]:
    """Of crossed groups both ways less their cells, and each way alone; else the one. NaN below two groups."""
    if any(parts.count < 2 for parts in ways):
        return [math.nan]
    found = [float(a_R @ b_R) for a_R, b_R in zip(one.ways, other.ways, strict=True)]
    return found if len(found) == 1 else [found[0] + found[1] - found[2], *found[:2]]


@lru_cache(maxsize=64)
def student(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; degrees of freedom may be fractions.

    Example:
        >>> round(student(9.0), 3), round(student(1e6), 3)
        (2.262, 1.96)
    """
    # t = sqrt(freedom) tan(angle) has a density of cos(angle) ** (freedom - 1)
    most = min(math.pi / 2, 12 / math.sqrt(freedom)) if freedom > 100 else math.pi / 2
    angles = np.linspace(0, most, 20_001)
    density = np.cos(angles).clip(0) ** (freedom - 1)
    mass = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return float(math.sqrt(freedom) * math.tan(np.interp(1 - 2 * _SIDE, mass / mass[-1], angles)))
