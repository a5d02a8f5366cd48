"""How much of a run each task got: told by its log, beside what its weight asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a run drew of a task.

    Attributes:
        repeats: How often its rows were gone through.
        samples: Its share of all samples.
        tokens: Its share of all source and target rows; None in logs that do not tell.
    """

    repeats: float
    samples: float
    tokens: float | None

    @property
    def text(self) -> str:
        """`3.2 x`; times to two digits."""
        return f"{self.repeats:.2g} x" if self.repeats < 10 else f"{self.repeats:,.0f} x"

    @property
    def shares(self) -> str:
        """`41 % of samples, 12 % of tokens`."""
        told = f"{self.samples:.0%} of samples"
        return told if self.tokens is None else f"{told}, {self.tokens:.0%} of tokens"


def drawn(history: Sequence[Mapping[str, Any]]) -> dict[str, Drawn]:
    """Task -> what was drawn of it, by the rows of metrics.jsonl."""
    # a row per slot tells the same of its task
    rows = {(row["step"], row["task"]): row for row in history if row.get("kind") == "train" and "epoch" in row}
    at = dict[int, float]()  # samples of all tasks since the row before
    for (step, _), row in rows.items():
        at[step] = at.get(step, 0.0) + row["samples"]
    total = sum(at.values()) or 1.0
    known = all("token_share" in row for row in rows.values())
    samples, tokens, repeats = dict[str, float](), dict[str, float](), dict[str, float]()
    for (step, task), row in rows.items():
        samples[task] = samples.get(task, 0.0) + row["samples"]
        # a share of tokens weighs by the samples that it is of: rows may stand for unequally many steps
        tokens[task] = tokens.get(task, 0.0) + row.get("token_share", 0.0) * at[step]
        repeats[task] = row["epoch"]
    return {
        task: Drawn(repeats[task], count / total, tokens[task] / total if known else None)
        for task, count in samples.items()
    }
