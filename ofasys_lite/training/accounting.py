"""What a step costs: which weight every loss unit of every pack has, from counts over all packs and ranks.

`share`: sum over tasks t of (n_t / N) * sum over slots s of weight_s * (sum of losses of (t, s)) / (units of (t, s)).
`token`: every unit of every slot weighs the same (times weight_s).
`sample`: every sample weighs the same; within a sample, every unit of a slot.
A term without units is zero, never 0/0. Counts are known before the first forward pass: two packs of 8 equal one of 16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, did_you_mean
from ofasys_lite.layout.pack import Batch, Term

__all__ = ["MODES", "RunTerms", "StepCounts", "unit_weights"]

MODES = ("share", "token", "sample")
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class StepCounts:
    """Counts of one step, summed over packs (and ranks).

    Attributes:
        units: Loss units per term of the run.
        samples: Samples per task of the run.
    """

    units: npt.NDArray[np.int64]
    samples: npt.NDArray[np.int64]

    def vector(self) -> npt.NDArray[np.int64]:
        """Both counts in one array: one small all-reduce a step."""
        return np.concatenate([self.units, self.samples])


class RunTerms:
    """Fixed numbering of a run's terms and tasks, so that counts of all ranks add up.

    Args:
        terms: Every term the run can have.
        tasks: Every task of the run.
    """

    def __init__(self, terms: Sequence[Term], tasks: Sequence[str]) -> None:
        self.terms = tuple(dict.fromkeys(terms))
        self.tasks = tuple(tasks)
        self._term = {t: i for i, t in enumerate(self.terms)}
        self._task = {t: i for i, t in enumerate(self.tasks)}

    def term_index(self, batch: Batch) -> npt.NDArray[np.int64]:
        """Number in the run of each of the pack's terms."""
        return np.array([self._term[t] for t in batch.terms], dtype=np.int64)

    def task_index(self, task: str) -> int:
        """Number in the run of a task."""
        return self._task[task]

    def count(self, packs: Sequence[Batch]) -> StepCounts:
        """Counts over the packs of one rank."""
        units = np.zeros(len(self.terms), dtype=np.int64)
        samples = np.zeros(len(self.tasks), dtype=np.int64)
        for pack in packs:
            index = self.term_index(pack)
            np.add.at(units, index[np.asarray(pack.terms_L)], 1)
            for side in pack.side:
                units[index[side.term]] += len(side.labels)
            for task, _ in pack.samples:
                samples[self._task[task]] += 1
        return StepCounts(units, samples)

    def split(self, vector: npt.NDArray[np.int64]) -> StepCounts:
        """Counts from what `StepCounts.vector` gave, after the all-reduce."""
        return StepCounts(vector[: len(self.terms)], vector[len(self.terms) :])


def unit_weights(batch: Batch, ledger: RunTerms, counts: StepCounts, mode: str) -> tuple[Floats, Floats]:
    """Weight of each target row with loss (L,), and of each objective on the encoder.

    Args:
        batch: One pack.
        ledger: The run's numbering.
        counts: Counts of the whole step.
        mode: `share`, `token` or `sample`.
    """
    if mode not in MODES:
        raise CardError(f"accounting `{mode}` is not known", help=did_you_mean(mode, MODES))
    terms_L, samples_L = np.asarray(batch.terms_L), np.asarray(batch.samples_L)
    index = ledger.term_index(batch)
    if mode == "sample":
        return _per_sample(batch, index, ledger, counts)
    per_term = np.array([_coefficient(t, index[i], ledger, counts, mode) for i, t in enumerate(batch.terms)])
    side = np.array([per_term[s.term] for s in batch.side], dtype=np.float32)
    rows = per_term[terms_L] if len(samples_L) else np.zeros(0)
    return rows.astype(np.float32), side


def _coefficient(term: Term, index: int, ledger: RunTerms, counts: StepCounts, mode: str) -> float:
    if mode == "token":
        return float(term.weight / max(1, int(counts.units.sum())))
    share = counts.samples[ledger.task_index(term.task)] / max(1, int(counts.samples.sum()))
    return float(share * term.weight / max(1, int(counts.units[index])))


def _per_sample(
    batch: Batch, index: npt.NDArray[np.int64], ledger: RunTerms, counts: StepCounts
) -> tuple[Floats, Floats]:
    total = max(1, int(counts.samples.sum()))
    keys = np.asarray(batch.samples_L) * max(1, len(batch.terms)) + np.asarray(batch.terms_L)
    _, inverse, number = np.unique(keys, return_inverse=True, return_counts=True)
    weights = np.array([t.weight for t in batch.terms])
    rows = weights[np.asarray(batch.terms_L)] / (number[inverse] * total) if len(keys) else np.zeros(0)
    side = [weights[s.term] / (max(1, len(s.labels)) * total) for s in batch.side]
    return rows.astype(np.float32), np.array(side, dtype=np.float32)
