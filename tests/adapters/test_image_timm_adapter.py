"""A timm backbone as image adapter: images do not see each other, every parameter learns."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_timm import TimmAdapter
from ofasys_lite.errors import CardError
from ofasys_lite.layout.pack import Part

D, CELL = 32, 32
SIZES = [(64, 96), (32, 32), (64, 96), (96, 64)]


@pytest.fixture
def timm() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision beside a torch of another build says so
        return pytest.importorskip("timm", exc_type=ImportError)


def pack(sizes: Sequence[tuple[int, int]], pixels: torch.Tensor) -> Part:
    counts = tuple(h * w // CELL**2 for h, w in sizes)
    arrays = {"pixels": pixels, "mask": torch.zeros(0, dtype=torch.bool)}
    lengths = {
        "pixels": tuple(h * w for h, w in sizes),
        "mask": (0,) * len(sizes),
    }
    grids = tuple((1, h // CELL, w // CELL) for h, w in sizes)
    return Part("image:timm", torch.arange(sum(counts)), counts, arrays, lengths, grids)


def adapter(**settings: Any) -> TimmAdapter:
    torch.manual_seed(0)
    return TimmAdapter({"patch": 16, **settings}, Shared(D, nn.Embedding(4, D)))


@pytest.mark.parametrize("backbone", ["resnet10t", "convnext_atto", "test_vit"])
def test_packed_images_equal_images_one_by_one_in_training(timm: Any, backbone: str) -> None:
    model = adapter(backbone=backbone).train()
    rows = [h * w for h, w in SIZES]
    pixels = torch.randint(0, 256, (sum(rows), 3), dtype=torch.uint8)
    packed = model.embed(pack(SIZES, pixels))
    single = torch.cat([model.embed(pack([s], x)) for s, x in zip(SIZES, pixels.split(rows), strict=True)])
    torch.testing.assert_close(packed, single, rtol=1e-3, atol=1e-3)
    packed.square().sum().backward()
    assert packed.shape == (sum(rows) // CELL**2, D)
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None or "mask" in key, key


def test_batch_norm_keeps_its_statistics_in_training(timm: Any) -> None:
    model = adapter(backbone="resnet10t").train()
    before = {key: value.clone() for key, value in model.named_buffers()}
    model.embed(pack([(64, 64)], torch.randint(0, 256, (64 * 64, 3), dtype=torch.uint8)))
    assert all(torch.equal(value, before[key]) for key, value in model.named_buffers())
    assert model.project.training


def test_maps_of_another_stride_are_brought_to_the_cells(timm: Any) -> None:
    for patch in (8, 32):
        model = adapter(backbone="resnet10t", patch=patch)
        x_NPD = model.features(torch.zeros(1, 3, 128, 192))
        assert x_NPD.shape == (1, 128 // (2 * patch), 192 // (2 * patch), D)


def test_an_unknown_backbone_is_refused_with_the_nearest(timm: Any) -> None:
    with pytest.raises(CardError, match="did you mean `resnet18`"):
        adapter(backbone="resnet_18")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(CardError, match=r"needs timm: .*\n  help: pip install 'ofasys_lite\[image\]'"):
        adapter()


def test_an_exported_backbone_fetches_no_weights_again() -> None:
    settings = {"backbone": "resnet18", "pretrained": True, "checkpoint": "weights.pth", "patch": 16}
    assert TimmAdapter.stored(settings) == {**settings, "pretrained": False, "checkpoint": None}
