"""What Lightning draws from: one item is one rank's share of one step."""

from __future__ import annotations

from collections.abc import Iterator

import lightning as L
import torch
from torch.utils.data import DataLoader, Sampler

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.layout.loader import Share, Steps
from ofasys_lite.layout.ready import Ready
from ofasys_lite.signals import shelter
from ofasys_lite.training.parcels import Parcel, parcelled
from ofasys_lite.training.settings import TrainSettings

__all__ = ["StepsModule"]

#: Length of the loader where only minutes end the run.
_ENDLESS = 10**9


class _From(Sampler[int]):
    """Step numbers from `first` to `end`; without end for Lightning, whose epochs would else end a resumed run."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.end))

    def __len__(self) -> int:
        return _ENDLESS


class StepsModule(L.LightningDataModule):
    """Serves one rank's shares from the step after the checkpoint's."""

    def __init__(self, ready: Ready, mixture: Mixture, settings: TrainSettings, first: int) -> None:
        super().__init__()
        self.ready = ready
        self.mixture = mixture
        self.settings = settings
        self.first = first

    def transfer_batch_to_device(self, batch: Share | Parcel, device: torch.device, dataloader_idx: int) -> Share:
        """The share, on the host: packs move one at a time, right before they are needed."""
        return batch.share() if isinstance(batch, Parcel) else batch

    def _on_cuda(self) -> bool:
        trainer = self.trainer
        return trainer is not None and trainer.strategy.root_device.type == "cuda"

    def train_dataloader(self) -> DataLoader[Share | Parcel]:
        """Item k is the share of step k, as a parcel where it comes from another process.

        Any number of workers gives the same items.
        """
        trainer = self.trainer
        rank, ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        budgets = (self.settings.source_budget, self.settings.target_budget)
        steps = Steps(self.ready.tasks, self.mixture, self.settings.seed, rank, ranks, budgets)
        end = self.settings.steps
        sampler = _From(self.first, _ENDLESS if end is None else end)
        return DataLoader(
            steps,  # type: ignore[arg-type]
            batch_size=None,
            sampler=sampler,
            num_workers=self.settings.workers,
            prefetch_factor=4 if self.settings.workers else None,
            worker_init_fn=_begin_worker,
            collate_fn=parcelled if self.settings.workers else _as_it_is,  # type: ignore[arg-type]
            pin_memory=self.settings.workers > 0 and self._on_cuda(),
        )


def _as_it_is(share: Share) -> Share:
    return share


def _begin_worker(worker: int) -> None:
    shelter()
    torch.set_num_threads(1)
