"""Rotary values equal those of the published implementations."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ofasys_lite.errors import ShapeError
from ofasys_lite.model import ModelConfig, RotaryAxes, mrope_axes, rotary_table, rotate

FIXTURES = Path(__file__).parents[1] / "fixtures" / "positions"


@pytest.mark.parametrize("layout", ["text_image_text", "video_t_gt_hw"])
def test_mrope_equals_qwen2_vl(layout: str) -> None:
    want = {
        key.removeprefix(f"{layout}."): value
        for key, value in load_file(FIXTURES / "mrope_rotary.safetensors").items()
        if key.startswith(layout)
    }
    config = ModelConfig(width=128, heads=4, rotary_sections=(4, 6, 6), rotary_layout="blocks", rotary_theta=1e6)
    positions_S3 = want["position_ids"][:, 0].T
    cos, sin = rotary_table(positions_S3, config)
    torch.testing.assert_close(torch.cat([cos, cos], -1), want["cos"][0])
    torch.testing.assert_close(torch.cat([sin, sin], -1), want["sin"][0])
    for name in ("q", "k"):
        turned = rotate(want[name][0].transpose(0, 1), (cos, sin))
        torch.testing.assert_close(turned, want[f"{name}_embed"][0].transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_interleaved_axes_all_have_fast_and_slow_pairs() -> None:
    axes = mrope_axes(32, (4, 6, 6), 100.0, "interleaved").axes_P
    assert [axes.count(a) for a in range(3)] == [4, 6, 6]
    for axis in range(3):
        assert axis in axes[:4]
        assert axis in axes[-4:]


def test_neighbouring_columns_are_told_apart() -> None:
    def nearest(layout: str) -> float:
        config = ModelConfig(width=256, heads=4, rotary_layout=layout)
        cos, sin = rotary_table(torch.tensor([[0, 0, 0], [0, 0, 1]]), config)
        return float(((cos[0] - cos[1]) ** 2 + (sin[0] - sin[1]) ** 2).sum())

    assert nearest("interleaved") > 0.5 > 1e-4 > nearest("blocks")


def test_two_axes_with_a_ladder_each_equal_the_dnd_transformer() -> None:
    want_SP2 = load_file(FIXTURES / "dnd_rotary.safetensors")["cos_sin"][1:]
    cells = torch.arange(16)
    positions_S3 = torch.stack([torch.zeros_like(cells), cells // 4, cells % 4], 1)
    config = ModelConfig(width=16, heads=1, rotary_sections=(0, 4, 4), rotary_layout="axial")
    cos, sin = rotary_table(positions_S3, config)
    torch.testing.assert_close(torch.stack([cos, sin], -1), want_SP2)


def test_the_written_gradient_is_the_right_one() -> None:
    x = torch.randn(4, 2, 6, dtype=torch.float64, requires_grad=True)
    config = ModelConfig(width=6, heads=1, rotary_sections=(1, 1, 1), rotary_theta=10.0)
    cos, sin = (t.double() for t in rotary_table(torch.randint(0, 5, (4, 3)), config))
    assert torch.autograd.gradcheck(lambda x: rotate(x, (cos, sin)), (x,))


def test_scores_depend_on_differences_of_positions_only() -> None:
    config = ModelConfig(width=32, heads=1)
    q, k = torch.randn(1, 1, 32), torch.randn(1, 1, 32)
    scores = []
    for shift in (0, 50):
        at = [rotary_table(torch.tensor([[p + shift] * 3]), config) for p in (3, 11)]
        scores.append((rotate(q, at[0]) * rotate(k, at[1])).sum())
    torch.testing.assert_close(scores[0], scores[1], rtol=1e-4, atol=1e-4)


def test_wrong_tables_and_positions_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 axes for 1 frequencies"):
        RotaryAxes((0, 1), (1.0,))
    with pytest.raises(ShapeError, match="give 3 numbers per row"):
        rotary_table(torch.zeros(4, 2), ModelConfig(width=6, heads=1))
