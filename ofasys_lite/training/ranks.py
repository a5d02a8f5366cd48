"""What the ranks of a run tell each other beside gradients: small sums between hosts, which never wait for a device."""

from __future__ import annotations

import datetime
import os
from typing import Any

import lightning as L
import numpy as np
import numpy.typing as npt
import torch

__all__ = ["Ranks", "launched"]

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

    def code(self, code: int) -> int:
        """The exit code of this rank where all ranks end in order: 0 on those that Lightning's launcher watches."""
        return 0 if self._launched else code


def launched() -> bool:
    """True in a process that Lightning's launcher started beside rank 0, after rank 0 had everything prepared."""
    # torchrun numbers its ranks in RANK, srun in SLURM_PROCID
    own = "RANK" not in os.environ and os.environ.get("SLURM_PROCID", "0") == "0"
    return own and os.environ.get("LOCAL_RANK", "0") != "0"
