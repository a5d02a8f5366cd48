"""Finite scalar quantization: every code is a point of the grid, and codes and sums belong together."""

from __future__ import annotations

import pytest
import torch

from ofasys_lite.codec.scalar_quantizer import ScalarQuantizer
from ofasys_lite.errors import CardError, ShapeError


def _made(levels: tuple[int, ...] = (4, 3, 2), channels: int = 6, depth: int = 2) -> ScalarQuantizer:
    torch.manual_seed(0)
    return ScalarQuantizer(levels, channels, depth)


def test_the_vector_is_the_sum_of_what_the_codes_stand_for() -> None:
    quantizer = _made()
    x = torch.randn(5, 7, 6)
    out = quantizer(x)
    assert out.codes.shape == (5, 7, 2)
    assert out.commitment.item() == 0
    torch.testing.assert_close(quantizer.vectors(out.codes), out.z)
    torch.testing.assert_close(out.sums[-1], out.z)
    torch.testing.assert_close(out.sums[0], quantizer.book(0).vectors(out.codes[..., 0]))


def test_every_code_is_reached_and_numbers_of_a_code_round_as_in_the_paper() -> None:
    quantizer = _made((5, 4, 2), 3, 1)
    with torch.no_grad():
        quantizer.inward.weight.copy_(torch.eye(3))
        quantizer.inward.bias.zero_()
        quantizer.outward.weight.copy_(torch.eye(3))
        quantizer.outward.bias.zero_()
    out = quantizer(8 * torch.randn(20_000, 3))
    assert set(out.codes.unique().tolist()) == set(range(40))
    # 5 levels: -1 ... 1 by a half; 4 levels: -1 ... 0.5 by a half; 2 levels: -1 and 0
    assert [sorted(out.z[:, j].unique().tolist()) for j in range(3)] == [
        [-1, -0.5, 0, 0.5, 1],
        [-1, -0.5, 0, 0.5],
        [-1, 0],
    ]


def test_codes_of_grid_points_are_their_own_numbers() -> None:
    quantizer = _made((3, 3), 2, 1)
    with torch.no_grad():
        quantizer.inward.weight.copy_(5 * torch.eye(2))
        quantizer.inward.bias.zero_()
    assert quantizer(quantizer.grid_VJ).codes[:, 0].tolist() == list(range(9))


def test_the_gradient_passes_rounding_to_both_projections_and_the_input() -> None:
    quantizer = _made()
    x = torch.randn(9, 6, requires_grad=True)
    quantizer(x).z.square().sum().backward()
    for part in (x, quantizer.inward.weight, quantizer.outward.weight, quantizer.outward.bias):
        assert part.grad is not None
        assert part.grad.abs().sum() > 0


@pytest.mark.parametrize("levels", [(), (1, 4), (4, 2.5), (True, 4)])
def test_levels_that_are_none_are_refused(levels: tuple[int, ...]) -> None:
    with pytest.raises(CardError, match="whole number from 2 on"):
        ScalarQuantizer(levels, 4, 1)


def test_wrong_channels_depths_and_residual_questions_are_refused() -> None:
    quantizer = _made()
    with pytest.raises(ShapeError, match="5 channels, codes have 6"):
        quantizer(torch.zeros(2, 5))
    with pytest.raises(ShapeError, match="depth 3, it has 2"):
        quantizer.vectors(torch.zeros(2, 3, dtype=torch.long))
    with pytest.raises(CardError, match="leave `correct` out"):
        quantizer.book(0).nearest(torch.zeros(2, 6))
    with pytest.raises(CardError, match="depth is at least 1"):
        ScalarQuantizer((4,), 4, 0)
