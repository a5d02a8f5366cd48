"""Codes written together in a few rounds: each round keeps what the model is surest of, and writes the rest anew.

Iterative parallel decoding (MaskGIT, arXiv 2202.04200; UFC-BERT, arXiv 2105.14211): all hidden positions are predicted
at once, each with all its K codes; positions with the highest confidence, noised while rounds are left, are kept; how
many stay hidden follows a cosine. What is given is never touched.
Shapes: N samples, L positions, K depth, V codes, R hidden positions of all samples (twice as many rows with guidance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.ranking import draw
from ofasys_lite.errors import ShapeError

__all__ = ["Filled", "mask_predict"]

Choose = Callable[[int, Tensor], Tensor]
#: (codes (N, L, K), hidden (N, L), draws of one depth) -> (R, K) codes of the hidden positions, sample by sample.
Write = Callable[[Tensor, Tensor, Choose], Tensor]


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written.

    Attributes:
        codes_NLK: Codes, given ones as they were.
        score_N: Mean log probability of the written positions, each as it was when it was kept.
        passes: Passes through the model.
    """

    codes_NLK: Tensor
    score_N: Tensor
    passes: int


def mask_predict(
    write: Write,
    codes_NLK: Tensor,
    hidden_NL: Tensor,
    options: DecodeOptions,
    rngs: Sequence[np.random.Generator],
) -> Filled:
    """Writes the hidden positions of all samples.

    Args:
        write: One pass of the model; with `cfg` it runs each sample twice, with its source and with the emptied one,
            and calls the draw with both rows of a position: all with the source first, then all without.
        codes_NLK: Known codes; anything at hidden positions.
        hidden_NL: True where a position is to be written.
        options: `steps`, `temperature`, `top_k`, `top_p`, `cfg`.
        rngs: A generator per sample, so that draws do not depend on the batch.
    """
    if hidden_NL.shape != codes_NLK.shape[:2] or len(rngs) != len(codes_NLK):
        raise ShapeError(f"mask-predict: codes {tuple(codes_NLK.shape)}, hidden {tuple(hidden_NL.shape)}")
    codes_NLK, hidden_NL = codes_NLK.clone(), hidden_NL.clone()
    first_N = hidden_NL.sum(1)
    total_N = torch.zeros(len(codes_NLK), device=codes_NLK.device)
    passes = 0
    for step in range(1, options.steps + 1):
        if not bool(hidden_NL.any()):
            break
        cfg = options.cfg_at((step - 1) / options.steps)
        choice = _Choice(options, cfg, rngs, hidden_NL, codes_NLK.shape[2])
        written_RK = write(codes_NLK, hidden_NL, choice)
        passes += 1
        codes_NLK[hidden_NL] = written_RK
        left_N = (first_N * math.cos(math.pi / 2 * step / options.steps)).floor().long()
        left_N = left_N.clamp(max=hidden_NL.sum(1) - 1).clamp(min=0) if step < options.steps else left_N * 0
        sure_NL = torch.full(hidden_NL.shape, math.inf, device=codes_NLK.device)
        log_NL = torch.zeros_like(sure_NL)
        log_NL[hidden_NL] = choice.log_R
        noise = options.temperature * (1 - step / options.steps)
        sure_NL[hidden_NL] = choice.log_R + noise * choice.gumbel_R
        # the least sure positions stay hidden
        rank_NL = sure_NL.argsort(1).argsort(1)
        stays_NL = hidden_NL & (rank_NL < left_N.unsqueeze(1))
        total_N += (log_NL * (hidden_NL & ~stays_NL)).sum(1)
        hidden_NL = stays_NL
    return Filled(codes_NLK, total_N / first_N.clamp(min=1), passes)


class _Choice:
    """Draws the codes of one depth for all hidden positions of a round."""

    def __init__(
        self, options: DecodeOptions, cfg: float, rngs: Sequence[np.random.Generator], hidden_NL: Tensor, depth: int
    ) -> None:
        counts = hidden_NL.sum(1).tolist()
        drawn = np.concatenate([rng.random((count, depth + 1)) for rng, count in zip(rngs, counts, strict=True)])
        self.options = options
        self.cfg = cfg
        self.draws_RX = torch.from_numpy(drawn).to(hidden_NL.device)
        self.log_R = torch.zeros(len(drawn), device=hidden_NL.device)

    @property
    def gumbel_R(self) -> Tensor:
        """Gumbel noise of each position."""
        uniform_R = self.draws_RX[:, -1].clamp(1e-9, 1 - 1e-9)
        return -(-uniform_R.log()).log().float()

    def __call__(self, depth: int, logits_RV: Tensor) -> Tensor:
        """Codes of the rows: (R,), or (2 R,) with guidance."""
        options, count = self.options, len(self.log_R)
        logits_RV = logits_RV.float()
        if options.guided:
            if len(logits_RV) != 2 * count:
                raise ShapeError(f"guidance: {len(logits_RV)} rows for {count} positions")
            logits_RV = torch.lerp(logits_RV[count:], logits_RV[:count], self.cfg)
        codes_R = draw(logits_RV / options.temperature, options.top_k, options.top_p, self.draws_RX[:, depth])
        self.log_R += logits_RV.log_softmax(-1).gather(1, codes_R.unsqueeze(1)).squeeze(1)
        return codes_R.repeat(2) if options.guided else codes_R
