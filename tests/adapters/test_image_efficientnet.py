"""EfficientNet-lite as image adapter: its numbers beside a plain reference, images that do not see each other."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_image_timm_adapter import CELL, SIZES, D, pack
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_efficientnet import EfficientNetAdapter, EfficientNetLite
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.converters import Lora

#: Kernel, stride, expansion, channels and repeats of the paper's table 1.
PAPER = [
    *((3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3)),
    *((5, 1, 6, 112, 3), (5, 2, 6, 192, 4), (3, 1, 6, 320, 1)),
]


def adapter(**settings: Any) -> EfficientNetAdapter:
    torch.manual_seed(0)
    return EfficientNetAdapter({"patch": 16, **settings}, Shared(D, nn.Embedding(4, D)))


def drawn(network: nn.Module) -> None:
    """Statistics and weights of norms as a training leaves them."""
    rng = torch.Generator().manual_seed(1)
    for name, value in network.state_dict().items():
        if "running_var" in name:
            value.uniform_(0.5, 2.0, generator=rng)
        elif value.ndim == 1:
            value.normal_(0.5 if name.endswith("weight") else 0.0, 0.3, generator=rng)


def plain(state: dict[str, Tensor], x: Tensor, depths: list[int]) -> Tensor:
    """The network by functions alone, written from the paper and TensorFlow's padding."""

    def conv(x: Tensor, name: str, stride: int, groups: int, cut: bool) -> Tensor:
        kernel = state[f"{name}.0.weight"]
        side = kernel.shape[2]
        down, across = (max(0, (math.ceil(n / stride) - 1) * stride + side - n) for n in x.shape[2:])
        x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
        x = F.conv2d(x, kernel, stride=stride, groups=groups)
        values = (state[f"{name}.1.{key}"][:, None, None] for key in ("running_mean", "running_var", "weight", "bias"))
        mean, variance, weight, bias = values
        x = (x - mean) / torch.sqrt(variance + 1e-3) * weight + bias
        return x.clamp(0, 6) if cut else x

    x = conv(x, "first", 2, 1, True)
    for stage, (depth, (_, stride, expansion, _, _)) in enumerate(zip(depths, PAPER, strict=True)):
        for block in range(depth):
            name, before = f"stages.{stage}.{block}", x
            if expansion > 1:
                x = conv(x, f"{name}.expand", 1, 1, True)
            x = conv(x, f"{name}.depthwise", stride if block == 0 else 1, x.shape[1], True)
            x = conv(x, f"{name}.project", 1, 1, False)
            x = x + before if block else x
    return conv(x, "last", 1, 1, True)


def test_lite0_is_what_the_paper_says() -> None:
    network = EfficientNetLite(0).eval()
    drawn(network)
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        found, wanted = network(x), plain(dict(network.state_dict()), x, [row[4] for row in PAPER])
    assert found.shape == (2, 1280, 2, 3)
    assert found.std() > 0.1
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("number", "blocks", "channels"), [(1, 21, 320), (2, 21, 352), (3, 24, 384), (4, 30, 448)])
def test_the_larger_ones_have_more_blocks_and_channels(number: int, blocks: int, channels: int) -> None:
    with torch.device("meta"):
        network = EfficientNetLite(number)
    assert network.last is not None
    assert sum(len(list(stage.children())) for stage in network.stages) == blocks
    assert network.last[0].in_channels == channels


def test_packed_images_equal_images_one_by_one_in_training() -> None:
    model = adapter(stages=None).train()
    drawn(model.backbone)
    rows = [h * w for h, w in SIZES]
    pixels = torch.randint(0, 256, (sum(rows), 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    packed = model.embed(pack(SIZES, pixels))
    single = torch.cat([model.embed(pack([s], x)) for s, x in zip(SIZES, pixels.split(rows), strict=True)])
    torch.testing.assert_close(packed, single, rtol=1e-3, atol=1e-4)
    assert packed.shape == (sum(rows) // CELL**2, D)
    packed.square().sum().backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []


def test_packed_pictures_equal_pictures_one_by_one_with_updates_in_place() -> None:
    model = adapter(stages=None).train()
    drawn(model.backbone)
    Lora("backbone.*", rank=2).convert(model)
    for name, value in model.named_parameters():
        if name.endswith("up_OR"):
            nn.init.normal_(value, std=0.01, generator=torch.Generator().manual_seed(1))
    rows = [h * w for h, w in SIZES]
    pixels = torch.randint(0, 256, (sum(rows), 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    packed = model.embed(pack(SIZES, pixels))
    alone = torch.cat([model.embed(pack([s], x)) for s, x in zip(SIZES, pixels.split(rows), strict=True)])
    torch.testing.assert_close(packed, alone, rtol=1e-3, atol=1e-4)


def test_batch_norm_keeps_its_statistics_in_training() -> None:
    model = adapter().train()
    before = {key: value.clone() for key, value in model.named_buffers()}
    model.embed(pack([(64, 64)], torch.randint(0, 256, (64 * 64, 3), dtype=torch.uint8)))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.project.training


def test_drawn_weights_keep_the_scale_of_what_passes_through() -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        found = EfficientNetLite(0).eval()(torch.randn(4, 3, 64, 64))
    assert 0.1 < found.std() < 5


def test_what_a_row_costs_is_three_times_its_way_forward() -> None:
    part = pack([(224, 224)], torch.zeros(224 * 224, 3, dtype=torch.uint8))
    part.arrays.update({name: tensor.to("meta") for name, tensor in part.arrays.items()})
    cost, _ = adapter().work([part])
    # 0.39 G products are the paper's count of EfficientNet-B0, which lite0 is without squeezing
    assert cost.flops * 49 == pytest.approx(3 * 2 * 0.4e9, rel=0.1)


def test_fewer_stages_are_finer_cells() -> None:
    model = adapter(stages=5, patch=8)
    assert model.project.in_features == 112
    assert model.features(torch.zeros(1, 3, 32, 48)).shape == (1, 2, 3, 112)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch": 8}, "has the stride 32"),
        ({"stages": 8}, "`stages` is 8"),
        ({"lite": 5}, "`lite` is 5"),
        ({"pixel_mean": [0.5, 0.5]}, "three numbers"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError) as error:
        adapter(**settings)
    assert message in str(error.value)
