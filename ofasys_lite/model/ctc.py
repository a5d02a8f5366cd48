"""CTC over a head with a large vocabulary: the logits of the columns that occur, and of all others only their sum.

Shape suffixes: N sequences, R rows of all of them, T rows of the longest, L labels of the longest, D width,
V vocabulary, C columns that occur, X = C + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ofasys_lite.model.borders import Borders
from ofasys_lite.model.transfer import moved

# Most logits in memory at once, and kept for the backward pass; more rows than that go in parts.
KEPT_LOGITS = 2**24


def ctc_losses(
    states_RD: Tensor,
    weight_VD: Tensor,
    lengths: Sequence[int],
    labels: Sequence[npt.NDArray[np.int64]],
    blank: int,
    kept_logits: int = KEPT_LOGITS,
) -> Tensor:
    """(N,) CTC loss of each sequence in nats, fp32 (connectionist temporal classification, Graves et al., 2006).

    Equal to F.ctc_loss of the log softmax of all V logits. A column that no sequence has among its labels is of
    interest to the softmax alone, so one column with the sum of all these stands for them.

    Args:
        weight_VD: The head, often the table of the embedding.
        blank: The class that says nothing.
        kept_logits: Most logits in memory at once; rows with more than that are done in parts.
    """
    device, kind = states_RD.device, states_RD.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states_RD.dtype
    states_RD, weight_VD = states_RD.to(dtype), weight_VD.to(dtype)
    columns, places = np.unique(np.concatenate([[blank], *labels]), return_inverse=True)
    columns_C = moved(columns, device)
    with torch.autocast(kind, enabled=False):
        logits_RC = F.linear(states_RD, weight_VD.index_select(0, columns_C)).float()
        rest_R: Tensor = _Rest.apply(states_RD, weight_VD, columns_C, kept_logits)  # type: ignore[no-untyped-call]
    log_RX = torch.cat([logits_RC, rest_R.unsqueeze(1)], 1).log_softmax(1)
    borders = Borders(lengths, lengths)
    flat_NX = log_RX.new_zeros(len(lengths) * borders.longest_q, log_RX.shape[1])
    flat_NX = flat_NX.index_copy(0, borders.slots("q", device), log_RX)
    log_TNX = flat_NX.view(len(lengths), borders.longest_q, -1).transpose(0, 1)
    counts = [len(each) for each in labels]
    targets_NL = np.zeros((len(labels), max(counts)), np.int64)
    for row, each in zip(targets_NL, np.split(places[1:], np.cumsum(counts)[:-1]), strict=True):
        row[: len(each)] = each
    # the public function copies the labels back to the host, to ask for kernels that are not used
    loss_N: Tensor = torch._ctc_loss(log_TNX, moved(targets_NL, device), list(lengths), counts, int(places[0]))[0]
    return loss_N


class _Rest(torch.autograd.Function):
    """(R,) log of the sum of the exponentials of all logits but those of some columns, in fp32.

    Where they are many, logits are made in parts, and made again in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, states_RD: Tensor, weight_VD: Tensor, columns_C: Tensor, kept_logits: int) -> Tensor:
        ctx.part = max(1, kept_logits // len(weight_VD))
        parts = [_others(part, weight_VD, columns_C) for part in torch.split(states_RD, ctx.part)]
        rest_R = torch.cat([rest for rest, _ in parts]) if parts else states_RD.new_zeros(0)
        kept = [parts[0][1]] if len(parts) == 1 else []
        ctx.save_for_backward(states_RD, weight_VD, columns_C, *kept)
        return rest_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_R: Tensor) -> tuple[Tensor, Tensor, None, None]:
        states_RD, weight_VD, columns_C, *kept = ctx.saved_tensors
        if kept:
            grad_RV = kept[0].mul_(grad_R.unsqueeze(1)).to(weight_VD.dtype)
            return grad_RV @ weight_VD, grad_RV.t() @ states_RD, None, None
        grad_RD, grad_VD = [], torch.zeros_like(weight_VD, dtype=torch.float32)
        for states, given in zip(torch.split(states_RD, ctx.part), torch.split(grad_R, ctx.part), strict=True):
            grad_PV = _others(states, weight_VD, columns_C)[1].mul_(given.unsqueeze(1)).to(weight_VD.dtype)
            grad_RD.append(grad_PV @ weight_VD)
            grad_VD += grad_PV.t() @ states
        return torch.cat(grad_RD), grad_VD.to(weight_VD.dtype), None, None


def _others(states_PD: Tensor, weight_VD: Tensor, columns_C: Tensor) -> tuple[Tensor, Tensor]:
    """Log of the sum of the exponentials (P,) without the columns, and the share of each column in it (P, V)."""
    with torch.autocast(states_PD.device.type, enabled=False):
        logits_PV = F.linear(states_PD, weight_VD).float().index_fill_(1, columns_C, float("-inf"))
    # finite where every column occurs
    highest_P1 = logits_PV.amax(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).min)
    shares_PV = logits_PV.sub_(highest_P1).exp_()
    sum_P1 = shares_PV.sum(1, keepdim=True).clamp_(min=torch.finfo(torch.float32).tiny)
    return (highest_P1 + sum_P1.log()).squeeze(1), shares_PV.div_(sum_P1)
