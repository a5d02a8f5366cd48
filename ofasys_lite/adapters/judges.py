"""Two judges of whole pictures in codes: does it belong to its source, and are its codes real (arXiv 2105.14211)?

Shapes: J judged pictures, L positions, D width, U loss units.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.preprocess.judged import VERDICTS

__all__ = ["Judges"]


class Judges(nn.Module):
    """Relevance and fidelity of a picture, from what the decoder made of its positions.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.out = nn.Linear(width, 2)

    def forward(self, states_JLD: Tensor) -> Tensor:
        """(J, 2) logits: relevance, fidelity."""
        # each position has its say before the mean: one wrong code among many right ones is to be heard
        logits: Tensor = self.out(F.gelu(self.inner(states_JLD)).mean(1))
        return logits

    def scores(self, states_JLD: Tensor) -> Tensor:
        """(J,) log of the probability that the picture belongs to its source and has real codes, in fp32."""
        return F.logsigmoid(self(states_JLD).float()).sum(-1)

    def loss(self, states_JLD: Tensor, real_J: Tensor, kinds: Sequence[int]) -> Tensor:
        """(U,) binary cross entropy in nats of each verdict, picture by picture, relevance first.

        Args:
            states_JLD: States of the shown pictures.
            real_J: True where the codes shown are the picture's own: wrong ones may happen to be right.
            kinds: REAL, OTHER or OWN, which says which heads learn.
        """
        logits_J2 = self(states_JLD).float()
        labels_J2 = real_J.unsqueeze(1).expand_as(logits_J2).float()
        loss_J2 = F.binary_cross_entropy_with_logits(logits_J2, labels_J2, reduction="none")
        asked = [2 * j + head for j, kind in enumerate(kinds) for head in VERDICTS[kind]]
        return loss_J2.flatten()[torch.tensor(asked, dtype=torch.long, device=loss_J2.device)]
