"""The loss that guessing costs, per slot: what a curve must fall below before it says anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.report.task_rows import TaskRows, spread

__all__ = ["chance_levels", "laid_out"]


def chance_levels(rows: TaskRows, samples: int = 400, network: Network | None = None) -> dict[str, float]:
    """Slot -> entropy (nats) of its target ids: the loss of a model that has learned only how often each one is.

    A falling loss says little as long as it is above this. Of codes it is the mean over their depths, as in the loss.

    Args:
        rows: The training rows.
        samples: How many of them to look at, evenly spread.
        network: Makes the codes of slots that are written in codes; without it those are left out.
    """
    batch = collate(laid_out(rows, spread(len(rows.source), samples)))
    found = {}
    # rows of token ids come first; those of codes carry no id
    tokens = len(batch.labels_L)
    for index, term in enumerate(batch.terms):
        labels = np.asarray(batch.labels_L)[np.asarray(batch.terms_L[:tokens]) == index]
        if len(labels):
            found[term.slot] = _entropy(labels)
    return found if network is None else {**found, **_coded(network, batch)}


def _coded(network: Network, batch: Batch) -> dict[str, float]:
    """Slot -> entropy of the codes that the batch learns, weighted by depth as the loss is."""
    import torch

    training = network.training
    network.eval()
    moved = to_device(batch, network.embedding.weight.device)
    parts = {part.adapter: part for part in moved.target.parts}
    terms_L, start, found = np.asarray(batch.terms_L), len(batch.labels_L), dict[str, float]()
    for codes in moved.codes:
        coder = network.coder(codes.adapter)
        with torch.inference_mode():
            learned_RK = coder.codes(parts[codes.adapter])[0].flatten(0, 1).cpu().numpy()
        learned_RK = learned_RK if codes.picked is None else learned_RK[codes.picked.cpu().numpy()]
        terms_R = terms_L[start : start + len(learned_RK)]
        start += len(learned_RK)
        for index in np.unique(terms_R):
            depths = [_entropy(codes_R) for codes_R in learned_RK[terms_R == index].T]
            found[batch.terms[index].slot] = float(np.dot(depths, coder.shares))
    network.train(training)
    return found


def _entropy(labels: npt.NDArray[np.integer[Any]]) -> float:
    """Entropy in nats of how often each value occurs."""
    counts = np.unique(labels, return_counts=True)[1]
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


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
