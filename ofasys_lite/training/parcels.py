"""How a share travels from a loader process: its arrays in one block of shared memory, not copied through a pipe."""

from __future__ import annotations

import os
import pickle
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.layout.loader import Share

__all__ = ["Parcel", "parcelled"]

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
