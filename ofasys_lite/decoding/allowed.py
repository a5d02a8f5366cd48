"""Sets of legal ids, shared between equal states. Shape: V vocabulary."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

Ranges = tuple[tuple[int, int], ...]


class Allowed:
    """A set of ids as sorted, disjoint ranges; equal sets made by `allowed` are the same object.

    Attributes:
        ranges: (low, high) pairs, high exclusive.
        count: Number of ids.
        single: The only id, or None if there are several (or none).
    """

    __slots__ = ("_ids", "_masks", "count", "ranges", "single")

    def __init__(self, ranges: Ranges) -> None:
        self.ranges = ranges
        self.count = sum(high - low for low, high in ranges)
        self.single = ranges[0][0] if self.count == 1 else None
        self._ids: npt.NDArray[np.int64] | None = None
        self._masks: dict[int, npt.NDArray[np.bool_]] = {}

    def __repr__(self) -> str:
        return f"Allowed({', '.join(str(a) if b == a + 1 else f'{a}..{b - 1}' for a, b in self.ranges)})"

    def __contains__(self, id: int) -> bool:
        place = bisect_right(self.ranges, (id, float("inf"))) - 1
        return place >= 0 and self.ranges[place][0] <= id < self.ranges[place][1]

    @property
    def ids(self) -> npt.NDArray[np.int64]:
        """All ids, ascending; made once."""
        if self._ids is None:
            parts = [np.arange(low, high, dtype=np.int64) for low, high in self.ranges]
            self._ids = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        return self._ids

    def pick(self, place: int) -> int:
        """The id at `place` (0 to count - 1) in ascending order."""
        for low, high in self.ranges:
            if place < high - low:
                return low + place
            place -= high - low
        raise IndexError(place)

    def mask(self, size: int) -> npt.NDArray[np.bool_]:
        """(V,) True at legal ids, for a vocabulary of `size` rows; made once per size."""
        found = self._masks.get(size)
        if found is None:
            found = np.zeros(size, dtype=np.bool_)
            for low, high in self.ranges:
                found[low:high] = True
            self._masks[size] = found
        return found


def allowed(ranges: Iterable[tuple[int, int]]) -> Allowed:
    """The set of all ids in `ranges`, in any order, overlaps merged."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if high <= low:
            continue
        if merged and low <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return _shared(tuple(merged))


@functools.lru_cache(maxsize=8192)
def _shared(ranges: Ranges) -> Allowed:
    return Allowed(ranges)
