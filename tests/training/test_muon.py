"""Muon takes the steps of torch's, on a CPU in fp32 unless bf16 is asked for and faster."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ofasys_lite.training import muon
from ofasys_lite.training.muon import ITERATIONS, MINIMAX, QUINTIC, Muon, cut, joined, orthogonal, shares, update_flops
from ofasys_lite.training.rules import MOST_MINIMAX

SHAPES = [(16, 16), (16, 16), (16, 48), (48, 16), (8, 64), (3, 3)]


def plain(x: Tensor, steps: int) -> Tensor:
    """Newton-Schulz as it is written down, in float64."""
    a, b, c = QUINTIC
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
    found = orthogonal(x, [QUINTIC] * steps, 1e-7)
    for one, made in zip(x, found, strict=True):
        torch.testing.assert_close(made.double(), plain(one, steps), atol=2e-5, rtol=0)


def test_singular_values_come_near_one() -> None:
    x = torch.randn(2, 24, 96, generator=torch.Generator().manual_seed(1))
    values = torch.linalg.svdvals(orthogonal(x, [QUINTIC] * 5, 1e-7))
    assert 0.6 < float(values.min()) <= float(values.max()) < 1.3


def spread(n: int, m: int, lowest: float) -> Tensor:
    """A matrix whose singular values fall from 1 to `lowest`."""
    generator = torch.Generator().manual_seed(3)
    left, _, right = torch.linalg.svd(torch.randn(n, m, generator=generator), full_matrices=False)
    return left @ torch.diag(torch.logspace(0, math.log10(lowest), min(n, m))) @ right


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_minimax_iterations_are_their_polynomials_of_the_singular_values(shape: tuple[int, int], steps: int) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(4))
    left, values, right = torch.linalg.svd(x.double(), full_matrices=False)
    values = values / values.pow(8).sum() ** 0.125
    for a, b, c in MINIMAX[:steps]:
        values = a * values + b * values**3 + c * values**5
    for scale in (1e-13, 1e-12, 1e-10, 1e-6, 1.0, 1e6, 1e15):
        found = orthogonal(scale * x[None], MINIMAX[:steps], 1e-7, bounded=True)[0] / min(1, scale * x.norm() / 1e-7)
        torch.testing.assert_close(found.double(), left @ torch.diag(values) @ right, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("steps", "error"), [(3, 0.4358), (4, 0.0554), (5, 0.0002)])
def test_minimax_polynomials_do_what_is_said_of_them(steps: int, error: float) -> None:
    values = torch.linspace(0.006, 1, 20_001, dtype=torch.float64)
    for a, b, c in MINIMAX[:steps]:
        values = a * values + b * values**3 + c * values**5
    assert float((values - 1).abs().max()) < error


def test_three_minimax_iterations_lift_what_five_of_torch_lift() -> None:
    x = spread(64, 256, 0.01)[None]
    torchs = torch.linalg.svdvals(orthogonal(x, [QUINTIC] * 5, 1e-7))
    ours = torch.linalg.svdvals(orthogonal(x, MINIMAX[: ITERATIONS["minimax"]], 1e-7, bounded=True))
    assert float(ours.min()) > 0.8 * float(torchs.min())
    assert float(ours.max()) < 1.44


def test_options_allow_as_many_iterations_as_there_are_polynomials() -> None:
    assert len(MINIMAX) == MOST_MINIMAX


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_a_gradient_of_zeros_moves_nothing_but_by_decay(iteration: str) -> None:
    parameter = nn.Parameter(torch.ones(4, 8))
    parameter.grad = torch.zeros(4, 8)
    Muon([parameter], lr=0.1, weight_decay=0.5, iteration=iteration).step()
    torch.testing.assert_close(parameter.data, torch.full((4, 8), 0.95))


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}], ids=str
)
def test_its_steps_are_those_of_torch_but_for_bfloat16(options: dict[str, object]) -> None:
    generator = torch.Generator().manual_seed(2)
    ours = [nn.Parameter(torch.randn(*shape, generator=generator)) for shape in SHAPES]
    theirs = copy.deepcopy(ours)
    one = Muon(ours, lr=0.02, weight_decay=0.1, iteration="quintic", **options)  # type: ignore[arg-type]
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


@pytest.mark.parametrize("iteration", ITERATIONS)
def test_a_kernel_is_the_matrix_of_its_outputs(iteration: str) -> None:
    generator = torch.Generator().manual_seed(5)
    kernel = nn.Parameter(torch.randn(8, 3, 3, 3, generator=generator))
    matrix = nn.Parameter(kernel.detach().flatten(1).clone())
    for _ in range(2):
        kernel.grad = torch.randn(kernel.shape, generator=generator)
        matrix.grad = kernel.grad.flatten(1).clone()
        for parameter in (kernel, matrix):
            Muon([parameter], lr=0.1, iteration=iteration).step()
    torch.testing.assert_close(kernel.flatten(1), matrix, atol=0, rtol=0)


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match=r"matrices and kernels, not a parameter of shape \(4,\)"):
        Muon([nn.Parameter(torch.ones(4))])


def test_parameters_without_a_gradient_stay_as_they_are() -> None:
    parameters = [nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))]
    parameters[0].grad = torch.eye(4)
    optimizer = Muon(parameters, lr=0.1)
    optimizer.step()
    assert bool((parameters[1] == 1).all())
    assert len(optimizer.state) == 1


def test_rows_that_moved_little_so_far_move_as_far_as_the_others() -> None:
    """NorMuon: rows over the root of their mean squares so far, the whole as long as Muon's (in float64)."""
    generator = torch.Generator().manual_seed(5)
    first = torch.randn(12, 20, generator=generator)
    gradients = [torch.randn(12, 20, generator=generator) * torch.logspace(-2, 0, 12)[:, None] for _ in range(3)]
    plain, even = (nn.Parameter(first.clone()) for _ in range(2))
    one = Muon([plain], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False)
    other = Muon([even], lr=1.0, weight_decay=0.0, momentum=0.0, nesterov=False, beta2=0.9)
    held = torch.zeros(12, 1, dtype=torch.float64)
    for gradient in gradients:
        before, before_even = plain.detach().clone(), even.detach().clone()
        plain.grad, even.grad = gradient, gradient.clone()
        one.step()
        other.step()
        update = (plain.detach() - before).double()
        held = 0.9 * held + 0.1 * update.square().mean(1, keepdim=True)
        expected = update / held.sqrt()
        expected *= update.norm() / expected.norm()
        torch.testing.assert_close((even.detach() - before_even).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("shape", "axis"), [((24, 10), 0), ((10, 24), 1), ((24, 24), 0), ((6, 4, 3, 2), 1)], ids=str)
@pytest.mark.parametrize("size", [8, 7, 30])
@pytest.mark.parametrize("adjust_lr_fn", ["match_rms_adamw", "original"])
def test_blocks_are_iterated_each_by_itself(shape: tuple[int, ...], axis: int, size: int, adjust_lr_fn: str) -> None:
    generator = torch.Generator().manual_seed(7)
    whole = nn.Parameter(torch.randn(*shape, generator=generator))
    begun, gradient = whole.detach().clone().flatten(1), torch.randn(*shape, generator=generator)
    whole.grad = gradient.clone()
    options: dict[str, Any] = {"lr": 0.1, "weight_decay": 0.0, "adjust_lr_fn": adjust_lr_fn}
    Muon([whole], block=size, **options).step()
    size = {8: 8, 7: 6, 30: 24}[size]  # 24 rows or columns in blocks of like size
    for start, moving, found in zip(
        *(x.split(size, axis) for x in (begun, gradient.flatten(1), whole.detach().flatten(1))), strict=True
    ):
        alone = nn.Parameter(start.clone())
        alone.grad = moving.clone()
        Muon([alone], **options).step()
        torch.testing.assert_close(found, alone.detach(), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("long", "size", "rows"), [(65, 64, 33), (96, 64, 48), (601, 600, 301), (128, 64, 64), (3, 1, 1)]
)
def test_blocks_are_of_like_size_and_a_last_one_is_no_lone_row(long: int, size: int, rows: int) -> None:
    x = torch.randn(2, long, 2, generator=torch.Generator().manual_seed(8))
    for whole in (x, x.mT):
        parts = cut(whole, size)
        assert parts.shape[1] == rows
        assert torch.equal(joined(parts, whole.shape), whole)


def test_a_block_that_nothing_moves_comes_to_rest() -> None:
    """What is left of its momentum, and then rounding, is not brought to full length."""
    generator = torch.Generator().manual_seed(9)
    weight = nn.Parameter(torch.zeros(64, 32))
    optimizer = Muon([weight], lr=1e-3, weight_decay=0.0, block=16, adjust_lr_fn="match_rms_adamw")
    moved = []
    for step in range(800):
        before = weight.detach().clone()
        weight.grad = torch.randn(64, 32, generator=generator)
        if step >= 20:
            weight.grad[:16] = 0
        optimizer.step()
        moved.append([float(part.norm()) for part in (weight.detach() - before).split(16)])
    assert max(moved[400][0], moved[-1][0]) < 1e-5 < 1e-3 < min(moved[-1][1:])


def test_blocks_of_zeros_alone_have_no_share_where_the_smallest_numbers_count_as_nothing() -> None:
    parts = torch.zeros(4, 2, 3)
    parts[2:] = 1.0
    torch.set_flush_denormal(True)
    try:
        assert shares(parts, 2).tolist() == [0.0, 0.0, 1.0, 1.0]
    finally:
        torch.set_flush_denormal(False)


def test_a_gradient_that_is_zeros_for_long_does_no_harm() -> None:
    generator = torch.Generator().manual_seed(9)
    weight = nn.Parameter(torch.zeros(32, 80))
    optimizer = Muon([weight], lr=1e-3)
    for step in range(800):
        weight.grad = torch.randn(32, 80, generator=generator) if step < 20 else torch.zeros(32, 80)
        optimizer.step()
        assert float(weight.detach().abs().max()) < 0.25


@pytest.mark.parametrize("shape", [(256, 256), (100, 256), (65, 8), (256, 64), (24, 24)], ids=str)
def test_what_blocks_cost_is_what_torch_counts(shape: tuple[int, int]) -> None:
    weight = nn.Parameter(torch.ones(shape))
    weight.grad = torch.randn(shape, generator=torch.Generator().manual_seed(10))
    with FlopCounterMode(display=False) as counter:
        Muon([weight], block=64).step()
    assert update_flops(shape, 3, 64) == counter.get_total_flops()


@pytest.mark.parametrize("block", [0, -1, 2.0])
def test_a_block_of_no_rows_is_refused(block: float) -> None:
    with pytest.raises(ValueError, match=f"block is {block}, no whole number of at least 1"):
        Muon([nn.Parameter(torch.ones(4, 4))], block=block)  # type: ignore[arg-type]


def test_a_checkpoint_from_before_beta2_goes_on() -> None:
    weight = nn.Parameter(torch.ones(4, 4))
    optimizer = Muon([weight])
    old = optimizer.state_dict()
    for group in old["param_groups"]:
        del group["beta2"], group["block"]
    optimizer.load_state_dict(old)
    weight.grad = torch.eye(4)
    optimizer.step()
    assert (optimizer.param_groups[0]["beta2"], optimizer.param_groups[0]["block"]) == (0.0, None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_with_beta2_and_blocks_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    shapes = ((6, 8), (6, 8), (4, 3, 3, 3))
    gradients = [[torch.randn(s, generator=generator).to(dtype) for s in shapes] for _ in range(6)]

    def begun() -> tuple[list[nn.Parameter], Muon]:
        made = [nn.Parameter(torch.ones(shape, dtype=dtype)) for shape in shapes]
        return made, Muon(made, lr=0.1, beta2=0.9, block=4)

    def stepped(parameters: list[nn.Parameter], optimizer: Muon, steps: list[list[Tensor]]) -> None:
        for step in steps:
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()

    whole, first = begun()
    stepped(whole, first, gradients)
    half, second = begun()
    stepped(half, second, gradients[:3])
    rest, third = begun()
    for parameter, value in zip(rest, half, strict=True):
        parameter.data.copy_(value.data)
    third.load_state_dict(copy.deepcopy(second.state_dict()))
    stepped(rest, third, gradients[3:])
    assert [tuple(s["second_momentum_buffer"].shape) for s in third.state.values()] == [(6, 1), (6, 1), (4, 1)]
    if dtype == torch.float32:  # torch loads what is held of bfloat16 weights as bfloat16
        assert all(torch.equal(a, b) for a, b in zip(whole, rest, strict=True))


@pytest.mark.parametrize("iteration", ["minimax", "quintic"])
@pytest.mark.parametrize("shape", [(64, 64), (64, 288), (192, 64)], ids=str)
def test_iterations_in_bf16_bring_singular_values_where_fp32_does(shape: tuple[int, int], iteration: str) -> None:
    """Also of gradients as they are: one direction a hundred times as long as most."""
    polynomials = MINIMAX[:3] if iteration == "minimax" else (QUINTIC,) * 5
    for x in (spread(*shape, 1e-3)[None], torch.randn(1, *shape, generator=torch.Generator().manual_seed(6))):
        exact = orthogonal(x, polynomials, 1e-7, iteration == "minimax")
        found = orthogonal(x.bfloat16(), polynomials, 1e-7, iteration == "minimax").float()
        assert float((exact * found).sum() / exact.norm() / found.norm()) > 0.95
        assert float(torch.linalg.svdvals(found).max()) < 1.05 * float(torch.linalg.svdvals(exact).max())


@pytest.mark.parametrize(
    ("precision", "faster", "in_bf16"),
    [("auto", True, False), ("fp32", True, False), ("bf16", True, True), ("bf16", False, False)],
)
def test_a_cpu_takes_bf16_where_it_is_asked_for_and_faster(
    monkeypatch: pytest.MonkeyPatch, precision: str, faster: bool, in_bf16: bool
) -> None:
    seen: list[torch.dtype] = []
    plain = muon.orthogonal
    monkeypatch.setattr(muon, "bf16_is_faster", lambda: faster)
    monkeypatch.setattr(muon, "orthogonal", lambda x, *rest: (seen.append(x.dtype), plain(x, *rest))[1])
    weight, small = nn.Parameter(torch.ones(64, 64)), nn.Parameter(torch.ones(8, 8))
    optimizer = Muon([weight, small], precision=precision)
    weight.grad, small.grad = torch.eye(64), torch.eye(8)
    optimizer.step()
    assert seen == [torch.bfloat16 if in_bf16 else torch.float32, torch.float32]
    # another machine goes on with what the run began with, and so do copies
    monkeypatch.setattr(muon, "bf16_is_faster", lambda: not faster)
    other, small = nn.Parameter(torch.ones(64, 64)), nn.Parameter(torch.ones(8, 8))
    resumed = Muon([other, small], precision=precision)
    resumed.load_state_dict(copy.deepcopy(optimizer).state_dict())
    other.grad = torch.eye(64)
    resumed.step()
    assert seen[2] == seen[0]
    assert other.dtype == torch.float32
