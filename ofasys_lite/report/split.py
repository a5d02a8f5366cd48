"""One split of one task, ready to be evaluated, and what a model made of its rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.report.against import TrainSplit
from ofasys_lite.report.judge import Judge, RankJudge
from ofasys_lite.report.results import RefusedRow
from ofasys_lite.report.task_rows import TaskRows


@dataclass(frozen=True, slots=True)
class Split:
    """One split of one task, ready to be evaluated.

    Attributes:
        judges: Its metrics, the headline first.
        train: The rows that baselines are fitted on.
        numbers: Which rows of the split.
        training: The same for metrics that look at them, one per judge.
        options: Decoding in place of the task's, or None.
    """

    judges: tuple[Judge, ...]
    rows: TaskRows
    train: TaskRows
    numbers: tuple[int, ...]
    training: tuple[TrainSplit, ...]
    options: DecodeOptions | None = None

    @property
    def task(self) -> str:
        """Task name."""
        return self.rows.name

    @property
    def ranks(self) -> bool:
        """Whether the sides of a line with `<->` look for each other."""
        return any(isinstance(judge, RankJudge) for judge in self.judges)


@dataclass(frozen=True, slots=True)
class Predicted:
    """What the model made of a split's rows; rows that cannot be read are left out.

    Attributes:
        predictions: Value per judge, per row.
        references: Value per judge, per row.
        rows: The rows without media, for metrics that look at them.
    """

    numbers: tuple[int, ...]
    predictions: tuple[list[Any], ...]
    references: tuple[list[Any], ...]
    rows: list[dict[str, Any]]
    refused: tuple[RefusedRow, ...]
