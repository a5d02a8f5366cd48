"""Which task owns which draw: exact proportions, in closed form, for any number of draws.

Tasks are the leaves of a Huffman tree over their weights. A node that has received k draws has passed
floor((k * left + half) / (left + right)) of them to its left child, an integer formula that grows by 0 or 1 per draw,
so every draw is routed by itself in O(depth), and after left + right draws the split is exactly left : right (a round).
A task's count stays within 2 draws of its share. Where weights change, counts carry over, with their rounding rests.

Suffixes of array names: N samples, P pieces of constant weights, I inner nodes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]
# weights become whole numbers below this sum, so that (remainder * weight) fits 64 bits
_MOST = 2**30


def whole_weights(weights: Sequence[int]) -> list[int]:
    """`weights` divided by what they have in common; rounded (not to 0) where they would sum to 2**30 or more."""
    common = gcd(*weights) or 1
    total = sum(weights) // common
    if total < _MOST:
        return [weight // common for weight in weights]
    scaled = [(weight // common * (_MOST // 2) * 2 + total) // (2 * total) for weight in weights]
    return [max(1, number) if weight else 0 for number, weight in zip(scaled, weights, strict=True)]


def last_within(count: Callable[[int], int], limit: int, start: int, stop: int | None) -> int | None:
    """The largest number in [start, stop) up to which `count` is at most `limit`; None if it still is at `stop`.

    Args:
        count: Never falls, and is at most `limit` at `start`; without a `stop` it passes `limit` somewhere.
    """
    low, high = start, stop
    if high is None:
        high = start + 1
        while count(high) <= limit:
            high = start + 2 * (high - start)
    if count(high) <= limit:
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if count(middle) <= limit else (low, middle)
    return low


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of draws with constant weights; one list entry per inner node.

    Attributes:
        start: First draw of the piece.
        weights: Whole weight of every task.
        reached: Draws that have reached the node before the piece.
        passed: Of these, draws passed to the left child.
        left: Weight of the left child.
        total: Weight of the node (at least 1, so that it divides).
        phase: Rounding rest carried into the piece, 0 <= phase < total.
    """

    start: int
    weights: tuple[int, ...]
    reached: list[int]
    passed: list[int]
    left: list[int]
    total: list[int]
    phase: list[int]

    def pass_left(self, node: int, count: int) -> tuple[int, int]:
        """(draws passed left, rounding rest) of `node` once `count` draws have reached it."""
        moved = (count - self.reached[node]) * self.left[node] + self.phase[node]
        quotient, rest = divmod(moved, self.total[node])
        return self.passed[node] + quotient, rest


class Allotment:
    """Routes draws to tasks.

    Args:
        weights: Typical weights, which shape the tree (heavier tasks nearer the root).
    """

    def __init__(self, weights: Sequence[float]) -> None:
        self.tasks = len(weights)
        self.children: list[tuple[int, int]] = []  # inner nodes; ~task where negative
        heap = [(weight, task, ~task) for task, weight in enumerate(weights)]  # weight, tie break, node
        heapq.heapify(heap)
        tie = 1 << 40
        while len(heap) > 1:
            light, heavy = heapq.heappop(heap), heapq.heappop(heap)
            self.children.append((heavy[2], light[2]))
            heapq.heappush(heap, (light[0] + heavy[0], tie, len(self.children) - 1))
            tie += 1
        self.root = heap[0][2]
        self.pieces: list[Stretch] = []

    def counts(self, draws: int) -> list[int]:
        """How many of the first `draws` draws every task owns."""
        piece = self.piece_at(draws)
        out = [0] * self.tasks
        for node, count in self._visit(piece, draws):
            if node < 0:
                out[~node] = count
        return out

    def piece_at(self, draw: int) -> Stretch:
        """The piece that holds a draw, or is the last to start before it."""
        return self.pieces[bisect_right(self.pieces, draw, key=lambda piece: piece.start) - 1]

    def _visit(self, piece: Stretch, draws: int) -> list[tuple[int, int]]:
        """(node, draws that reached it) for all nodes, parents before children."""
        found: list[tuple[int, int]] = []
        open_nodes = [(self.root, draws)]
        while open_nodes:
            node, count = open_nodes.pop()
            found.append((node, count))
            if node >= 0:
                passed, _ = piece.pass_left(node, count)
                left, right = self.children[node]
                open_nodes += [(left, passed), (right, count - passed)]
        return found

    def add_piece(self, start: int, weights: Sequence[int]) -> None:
        """Makes `weights` hold from draw `start` on (pieces are added in order)."""
        left, total = self._node_weights(weights)
        inner = len(self.children)
        reached, passed, phase = [0] * inner, [0] * inner, [number // 2 for number in total]
        if self.pieces:
            before = self.pieces[-1]
            for node, count in self._visit(before, start):
                if node >= 0:
                    reached[node] = count
                    passed[node], rest = before.pass_left(node, count)
                    phase[node] = rest * total[node] // before.total[node]
        self.pieces.append(Stretch(start, tuple(weights), reached, passed, left, total, phase))
        self.__dict__.pop("_tables", None)

    def _node_weights(self, weights: Sequence[int]) -> tuple[list[int], list[int]]:
        """(left weight, total weight, at least 1) of every inner node."""
        left: list[int] = []
        total: list[int] = []
        sums: list[int] = []
        for one, two in self.children:  # children are made before their parents
            a, b = (weights[~node] if node < 0 else sums[node] for node in (one, two))
            sums.append(a + b)
            left.append(a)
            total.append(max(1, a + b))
        return left, total

    def full_at(self, task: int, limit: int, start: int, stop: int | None) -> int | None:
        """The draw in [start, stop) at which `task` would pass `limit` draws of its own; None if it never does.

        `stop` None means without end: the last piece's weights hold for ever.
        """
        if self.pieces[-1].weights[task] == 0:
            return None
        return last_within(lambda draws: self.counts(draws)[task], limit, start, stop)

    def route(self, start: int, draws: int) -> tuple[Int64, Int64]:
        """(task (N,), the task's own draws before it (N,)) of `draws` draws from `start` on, in order."""
        tables = self._tables
        count_N = np.arange(start, start + draws, dtype=np.int64)  # draws that reached the node before
        piece_N = np.searchsorted(tables["start"], count_N, side="right") - 1
        node_N = np.full(draws, self.root, np.int64)
        open_N = np.flatnonzero(node_N >= 0)
        while open_N.size:
            at = piece_N[open_N], node_N[open_N]
            count = count_N[open_N]
            left, total = tables["left"][at], tables["total"][at]
            rounds, rest = np.divmod(count - tables["reached"][at], total)
            moved = rest * left + tables["phase"][at]
            before = tables["passed"][at] + rounds * left + moved // total
            goes_left = (moved % total) + left >= total  # one draw more would be passed on: this one is it
            count_N[open_N] = np.where(goes_left, before, count - before)
            node_N[open_N] = tables["children"][at[1], np.where(goes_left, 0, 1)]
            open_N = open_N[node_N[open_N] >= 0]
        return ~node_N, count_N

    @cached_property
    def _tables(self) -> dict[str, Int64]:
        """The pieces as arrays (P, I)."""
        tables = {"start": np.array([piece.start for piece in self.pieces], np.int64)}
        for name in ("reached", "passed", "left", "total", "phase"):
            tables[name] = np.array([getattr(piece, name) for piece in self.pieces], np.int64)
        tables["children"] = np.array(self.children, np.int64).reshape(-1, 2)
        return tables
