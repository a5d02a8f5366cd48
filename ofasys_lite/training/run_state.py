"""Where a run stands: what each of its steps sets anew."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from ofasys_lite.data.stream_draws import States


@dataclass(slots=True)
class RunState:
    """Where a run stands; no attributes of its module, which torch searches for parameters whenever they are set.

    Attributes:
        elapsed: Seconds that earlier sessions of a resumed run have trained.
        since: When this session began its first step, by the monotonic clock.
        clock: Training time at the begin of the step as rank 0 measured it: what all ranks decide by.
        refused: Rows that the ranks together could not read in this step.
        failed: Ranks that could not fill their share of this step.
        over: Whether every task has ended before this step.
        streams: Task -> where its stream stands behind the last step.
        whole: False within a step: what is then in memory belongs to no step.
        first: Until the first step of this session is through.
    """

    elapsed: float = 0.0
    since: float | None = None
    clock: float = 0.0
    refused: int = 0
    failed: int = 0
    over: bool = False
    streams: States = field(default_factory=dict)
    whole: bool = True
    first: bool = True

    def seconds(self) -> float:
        """Training time so far in seconds, earlier sessions of a resumed run included."""
        return self.elapsed + (0.0 if self.since is None else time.monotonic() - self.since)
