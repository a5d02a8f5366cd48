"""Codes that are written together, in rounds (mask-predict), as their adapter does it.

Shapes: N samples of equal grid, M candidates of these, L positions, K depth, R hidden rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from ofasys_lite.adapters.judging import Coder, Judges, Reader
from ofasys_lite.adapters.passes import Passes, Sources, ToWrite, Written
from ofasys_lite.decoding.mask_predict import Choose, mask_predict
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.plan.constraints import Codes


class JudgedCoder(Coder, Protocol):
    """An adapter of codes that may have judges."""

    judges: Judges | None


class Together:
    """An adapter of codes as mask-predict sees it: whole pieces in one pass, some of their positions hidden."""

    def __init__(self, coder: JudgedCoder, sources: Sources, asked: Sequence[ToWrite]) -> None:
        self.coder, self.sources = coder, sources
        self.spans = [sources.spans(each.sequences) for each in asked]
        self.positions_1L3 = torch.tensor(asked[0].what.positions, device=sources.states_SD.device).unsqueeze(0)

    def write(self, samples_M: Tensor, codes_MLK: Tensor, hidden_ML: Tensor, choose: Choose) -> Tensor:
        """(R, K) codes of the hidden positions; `choose` draws for all with their sources, then for the emptied."""
        repeats = len(self.spans[0])
        reader = self._reader(samples_M, repeats)
        hidden_ML = hidden_ML.repeat(repeats, 1)
        rows_R = hidden_ML.flatten().nonzero().squeeze(1)
        written = reader.write(codes_MLK.repeat(repeats, 1, 1), hidden_ML, rows_R, choose)
        return written[: len(written) // repeats]

    def judge(self, samples_M: Tensor, codes_MLK: Tensor, written_ML: Tensor) -> Tensor:
        """(M,) log of the probability that a filling belongs to its source and is real."""
        if self.coder.judges is None:
            raise CardError(
                "candidates, patience: this line was learned without judges",
                help="train it with codec=dnd(...,judges=0.1), or leave them out",
            )
        return self.coder.judges.scores(self._reader(samples_M, 1).states(codes_MLK), written_ML)

    def _reader(self, samples_M: Tensor, repeats: int) -> Reader:
        asked = samples_M.tolist()
        spans = [self.spans[n][k] for k in range(repeats) for n in asked]
        positions_ML3 = self.positions_1L3.expand(len(spans), -1, -1)
        sources = self.sources
        return Reader(self.coder, Passes(sources.body, sources.states_SD, sources.stream, spans, positions_ML3))


def in_rounds(coder: JudgedCoder, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
    """Elements of samples whose codes are written by mask-predict, all with one grid and equal options."""
    device = sources.states_SD.device
    codes = [each.what for each in asked if isinstance(each.what, Codes)]
    if len(codes) < len(asked):
        raise ShapeError("an adapter of codes is asked for rows that are no codes")
    options = asked[0].options
    given = [c.given or (-1,) * len(c.positions) for c in codes]
    codes_NLK = torch.tensor(
        [[c.unpack(max(0, e)) for e in g] for c, g in zip(codes, given, strict=True)], device=device
    )
    hidden_NL = torch.tensor([[e < 0 for e in g] for g in given], device=device)
    together = Together(coder, sources, asked)
    judge = together.judge if options.judged else None
    filled = mask_predict(together.write, codes_NLK, hidden_NL, options, [each.rng() for each in asked], judge)
    elements = [tuple(c.pack(x) for x in rows) for c, rows in zip(codes, filled.codes_NLK.tolist(), strict=True)]
    return [Written(ids, score) for ids, score in zip(elements, filled.score_N.tolist(), strict=True)]
