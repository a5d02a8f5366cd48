"""Codes written together in a few rounds: each round keeps what the model is surest of, and writes the rest anew.

Iterative parallel decoding (MaskGIT, arXiv 2202.04200; UFC-BERT, arXiv 2105.14211): all hidden positions are predicted
at once, each with all its K codes; positions with the highest confidence, noised while rounds are left, are kept; how
many stay hidden follows a cosine. What is given is never touched. With judges (UFC-BERT) a round draws several fillings
and goes on with the one they like best; a picture whose best score has not risen for a while is done.
Shapes: N samples, B samples that are not done, M candidates of these, L positions, K depth, V codes, R hidden positions
of all candidates (twice as many rows with guidance).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.decoding.depth_sampling import at_depth
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.ranking import draw
from ofasys_lite.errors import ShapeError

Choose = Callable[[int, Tensor], Tensor]
#: (samples (M,), codes (M, L, K), hidden (M, L), draws of one depth) -> (R, K) codes of the hidden positions, candidate
#: by candidate.
Write = Callable[[Tensor, Tensor, Tensor, Choose], Tensor]
#: (samples (M,), codes (M, L, K) with nothing hidden, written (M, L): not given) -> (M,) scores, higher is better.
Judge = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class Filled:
    """What was written.

    Attributes:
        codes_NLK: Codes, given ones as they were.
        score_N: Mean log probability of the written positions, each as it was when it was last drawn.
        passes: Passes of the model that wrote, each over the candidates of all samples that were not done.
        judged: Passes of the model that scored what was written.
        rounds_N: Rounds of each sample.
    """

    codes_NLK: Tensor
    score_N: Tensor
    passes: int
    judged: int
    rounds_N: Tensor


def mask_predict(
    write: Write,
    codes_NLK: Tensor,
    hidden_NL: Tensor,
    options: DecodeOptions,
    rngs: Sequence[np.random.Generator],
    judge: Judge | None = None,
) -> Filled:
    """Writes the hidden positions of all samples.

    Args:
        write: One pass of the model; with `cfg` it runs each candidate twice, with its source and with the emptied one,
            and calls the draw with both rows of a position: all with the source first, then all without.
        codes_NLK: Known codes; anything at hidden positions.
        hidden_NL: True where a position is to be written.
        options: `steps`, `temperature`, `top_k`, `top_p`, `cfg`; with a judge `candidates` and `patience`.
        rngs: A generator per sample, so that draws do not depend on the batch.
        judge: Scores whole fillings; the best of all rounds is what comes out. None: the last round's.
    """
    if hidden_NL.shape != codes_NLK.shape[:2] or len(rngs) != len(codes_NLK):
        raise ShapeError(f"mask-predict: codes {tuple(codes_NLK.shape)}, hidden {tuple(hidden_NL.shape)}")
    state = _State(codes_NLK, hidden_NL, options.patience)
    passes = 0
    for step in range(1, options.steps + 1):
        live_B = state.hidden_NL.any(1).nonzero().squeeze(1)
        if not len(live_B):
            break
        found = _round(write, judge, state, live_B, options, rngs, (step - 1) / options.steps)
        passes += 1
        left_B = (state.first_N[live_B] * math.cos(math.pi / 2 * step / options.steps)).floor().long()
        hidden_BL = state.hidden_NL[live_B]
        left_B = left_B.clamp(max=hidden_BL.sum(1) - 1).clamp(min=0) if step < options.steps else left_B * 0
        noise = at_depth(options.temperature, 0) * (1 - step / options.steps)
        # the least sure positions stay hidden
        sure_BL = torch.where(hidden_BL, found.log_BL + noise * found.gumbel_BL, math.inf)
        rank_BL = sure_BL.argsort(1).argsort(1)
        state.take(live_B, found, hidden_BL & (rank_BL < left_B.unsqueeze(1)))
    return state.filled(passes, 0 if judge is None else passes)


@dataclass(frozen=True, slots=True)
class _Found:
    """What a round wrote: the best candidate of each sample; log probabilities and noise at hidden positions."""

    codes_BLK: Tensor
    log_BL: Tensor
    gumbel_BL: Tensor
    score_B: Tensor | None


def _round(
    write: Write,
    judge: Judge | None,
    state: _State,
    live_B: Tensor,
    options: DecodeOptions,
    rngs: Sequence[np.random.Generator],
    share: float,
) -> _Found:
    """All hidden positions of the samples `live_B`, written once; `share` of the rounds are over."""
    count = 1 if judge is None else options.candidates
    samples_M = live_B.repeat_interleave(count)
    codes_MLK, hidden_ML = state.codes_NLK[samples_M], state.hidden_NL[samples_M]
    chosen = [rngs[n] for n in live_B.tolist()]
    choice = _Choice(options, options.cfg_at(share), chosen, hidden_ML, codes_MLK.shape[2])
    codes_MLK[hidden_ML] = write(samples_M, codes_MLK, hidden_ML, choice)
    log_ML = torch.zeros(hidden_ML.shape, device=codes_MLK.device)
    gumbel_ML = log_ML.clone()
    log_ML[hidden_ML], gumbel_ML[hidden_ML] = choice.log_R, choice.gumbel_R
    if judge is None:
        return _Found(codes_MLK, log_ML, gumbel_ML, None)
    score_M = judge(samples_M, codes_MLK, state.written_NL[samples_M])
    score_B, best_B = score_M.view(-1, count).max(1)
    best_B = best_B + torch.arange(len(live_B), device=best_B.device) * count
    return _Found(codes_MLK[best_B], log_ML[best_B], gumbel_ML[best_B], score_B)


class _State:
    """How far the samples are, and the best filling of each that judges have seen."""

    def __init__(self, codes_NLK: Tensor, hidden_NL: Tensor, patience: int) -> None:
        self.codes_NLK, self.hidden_NL = codes_NLK.clone(), hidden_NL.clone()
        self.written_NL = hidden_NL.clone()
        self.first_N = hidden_NL.sum(1)
        self.log_NL = torch.zeros(hidden_NL.shape, device=codes_NLK.device)
        self.patience = patience
        self.best_NLK, self.best_log_NL = self.codes_NLK.clone(), self.log_NL.clone()
        self.best_N = torch.full((len(codes_NLK),), -math.inf, device=codes_NLK.device)
        self.waited_N = torch.zeros(len(codes_NLK), dtype=torch.long, device=codes_NLK.device)
        self.rounds_N = self.waited_N.clone()

    def take(self, live_B: Tensor, found: _Found, stays_BL: Tensor) -> None:
        """Takes what a round wrote; `stays_BL` are the positions to be written anew."""
        log_BL = torch.where(self.hidden_NL[live_B], found.log_BL, self.log_NL[live_B])
        self.codes_NLK[live_B], self.log_NL[live_B] = found.codes_BLK, log_BL
        self.rounds_N[live_B] += 1
        better_B = torch.ones_like(live_B, dtype=torch.bool)
        if found.score_B is not None:
            better_B = found.score_B > self.best_N[live_B]
            self.waited_N[live_B] = torch.where(better_B, 0, self.waited_N[live_B] + 1)
            if self.patience:
                stays_BL = stays_BL & (self.waited_N[live_B] < self.patience).unsqueeze(1)
            self.best_N[live_B] = torch.maximum(found.score_B, self.best_N[live_B])
        self.best_NLK[live_B[better_B]] = found.codes_BLK[better_B]
        self.best_log_NL[live_B[better_B]] = log_BL[better_B]
        self.hidden_NL[live_B] = stays_BL

    def filled(self, passes: int, judged: int) -> Filled:
        """The best fillings."""
        total_N = (self.best_log_NL * self.written_NL).sum(1)
        return Filled(self.best_NLK, total_N / self.first_N.clamp(min=1), passes, judged, self.rounds_N)


class _Choice:
    """Draws the codes of one depth for all hidden positions of a round's candidates."""

    def __init__(
        self, options: DecodeOptions, cfg: float, rngs: Sequence[np.random.Generator], hidden_ML: Tensor, depth: int
    ) -> None:
        # candidates of a sample stand together and hide the same positions
        each = len(hidden_ML) // len(rngs)
        counts = hidden_ML[::each].sum(1).tolist()
        pairs = zip(rngs, counts, strict=True)
        drawn = np.concatenate([rng.random((each * count, depth + 1)) for rng, count in pairs])
        self.options = options
        self.cfg = cfg
        self.draws_RX = torch.from_numpy(drawn).to(hidden_ML.device)
        self.log_R = torch.zeros(len(drawn), device=hidden_ML.device)

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
        temperature, top_p = at_depth(options.temperature, depth), at_depth(options.top_p, depth)
        codes_R = draw(logits_RV / temperature, at_depth(options.top_k, depth), top_p, self.draws_RX[:, depth])
        self.log_R += logits_RV.log_softmax(-1).gather(1, codes_R.unsqueeze(1)).squeeze(1)
        return codes_R.repeat(2) if options.guided else codes_R
