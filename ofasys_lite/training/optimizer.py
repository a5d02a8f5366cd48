"""Which weights decay: told by the layer that owns them, never by a name."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

__all__ = ["parameter_groups"]

#: Layers whose weights are factors of a product. Tables, norms and parameters that a module holds by itself are none.
_PRODUCTS = (nn.Linear, nn.Bilinear, _ConvNd, nn.MultiheadAttention, nn.RNNBase)


def parameter_groups(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The optimizer's two groups: matrices of linear layers and convolutions decay; tables, norms and biases do not.

    A matrix that is also the weight of an `nn.Embedding` (a tied head) is a table.
    """
    owners: dict[nn.Parameter, list[nn.Module]] = {}
    for module in network.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(module)
    decayed, plain = list[nn.Parameter](), list[nn.Parameter]()
    for parameter, modules in owners.items():
        product = parameter.ndim > 1 and all(isinstance(module, _PRODUCTS) for module in modules)
        (decayed if product else plain).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": plain, "weight_decay": 0.0}]
