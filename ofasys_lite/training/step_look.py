"""A look at all packs of a step before its first backward pass, for the objectives that ask for one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.layout.learned import LossKey
from ofasys_lite.layout.pack import Batch
from ofasys_lite.training.ranks import Ranks

#: (pack, its number) -> values (U, F) by objective
Look = Callable[[Batch, int], Mapping[LossKey, torch.Tensor]]


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an objective saw of one pack: values (U, F), terms of the run, arrays of the host."""

    values_UF: torch.Tensor
    terms_U: npt.NDArray[np.int64]
    host: Mapping[str, npt.NDArray[Any]]


def asking(packs: Iterable[Batch]) -> int:
    """How many loss values of the packs depend on the whole step."""
    return sum(len(rows.terms_U) for pack in packs for rows in pack.losses if rows.objective.whole_step)


def looked(
    packs: Sequence[Batch], look: Look, index: Callable[[Batch], npt.NDArray[np.int64]], ranks: Ranks
) -> tuple[dict[LossKey, WholeStep], ...]:
    """Per pack of this rank, what its objectives are to know of the step. All ranks call it, or none.

    Args:
        look: `Network.look` of a pack, by its number, with the random state that its forward pass will have.
        index: Numbers in the run of a pack's terms.
    """
    own = [_seen(pack, look(pack, number), index(pack)) if asking([pack]) else {} for number, pack in enumerate(packs)]
    by_rank = ranks.gathered(own)
    every = [seen for of_rank in by_rank for seen in of_rank]
    before = sum(len(of_rank) for of_rank in by_rank[: ranks.number])
    return tuple({key: _step(every, before + number, key) for key in seen} for number, seen in enumerate(own))


def _seen(pack: Batch, values: Mapping[LossKey, torch.Tensor], index: npt.NDArray[np.int64]) -> dict[LossKey, _Seen]:
    rows = {each.key: each for each in pack.losses}
    return {key: _Seen(v.detach().cpu(), index[rows[key].terms_U], rows[key].host) for key, v in values.items()}


def _step(every: Sequence[Mapping[LossKey, _Seen]], number: int, key: LossKey) -> WholeStep:
    """The step as pack `number` of all packs sees it: packs in their order, rank by rank."""
    held = [seen[key] for seen in every if key in seen]
    first = sum(len(seen[key].terms_U) for seen in every[:number] if key in seen)
    host = {name: np.concatenate([each.host[name] for each in held]) for name in held[0].host}
    return WholeStep(np.concatenate([s.terms_U for s in held]), host, first, torch.cat([s.values_UF for s in held]))
