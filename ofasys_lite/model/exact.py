"""Attention by explicit products, sequence by sequence: the fastest way on a CPU for the lengths of most tasks.

Nothing is padded. One autograd node covers the whole pack, so that short sequences do not pay for bookkeeping.
Shape suffixes: Q, K rows of the streams, L, M rows of one query and key sequence, H query heads, G key and value heads,
R = H / G, C channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ofasys_lite.model.borders import Borders

__all__ = ["exact"]


@torch.compiler.disable  # type: ignore[untyped-decorator]
def exact(q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
    """(Q, H, C): softmax(q k / sqrt(C)) v within each sequence; zeros where it has no keys."""
    out: Tensor = _Exact.apply(q_QHC, k_KGC, v_KGC, borders)  # type: ignore[no-untyped-call]
    return out


def _heads_first(x_LHC: Tensor, groups: int) -> Tensor:
    """(G, R * L, C): the heads that share keys stand below each other, so grouped queries need no repeated keys."""
    length, heads, channels = x_LHC.shape
    if heads == groups:
        return x_LHC.transpose(0, 1)
    return x_LHC.reshape(length, groups, heads // groups, channels).permute(1, 2, 0, 3).flatten(1, 2)


def _rows_first(x_GLC: Tensor, length: int) -> Tensor:
    """(L, H, C): the way back from `_heads_first`."""
    if x_GLC.shape[1] == length:
        return x_GLC.transpose(0, 1)
    groups, _, channels = x_GLC.shape
    return x_GLC.reshape(groups, -1, length, channels).permute(2, 0, 1, 3).flatten(1, 2)


def _future(length: int, repeat: int, like: Tensor) -> Tensor:
    """(R * L, L): minus infinity above the diagonal, zero elsewhere."""
    return torch.full((length, length), float("-inf"), dtype=like.dtype).triu_(1).repeat(repeat, 1)


class _Exact(torch.autograd.Function):
    """Forward keeps the attention weights of each sequence; backward is written out."""

    @staticmethod
    def forward(ctx: Any, q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
        groups, scale = k_KGC.shape[1], q_QHC.shape[2] ** -0.5
        repeat = q_QHC.shape[1] // groups
        out_QHC = torch.empty(q_QHC.shape, dtype=q_QHC.dtype)
        kept = []
        for q_LHC, k_MGC, v_MGC, out_LHC in _pieces(borders, q_QHC, k_KGC, v_KGC, out_QHC):
            if not q_LHC.shape[0]:
                continue
            if not k_MGC.shape[0]:
                out_LHC.zero_()
                continue
            q_GLC, k_GCM = _heads_first(q_LHC, groups), k_MGC.permute(1, 2, 0)
            if borders.causal:
                mask = _future(q_LHC.shape[0], repeat, q_LHC)
                scores = torch.baddbmm(mask, q_GLC, k_GCM, alpha=scale)
            else:
                scores = torch.bmm(q_GLC, k_GCM).mul_(scale)
            weights_GLM = torch.softmax(scores, -1)
            out_LHC.copy_(_rows_first(torch.bmm(weights_GLM, v_MGC.transpose(0, 1)), q_LHC.shape[0]))
            kept.append(weights_GLM)
        ctx.save_for_backward(q_QHC, k_KGC, v_KGC, *kept)
        ctx.borders = borders
        return out_QHC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_QHC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_QHC, k_KGC, v_KGC, *kept = ctx.saved_tensors
        borders, weights = ctx.borders, iter(kept)
        groups, scale = k_KGC.shape[1], q_QHC.shape[2] ** -0.5
        grads = [torch.empty(x.shape, dtype=x.dtype) for x in (q_QHC, k_KGC, v_KGC)]
        streams = _pieces(borders, q_QHC, k_KGC, v_KGC, grad_QHC, *grads)
        for q_LHC, k_MGC, v_MGC, grad_LHC, dq_LHC, dk_MGC, dv_MGC in streams:
            if not q_LHC.shape[0] or not k_MGC.shape[0]:
                for unseen in (dq_LHC, dk_MGC, dv_MGC):
                    unseen.zero_()
                continue
            weights_GLM = next(weights)
            grad_GLC, q_GLC = _heads_first(grad_LHC, groups), _heads_first(q_LHC, groups)
            dv_MGC.copy_(torch.bmm(weights_GLM.transpose(1, 2), grad_GLC).transpose(0, 1))
            dweights_GLM = torch.bmm(grad_GLC, v_MGC.permute(1, 2, 0))
            dscores_GLM = torch._softmax_backward_data(dweights_GLM, weights_GLM, -1, weights_GLM.dtype).mul_(scale)
            dq_LHC.copy_(_rows_first(torch.bmm(dscores_GLM, k_MGC.transpose(0, 1)), q_LHC.shape[0]))
            dk_MGC.copy_(torch.bmm(dscores_GLM.transpose(1, 2), q_GLC).transpose(0, 1))
        return grads[0], grads[1], grads[2], None


def _pieces(borders: Borders, q: Tensor, k: Tensor, v: Tensor, *rest: Tensor) -> Any:
    """One tuple per sequence of its pieces of q, k, v and of further streams laid out as q (then as q, k, v)."""
    like_q, like_k = borders.q_lengths, borders.k_lengths
    lengths = (like_q, like_k, like_k, like_q, like_q, like_k, like_k)
    streams = (q, k, v, *rest)
    return zip(*(x.split_with_sizes(n) for x, n in zip(streams, lengths, strict=False)), strict=True)
