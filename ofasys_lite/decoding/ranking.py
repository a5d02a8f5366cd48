"""Scores of legal ids only: log probabilities renormalised over what each row may say.

Shapes: B live rows, R rows scored together, W ids scored (V for the whole vocabulary), D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ofasys_lite.decoding.allowed import Allowed
from ofasys_lite.decoding.session import Session
from ofasys_lite.model import moved

Ids = npt.NDArray[np.int64]

#: Rows with at most this many legal ids are scored on the union of their ids, not on the whole vocabulary.
NARROW = 1024
#: Unions kept.
_UNIONS = 64
_BLOCK = 64
#: From so many columns on a single best is looked for in blocks: `max` over a whole row takes three times as long.
_WIDE = 4096
_ILLEGAL = float("-inf")


@dataclass(frozen=True, slots=True)
class Asked:
    """One live row whose next id is a choice.

    Attributes:
        row: Index among the live rows.
        legal: What it may say.
        banned: Ids taken out of it (repeated n-grams).
        best: How many of the best ids are wanted; 0 asks for a draw.
        temperature: Divides the scores of a draw.
        top_k: Draw among the k best; 0 among all.
        top_p: Draw among the best that hold this probability.
        draw: Uniform number of [0, 1) that decides the draw.
        over_all: Log probabilities are over the whole vocabulary, not over what is legal.
    """

    row: int
    legal: Allowed
    banned: tuple[int, ...] = ()
    best: int = 1
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    draw: float = 0.0
    over_all: bool = False


#: Per asked row: (id, log probability) pairs, best first; one pair for a draw.
Ranked = list[list[tuple[int, float]]]


@dataclass(frozen=True, slots=True)
class _Union:
    """Ids scored together, ascending, and which of them each set holds."""

    ids: Ids
    tensor: Tensor
    masks: dict[Allowed, npt.NDArray[np.bool_]]


class Ranker:
    """Ranks the next ids of live rows; keeps what is illegal on the device."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._illegal: dict[Allowed, Tensor] = {}
        self._unions: dict[tuple[Allowed, ...], _Union] = {}

    def rank(self, states_BD: Tensor, asked: Sequence[Asked]) -> Ranked:
        """The wanted ids of every asked row, scored with as few ids of the vocabulary as is worth it."""
        narrow = [i for i, a in enumerate(asked) if a.legal.count <= NARROW and not a.over_all]
        if not narrow or len(narrow) == len(asked):
            return self._group(states_BD, asked, not narrow)
        wide = [i for i, a in enumerate(asked) if a.legal.count > NARROW or a.over_all]
        found: Ranked = [[] for _ in asked]
        for places, whole in ((narrow, False), (wide, True)):
            if places:
                group = [asked[i] for i in places]
                for place, pairs in zip(places, self._group(states_BD, group, whole), strict=True):
                    found[place] = pairs
        return found

    def _group(self, states_BD: Tensor, group: Sequence[Asked], whole: bool) -> Ranked:
        rows = [a.row for a in group]
        device = states_BD.device
        states_RD, sums_R1 = states_BD, None
        if rows != list(range(states_BD.shape[0])):
            states_RD = states_BD.index_select(0, moved(torch.tensor(rows), device))
        if whole:
            scores_RW, ids = self.session.scores(states_RD, None).float(), None
            if any(a.over_all for a in group):
                all_R1 = moved(torch.tensor([[a.over_all] for a in group]), device)
                sums_R1 = torch.where(all_R1, scores_RW.logsumexp(-1, keepdim=True), float("nan"))
            self._forbid(scores_RW, group)
        else:
            distinct = tuple(dict.fromkeys([a.legal for a in group]))
            union = self._unions.get(distinct) or self._union(distinct, device)
            scores_RW, ids = self.session.scores(states_RD, union.tensor).float(), union.ids
            if len(union.masks) > 1:
                legal_RW = moved(np.stack([union.masks[a.legal] for a in group]), device)
                scores_RW.masked_fill_(~legal_RW, _ILLEGAL)
        if any(a.banned for a in group):
            scores_RW = _without_banned(scores_RW, group, ids)
        return _choose(scores_RW, group, ids, sums_R1)

    def _union(self, distinct: tuple[Allowed, ...], device: torch.device) -> _Union:
        """All ids of `distinct`; the same tensor object for the same sets, so that a session can keep its rows."""
        ids = distinct[0].ids if len(distinct) == 1 else np.unique(np.concatenate([d.ids for d in distinct]))
        masks = {d: np.isin(ids, d.ids, assume_unique=True) for d in distinct}
        if len(self._unions) >= _UNIONS:
            self._unions.clear()
        found = self._unions[distinct] = _Union(ids, moved(torch.tensor(ids), device), masks)
        return found

    def _forbid(self, scores_RV: Tensor, group: Sequence[Asked]) -> None:
        """Puts -inf at illegal ids: only those are touched, row group by row group."""
        by_legal: dict[Allowed, list[int]] = {}
        for row, a in enumerate(group):
            by_legal.setdefault(a.legal, []).append(row)
        for legal, rows in by_legal.items():
            illegal = self._illegal.get(legal)
            if illegal is None:
                illegal = torch.from_numpy(np.flatnonzero(~legal.mask(scores_RV.shape[1])))
                illegal = moved(illegal, scores_RV.device)
                self._illegal[legal] = illegal
            if len(rows) == len(group):
                scores_RV.index_fill_(1, illegal, _ILLEGAL)
            else:
                index = moved(torch.tensor(rows), scores_RV.device)
                scores_RV[index.unsqueeze(1), illegal] = _ILLEGAL


def _without_banned(scores_RW: Tensor, group: Sequence[Asked], ids: Ids | None) -> Tensor:
    rows, columns = list[int](), list[int]()
    for row, a in enumerate(group):
        for id in a.banned:
            rows.append(row)
            columns.append(id if ids is None else int(np.searchsorted(ids, id)))
    index = tuple(moved(torch.tensor(x), scores_RW.device) for x in (rows, columns))
    return scores_RW.index_put(index, scores_RW.new_full((), _ILLEGAL))


def _choose(scores_RW: Tensor, group: Sequence[Asked], ids: Ids | None, sums_R1: Tensor | None) -> Ranked:
    """Best ids of ranked rows in one top-k, draws in one go for rows with equal settings.

    Args:
        sums_R1: Logarithms of what the probabilities of a row sum to, NaN where they sum over what is legal.
    """
    log_RW = scores_RW.log_softmax(-1)
    if sums_R1 is not None:
        log_RW = torch.where(sums_R1.isnan(), log_RW, scores_RW - sums_R1)
    wanted = min(max(a.best for a in group), log_RW.shape[1])
    found: Ranked = [[] for _ in group]
    if wanted:
        narrow = wanted == 1 and log_RW.shape[1] < _WIDE
        top = log_RW.max(-1, keepdim=True) if narrow else _top(log_RW, wanted)
        values, columns = top[0].tolist(), top[1].tolist()
        for row, a in enumerate(group):
            count = min(a.best, a.legal.count - len(a.banned))
            found[row] = list(zip(columns[row][:count], values[row][:count], strict=True))
    alike: dict[tuple[float, int, float], list[int]] = {}
    for row, a in enumerate(group):
        if a.best == 0:
            alike.setdefault((a.temperature, a.top_k, a.top_p), []).append(row)
    for (temperature, top_k, top_p), rows in alike.items():
        index = moved(torch.tensor(rows), scores_RW.device)
        draws = moved(torch.tensor([group[r].draw for r in rows], dtype=torch.float64), scores_RW.device)
        columns_R = draw(scores_RW[index] / temperature, top_k, top_p, draws)
        for row, column, value in zip(rows, columns_R.tolist(), log_RW[index, columns_R].tolist(), strict=True):
            found[row] = [(column, value)]
    return found if ids is None else [[(int(ids[c]), v) for c, v in pairs] for pairs in found]


def _top(x_RW: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row and their columns: they stand in the k blocks with the largest maxima.

    Of equal ones the single best is the first.
    """
    width, one = x_RW.shape[1], k == 1
    blocks = width // _BLOCK
    if blocks <= 4 * k:
        values, columns = x_RW.max(-1, keepdim=True) if one else x_RW.topk(k, dim=-1)
        return values, columns
    whole = blocks * _BLOCK
    most_RX = x_RW[:, :whole].reshape(-1, blocks, _BLOCK).amax(-1)
    best_RK = (most_RX.max(-1, keepdim=True) if one else most_RX.topk(k, dim=-1)).indices
    inside = torch.arange(_BLOCK, device=x_RW.device)
    columns_RX = (best_RK.unsqueeze(-1) * _BLOCK + inside).flatten(1)
    rest_RX = torch.arange(whole, width, device=x_RW.device).expand(len(x_RW), -1)
    columns_RX = torch.cat([columns_RX, rest_RX], dim=1)
    values_RX = x_RW.gather(1, columns_RX)
    values, places = values_RX.max(-1, keepdim=True) if one else values_RX.topk(k, dim=-1)
    return values, columns_RX.gather(1, places)


def draw(scores_RW: Tensor, top_k: int, top_p: float, draws_R: Tensor) -> Tensor:
    """The column that each row's draw falls on.

    Without top-k and top-p the columns stand in order of their ids, else in order of falling probability, so that what
    is kept is a prefix. Sums are in float64; ids that are not legal hold nothing.
    """
    order_RW = None
    if top_k or top_p < 1.0:
        kept = min(top_k or scores_RW.shape[1], scores_RW.shape[1])
        scores_RW, order_RW = scores_RW.topk(kept, dim=-1)
    share_RW = scores_RW.double().softmax(-1)
    sums_RW = share_RW.cumsum(-1)
    if top_p < 1.0:
        # the id that crosses top_p is kept (nucleus sampling)
        sums_RW = share_RW.masked_fill(sums_RW - share_RW >= top_p, 0.0).cumsum(-1)
    total_R = sums_RW[:, -1]
    # below the total even when rounded: behind it stand only ids that hold nothing
    target_R = torch.minimum(draws_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
    places_R = torch.searchsorted(sums_RW, target_R.unsqueeze(1), right=True)
    return (places_R if order_RW is None else order_RW.gather(1, places_R)).squeeze(1)
