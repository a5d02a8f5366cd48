"""From noise to values where what the model should give is known: one Gaussian, its mean and covariance recovered."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ofasys_lite.decoding.denoising import denoise, noise
from ofasys_lite.errors import CardError
from ofasys_lite.layout.noise import TARGETS, Process

PROCESSES = [Process("flow", "velocity"), *(Process("diffusion", target, 1000) for target in TARGETS)]
MEAN = torch.tensor([2.0, -1.0])
SHAPE = torch.tensor([[1.0, 0.6], [0.6, 0.5]])


def exact(process: Process) -> Any:
    """The best answer there is for values drawn from N(MEAN, SHAPE): what the model is to give, its mean."""

    def model(x_NLC: Tensor, level: float) -> Tensor:
        signal, share = map(float, process.scales(level))
        noisy = signal**2 * SHAPE + share**2 * torch.eye(2)
        value = MEAN + (x_NLC - signal * MEAN) @ torch.linalg.inv(noisy) @ (signal * SHAPE)
        rest = (x_NLC - signal * value) / share
        found: Tensor = process.goal(value, rest, level)
        return found

    return model


def rngs(count: int, seed: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, number]) for number in range(count)]


#: A flow adds no noise anew.
WAYS = [(process, eta) for process in PROCESSES for eta in (0.0, 1.0) if process.name != "flow" or not eta]


@pytest.mark.parametrize(("process", "eta"), WAYS, ids=[f"{p.name}-{p.target}-{eta:g}" for p, eta in WAYS])
def test_a_gaussian_is_recovered(process: Process, eta: float) -> None:
    # noise that is added anew wants smaller steps
    count = 4000
    start = noise(rngs(count), 1, 2, torch.device("cpu"))
    found = denoise(exact(process), start, process, 500 if eta else 100, eta, rngs(count, 1))[:, 0]
    assert torch.allclose(found.mean(0), MEAN, atol=0.06)
    assert torch.allclose(found.T.cov(), SHAPE, atol=0.06)
    # two passes are not enough, so that the number of passes does something
    rough = denoise(exact(process), start, process, 2, eta, rngs(count, 1))[:, 0]
    assert not torch.allclose(rough.T.cov(), SHAPE, atol=0.06)


@pytest.mark.parametrize("process", PROCESSES, ids=lambda p: f"{p.name}-{p.target}")
def test_goal_and_split_undo_each_other(process: Process) -> None:
    rng = np.random.default_rng(0)
    value, rest = torch.from_numpy(rng.normal(size=(2, 5, 3)))
    for level in (0.001, 0.3, 0.999, 1.0):
        signal, share = map(float, process.scales(level))
        found = process.split(signal * value + share * rest, process.goal(value, rest, level), level)
        torch.testing.assert_close(torch.stack(found), torch.stack([value, rest]), rtol=0, atol=1e-6)


def test_without_new_noise_it_follows_from_what_it_began_with() -> None:
    process = Process("diffusion", "v", 1000)
    start = noise(rngs(3), 4, 2, torch.device("cpu"))
    one, two = (denoise(exact(process), start, process, 7, 0.0, rngs(3, seed)) for seed in (1, 2))
    assert torch.equal(one, two)
    other = [denoise(exact(process), start, process, 7, 1.0, rngs(3, seed)) for seed in (1, 2)]
    assert not torch.allclose(*other)
    # a sample's draws are its own
    alone = denoise(exact(process), start[1:2], process, 7, 1.0, rngs(3, 1)[1:2])
    torch.testing.assert_close(alone[0], denoise(exact(process), start, process, 7, 1.0, rngs(3, 1))[1])


def test_new_noise_on_the_way_of_a_flow_is_refused() -> None:
    process = PROCESSES[0]
    with pytest.raises(CardError, match="`eta` is for diffusion"):
        denoise(exact(process), torch.zeros(1, 1, 2), process, 2, 0.5, rngs(1))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"steps": 0}, "`steps` of diffusion is a whole number"),
        ({"steps": 2.5}, "not 2.5"),
        ({"target": "x"}, "cannot be `x`"),
        ({"target": "velocity"}, "diffusion takes: x0, v, eps"),
    ],
)
def test_what_a_line_cannot_ask_for(options: dict[str, Any], told: str) -> None:
    with pytest.raises(CardError) as error:
        Process.of("diffusion", options)
    assert told in str(error.value)


def test_levels_are_drawn_where_they_are_learned() -> None:
    rng = np.random.default_rng(0)
    drawn = [Process("diffusion", "x0", 4).draw(rng) for _ in range(200)]
    assert set(drawn) == {0.25, 0.5, 0.75, 1.0}
    free = [Process("flow", "velocity").draw(rng) for _ in range(200)]
    assert min(free) < 0.05
    assert max(free) > 0.95
