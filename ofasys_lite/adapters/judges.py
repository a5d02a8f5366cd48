"""Two judges of whole pictures in codes: do they belong to their source, and are their codes real (arXiv 2105.14211)?

UFC-BERT judges a picture once; here each position is judged, as by a token critic (arXiv 2209.04439), for one verdict a
picture is too little to learn from.

Shapes: J judged pictures, L positions, D width, U loss units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model import moved
from ofasys_lite.preprocess.judged import VERDICTS


class Judges(nn.Module):
    """Relevance and fidelity of a picture, from what the decoder made of its positions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, states_JLD: Tensor) -> Tensor:
        """(J, L, 2) logits of each position: relevance, fidelity."""
        logits: Tensor = self.out(F.gelu(self.inner(states_JLD)))
        return logits

    def scores(self, states_JLD: Tensor, asked_JL: Tensor) -> Tensor:
        """(J,) mean log of the probability that a position belongs to its source and has real codes, in fp32.

        Over the positions asked alone: verdicts are learned where wrong codes might stand, nothing of given ones.
        """
        return _mean(F.logsigmoid(self(states_JLD).float()).sum(-1), asked_JL)

    def loss(self, states_JLD: Tensor, real_JL: Tensor, asked_JL: Tensor, kinds: Sequence[int]) -> Tensor:
        """(U,) binary cross entropy in nats of each verdict, the mean over the positions asked.

        Picture by picture, relevance first.

        Args:
            real_JL: True where the codes shown are the picture's own: wrong ones may happen to be right.
            asked_JL: Positions that wrong codes might have taken.
            kinds: REAL, OTHER or OWN, which says which heads learn.
        """
        logits_JL2 = self(states_JLD).float()
        labels_JL2 = real_JL.unsqueeze(-1).expand_as(logits_JL2).float()
        loss_JL2 = F.binary_cross_entropy_with_logits(logits_JL2, labels_JL2, reduction="none")
        loss_J2 = torch.stack([_mean(loss_JL, asked_JL) for loss_JL in loss_JL2.unbind(-1)], -1)
        asked = [2 * j + head for j, kind in enumerate(kinds) for head in VERDICTS[kind]]
        return loss_J2.flatten()[moved(torch.tensor(asked, dtype=torch.long), loss_J2.device)]


def _mean(x_JL: Tensor, asked_JL: Tensor) -> Tensor:
    """(J,) means over the positions asked; 0 where there are none."""
    return (x_JL * asked_JL).sum(1) / asked_JL.sum(1).clamp(min=1)
