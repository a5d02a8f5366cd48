"""numpy packs -> tensors on a device."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

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

    return replace(
        batch,
        source=stream(batch.source),
        target=stream(batch.target),
        loss_rows_L=_tensor(batch.loss_rows_L, device),
        labels_L=_tensor(batch.labels_L, device),
        codes=tuple(replace(c, rows=_tensor(c.rows, device), picked=_tensor(c.picked, device)) for c in batch.codes),
        judged=tuple(
            replace(j, **{name: _tensor(getattr(j, name), device) for name in ("pieces", "rows", "filled")})
            for j in batch.judged
        ),
        side=tuple(replace(s, rows=_tensor(s.rows, device)) for s in batch.side),
    )
