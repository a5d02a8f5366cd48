"""Attention by explicit products, sequence by sequence: the fastest way on a CPU for the lengths of most tasks.

Nothing is padded; short sequences of equal lengths go through one batched product. One autograd node covers the whole
pack, so that sequences do not pay for bookkeeping.
Shape suffixes: Q, K rows of the streams, L, M rows of a query and its key sequence, H query heads, G key and value
heads, R = H / G, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ofasys_lite.model.borders import Borders


def _take(x_RHC: Tensor, rows: slice | Tensor, count: int, groups: int) -> Tensor:
    """(count * G, R * L, C): heads that share keys stand below each other, so grouped queries repeat no keys."""
    x_LHC = x_RHC[rows]
    heads, channels = x_LHC.shape[1:]
    if count == 1 and heads == groups:
        return x_LHC.transpose(0, 1)
    split = x_LHC.reshape(count, -1, groups, heads // groups, channels)
    return split.permute(0, 2, 3, 1, 4).reshape(count * groups, -1, channels)


def _put(out_RHC: Tensor, rows: slice | Tensor, count: int, x_GLC: Tensor) -> None:
    """The way back from `_take`."""
    heads, channels = out_RHC.shape[1:]
    groups = x_GLC.shape[0] // count
    if count == 1 and heads == groups:
        out_RHC[rows] = x_GLC.transpose(0, 1)
        return
    split = x_GLC.reshape(count, groups, heads // groups, -1, channels).permute(0, 3, 1, 2, 4)
    out_RHC[rows] = split.reshape(-1, heads, channels)


class _Exact(torch.autograd.Function):
    """(Q, H, C): softmax(q k / sqrt(C)) v within each sequence; zeros where it has no keys.

    Forward keeps the attention weights of each piece; backward is written out.
    """

    @staticmethod
    def forward(ctx: Any, q_QHC: Tensor, k_KGC: Tensor, v_KGC: Tensor, borders: Borders) -> Tensor:
        groups, scale = k_KGC.shape[1], q_QHC.shape[2] ** -0.5
        repeat = q_QHC.shape[1] // groups
        # zeros where no piece writes some of the rows
        out_QHC = (torch.empty if borders.covers_all else torch.zeros)(q_QHC.shape, dtype=q_QHC.dtype)
        kept = []
        for piece in borders.pieces:
            q_GLC = _take(q_QHC, piece.q_rows, piece.count, groups)
            k_GMC, v_GMC = (_take(x, piece.k_rows, piece.count, groups) for x in (k_KGC, v_KGC))
            if borders.causal and piece.q_length > 1:
                # -inf where a query (row) would see a later key
                square = torch.full((piece.q_length, piece.q_length), float("-inf"), dtype=q_QHC.dtype)
                mask = square.triu_(1).repeat(repeat, 1)
                scores = torch.baddbmm(mask, q_GLC, k_GMC.transpose(1, 2), alpha=scale)
            else:
                scores = torch.bmm(q_GLC, k_GMC.transpose(1, 2)).mul_(scale)
            weights_GLM = torch.softmax(scores, -1)
            _put(out_QHC, piece.q_rows, piece.count, torch.bmm(weights_GLM, v_GMC))
            kept.append(weights_GLM)
        ctx.save_for_backward(q_QHC, k_KGC, v_KGC, *kept)
        ctx.borders = borders
        return out_QHC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_QHC: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q_QHC, k_KGC, v_KGC, *kept = ctx.saved_tensors
        borders: Borders = ctx.borders
        groups, scale = k_KGC.shape[1], q_QHC.shape[2] ** -0.5
        room = torch.empty if borders.covers_all else torch.zeros
        dq_QHC, dk_KGC, dv_KGC = (room(x.shape, dtype=x.dtype) for x in (q_QHC, k_KGC, v_KGC))
        for piece, weights_GLM in zip(borders.pieces, kept, strict=True):
            grad_GLC, q_GLC = (_take(x, piece.q_rows, piece.count, groups) for x in (grad_QHC, q_QHC))
            k_GMC, v_GMC = (_take(x, piece.k_rows, piece.count, groups) for x in (k_KGC, v_KGC))
            _put(dv_KGC, piece.k_rows, piece.count, torch.bmm(weights_GLM.transpose(1, 2), grad_GLC))
            dweights_GLM = torch.bmm(grad_GLC, v_GMC.transpose(1, 2))
            dscores_GLM = torch._softmax_backward_data(dweights_GLM, weights_GLM, -1, weights_GLM.dtype).mul_(scale)
            _put(dq_QHC, piece.q_rows, piece.count, torch.bmm(dscores_GLM, k_GMC))
            _put(dk_KGC, piece.k_rows, piece.count, torch.bmm(dscores_GLM.transpose(1, 2), q_GLC))
        return dq_QHC, dk_KGC, dv_KGC, None


exact: Callable[[Tensor, Tensor, Tensor, Borders], Tensor] = _Exact.apply
