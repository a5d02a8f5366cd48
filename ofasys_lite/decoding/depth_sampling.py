"""How codes with depth are chosen: guidance within the pass, then temperature, top-k and top-p per depth.

Classifier-free guidance (arXiv 2207.12598) at every depth as in DnD-Transformer (arXiv 2410.01912): the conditional and
the unconditional row of a pair both go on with the code drawn from u + s (c - u).
Shapes: B live rows, R rows that write, P pairs or rows that draw, V codes, K depth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ofasys_lite.decoding.ranking import draw
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.model import moved

Number = TypeVar("Number", int, float)


def at_depth(value: Number | tuple[Number, ...], depth: int) -> Number:
    """The value of one depth (from 0): its own, or the one for all.

    Raises:
        CardError: There is none for this depth.
    """
    if not isinstance(value, tuple):
        return value
    if depth >= len(value):
        raise CardError(f"{len(value)} values for codes of more depths", help="give one value, or one for each depth")
    return value[depth]


def guided(logits_RV: Tensor, scale: float) -> Tensor:
    """(R / 2, V): u + s (c - u) of pairs, rows 2i (conditional) and 2i + 1 (unconditional)."""
    if len(logits_RV) % 2:
        raise ShapeError(f"guidance: {len(logits_RV)} live rows are no pairs")
    with_PV, without_PV = logits_RV[0::2], logits_RV[1::2]
    return torch.lerp(without_PV, with_PV, scale)


@dataclass(frozen=True, slots=True)
class RowChoice:
    """How one row, or one guided pair of rows, draws the codes of a position.

    Attributes:
        cfg: Guidance; 1 for a row without a partner.
        temperature: Divides the logits; 0 takes the best code. As `top_k` and `top_p`: one for all depths, or one each.
        top_k: Draw among the k best; 0 among all.
        top_p: Draw among the best that hold this probability.
        draws: A uniform number of [0, 1) per depth.
        given: The codes, where they are known already (infilling); empty where they are drawn.
        paired: It stands for two rows, though this position has no guidance.
    """

    cfg: float = 1.0
    temperature: float | tuple[float, ...] = 0.0
    top_k: int | tuple[int, ...] = 0
    top_p: float | tuple[float, ...] = 1.0
    draws: tuple[float, ...] = ()
    given: tuple[int, ...] = ()
    paired: bool = False

    @property
    def rows(self) -> int:
        """Live rows it stands for."""
        return 2 if self.paired or self.cfg != 1.0 else 1


#: Live rows, guidance, temperature, top-k and top-p of rows that are chosen for together.
_Alike = tuple[int, float, float | tuple[float, ...], int | tuple[int, ...], float | tuple[float, ...]]


class RowsChoice:
    """Chooses for rows of samples with settings of their own; give it to `CodeStep.write`.

    Args:
        rows: One per sample; a guided one stands for two neighbouring rows.

    Attributes:
        log_P: Sum of the log probabilities of each sample's codes, after the step.
    """

    def __init__(self, rows: Sequence[RowChoice], device: torch.device | str = "cpu") -> None:
        self.rows = list(rows)
        self.log_P = torch.zeros(len(self.rows), device=device)
        firsts, place = [], 0
        for row in self.rows:
            firsts.append(place)
            place += row.rows
        self.count = place
        owners = [i for i, row in enumerate(self.rows) for _ in range(row.rows)]
        self._owner_R = moved(torch.tensor(owners, dtype=torch.long), device)
        self._groups: dict[_Alike, tuple[list[int], Tensor, Tensor]] = {}
        alike: dict[_Alike, list[int]] = {}
        for i, row in enumerate(self.rows):
            alike.setdefault((row.rows, row.cfg, row.temperature, row.top_k, row.top_p), []).append(i)
        for settings, members in alike.items():
            live = [firsts[i] + j for i in members for j in range(self.rows[i].rows)]
            whole = live == list(range(place))
            self._groups[settings] = (
                members,
                moved(torch.tensor(members), device),
                moved(torch.tensor([] if whole else live, dtype=torch.long), device),
            )

    def __call__(self, depth: int, logits_RV: Tensor) -> Tensor:
        """(R,) codes of this depth."""
        if len(logits_RV) != self.count:
            raise ShapeError(f"{len(logits_RV)} rows write codes, {self.count} are chosen for")
        logits_RV = logits_RV.float()
        codes_P = torch.zeros(len(self.rows), dtype=torch.long, device=logits_RV.device)
        for (rows, cfg, temperature, top_k, top_p), (members, index, live) in self._groups.items():
            mine_RV = logits_RV if not len(live) else logits_RV.index_select(0, live)
            mine_PV = mine_RV if rows == 1 else guided(mine_RV, cfg)
            now = (at_depth(temperature, depth), at_depth(top_k, depth), at_depth(top_p, depth))
            chosen_P = self._choose(depth, mine_PV, members, *now)
            chosen_P = self._known(depth, chosen_P, members)
            log_P = mine_PV.log_softmax(-1).gather(1, chosen_P.unsqueeze(1)).squeeze(1)
            codes_P[index] = chosen_P
            self.log_P[index] += log_P
        return codes_P.index_select(0, self._owner_R)

    def _choose(
        self, depth: int, logits_PV: Tensor, members: list[int], temperature: float, top_k: int, top_p: float
    ) -> Tensor:
        if temperature == 0:
            return logits_PV.argmax(-1)
        draws = [self.rows[i].draws[depth] for i in members]
        draws_P = moved(torch.tensor(draws, dtype=torch.float64), logits_PV.device)
        return draw(logits_PV / temperature, top_k, top_p, draws_P)

    def _known(self, depth: int, chosen_P: Tensor, members: list[int]) -> Tensor:
        known = [(n, self.rows[i].given[depth]) for n, i in enumerate(members) if self.rows[i].given]
        if known:
            places, codes = zip(*known, strict=True)
            chosen_P[moved(torch.tensor(places), chosen_P.device)] = moved(torch.tensor(codes), chosen_P.device)
        return chosen_P
