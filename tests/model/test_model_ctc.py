"""CTC over the columns that occur equals CTC over all of them, and no table of all logits is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ofasys_lite.model import ctc_losses

BLANK = 2
LENGTHS = (9, 4, 12, 1)
LABELS = ([3, 3, 7, 0], [5], [19, 1, 3, 1, 6], [])


def _one_by_one(states_RD: Tensor, weight_VD: Tensor, labels: list[list[int]]) -> Tensor:
    """The losses sequence by sequence, from the log softmax of all logits."""
    losses = []
    for states, each in zip(states_RD.split(list(LENGTHS)), labels, strict=True):
        log_RV = F.log_softmax(F.linear(states, weight_VD).float(), -1)
        sizes = torch.tensor([len(states)]), torch.tensor([len(each)])
        targets = torch.tensor([each], dtype=torch.long)
        losses.append(F.ctc_loss(log_RV.unsqueeze(1), targets, *sizes, blank=BLANK, reduction="sum"))
    return torch.stack(losses)


def _inputs(columns: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((sum(LENGTHS), 8), (columns, 8))
    states, weight = (torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes)
    return states, weight


def _arrays(labels: list[list[int]]) -> list[np.ndarray]:
    return [np.array(each, np.int64) for each in labels]


@pytest.mark.parametrize("part", [2**24, 200, 1])
def test_losses_and_gradients_equal_ctc_of_all_logits(part: int) -> None:
    states, weight = _inputs(50)
    want = _one_by_one(states, weight, list(LABELS))
    scale = torch.tensor([0.3, 1.0, 2.0, 0.5])
    wanted = torch.autograd.grad((want * scale).sum(), (states, weight))
    got = ctc_losses(states, weight, LENGTHS, _arrays(list(LABELS)), BLANK, part)
    torch.testing.assert_close(got, want)
    for a, b in zip(torch.autograd.grad((got * scale).sum(), (states, weight)), wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


def test_every_column_may_occur() -> None:
    states, weight = _inputs(6)
    labels = [[0, 1, 3, 4, 5, 0], [1], [3, 4], [5]]
    want, got = (
        _one_by_one(states, weight, labels),
        ctc_losses(states, weight, LENGTHS, _arrays(labels), BLANK),
    )
    torch.testing.assert_close(got, want)
    pairs = (torch.autograd.grad(loss.sum(), (states, weight)) for loss in (got, want))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=2e-5)


def test_losses_follow_autocast_as_the_head_does() -> None:
    states, weight = _inputs(50)
    with torch.autocast("cpu", torch.bfloat16):
        got = ctc_losses(states, weight, LENGTHS, _arrays(list(LABELS)), BLANK)
        want = _one_by_one(states, weight, list(LABELS))
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want, rtol=1e-2, atol=1e-2)
    pairs = (torch.autograd.grad(loss.sum(), (states, weight)) for loss in (got, want))
    for a, b in zip(*pairs, strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=5e-2, atol=5e-2)


def test_what_is_kept_does_not_grow_with_the_vocabulary() -> None:
    kept: list[tuple[int, ...]] = []
    states, weight = _inputs(5000)

    def note(x: Tensor) -> Tensor:
        kept.append(tuple(x.shape))
        return x

    with saved_tensors_hooks(note, lambda x: x):
        ctc_losses(states, weight, LENGTHS, _arrays(list(LABELS)), BLANK, 2 * 5000)
    assert kept
    assert all(
        rows * columns < 5000 or (rows, columns) == weight.shape
        for rows, columns in ((shape[0], int(np.prod(shape[1:]))) for shape in kept if shape)
    )
