"""From noise to a value in several passes: DDIM over any `Process`; of a flow it is Euler's method.

Shapes: N samples, L rows, C numbers of a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.errors import CardError
from ofasys_lite.layout.noise import Process

#: (rows (N, L, C) with noise, level) -> (N, L, C) what the process has the model give.
Denoise = Callable[[Tensor, float], Tensor]


def noise(rngs: Sequence[np.random.Generator], rows: int, channels: int, device: torch.device) -> Tensor:
    """(N, L, C) standard normal numbers, each sample's from its own generator."""
    drawn = [rng.standard_normal((rows, channels), dtype=np.float32) for rng in rngs]
    return torch.from_numpy(np.stack(drawn)).to(device)


def denoise(
    model: Denoise, noise_NLC: Tensor, process: Process, steps: int, eta: float, rngs: Sequence[np.random.Generator]
) -> Tensor:
    """(N, L, C) values, in `steps` passes at even levels (DDIM, arXiv 2010.02502, equation 12).

    Args:
        eta: Noise that is added anew, as a share of what the diffusion's own reverse process adds; 0: none, so that the
            value follows from `noise_NLC`. Only of a diffusion.
        rngs: A generator a sample, for that noise.

    Raises:
        CardError: New noise on the way of a flow.
    """
    if eta and process.name == "flow":
        raise CardError("decoding: `eta` is for diffusion, and this line was learned by flow", help="leave it out")
    x_NLC = noise_NLC
    for step in range(steps):
        level, after = 1 - step / steps, 1 - (step + 1) / steps
        value_NLC, noise_NLC = process.split(x_NLC, model(x_NLC, level), level)
        (signal, share), (signal_after, share_after) = process.scales(level), process.scales(after)
        fresh = 0.0
        if eta and share_after > 0:
            rest = math.sqrt(max(0.0, 1 - (signal / signal_after) ** 2))
            fresh = min(eta * share_after / share * rest, share_after)
        x_NLC = signal_after * value_NLC + math.sqrt(share_after**2 - fresh**2) * noise_NLC
        if fresh:
            x_NLC = x_NLC + fresh * noise(rngs, x_NLC.shape[1], x_NLC.shape[2], x_NLC.device)
    return x_NLC
