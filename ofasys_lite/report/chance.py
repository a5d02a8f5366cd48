"""The loss that guessing costs, per slot: what a curve must fall below before it says anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import spread
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.report.task_rows import TaskRows

#: Rows that are learned, the classes (R, K) chosen at each, the weight of each of K choices.
_Chosen = tuple[LossRows, npt.NDArray[np.integer[Any]], tuple[float, ...]]


def chance_levels(rows: TaskRows, samples: int = 400, network: Network | None = None) -> dict[str, float]:
    """Slot -> entropy (nats) of its target ids: the loss of a model that has learned only how often each one is.

    A falling loss says little as long as it is above this. Of codes it is the mean over their depths, as in the loss.

    Args:
        samples: How many of them to look at, evenly spread.
        network: Makes the codes of slots that are written in codes; without it those are left out.
    """
    batch = collate(laid_out(rows, spread(len(rows.source), samples)))
    if network is not None:
        return _coded(network, batch)
    # ids stand in the pack; codes only their adapter knows
    return _levels(batch, [(r, r.arrays["labels"][:, None], (1.0,)) for r in batch.losses if "labels" in r.arrays])


def _coded(network: Network, batch: Batch) -> dict[str, float]:
    import torch

    training = network.training
    network.eval()
    moved = to_device(batch, network.embedding.weight.device)
    found: list[_Chosen] = []
    with torch.inference_mode():
        for rows in moved.losses:
            classes = network.classes(rows, moved)
            if classes is not None:
                found.append((rows, classes[0].cpu().numpy(), classes[1]))
    network.train(training)
    return _levels(batch, found)


def _levels(batch: Batch, chosen: Sequence[_Chosen]) -> dict[str, float]:
    """Slot -> entropy of what is chosen at its rows, weighted over the choices of a row as the loss is."""
    found: dict[str, float] = {}
    for rows, classes_RK, weights in chosen:
        for index in np.unique(rows.terms_U):
            choices = classes_RK[rows.terms_U == index].T
            found[batch.terms[index].slot] = float(np.dot([_entropy(each_R) for each_R in choices], weights))
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
