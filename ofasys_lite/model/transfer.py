"""The way of tensors from the host to the device, without a wait."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor


def moved(x: Tensor | npt.NDArray[Any], device: torch.device | str) -> Tensor:
    """`x`, a tensor or array, on `device`.

    To CUDA it goes from page-locked memory, so that the host does not wait for what runs there.
    """
    x = x if isinstance(x, Tensor) else torch.from_numpy(x)
    device = device if isinstance(device, torch.device) else torch.device(device)
    if device.type == "cpu" and x.is_cpu:
        return x
    if device.type != "cuda" or x.device.type != "cpu":
        return x.to(device)
    return (x if x.is_pinned() else x.pin_memory()).to(device, non_blocking=True)
