"""Ids of one length written all at once, then the least sure of them anew: Mask-Predict (arXiv 1904.09324).

Shapes: M sequences of one length L, W ids that are legal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: (ids (M, L), a mask where they are hidden; share of the rounds that is over) -> scores (M, L, W) before softmax.
Scores = Callable[[Tensor, float], Tensor]


@dataclass(frozen=True, slots=True)
class Filling:
    """One sequence.

    Attributes:
        score: Mean log probability of its ids, each in the round that wrote it.
    """

    ids: tuple[int, ...]
    score: float


def rounds_of_ids(scores: Scores, legal_W: Tensor, count: int, length: int, steps: int, mask: int) -> list[Filling]:
    """The ids of `count` sequences of one length, in `steps` rounds at most.

    Round t of T hides L (T - t) / T of the ids, those with the lowest probability when they were written, and writes
    the likeliest id at each of these places; nothing is drawn.
    """
    ids_ML = torch.full((count, length), mask, device=legal_W.device)
    log_ML = torch.full(ids_ML.shape, -torch.inf, device=legal_W.device)
    for step in range(steps):
        hidden = length * (steps - step) // steps
        if not hidden:
            break
        rank_ML = log_ML.argsort(dim=1, stable=True).argsort(dim=1)
        hidden_ML = rank_ML < hidden
        shown_ML = torch.where(hidden_ML, mask, ids_ML)
        best = scores(shown_ML, step / steps).log_softmax(-1).max(-1)
        ids_ML = torch.where(hidden_ML, legal_W[best.indices], ids_ML)
        log_ML = torch.where(hidden_ML, best.values, log_ML)
    pairs = zip(ids_ML.tolist(), log_ML.mean(1).tolist(), strict=True)
    return [Filling(tuple(ids), score) for ids, score in pairs]
