"""What the ranks of a run tell each other beside gradients: small sums between hosts, which never wait for a device."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch

from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.errors import DataError
from ofasys_lite.layout.learned import LossKey
from ofasys_lite.layout.pack import Batch

#: A rank may wait as long as the first one validates; one that dies is noticed by its closed connections.
_PATIENCE = datetime.timedelta(days=7)


class Ranks:
    """The ranks of a run; all of them make it, at the same place.

    Args:
        trainer: Lightning's trainer, with its process group; None for a run of one.
    """

    def __init__(self, trainer: L.Trainer | None = None) -> None:
        self.number = 0 if trainer is None else trainer.global_rank
        self.count = 1 if trainer is None else trainer.world_size
        # a rank that ends with anything but 0 has the launcher kill the first one, which may still be writing
        self._launched = self.number > 0 and launched()
        self._group: Any = None
        if self.count > 1:
            self._group = torch.distributed.new_group(backend="gloo", timeout=_PATIENCE)

    def total(self, values: npt.ArrayLike) -> npt.NDArray[Any]:
        """The sum of equally long rows of numbers over all ranks."""
        own = np.asarray(values)
        if self.count == 1:
            return own
        summed = torch.from_numpy(own.copy())
        torch.distributed.all_reduce(summed, group=self._group)
        return summed.numpy()

    def agree(self, facts: Mapping[str, Any]) -> None:
        """Returns where all ranks are about to train the same.

        Args:
            facts: What decides it, in plain values.

        Raises:
            DataError: They are not, on all ranks alike.
        """
        text = json.dumps(facts, sort_keys=True, default=str)
        own = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=3).digest(), "little")
        total, squares = (int(number) for number in self.total([own, own * own]))
        if self.count * squares != total * total:  # equal numbers, and only they, have no variance
            raise DataError(
                "the ranks do not read the same data: their rows, vocabularies or settings differ",
                help="give all machines the same files and the same command",
            )

    def gathered(self, own: Any) -> list[Any]:
        """What each rank has, rank by rank: anything that can be pickled, of any size."""
        if self.count == 1:
            return [own]
        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, own, group=self._group)
        return found

    def code(self, code: int) -> int:
        """The exit code of this rank where all ranks end in order: 0 on those that Lightning's launcher watches."""
        return 0 if self._launched else code


def launched() -> bool:
    """True in a process that Lightning's launcher started beside rank 0, after rank 0 had everything prepared."""
    # torchrun numbers its ranks in RANK, srun in SLURM_PROCID
    own = "RANK" not in os.environ and os.environ.get("SLURM_PROCID", "0") == "0"
    return own and os.environ.get("LOCAL_RANK", "0") != "0"


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
