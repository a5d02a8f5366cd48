"""Watches a training from outside: when each of its steps begins and ends, by any clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partialmethod
from typing import Any

from ofasys_lite.model import EncoderDecoder
from ofasys_lite.training.module import TrainingModule


@dataclass(slots=True)
class Watch:
    """What was seen of a training.

    Attributes:
        begins: Seconds of a clock at which steps began.
        ends: And ended.
        own: Seconds of each step that the watching itself took behind it.
        rows: Rows of each step: read, and learned.
        held: Rows of all samples' sources and targets.
        computed: Rows that went through encoder and decoder.
    """

    begins: list[float] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    rows: list[tuple[int, int]] = field(default_factory=list)
    held: list[int] = field(default_factory=lambda: [0, 0])
    computed: list[int] = field(default_factory=lambda: [0, 0])

    def steps(self, first: int = 0) -> list[float]:
        """From the begin of each step to that of the next: loader, callbacks and Lightning are in it."""
        spans = zip(self.begins[first:], self.begins[first + 1 :], self.own[first:], strict=False)
        return [b - a - own for a, b, own in spans]

    def padding(self) -> list[float]:
        """Share of the encoder's and the decoder's rows that no sample has."""
        return [1 - held / computed for held, computed in zip(self.held, self.computed, strict=True)]

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
        read = sum(sum(pack.source.lengths) for pack in share.packs)
        watch.rows.append((read, sum(len(rows.terms_U) for pack in share.packs for rows in pack.losses)))
        watch.held[0] += read
        watch.held[1] += sum(sum(pack.target.lengths) for pack in share.packs)
        watch.own.append(clock() - watch.ends[-1])

    def counted(self: Any, x_PD: Any, *given: Any, of: Callable[..., Any], side: int, **more: Any) -> Any:
        if self.training:
            watch.computed[side] += len(x_PD)
        return of(self, x_PD, *given, **more)

    encode, decode = EncoderDecoder.encode, EncoderDecoder.decode
    TrainingModule.training_step = step  # type: ignore[method-assign]
    EncoderDecoder.encode = partialmethod(counted, of=encode, side=0)  # type: ignore[assignment]
    EncoderDecoder.decode = partialmethod(counted, of=decode, side=1)  # type: ignore[assignment]
    try:
        yield watch
    finally:
        TrainingModule.training_step = plain  # type: ignore[method-assign]
        EncoderDecoder.encode, EncoderDecoder.decode = encode, decode  # type: ignore[method-assign]


def quiet_mean(runs: Sequence[Sequence[float]]) -> float:
    """The mean over steps of the least that each took in any run: what is left when others use the machine, too."""
    return statistics.fmean(min(times) for times in zip(*runs, strict=True))
