"""Judges of whole pictures in codes, and what they see: in training real or wrong codes, in decoding those written.

Wrong codes (UFC-BERT, arXiv 2105.14211): those of another picture of the pack, and those that the model itself fills
in, in a pass of the decoder without gradient over these pictures alone.
Shapes: M sequences of L positions, J judged pieces, N pieces of a pack, K depth, D width, S source rows, R hidden rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.adapters.base import Encoded
from ofasys_lite.adapters.depth_heads import Choose, DepthWriter
from ofasys_lite.adapters.passes import Passes
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Part
from ofasys_lite.model import moved
from ofasys_lite.preprocess.judged import OTHER, OWN, VERDICTS


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


class Coder(Protocol):
    """What is asked of an adapter of codes; `CodesAdapter` says more."""

    def codes(self, part: Part) -> tuple[Tensor, Tensor]:
        """((N, L, K) codes to be learned, (N, L, K) codes to be fed)."""

    def masked(self, codes_NLK: Tensor, hidden_NL: Tensor) -> Tensor:
        """(N, L, D): rows that read their own codes, or the mask where they are hidden."""

    def writer(self, rows_R: Tensor | None, choose: Choose) -> DepthWriter:
        """A step in which live rows write the codes of one position each."""

    def show(self, part: Part, pieces_J: Tensor, codes_JLK: Tensor) -> None:
        """Has the next `embed` of the part show these codes."""

    def verdicts(self, part: Part, states_JLD: Tensor, kinds: Sequence[int]) -> Tensor:
        """(U,) losses of the judges on the pieces that were shown."""


class Reader:
    """Whole pieces of codes, written and read.

    Args:
        coder: Embeds, writes and judges the codes.
        passes: The decoder over these pieces.
    """

    def __init__(self, coder: Coder, passes: Passes) -> None:
        self.coder, self.passes = coder, passes

    def write(self, codes_MLK: Tensor, hidden_ML: Tensor, rows_R: Tensor, choose: Choose) -> Tensor:
        """(R, K) codes of the hidden positions, `rows_R` of all sequences laid end to end, drawn by `choose`."""
        writer = self.coder.writer(rows_R, choose)
        self.passes(self.coder.masked(codes_MLK, hidden_ML), writer.taps)
        return writer.codes()

    def states(self, codes_MLK: Tensor) -> Tensor:
        """(M, L, D): what the decoder makes of pieces that are shown whole."""
        return self.passes(self.coder.masked(codes_MLK, torch.zeros_like(codes_MLK[..., 0], dtype=torch.bool)))


def show_judged(coder: Coder, rows: LossRows, encoded: Encoded) -> None:
    """Draws the codes that the judged pieces of a pack show, and hands them to `coder` before it embeds the pack.

    Draws follow torch's generator, which training seeds by step, pack and rank.

    Args:
        encoded: The pack, with the body that fills in what the model itself would write.
    """
    part, batch = encoded.batch.part_of(rows), encoded.batch
    codes_NLK = coder.codes(part)[0]
    hidden_NL1 = part.arrays["hidden"].view(*codes_NLK.shape[:2], 1)
    pieces_J = rows.arrays["pieces"]
    codes_JLK = codes_NLK[pieces_J]
    for kind in (OTHER, OWN):
        chosen = np.flatnonzero(rows.host["kinds"] == kind)
        if not len(chosen):
            continue
        at_X = moved(chosen, codes_JLK.device)
        pieces_X = pieces_J[at_X]
        if kind == OTHER:
            wrong_XLK = codes_NLK[_others(pieces_X, len(codes_NLK))]
        else:
            spans = _spans(batch, rows.host["samples"][chosen].tolist())
            positions_XL3 = batch.target.positions_S3[rows.rows_R.view(len(pieces_J), -1)[at_X]]
            passes = Passes(encoded.body, encoded.source_SD.detach(), batch.source, spans, positions_XL3)
            reader = Reader(coder, passes)
            hidden_XL = hidden_NL1[pieces_X].squeeze(-1)
            wrong_XLK = _filled(reader, codes_JLK[at_X], hidden_XL, rows.arrays["filled"])
        shown_XLK = torch.where(hidden_NL1[pieces_X], wrong_XLK, codes_JLK[at_X])
        codes_JLK = codes_JLK.index_copy(0, at_X, shown_XLK)
    coder.show(part, pieces_J, codes_JLK)


def verdict_losses(coder: Coder, rows: LossRows, encoded: Encoded, states_TD: Tensor) -> Tensor:
    """(U,) losses of the verdicts on the pieces that `show_judged` drew codes for, after the decoder read the pack."""
    states_JLD = states_TD.index_select(0, rows.rows_R).view(len(rows.counts), -1, states_TD.shape[-1])
    return coder.verdicts(encoded.batch.part_of(rows), states_JLD, rows.host["kinds"].tolist())


def _others(pieces_X: Tensor, count: int) -> Tensor:
    """For each piece of a pack of `count`, another one of it; itself where it is alone."""
    if count == 1:
        return pieces_X
    return (pieces_X + 1 + torch.randint(count - 1, pieces_X.shape, device=pieces_X.device)) % count


def _spans(batch: Batch, samples: Sequence[int]) -> list[tuple[int, int]]:
    """(first row, rows) of the source of some samples of a pack."""
    counts = [count for _, count in batch.cross]
    first = list(accumulate(counts, initial=0))
    return [(first[n], counts[n]) for n in samples]


@torch.no_grad()
def _filled(reader: Reader, codes_XLK: Tensor, hidden_XL: Tensor, rows_R: Tensor) -> Tensor:
    """(X, L, K): the codes with the hidden ones drawn as the model now writes them, all at once."""
    written_RK = reader.write(
        codes_XLK, hidden_XL, rows_R, lambda _, logits: torch.multinomial(logits.float().softmax(-1), 1).squeeze(1)
    )
    return codes_XLK.flatten(0, 1).index_copy(0, rows_R, written_RK).view(codes_XLK.shape)
