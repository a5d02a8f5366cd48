"""Muon on a CPU: torch.optim.Muon iterates in bfloat16, which a CPU without it imitates, slower by far than fp32."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

#: Most values that are iterated on at once: 64 MB.
_AT_ONCE = 1 << 24


class Muon(torch.optim.Muon):
    """torch.optim.Muon (arXiv 2502.16982), on a CPU in fp32 and matrices of one shape together; its state is the same.

    Always fp32 there, also where bf16 would be faster, so that a run learns the same on every machine.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One update; what `closure` gives, if there is one."""
        if any(p.device.type != "cpu" for group in self.param_groups for p in group["params"]):
            return super().step(closure)  # type: ignore[no-untyped-call]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
            parameters: list[Tensor] = []
            gradients: list[Tensor] = []
            momenta: list[Tensor] = []
            self._init_group(group, parameters, gradients, momenta)
            for parameter, gradient, momentum in zip(parameters, gradients, momenta, strict=True):
                momentum.lerp_(gradient, 1 - group["momentum"])
                update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
                alike.setdefault(parameter.shape, []).append((parameter, update))
            for shape, pairs in alike.items():
                for first in range(0, len(pairs), most := max(1, _AT_ONCE // shape.numel())):
                    self._update(pairs[first : first + most], group)
        return loss

    @staticmethod
    def _update(pairs: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> None:
        """Takes the step of parameters of one shape."""
        rows, columns = pairs[0][0].shape
        updates = orthogonal(
            torch.stack([update for _, update in pairs]), group["ns_coefficients"], group["ns_steps"], group["eps"]
        )
        original = group["adjust_lr_fn"] in (None, "original")
        factor = math.sqrt(max(1.0, rows / columns)) if original else 0.2 * math.sqrt(max(rows, columns))
        for (parameter, _), update in zip(pairs, updates, strict=True):
            parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * factor)


def orthogonal(x_NAB: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """Matrices with their singular values brought near one, by Newton-Schulz iterations on all of them.

    Where a side is longer than the other the iterations go on in the Gram matrix of the shorter side: P(G) X with
    G = X X^T, whose next G is P G P; the same in exact arithmetic, and half the products where the sides are 1 : 4.

    Args:
        coefficients: Of x, x^3 and x^5.
        eps: Least norm by which a matrix is divided.
    """
    a, b, c = coefficients
    tall = x_NAB.shape[1] > x_NAB.shape[2]
    x_NLM = x_NAB.mT if tall else x_NAB
    x_NLM = x_NLM / x_NLM.norm(dim=(1, 2), keepdim=True).clamp(min=eps)
    if x_NLM.shape[1] == x_NLM.shape[2]:
        for _ in range(steps):
            gram_NLL = x_NLM @ x_NLM.mT
            x_NLM = torch.baddbmm(x_NLM, torch.baddbmm(gram_NLL, gram_NLL, gram_NLL, beta=b, alpha=c), x_NLM, beta=a)
        return x_NLM.mT if tall else x_NLM
    gram_NLL = x_NLM @ x_NLM.mT
    whole_NLL: Tensor | None = None
    for step in range(steps):
        factor_NLL = torch.baddbmm(gram_NLL, gram_NLL, gram_NLL, beta=b, alpha=c)
        factor_NLL.diagonal(dim1=1, dim2=2).add_(a)
        whole_NLL = factor_NLL if whole_NLL is None else factor_NLL @ whole_NLL
        if step < steps - 1:
            gram_NLL = factor_NLL @ gram_NLL @ factor_NLL
    assert whole_NLL is not None
    found_NLM: Tensor = whole_NLL @ x_NLM
    return found_NLM.mT if tall else found_NLM
