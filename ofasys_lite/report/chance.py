"""The loss that guessing costs, per slot: what a curve must fall below before it says anything."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofasys_lite.data.batch import collate
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.types import Example
from ofasys_lite.errors import DataError
from ofasys_lite.report.rows import TaskRows, spread

__all__ = ["chance_levels", "laid_out"]


def chance_levels(rows: TaskRows, samples: int = 400) -> dict[str, float]:
    """Slot -> entropy (nats) of its target ids: the loss of a model that has learned only how often each one is.

    A falling loss says little as long as it is above this.

    Args:
        rows: The training rows.
        samples: How many of them to look at, evenly spread.
    """
    batch = collate(laid_out(rows, spread(len(rows.source), samples)))
    found = {}
    for index, term in enumerate(batch.terms):
        labels = np.asarray(batch.labels_L)[np.asarray(batch.terms_L) == index]
        if len(labels):
            counts = np.unique(labels, return_counts=True)[1]
            share = counts / counts.sum()
            found[term.slot] = float(-(share * np.log(share)).sum())
    return found


def laid_out(rows: TaskRows, numbers: Sequence[int]) -> list[Example]:
    """Rows as the model reads them, targets included; those that cannot be read are left out."""
    found: list[Example] = []
    for i in numbers:
        try:
            id = rows.source.ids(i)
            # masks are drawn as in evaluation
            found.append(rows.maker.example(rows.source.row(i), id, sample_rng(0, rows.name, id, 0), False))
        except DataError:
            continue
    return found
