"""How codes with depth are chosen: guidance within the pass, then temperature, top-k and top-p per depth.

Classifier-free guidance (arXiv 2207.12598) at every depth as in DnD-Transformer (arXiv 2410.01912): rows 2i and 2i + 1
are the conditional and the unconditional half of a pair; both go on with the code drawn from u + s (c - u).
Shapes: B live rows, P pairs or rows that draw, V codes.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ofasys_lite.decoding.ranking import draw
from ofasys_lite.errors import CardError, ShapeError

__all__ = ["DepthChoice"]


@dataclass(frozen=True, slots=True)
class DepthChoice:
    """Chooses the code of one depth for every live row; give it to DepthHeads.write.

    Attributes:
        temperature: Divides the logits; 0 takes the best code.
        top_k: Draw among the k best; 0 among all.
        top_p: Draw among the best that hold this probability.
        guidance: s; None where rows are not paired.
        generator: Of the draws; torch's own if None.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    guidance: float | None = None
    generator: torch.Generator | None = None

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise CardError(
                f"temperature {self.temperature}, top_k {self.top_k}, top_p {self.top_p}",
                help="temperature and top_k are 0 or more, top_p is above 0 and at most 1",
            )
        if self.guidance is not None and self.guidance < 0:
            raise CardError(f"guidance {self.guidance}", help="write 1 for none, often 2 to 5")

    def __call__(self, depth: int, logits_BV: Tensor) -> Tensor:
        """(B,) codes of this depth."""
        logits_PV = logits_BV.float()
        if self.guidance is not None:
            if len(logits_PV) % 2:
                raise ShapeError(f"guidance: {len(logits_PV)} live rows are no pairs")
            with_PV, without_PV = logits_PV[0::2], logits_PV[1::2]
            logits_PV = without_PV + self.guidance * (with_PV - without_PV)
        if self.temperature == 0:
            codes_P = logits_PV.argmax(-1)
        else:
            draws_P = torch.rand(len(logits_PV), dtype=torch.float64, generator=self.generator, device=logits_PV.device)
            codes_P = draw(logits_PV / self.temperature, self.top_k, self.top_p, draws_P)
        return codes_P if self.guidance is None else codes_P.repeat_interleave(2)
