"""numpy packs -> tensors on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Part, Stream
from ofasys_lite.model import moved

__all__ = ["to_device"]


def _tensor(array: Any, device: torch.device) -> Any:
    if isinstance(array, np.ndarray):
        return moved(torch.from_numpy(array), device)
    return moved(array, device) if isinstance(array, torch.Tensor) else array


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The pack with tensors on `device`; lengths and terms stay plain ints on the host."""

    def part(p: Part) -> Part:
        return replace(p, rows_P=_tensor(p.rows_P, device), arrays={k: _tensor(v, device) for k, v in p.arrays.items()})

    def stream(s: Stream) -> Stream:
        return replace(s, positions_S3=_tensor(s.positions_S3, device), parts=tuple(part(p) for p in s.parts))

    def learned(rows: LossRows) -> LossRows:
        arrays = {name: _tensor(array, device) for name, array in rows.arrays.items()}
        return replace(rows, rows_R=_tensor(rows.rows_R, device), arrays=arrays)

    return replace(
        batch,
        source=stream(batch.source),
        target=stream(batch.target),
        losses=tuple(learned(rows) for rows in batch.losses),
    )
