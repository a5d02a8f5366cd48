"""What an objective sees of all packs of a step, on all ranks, before the first backward pass.

A contrast compares a sample with every other one of the step, whichever pack it lies in. All packs are looked at once
without gradient (`Reading.look`); then each pack alone gets the gradient that the whole step would have given it
(gradient caching, arXiv 2101.06983). Shapes: U values of a pack, G values of the step, F features.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.layout.learned import Arrays, Ints


@dataclass(frozen=True, slots=True)
class WholeStep:
    """One objective over a step; a pack that is looked at alone (in evaluation too) is its own step.

    Attributes:
        terms_G: A number for the term of each value, alike for all packs: values of other terms are no rivals.
        host: The objective's arrays on the host (`LossRows.host`), of all packs.
        first: Where the values of this pack begin.
        seen_GF: What `look` gave of each, without gradient; None where the pack is all there is.
    """

    terms_G: Ints
    host: Arrays
    first: int = 0
    seen_GF: Tensor | None = None

    def rivals(self, device: torch.device) -> Tensor:
        """(G, G) True where two different values are of one term."""
        same_GG = self.terms_G[:, None] == self.terms_G[None]
        return torch.from_numpy(same_GG & ~np.eye(len(same_GG), dtype=np.bool_)).to(device)

    def losses(self, own_UF: Tensor, of_all: Callable[[Tensor], Tensor]) -> Tensor:
        """(U,) losses of this pack's values, whose gradients over all packs add up to those of the step in one piece.

        Args:
            own_UF: What `look` gave of this pack, with its gradient.
            of_all: (G, F) -> (G,) losses. Each may depend on all values of its own term; values of a term weigh the
                same, which accounting by `share` and `token` keeps (by `sample` where samples have equally many).
        """
        own_UF = own_UF.float()
        if self.seen_GF is None:
            return of_all(own_UF)
        own = slice(self.first, self.first + len(own_UF))
        seen_GF = self.seen_GF.float().requires_grad_()
        loss_G = of_all(seen_GF)
        (grad_GF,) = torch.autograd.grad(loss_G.sum(), seen_GF, retain_graph=True)
        # the value is this pack's; its gradient is that of every value of the step which looks at this pack's
        pulled_U = (own_UF * grad_GF[own]).flatten(1).sum(1)
        return loss_G[own] + pulled_U - pulled_U.detach()
