"""Token ids that are written all together, in a few rounds: how many there are, and the rounds themselves.

Mask-Predict (arXiv 1904.09324): the length is read from the source by a row of its own, several lengths are tried, and
each round writes anew the ids that the model was least sure of.
Shapes: N samples, M sequences of one length L, B lengths, D width, W ids that are legal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Adapter, Begin, Encoded, Reading, Shared
from ofasys_lite.adapters.passes import Ids, Sources, ToWrite, Written
from ofasys_lite.decoding.rounds_of_ids import Filling, rounds_of_ids
from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import Work
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.plan.language import LONGEST
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

_START, _MASK = CONTROL_IDS["start"], CONTROL_IDS["mask"]


class RoundsAdapter(Adapter):
    """A head for the number of ids, up to LONGEST; the ids themselves are read and scored as all others are."""

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.length = nn.Linear(shared.width, LONGEST)

    def objectives(self) -> Mapping[str, Begin]:
        """`length`: which number of ids a source asks for."""
        return {"length": self._length}

    def work(self, parts: Sequence[Part]) -> tuple[Work, Work]:
        """Nothing is embedded; of a row that asks, its head."""
        return Work(), Work(6.0 * self.width * LONGEST, self.width + LONGEST)

    def _length(self, rows: LossRows, encoded: Encoded) -> Reading:
        def loss(states_TD: Tensor) -> Tensor:
            logits_UB = self.length(states_TD.index_select(0, rows.rows_R)).float()
            return F.cross_entropy(logits_UB, rows.arrays["labels"] - 1, reduction="none")

        return Reading(loss)

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Ids, closed by `<close>`: of the likeliest lengths (`lengths`) the one whose ids the model is surest of.

        How likely the length is counts, too (mean log probability of the ids + log probability of their number): where
        each id is sure by itself, a text without its end is as sure as the whole.
        """
        found: list[list[tuple[float, Filling]]] = [[] for _ in asked]
        lengths = self._lengths(sources, asked)
        for length in sorted({each for own in lengths for each in own}):
            members = [i for i, own in enumerate(lengths) if length in own]
            filled = self._filled(sources, [_cut(asked[i], length) for i in members])
            for i, filling in zip(members, filled, strict=True):
                found[i].append((filling.score + lengths[i][length], filling))
        best = [max(own, key=lambda one: one[0])[1] for own in found]
        close = int(str(_about(asked[0])["close"]))
        return [Written(np.array([*filling.ids, close]), filling.score) for filling in best]

    def _lengths(self, sources: Sources, asked: Sequence[ToWrite]) -> list[dict[int, float]]:
        """The likeliest lengths of each that are allowed, and the log of their probability."""
        about, most = _about(asked[0]), len(asked[0].what.positions)
        least = int(str(about["least"]))
        ids_N1 = torch.full((len(asked), 1), _START, device=sources.states_SD.device)
        states_N1D = sources.passes([_cut(each, 1) for each in asked])(_ids(sources).lookup(ids_N1))
        log_NB = self.length(states_N1D[:, 0]).float()[:, least - 1 : most].log_softmax(-1)
        best = log_NB.topk(min(asked[0].options.lengths, log_NB.shape[1]))
        pairs = zip((best.indices + least).tolist(), best.values.tolist(), strict=True)
        return [dict(zip(numbers, logs, strict=True)) for numbers, logs in pairs]

    def _filled(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Filling]:
        """Ids of one length each."""
        options, about = asked[0].options, _about(asked[0])
        device = sources.states_SD.device
        legal_W = torch.tensor(about["legal"], device=device)
        ids, own = _ids(sources), sources.passes(asked)
        emptied = sources.passes(asked, emptied=True) if options.guided else None

        def scores(ids_ML: Tensor, share: float) -> Tensor:
            x_MLD = ids.lookup(ids_ML)
            logits_MLW = _scores(ids, own(x_MLD), legal_W)
            cfg = options.cfg_at(share)
            if emptied is None or cfg == 1:
                return logits_MLW
            return torch.lerp(_scores(ids, emptied(x_MLD), legal_W), logits_MLW, cfg)

        count = len(asked[0].what.positions)
        return rounds_of_ids(scores, legal_W, len(asked), count, options.steps, _MASK)


def _ids(sources: Sources) -> Ids:
    """How ids are read and scored."""
    if sources.ids is None:
        raise ShapeError("ids are to be written, and nobody says how they are read")
    return sources.ids


def _scores(ids: Ids, states_MLD: Tensor, legal_W: Tensor) -> Tensor:
    """(M, L, W) scores of the legal ids."""
    scored = ids.scores(states_MLD.flatten(0, 1), legal_W).float()
    return scored.view(*states_MLD.shape[:2], -1)


def _about(asked: ToWrite) -> Mapping[str, Any]:
    """What the constraint says beside the positions."""
    if not isinstance(asked.what, Whole):
        raise ShapeError("the adapter of token ids in rounds is asked for codes")
    return dict(asked.what.about)


def _cut(asked: ToWrite, length: int) -> ToWrite:
    """The same, of the first rows alone."""
    return replace(asked, what=replace(asked.what, positions=asked.what.positions[:length]))
