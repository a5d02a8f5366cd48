"""Which task owns which draw where some tasks are drawn in whole blocks, in closed form: contrasts need rivals.

A step of M samples has q = M // B places for blocks of B samples, and r = M - q B samples beside them. Places are dealt
to the tasks with blocks, and to all other tasks together, by one Allotment; what the others get, place by place and
beside the places, is dealt to them sample by sample by another. So all shares are exact, every step has M samples, and
no step is iterated. Where a task's `epochs` end, its share goes to the others from the first step on that it could not
fill.

Suffixes of array names: N samples, Q places of a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Protocol

import numpy as np

from ofasys_lite.data.allotment import Allotment, Int64, last_within, whole_weights
from ofasys_lite.errors import CardError

#: (first step, weight of every task) of stretches with constant weights.
Stretches = Sequence[tuple[int, Sequence[int]]]


class Drawn(Protocol):
    """What is to be known of a task."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def size(self) -> int | None:
        """Rows it has; None where nobody knows."""

    @property
    def block(self) -> int:
        """Samples that are drawn together; 1: each by itself."""

    @property
    def limit(self) -> int | None:
        """Samples that may be drawn of it in the whole run; None: no limit."""


class BlockDraws:
    """Deals the samples of every step to tasks, some of which are drawn in whole blocks.

    Args:
        samples_per_step: M.
        block: B, at least what each task asks for.

    Attributes:
        ends: Task -> the draw from which on it is not drawn any more.
        steps: Number of steps before every task has used its epochs; None: endless.

    Raises:
        CardError: The shares cannot be kept with such blocks.
    """

    def __init__(self, tasks: Sequence[Drawn], stretches: Stretches, samples_per_step: int, block: int) -> None:
        self._tasks = tuple(tasks)
        self._samples = samples_per_step
        self._block = block
        self._places = samples_per_step // self._block
        self._blocked = [number for number, task in enumerate(tasks) if task.block > 1]
        self._others = [number for number, task in enumerate(tasks) if task.block == 1]
        means = [sum(float(Fraction(w[t], sum(w))) for _, w in stretches) / len(stretches) for t in range(len(tasks))]
        # the last leaf is all other tasks together
        rest = sum(means[t] for t in self._others)
        self._outer = Allotment([*(means[t] for t in self._blocked), rest])
        self._inner = Allotment([means[t] for t in self._others] or [1.0])
        self.ends: dict[int, int] = {}
        self._live: list[int] = []  # weights of the last stretch that was laid
        self.steps = self._lay(stretches)

    def _lay(self, stretches: Stretches) -> int | None:
        for number, (start, weights) in enumerate(stretches):
            stop = stretches[number + 1][0] if number + 1 < len(stretches) else None
            while stop is None or start < stop:
                live = [0 if task in self.ends else weight for task, weight in enumerate(weights)]
                if not any(live):
                    return start
                self._live = live
                self._outer.add_piece(start * self._places, self._place_weights(live, start))
                of_others = [live[task] for task in self._others]
                # where the others have no share the piece is never asked for
                self._inner.add_piece(self._of_others(start), whole_weights(of_others if any(of_others) else [1]))
                end = self._next_end(start, stop)
                if end is None:
                    break
                start = end
        return None

    def _place_weights(self, weights: Sequence[int], step: int) -> list[int]:
        """How the places of a step are dealt: to the tasks with blocks, and to all others together."""
        total, others = sum(weights), sum(weights[task] for task in self._others)
        of_blocks = [weights[task] * self._samples for task in self._blocked]
        rest = total * self._places * self._block - sum(of_blocks)
        if rest < 0 or (rest > 0 and not others):
            names = ", ".join(self._tasks[task].name for task in self._blocked if weights[task])
            most = self._places * self._block
            raise CardError(
                f"of a step of {self._samples} samples {most} can be drawn in blocks of {self._block}, and {names} "
                f"would have more (from step {step} on)",
                help=f"trainer.samples_per_step={most} or {most + self._block}, or more weight for other tasks",
            )
        return whole_weights([*of_blocks, rest])

    def _next_end(self, start: int, stop: int | None) -> int | None:
        """The first step in [start, stop) that some task with `epochs` could not fill; notes which tasks."""
        found: list[tuple[int, int]] = []
        for number, task in enumerate(self._tasks):
            if task.limit is None or number in self.ends:
                continue
            full = self._full_step(number, task.limit, start, stop)
            if full is not None:
                found.append((full, number))
        if not found:
            return None
        first = min(found)[0]
        for full, number in found:
            if full == first:
                self.ends[number] = first * self._samples
        return first

    def _full_step(self, task: int, limit: int, start: int, stop: int | None) -> int | None:
        """The first step from `start` on in which more than `limit` samples of the task would have been drawn."""
        if not self._live[task]:
            return None
        return last_within(lambda steps: self.counts(steps)[task], limit, start, stop)

    def _of_others(self, step: int) -> int:
        """Samples of all other tasks in the steps before `step`."""
        places = self._outer.counts(step * self._places)[-1] if self._outer.pieces else 0
        return places * self._block + step * (self._samples - self._places * self._block)

    def counts(self, step: int) -> list[int]:
        """Samples of every task in the steps before `step`."""
        out = [0] * len(self._tasks)
        for task, places in zip(self._blocked, self._outer.counts(step * self._places), strict=False):
            out[task] = places * self._block
        if self._others:
            for task, count in zip(self._others, self._inner.counts(self._of_others(step)), strict=True):
                out[task] = count
        return out

    def route(self, step: int) -> tuple[Int64, Int64]:
        """(task (N,), the task's own draws before it (N,)) of the samples of a step, in order: blocks lie together."""
        leaf_Q, before_Q = self._outer.route(step * self._places, self._places)
        start = self._of_others(step)
        count = self._of_others(step + 1) - start
        tasks, ordinals = [], []
        others = np.zeros((2, 0), np.int64)
        if count:
            task_N, ordinal_N = self._inner.route(start, count)
            others = np.stack([np.array(self._others, np.int64)[task_N], ordinal_N])
        taken = 0
        for leaf, before in zip(leaf_Q.tolist(), before_Q.tolist(), strict=True):
            if leaf < len(self._blocked):
                tasks.append(np.full(self._block, self._blocked[leaf], np.int64))
                ordinals.append(before * self._block + np.arange(self._block, dtype=np.int64))
            else:
                tasks.append(others[0, taken : taken + self._block])
                ordinals.append(others[1, taken : taken + self._block])
                taken += self._block
        return np.concatenate([*tasks, others[0, taken:]]), np.concatenate([*ordinals, others[1, taken:]])

    def shares(self, step: int) -> list[float]:
        """The share of every task among the samples of a step (sums to 1)."""
        out = [0.0] * len(self._tasks)
        weights = self._outer.piece_at(step * self._places).weights
        for task, weight in zip(self._blocked, weights, strict=False):
            out[task] = weight / sum(weights) * self._places * self._block / self._samples
        rest = 1.0 - sum(out)
        if self._others:
            inner = self._inner.piece_at(self._of_others(step)).weights
            for task, weight in zip(self._others, inner, strict=True):
                out[task] = max(0.0, rest) * weight / max(1, sum(inner))
        return out


def block_draws(tasks: Sequence[Drawn], stretches: Stretches, samples_per_step: int) -> BlockDraws:
    """The draws of tasks of which some ask for blocks: of the largest that one asks for, or as few larger ones.

    Larger ones leave less of a step beside them: with 48 samples a step one of 48 in place of one of 32.

    Raises:
        CardError: Blocks that do not fit a step or the rows of their task, or shares that cannot be kept with them.
    """
    block = max(task.block for task in tasks)
    for task in tasks:
        if task.size is not None and task.block > task.size:
            raise CardError(
                f"task {task.name} has {task.size} rows to train on, fewer than its block of {task.block}",
                help=f"give it more, or say a smaller block in its line: loss=clip(block={max(2, task.size)})",
            )
        if task.block > samples_per_step:
            raise CardError(
                f"task {task.name} is drawn in blocks of {task.block}, and a step has {samples_per_step} samples",
                help=f"trainer.samples_per_step={task.block}, or a smaller block in its line: "
                f"loss=clip(block={max(2, samples_per_step)})",
            )
    try:
        return BlockDraws(tasks, stretches, samples_per_step, block)
    except CardError:
        larger = samples_per_step // (samples_per_step // block)
        return BlockDraws(tasks, stretches, samples_per_step, larger)
