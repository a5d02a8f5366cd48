"""Muon on a CPU takes the steps of torch's, in fp32."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from ofasys_lite.training.muon import Muon, orthogonal

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
SHAPES = [(16, 16), (16, 16), (16, 48), (48, 16), (8, 64), (3, 3)]


def plain(x: Tensor, steps: int) -> Tensor:
    """Newton-Schulz as it is written down, in float64."""
    a, b, c = COEFFICIENTS
    x = x.double() / x.double().norm()
    if x.shape[0] > x.shape[1]:
        return plain(x.T, steps).T
    for _ in range(steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [1, 3, 5])
def test_matrices_together_are_iterated_as_each_alone(shape: tuple[int, int], steps: int) -> None:
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-6, 2, 4)[:, None, None]
    found = orthogonal(x, COEFFICIENTS, steps, 1e-7)
    for one, made in zip(x, found, strict=True):
        torch.testing.assert_close(made.double(), plain(one, steps), atol=2e-5, rtol=0)


def test_singular_values_come_near_one() -> None:
    x = torch.randn(2, 24, 96, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(x, COEFFICIENTS, 5, 1e-7))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def test_a_gradient_of_zeros_moves_nothing_but_by_decay() -> None:
    parameter = nn.Parameter(torch.ones(4, 8))
    parameter.grad = torch.zeros(4, 8)
    Muon([parameter], lr=0.1, weight_decay=0.5).step()
    torch.testing.assert_close(parameter.data, torch.full((4, 8), 0.95))


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}], ids=str
)
def test_its_steps_are_those_of_torch_but_for_bfloat16(options: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(2)
    ours = [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]
    theirs = copy.deepcopy(ours)
    one = Muon(ours, lr=0.02, weight_decay=0.1, **options)  # type: ignore[arg-type]
    two = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, **options)  # type: ignore[arg-type]
    begun = copy.deepcopy(ours)
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        one.step()
        two.step()
    for a, b, first in zip(ours, theirs, begun, strict=True):
        moved = float((a - first).detach().norm())
        assert float((a - b).detach().norm()) < 0.03 * moved
    assert one.state_dict()["state"].keys() == two.state_dict()["state"].keys()
    two.load_state_dict(one.state_dict())


def test_parameters_without_a_gradient_stay_as_they_are() -> None:
    parameters = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))]
    parameters[0].grad = torch.eye(4)
    optimizer = Muon(parameters, lr=0.1)
    optimizer.step()
    assert bool((parameters[1] == 1).all())
    assert len(optimizer.state) == 1
