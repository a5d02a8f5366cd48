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

from ofasys_lite.layout.learned import Term
from ofasys_lite.layout.pack import Batch, Ints

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


class RunTerms:
    """Fixed numbering of a run's terms and tasks, so that counts of all ranks add up."""

    def __init__(self, terms: Sequence[Term], tasks: Sequence[str]) -> None:
        self.terms = tuple(dict.fromkeys(terms))
        self.tasks = tuple(tasks)
        self._term = {t: i for i, t in enumerate(self.terms)}
        #: Number in the run of a task.
        self.task_number = {t: i for i, t in enumerate(self.tasks)}
        #: Per term of the run, its weight and the number of its task.
        self.weights = np.array([t.weight for t in self.terms], dtype=np.float64)
        self.task_of_term = np.array([self.task_number[t.task] for t in self.terms], dtype=np.int64)
        # the same pack is asked for several times in a step
        self._asked: tuple[Term, ...] = ()
        self._index = np.zeros(0, dtype=np.int64)

    def term_index(self, batch: Batch) -> Ints:
        """Number in the run of each of the pack's terms."""
        if batch.terms is not self._asked:
            self._asked = batch.terms
            self._index = np.array([self._term[t] for t in batch.terms], dtype=np.int64)
        return self._index

    def count(self, packs: Sequence[Batch]) -> StepCounts:
        """Counts over the packs of one rank."""
        units = np.zeros(len(self.terms), dtype=np.int64)
        samples = np.zeros(len(self.tasks), dtype=np.int64)
        for pack in packs:
            index = self.term_index(pack)
            for rows in pack.losses:
                np.add.at(units, index[rows.terms_U], rows.units_U)
            numbers = [self.task_number[task] for task, _ in pack.samples]
            samples += np.bincount(numbers, minlength=len(samples))
        return StepCounts(units, samples)


def unit_weights(batch: Batch, ledger: RunTerms, counts: StepCounts, mode: str) -> tuple[Floats, Ints]:
    """(U,) weight of each loss value of a pack, and (U,) the number in the run of its term.

    Args:
        mode: `share`, `token` or `sample`.
    """
    terms_U = ledger.term_index(batch)[batch.terms_U]
    if mode == "sample":
        return _per_sample(batch, terms_U, ledger, counts), terms_U
    if mode == "token":
        per_term = ledger.weights / max(1, int(counts.units.sum()))
    else:
        share = counts.samples[ledger.task_of_term] / max(1, int(counts.samples.sum()))
        per_term = share * ledger.weights / np.maximum(1, counts.units)
    return per_term.astype(np.float32)[terms_U], terms_U


def _per_sample(batch: Batch, terms_U: Ints, ledger: RunTerms, counts: StepCounts) -> Floats:
    _, inverse = np.unique(batch.samples_U * len(ledger.terms) + terms_U, return_inverse=True)
    units = np.bincount(inverse, weights=batch.units_U)
    return (ledger.weights[terms_U] / (units[inverse] * max(1, int(counts.samples.sum())))).astype(np.float32)
