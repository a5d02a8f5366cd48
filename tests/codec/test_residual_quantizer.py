"""The residual quantizer equals the published one, learns by averages, and restarts codes that nothing uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ofasys_lite.codec.residual_quantizer import ResidualQuantizer
from ofasys_lite.errors import CardError, ShapeError

FIXTURES = Path(__file__).parents[1] / "fixtures" / "dnd"


def _published(name: str) -> tuple[ResidualQuantizer, dict[str, Any]]:
    want = torch.load(FIXTURES / f"{name}.pt", weights_only=True)
    config = want["config"]
    depth = config["code_shape"][-1]
    quantizer = ResidualQuantizer(config["n_embed"], 8, depth, config["shared"], config["decay"], restart=False)
    _fill(quantizer, want["state_dict"])
    return quantizer.eval(), want


def _fill(quantizer: ResidualQuantizer, state: dict[str, Tensor]) -> None:
    for k in range(len(quantizer.books)):
        book = quantizer.book(k)
        book.weight_VC.copy_(state[f"codebooks.{k}.weight"][:-1])  # the last row is padding
        book.count_V.copy_(state[f"codebooks.{k}.cluster_size_ema"])
        book.total_VC.copy_(state[f"codebooks.{k}.embed_ema"])


@pytest.mark.parametrize("name", ["rq_d1", "rq_d4_shared"])
def test_codes_and_sums_equal_the_published_ones(name: str) -> None:
    quantizer, want = _published(name)
    found = quantizer(want["x"])
    assert torch.equal(found.codes, want["codes"])
    torch.testing.assert_close(found.z, want["z_q"])
    torch.testing.assert_close(found.sums, want["cumulative_quants"])
    assert found.commitment.item() == pytest.approx(float(want["commit"]), rel=1e-6)
    torch.testing.assert_close(quantizer.vectors(found.codes), found.sums[-1])


@pytest.mark.parametrize("name", ["rq_d1", "rq_d4_shared"])
def test_one_step_of_the_averages_equals_the_published_one(name: str) -> None:
    quantizer, fixture = _published(name)
    want = fixture["after_one_ema_step_no_restart"]
    found = quantizer.train()(fixture["x"])
    assert torch.equal(found.codes, want["codes"])
    torch.testing.assert_close(found.z, want["z_q"])
    assert found.commitment.item() == pytest.approx(float(want["commit"]), rel=1e-5)
    for k in range(len(quantizer.books)):
        book = quantizer.book(k)
        torch.testing.assert_close(book.weight_VC, want["state_dict"][f"codebooks.{k}.weight"][:-1])
        torch.testing.assert_close(book.count_V, want["state_dict"][f"codebooks.{k}.cluster_size_ema"])
        torch.testing.assert_close(book.total_VC, want["state_dict"][f"codebooks.{k}.embed_ema"])


def test_the_gradient_passes_unchanged() -> None:
    x = torch.randn(5, 8, requires_grad=True)
    ResidualQuantizer(16, 8, 2).eval()(x).z.backward(torch.ones(5, 8))
    assert torch.equal(x.grad, torch.ones(5, 8))


def test_deeper_codes_lie_nearer() -> None:
    torch.manual_seed(0)
    x = torch.randn(512, 8)
    quantizer = ResidualQuantizer(64, 8, 4, shared=False, decay=0.9)
    for _ in range(60):
        quantizer(x)
    errors = ((quantizer.eval()(x).sums - x) ** 2).mean((1, 2))
    assert all(errors[k + 1] < 0.9 * errors[k] for k in range(3))


def test_codes_that_nothing_uses_are_restarted() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, 4) + 100.0  # far from every code: without restarts one code takes all
    used = {}
    for restart in (False, True):
        quantizer = ResidualQuantizer(16, 4, 1, decay=0.5, restart=restart)
        for _ in range(20):
            codes = quantizer(x).codes
        used[restart] = len(codes.unique())
    assert used[True] == 16
    assert used[False] < 8


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(CardError, match="depth is at least 1"):
        ResidualQuantizer(16, 8, 0)
    with pytest.raises(CardError, match="decay is 1"):
        ResidualQuantizer(16, 8, 1, decay=1.0)
    with pytest.raises(ShapeError, match="4 channels, codes have 8"):
        ResidualQuantizer(16, 8, 1)(torch.zeros(3, 4))
    with pytest.raises(ShapeError, match="codes of depth 3, it has 2"):
        ResidualQuantizer(16, 8, 2).vectors(torch.zeros(5, 3, dtype=torch.long))
