"""The two sides of `<->` as vectors of one space, and the losses that tell the pairs of a step apart.

CLIP (arXiv 2103.00020) and SigLIP (arXiv 2303.15343), with negatives over all packs and ranks of a step by gradient
caching (arXiv 2101.06983). Shapes: U pairs of a pack, G pairs of the step, X rows of a stream, D width, E width of a
vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Adapter, Encoded, Reading, Section, Shared
from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import Work, exact_types

#: Where the factor on similarities (one over the temperature) begins, by loss, and the range it is kept in (CLIP's).
_FIRST = {"clip": 1 / 0.07, "siglip": 10.0}
_LOW, _HIGH = 1.0, 100.0
#: Where the bias of SigLIP begins.
_BIAS = -10.0

#: (left (G, E), right (G, E), rivals (G, G)) -> losses (G,)
_Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


class AlignAdapter(Adapter):
    """One projection for all modalities and sides, a factor per loss; its rows are embedded as token ids."""

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.projection = nn.Linear(shared.width, shared.width, bias=False)
        self.log_factor = nn.ParameterDict({n: nn.Parameter(torch.tensor(math.log(v))) for n, v in _FIRST.items()})
        self.bias = nn.Parameter(torch.tensor(_BIAS))

    def vectors(self, states_XD: Tensor) -> Tensor:
        """(X, E) vectors of unit length in fp32, of states at the rows that end sides."""
        projected: Tensor = self.projection(states_XD)
        return F.normalize(projected.float(), dim=-1)

    def objectives(self) -> Mapping[str, Callable[[LossRows, Encoded], Reading]]:
        """`clip`, `siglip`."""
        return {"clip": self._clip, "siglip": self._siglip}

    def sections(self) -> tuple[Section, ...]:
        """The factor of a loss moves with its pairs alone."""
        siglip = (self.log_factor["siglip"], self.bias)
        return (
            Section((self.log_factor["clip"],), lambda asked: asked.learned("clip")),
            Section(siglip, lambda asked: asked.learned("siglip")),
        )

    def work(self, parts: Sequence[Part]) -> tuple[Work, Work]:
        """Nothing is embedded; of a row that is learned its projection (products between pairs are few)."""
        width = self.width
        return Work(), Work(6.0 * width * width, 2.0 * width)

    def factor(self, loss: str) -> Tensor:
        """What similarities are multiplied by; the parameter itself is kept in its range, so that it can come back."""
        parameter = self.log_factor[loss]
        with torch.no_grad():
            parameter.clamp_(math.log(_LOW), math.log(_HIGH))
        factor: Tensor = parameter.exp()
        return factor

    def _clip(self, rows: LossRows, encoded: Encoded) -> Reading:
        factor = self.factor("clip")

        def losses(left_GE: Tensor, right_GE: Tensor, rivals_GG: Tensor) -> Tensor:
            scores_GG = factor * left_GE @ right_GE.T
            kept_GG = rivals_GG | torch.eye(len(rivals_GG), dtype=torch.bool, device=rivals_GG.device)
            scores_GG = scores_GG.masked_fill(~kept_GG, -math.inf)
            own_G = scores_GG.diagonal()
            # both ways: the right side of the left one, the left of the right
            return (scores_GG.logsumexp(1) + scores_GG.logsumexp(0)) / 2 - own_G

        return self._reading(rows, encoded, losses)

    def _siglip(self, rows: LossRows, encoded: Encoded) -> Reading:
        factor = self.factor("siglip")

        def losses(left_GE: Tensor, right_GE: Tensor, rivals_GG: Tensor) -> Tensor:
            scores_GG = factor * left_GE @ right_GE.T + self.bias
            others_G = F.softplus(scores_GG).masked_fill(~rivals_GG, 0.0).sum(1)
            return F.softplus(-scores_GG.diagonal()) + others_G

        return self._reading(rows, encoded, losses)

    def _reading(self, rows: LossRows, encoded: Encoded, losses: _Loss) -> Reading:
        step = encoded.step(rows)

        def look(states_XD: Tensor) -> Tensor:
            # a pair's rows are beside each other, left and right
            return self.vectors(states_XD[rows.rows_R]).reshape(len(rows.terms_U), -1)

        def of_all(seen_GF: Tensor) -> Tensor:
            with exact_types(seen_GF.device):
                left_GE, right_GE = seen_GF.chunk(2, dim=1)
                return losses(left_GE, right_GE, rivals(step, seen_GF.device))

        return Reading(lambda states_XD: step.losses(look(states_XD), of_all), look=look)


def rivals(step: WholeStep, device: torch.device) -> Tensor:
    """(G, G) True where two pairs of one task differ on both sides: an equal side would make a negative of a match."""
    differ_GG = np.logical_and(*(step.host[side][:, None] != step.host[side][None] for side in ("left", "right")))
    return step.rivals(device) & torch.from_numpy(differ_GG).to(device)
