"""What Lightning draws from: one item is one rank's share of one step."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.stream_draws import States
from ofasys_lite.errors import CardError
from ofasys_lite.layout.loader import Share, Steps
from ofasys_lite.layout.ready import Ready, ReadyTask
from ofasys_lite.signals import shelter
from ofasys_lite.training.ranks import launched
from ofasys_lite.training.settings import TrainSettings

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
    """Serves one rank's shares from the step after the checkpoint's.

    Args:
        streams: Where the checkpoint's streams stand.
    """

    def __init__(
        self, ready: Ready, mixture: Mixture, settings: TrainSettings, first: int, streams: States | None = None
    ) -> None:
        super().__init__()
        self.streams = streams
        self.ready = ready
        self.mixture = mixture
        self.settings = settings
        self.first = first

    def train_dataloader(self) -> DataLoader[Share | Parcel]:
        """Item k is the share of step k, as a parcel where it comes from another process.

        Any number of workers gives the same items. What can be read only once is read by this process.
        """
        trainer = self.trainer
        rank, ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        cuda = trainer is not None and trainer.strategy.root_device.type == "cuda"
        budgets = (self.settings.source_budget, self.settings.target_budget)
        steps = Steps(self.ready.tasks, self.mixture, self.settings.seed, rank, ranks, budgets, self.streams)
        workers = 0 if read_once(self.ready.tasks, self.settings) else self.settings.workers
        end = self.settings.steps
        sampler = _From(self.first, _ENDLESS if end is None else end)
        return DataLoader(
            steps,  # type: ignore[arg-type]
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_begin_worker,
            collate_fn=parcelled if workers else None,  # type: ignore[arg-type]
            pin_memory=workers > 0 and cuda,
        )


def unpacked(item: Share | Parcel) -> Share:
    """The share of an item, on the host: packs move to the device one at a time, right before they are needed."""
    return item.share() if isinstance(item, Parcel) else item


def read_once(tasks: Sequence[ReadyTask], settings: TrainSettings) -> tuple[str, ...]:
    """The tasks whose streams can be read once only, by one process; CardError where several ranks would read them."""
    found = {task.card.name: task.first.stream for task in tasks if task.first is not None and task.first.stream.once}
    if found and (settings.devices != 1 or settings.nodes != 1 or launched()):
        task, stream = next(iter(found.items()))
        raise CardError(
            f"task {task}: {stream.name} can be read by one process only, and several train",
            help="write its rows to files first, or train on one device: trainer.devices=1",
        )
    return tuple(found)


def _begin_worker(worker: int) -> None:
    shelter()
    torch.set_num_threads(1)


#: Where Linux keeps shared memory: small in containers that were started without `--shm-size`.
_SHARED = "/dev/shm"
#: Parcels of the same size for which there must be room.
_IN_FLIGHT = 64
#: Arrays begin at multiples of so many bytes.
_ALIGNED = 64


def parcelled(share: Share) -> Parcel | Share:
    """The share as a parcel; as it is, to go through the pipe, where shared memory is about to run out."""
    parcel = Parcel.of(share)
    try:
        found = os.statvfs(_SHARED)
    except OSError:
        return parcel  # another system, which keeps it elsewhere
    return parcel if found.f_bavail * found.f_frsize > _IN_FLIGHT * parcel.block.numel() else share


@dataclass(frozen=True, slots=True)
class Parcel:
    """A share whose arrays lie in one tensor, which torch hands to another process without a copy.

    Attributes:
        frame: Pickle of the share without what its arrays hold.
        spans: (first byte, size) of each array, in the order in which the pickle asks for them.
        block: uint8, the arrays one behind another.
    """

    frame: bytes
    spans: tuple[tuple[int, int], ...]
    block: Tensor

    @staticmethod
    def of(share: Share) -> Parcel:
        """The share, ready to travel."""
        held: list[pickle.PickleBuffer] = []
        frame = pickle.dumps(share, protocol=5, buffer_callback=held.append)
        views = [each.raw() for each in held]
        sizes = [-(-view.nbytes // _ALIGNED) * _ALIGNED for view in views]
        starts = [0, *accumulate(sizes)]
        block = torch.empty(starts[-1], dtype=torch.uint8)
        bytes_of = block.numpy()
        for start, view in zip(starts, views, strict=False):
            bytes_of[start : start + view.nbytes] = np.frombuffer(view, np.uint8)
        return Parcel(frame, tuple((s, v.nbytes) for s, v in zip(starts, views, strict=False)), block)

    def pin_memory(self) -> Parcel:
        """The same in page-locked memory, from which a GPU takes it without the host's waiting; torch calls this."""
        return Parcel(self.frame, self.spans, self.block.pin_memory())

    def share(self) -> Share:
        """The share; its arrays are views of the block."""
        held = self.block.numpy().data
        found: Share = pickle.loads(self.frame, buffers=[held[start : start + size] for start, size in self.spans])
        return found
