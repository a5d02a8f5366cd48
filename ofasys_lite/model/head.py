"""Loss of a head over a vocabulary with one table of logits, overwritten in place, instead of three.

Shape suffixes: L rows with loss, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.fast_linear import matmul, product

# Most logits kept at once; above that rows go in parts whose logits are computed again in the backward pass.
KEPT_LOGITS = 2**26
# Logits that are turned into exponentials at once on a CPU: they stay in its cache. Elsewhere all that are kept: there
# each tile costs launches.
TILE_LOGITS = 2**20


def head_loss(
    states_LD: Tensor, weight_VD: Tensor, labels_L: Tensor, smoothing: float = 0.0, kept_logits: int = KEPT_LOGITS
) -> Tensor:
    """(L,) cross entropy of each row, in nats, fp32; equal to F.cross_entropy(F.linear(states, weight), labels).

    Gradients are of first order only. Logits have the type of the states, or of autocast; sums are in fp32.

    Args:
        states_LD: Rows that have a loss, and no others.
        weight_VD: The head, often the table of the embedding.
        smoothing: Share of the target that is spread over all classes.
        kept_logits: Most logits in memory at once; more rows than that are done in parts.

    Raises:
        ShapeError: There is not one label per row.
    """
    rows = states_LD.shape[0]
    if labels_L.shape != (rows,):
        raise ShapeError(f"head: {rows} rows and labels of shape {tuple(labels_L.shape)}")
    kind = states_LD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states_LD.dtype
    states_LD, weight_VD = states_LD.to(dtype), weight_VD.to(dtype)
    part = max(1, kept_logits // max(1, weight_VD.shape[0]))
    if rows <= part:
        loss_L: Tensor = _HeadLoss.apply(states_LD, weight_VD, labels_L, smoothing)  # type: ignore[no-untyped-call]
        return loss_L
    parts = zip(torch.split(states_LD, part), torch.split(labels_L, part), strict=True)
    losses = [checkpoint(_HeadLoss.apply, x, weight_VD, y, smoothing, use_reentrant=False) for x, y in parts]
    return torch.cat(losses)


class _HeadLoss(torch.autograd.Function):
    """Forward leaves exp(logit - max) where the logits were; backward scales them to the gradient in place."""

    @staticmethod
    def forward(ctx: Any, states_LD: Tensor, weight_VD: Tensor, labels_L: Tensor, smoothing: float) -> Tensor:
        with torch.autocast(states_LD.device.type, enabled=False):
            logits_LV = product(states_LD, weight_VD)
        classes = weight_VD.shape[0]
        label_L1 = labels_L.unsqueeze(1)
        loss_L = logits_LV.gather(1, label_L1).squeeze(1).float().mul_(smoothing - 1.0)
        if smoothing:
            loss_L -= smoothing * logits_LV.mean(1, dtype=torch.float32)
        sum_L = torch.empty_like(loss_L)
        tile = max(1, (TILE_LOGITS if logits_LV.is_cpu else KEPT_LOGITS) // max(1, classes))
        for start in range(0, loss_L.shape[0], tile):
            rows = slice(start, start + tile)
            part = logits_LV[rows]
            highest = part.amax(1, keepdim=True).float()
            exponentials = (part.sub_(highest) if part.dtype == torch.float32 else part.float() - highest).exp_()
            torch.sum(exponentials, 1, out=sum_L[rows])
            loss_L[rows] += highest.squeeze(1)
            if part.dtype != torch.float32:
                part.copy_(exponentials)
        loss_L += sum_L.log()
        ctx.save_for_backward(states_LD, weight_VD, labels_L, logits_LV, sum_L)
        ctx.smoothing = smoothing
        return loss_L

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_L: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_LD, weight_VD, labels_L, spent_LV, sum_L = ctx.saved_tensors
        grad_LV = spent_LV.mul_((grad_L / sum_L).to(spent_LV.dtype).unsqueeze(1))
        if ctx.smoothing:
            grad_LV.sub_((grad_L * (ctx.smoothing / weight_VD.shape[0])).to(grad_LV.dtype).unsqueeze(1))
        hit_L1 = (grad_L * (ctx.smoothing - 1.0)).to(grad_LV.dtype).unsqueeze(1)
        grad_LV.scatter_add_(1, labels_L.unsqueeze(1), hit_L1)
        return matmul(grad_LV, weight_VD), matmul(grad_LV.t(), states_LD), None, None
