"""The exponential average of a network's weights."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

__all__ = ["fill", "followed"]


def followed(average: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> dict[str, Tensor]:
    """The average behind one more step: the weights themselves at first, nothing where `decay` is 0.

    Args:
        average: By name of the parameter; what is not empty is changed in place.
        network: The weights behind the step.
        decay: How much of the average stays (0 to below 1).
        step: Steps done: a young average follows the weights more closely.
    """
    if decay <= 0:
        return average
    names, values = zip(*((n, p.detach()) for n, p in network.named_parameters()), strict=True)
    if not average:
        return {n: v.clone() for n, v in zip(names, values, strict=True)}
    if average[names[0]].device != values[0].device:
        # a checkpoint's averages come on the host
        average = {n: v.to(values[0].device) for n, v in average.items()}
    weight = 1 - min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([average[n] for n in names], list(values), weight)
    return average


def fill(network: nn.Module, values: Mapping[str, Tensor]) -> None:
    """Puts `values` into the network's parameters, by name."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(values[name])
