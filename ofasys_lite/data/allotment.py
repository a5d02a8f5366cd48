"""Which task owns which draw: exact proportions, in closed form, for any number of draws.

Tasks are the leaves of a Huffman tree over their weights. A node that has received k draws has passed
floor((k * left + half) / (left + right)) of them to its left child, an integer formula that grows by 0 or 1 per draw,
so every draw is routed by itself in O(depth), and after left + right draws the split is exactly left : right (a round).
A task's count stays within 2 draws of its share. Where weights change, counts carry over, with their rounding rests.

Tasks drawn in blocks come first: the tree of the largest block hands whole blocks to its tasks, and one leaf, the gate,
passes blocks on to the tree of the next smaller block, cut into its units. So no block ever crosses a step.

Suffixes of array names: U units, N samples, P pieces of constant weights, I inner nodes.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of units with constant weights; one list entry per inner node.

    Attributes:
        start: First unit of the piece.
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
    """Routes units to tasks.

    Args:
        blocks: Samples that each task draws at a time; they must divide one another.
        weights: Typical weights, which shape the tree (heavier tasks nearer the root).
    """

    def __init__(self, blocks: Sequence[int], weights: Sequence[float]) -> None:
        self.blocks = tuple(blocks)
        self.sizes = tuple(sorted(set(blocks), reverse=True))
        self.children: list[tuple[int, int]] = []  # inner nodes; ~leaf where negative
        self.roots: list[int] = []
        tasks = len(blocks)
        # leaf numbers: tasks first, then the gate of each stage but the last
        for stage, size in enumerate(self.sizes):
            heap = [(weights[task], task, ~task) for task in range(tasks) if blocks[task] == size]
            if stage + 1 < len(self.sizes):
                rest = sum(weights[task] for task in range(tasks) if blocks[task] < size)
                heap.append((rest, tasks + stage, ~(tasks + stage)))
            self.roots.append(self._grow(heap))
        self.pieces: list[Stretch] = []

    def _grow(self, heap: list[tuple[float, int, int]]) -> int:
        """The root of a Huffman tree over (weight, tie break, node) leaves."""
        heapq.heapify(heap)
        tie = 1 << 40
        while len(heap) > 1:
            light, heavy = heapq.heappop(heap), heapq.heappop(heap)
            self.children.append((heavy[2], light[2]))
            heapq.heappush(heap, (light[0] + heavy[0], tie, len(self.children) - 1))
            tie += 1
        return heap[0][2]

    def counts(self, units: int) -> list[int]:
        """Units of its own block size that every task owns of the first `units` units."""
        piece = self.piece_at(units)
        out = [0] * (len(self.blocks) + len(self.sizes))
        for node, count in self._visit(piece, units):
            if node < 0:
                out[~node] = count
        return out[: len(self.blocks)]

    def piece_at(self, unit: int) -> Stretch:
        """The piece that holds `unit`, or is the last to start before it."""
        return self.pieces[bisect_right(self.pieces, unit, key=lambda piece: piece.start) - 1]

    def _visit(self, piece: Stretch, units: int) -> list[tuple[int, int]]:
        """(node, draws that reached it) for all nodes, parents before children."""
        found: list[tuple[int, int]] = []
        tasks = len(self.blocks)
        open_nodes = [(self.roots[0], units)]
        while open_nodes:
            node, count = open_nodes.pop()
            found.append((node, count))
            if node >= 0:
                passed, _ = piece.pass_left(node, count)
                left, right = self.children[node]
                open_nodes += [(left, passed), (right, count - passed)]
            elif ~node >= tasks:
                stage = ~node - tasks
                open_nodes.append((self.roots[stage + 1], count * (self.sizes[stage] // self.sizes[stage + 1])))
        return found

    def add_piece(self, start: int, weights: Sequence[int]) -> None:
        """Makes `weights` hold from unit `start` on (pieces are added in order)."""
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
        leaf = list(weights)
        for size in self.sizes[:-1]:
            leaf.append(sum(weight for weight, block in zip(weights, self.blocks, strict=True) if block < size))
        left: list[int] = []
        total: list[int] = []
        sums: list[int] = []
        for one, two in self.children:  # children are made before their parents
            a, b = (leaf[~node] if node < 0 else sums[node] for node in (one, two))
            sums.append(a + b)
            left.append(a)
            total.append(max(1, a + b))
        return left, total

    def full_at(self, task: int, limit: int, start: int, stop: int | None) -> int | None:
        """The unit in [start, stop) at which `task` would pass `limit` of its own units; None if it never does.

        `stop` None means without end: the last piece's weights hold for ever.
        """
        if self.pieces[-1].weights[task] == 0:
            return None
        low, high = start, stop
        if high is None:
            high = start + 1
            while self.counts(high)[task] <= limit:
                high = start + 2 * (high - start)
        if self.counts(high)[task] <= limit:
            return None
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.counts(middle)[task] <= limit else (low, middle)
        return low

    def route(self, start: int, units: int) -> tuple[Int64, Int64]:
        """(task (N,), the task's own sample count before it (N,)) of `units` units from `start` on, in drawn order."""
        tables = self._tables
        count_U = np.arange(start, start + units, dtype=np.int64)
        piece_U = np.searchsorted(tables["start"], count_U, side="right") - 1
        place_U = np.arange(units, dtype=np.int64) * self.sizes[0]
        tasks = len(self.blocks)
        task_N = np.empty(units * self.sizes[0], np.int64)
        ordinal_N = np.empty_like(task_N)
        for stage, size in enumerate(self.sizes):
            leaf_U, count_U = _descend(tables, self.roots[stage], count_U, piece_U)
            own = leaf_U < tasks
            inside = np.arange(size, dtype=np.int64)
            rows = place_U[own][:, None] + inside
            task_N[rows] = leaf_U[own][:, None]
            ordinal_N[rows] = count_U[own][:, None] * size + inside
            if stage + 1 == len(self.sizes):
                break
            finer = size // self.sizes[stage + 1]
            cut = np.arange(finer, dtype=np.int64)
            gate = ~own
            place_U = (place_U[gate][:, None] + cut * self.sizes[stage + 1]).ravel()
            count_U = (count_U[gate][:, None] * finer + cut).ravel()
            piece_U = np.repeat(piece_U[gate], finer)
        return task_N, ordinal_N

    @cached_property
    def _tables(self) -> dict[str, Int64]:
        """The pieces as arrays (P, I)."""
        tables = {"start": np.array([piece.start for piece in self.pieces], np.int64)}
        for name in ("reached", "passed", "left", "total", "phase"):
            tables[name] = np.array([getattr(piece, name) for piece in self.pieces], np.int64)
        tables["children"] = np.array(self.children, np.int64).reshape(-1, 2)
        return tables


def _descend(tables: dict[str, Int64], root: int, count_U: Int64, piece_U: Int64) -> tuple[Int64, Int64]:
    """(leaf (U,), draws that reached the leaf before (U,)) of draws that stand at `root` with these counts."""
    node_U = np.full(len(count_U), root, np.int64)
    count_U = count_U.copy()
    open_U = np.flatnonzero(node_U >= 0)
    while open_U.size:
        at = piece_U[open_U], node_U[open_U]
        count = count_U[open_U]
        left, total = tables["left"][at], tables["total"][at]
        rounds, rest = np.divmod(count - tables["reached"][at], total)
        moved = rest * left + tables["phase"][at]
        before = tables["passed"][at] + rounds * left + moved // total
        goes_left = (moved % total) + left >= total  # one draw more would be passed on: this one is it
        count_U[open_U] = np.where(goes_left, before, count - before)
        node_U[open_U] = tables["children"][at[1], np.where(goes_left, 0, 1)]
        open_U = open_U[node_U[open_U] >= 0]
    return ~node_U, count_U
