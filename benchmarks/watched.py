"""Watches a training from outside: when each of its steps begins and ends, by any clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ofasys_lite.training.module import TrainingModule


@dataclass(slots=True)
class Watch:
    """Seconds of a clock at which steps began and ended, and the rows of each: read, and written with a loss."""

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)

    def steps(self, first: int = 0) -> list[float]:
        """From the begin of each step to that of the next: loader, callbacks and Lightning are in it."""
        return [b - a for a, b in zip(self.begins[first:], self.begins[first + 1 :], strict=False)]

    def inside(self, first: int = 0) -> list[float]:
        """What the training step itself takes of each of those."""
        return [b - a for a, b in zip(self.begins[first:-1], self.ends[first:], strict=False)]


@contextmanager
def watching(
    clock: Callable[[], float] = time.process_time, before: Callable[[int], None] | None = None
) -> Iterator[Watch]:
    """Inside it, trainings of this process are watched.

    Args:
        clock: What is read.
        before: Called with the step's number before it begins.
    """
    watch, plain = Watch(), TrainingModule.training_step

    def step(self: Any, share: Any, batch_idx: int) -> None:
        if before is not None:
            before(self.global_step)
        watch.begins.append(clock())
        plain(self, share, batch_idx)
        watch.ends.append(clock())
        read = sum(pack.source.count for pack in share.packs)
        watch.rows.append((read, sum(len(rows.terms_U) for pack in share.packs for rows in pack.losses)))

    TrainingModule.training_step = step  # type: ignore[method-assign]
    try:
        yield watch
    finally:
        TrainingModule.training_step = plain  # type: ignore[method-assign]


def quiet_mean(runs: Sequence[Sequence[float]]) -> float:
    """The mean over steps of the least that each took in any run: what is left when others use the machine, too."""
    return statistics.fmean(min(times) for times in zip(*runs, strict=True))
