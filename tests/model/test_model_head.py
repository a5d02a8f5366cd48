"""The head's loss and gradients equal cross entropy, in parts or whole."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model import head_loss


def _inputs(rows: int = 9, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    states, weight = (torch.randn(n, 6, generator=generator).to(dtype).requires_grad_() for n in (rows, 20))
    labels = torch.randint(0, 20, (rows,), generator=generator)
    return states, weight, labels, torch.rand(rows, generator=generator)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("kept", [2**20, 60, 1])
@pytest.mark.parametrize("rows", [9, 1, 0])
def test_loss_and_gradients_equal_cross_entropy(rows: int, kept: int, smoothing: float) -> None:
    states, weight, labels, scale = _inputs(rows)
    want = F.cross_entropy(F.linear(states, weight), labels, reduction="none", label_smoothing=smoothing)
    wanted = torch.autograd.grad((want * scale).sum(), (states, weight))
    got = head_loss(states, weight, labels, smoothing, kept)
    torch.testing.assert_close(got, want)
    for a, b in zip(torch.autograd.grad((got * scale).sum(), (states, weight)), wanted, strict=True):
        torch.testing.assert_close(a, b)


def test_large_logits_do_not_overflow() -> None:
    states, weight, labels, _ = _inputs()
    got = head_loss(states * 1000, weight, labels)
    torch.testing.assert_close(got, F.cross_entropy(F.linear(states * 1000, weight), labels, reduction="none"))


@pytest.mark.parametrize("autocast", [False, True])
def test_bf16_stays_near_fp32_and_sums_in_fp32(autocast: bool) -> None:
    states, weight, labels, scale = _inputs()
    want = F.cross_entropy(F.linear(states, weight), labels, reduction="none")
    wanted = torch.autograd.grad((want * scale).sum(), (states, weight))
    if not autocast:
        states, weight, labels, scale = _inputs(dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = head_loss(states, weight, labels)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=0.02, atol=0.05)
    for a, b in zip(torch.autograd.grad((got * scale).sum(), (states, weight)), wanted, strict=True):
        torch.testing.assert_close(a.float(), b, rtol=0.05, atol=0.05)


def test_a_second_backward_pass_is_refused_and_never_wrong() -> None:
    states, weight, labels, _ = _inputs()
    loss = head_loss(states, weight, labels).sum()
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="inplace"):
        loss.backward()


def test_labels_that_do_not_fit_are_refused() -> None:
    states, weight, labels, _ = _inputs()
    with pytest.raises(ShapeError, match="9 rows and labels of shape"):
        head_loss(states, weight, labels[:5])
