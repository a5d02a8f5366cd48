"""numpy packs -> tensors on a device."""

from __future__ import annotations

from dataclasses import replace

import torch

from ofasys_lite.layout.pack import Batch
from ofasys_lite.model import moved


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The pack with tensors on `device`; lengths and terms stay plain ints on the host."""
    source, target = (
        replace(
            stream,
            positions_S3=moved(stream.positions_S3, device),
            parts=tuple(
                replace(
                    part,
                    rows_P=moved(part.rows_P, device),
                    arrays={name: moved(array, device) for name, array in part.arrays.items()},
                )
                for part in stream.parts
            ),
        )
        for stream in (batch.source, batch.target)
    )
    losses = tuple(
        replace(
            rows,
            rows_R=moved(rows.rows_R, device),
            arrays={name: moved(array, device) for name, array in rows.arrays.items()},
        )
        for rows in batch.losses
    )
    return replace(batch, source=source, target=target, losses=losses)
