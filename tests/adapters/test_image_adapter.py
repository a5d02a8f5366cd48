"""The image adapter: packed equals one by one, masks hide, every parameter learns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import ImageAdapter, buckets
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.layout.pack import Part
from ofasys_lite.preprocess.base import Context, Piece, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess

D = 48


def pack(pieces: Sequence[Piece]) -> Part:
    """The part that collation makes of image pieces."""
    names = ("pixels", "mask")
    joined = {
        "pixels": [p.arrays["pixels"] for p in pieces] or [np.zeros((0, 3), np.uint8)],
        "mask": [p.arrays["mask"] for p in pieces] or [np.zeros(0, np.bool_)],
    }
    return Part(
        "image",
        torch.arange(sum(p.count for p in pieces)),
        tuple(p.count for p in pieces),
        {name: torch.from_numpy(np.concatenate(joined[name])) for name in names},
        {name: tuple(len(p.arrays[name]) for p in pieces) for name in names},
        tuple(p.grid for p in pieces),
    )


def pieces(sizes: Sequence[tuple[int, int]], masked: bool = False, **settings: Any) -> list[Piece]:
    rng = np.random.default_rng(0)
    preprocess = ImagePreprocess(Context(settings, None, adapter="image"))  # type: ignore[arg-type]
    made = []
    for i, size in enumerate(sizes):
        options = (("mask_ratio", 0.5),) if masked and i % 2 else ()
        made.append(
            preprocess.encode(
                rng.integers(0, 256, (*size, 3)).astype(np.uint8), options, RowContext(rng=rng, train=True)
            )
        )
    return made


def adapter(**settings: Any) -> ImageAdapter:
    torch.manual_seed(0)
    return ImageAdapter(settings, Shared(D, nn.Embedding(4, D)))


RAGGED = [(64, 64), (48, 64), (64, 64), (64, 48), (8, 8), (64, 64), (8, 40)]
STEMS: dict[str, dict[str, Any]] = {
    "conv": {},
    "linear": {"stem": "linear"},
    "odd patch": {"patch": 7, "widths": [16]},
    "no coordinates": {"coordinates": False},
}


@pytest.mark.parametrize("name", STEMS)
@pytest.mark.parametrize("sizes", [RAGGED, [(64, 48)] * 3], ids=["ragged", "equal"])
def test_packed_images_equal_images_one_by_one_in_values_and_gradients(name: str, sizes: list[tuple[int, int]]) -> None:
    model = adapter(**STEMS[name])
    images = pieces(sizes, masked=True, patch=STEMS[name].get("patch", 4))
    judge = torch.randn(sum(p.count for p in images), D)
    packed = model.embed(pack(images))
    (packed * judge).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    single = torch.cat([model.embed(pack([image])) for image in images])
    (single * judge).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    for key, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-3, atol=1e-3, msg=key)


@pytest.mark.parametrize("settings", [{}, {"patch": 7, "widths": [16]}, {"blocks": 2}], ids=["conv", "odd", "blocks"])
def test_images_of_several_sizes_in_one_call_equal_images_one_by_one(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = adapter(**settings)
    for block in model.stem.blocks:
        nn.init.normal_(block.out.weight, std=0.3)
        nn.init.normal_(block.out.bias)
    images = pieces(RAGGED, masked=True, patch=settings.get("patch", 4))
    judge = torch.randn(sum(p.count for p in images), D)
    single = torch.cat([model.embed(pack([image])) for image in images])
    wanted = torch.autograd.grad((single * judge).sum(), list(model.parameters()))
    seen: list[int] = []
    cells = model.stem.cells
    monkeypatch.setattr(model.stem, "cells", lambda x, inside: [seen.append(len(x)), cells(x, inside)][1])
    monkeypatch.setattr(model, "together", lambda shapes: buckets(shapes, 1000.0))
    packed = model.embed(pack(images))
    assert seen == [len(images)]
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-5)
    gradients = torch.autograd.grad((packed * judge).sum(), list(model.parameters()))
    for found, want in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(found, want, rtol=1e-3, atol=1e-3)


def test_a_linear_stem_is_one_product_for_a_pack() -> None:
    model = adapter(stem="linear")
    rows: list[int] = []
    model.stem.cell.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    images = pieces(RAGGED)
    model.embed(pack(images))
    assert rows == [sum(piece.count for piece in images)]


def test_gaps_of_a_call_stay_within_what_is_allowed() -> None:
    rng = np.random.default_rng(0)
    shapes = [(int(lines), int(columns)) for lines, columns in rng.integers(4, 20, (200, 2))]
    found = buckets(shapes, 1.5)
    assert sorted(i for members in found for i in members) == list(range(200))
    for members in found:
        high, wide = (max(shapes[i][way] for i in members) for way in (0, 1))
        assert len(members) * high * wide <= 1.5 * sum(shapes[i][0] * shapes[i][1] for i in members)
    assert len(found) < len(set(shapes)) / 2
    assert [len(members) for members in buckets([(3, 4)] * 9)] == [9]


@pytest.mark.parametrize("name", STEMS)
def test_every_parameter_learns_from_a_pack_with_a_mask(name: str) -> None:
    model = adapter(**STEMS[name])
    images = pieces(RAGGED, masked=True, patch=STEMS[name].get("patch", 4))
    model.embed(pack(images)).square().sum().backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert key == "norm.bias" or parameter.grad.abs().sum() > 0, key


def test_a_pack_without_images_gives_no_rows_and_touches_every_parameter() -> None:
    model = adapter()
    rows = model.embed(pack([]))
    assert rows.shape == (0, D)
    rows.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.touch().item() == 0


def test_a_pack_without_a_mask_still_touches_the_mask() -> None:
    model = adapter()
    model.embed(pack(pieces([(16, 16)]))).sum().backward()
    assert model.mask.grad is not None


def test_hidden_pixels_are_seen_nowhere() -> None:
    model = adapter()
    (piece,) = pieces([(32, 32)])
    mask = np.zeros(16, np.bool_)
    mask[5] = True
    pixels = piece.arrays["pixels"].reshape(32, 32, 3).copy()
    pixels[8:16, 8:16] = 255
    other = pixels.copy()
    other[8:16, 8:16] = 0
    first, second = (
        model.embed(pack([replace(piece, arrays={**piece.arrays, "mask": mask, "pixels": x})]))
        for x in (pixels.reshape(-1, 3), other.reshape(-1, 3))
    )
    assert torch.equal(first, second)


def test_bf16_autocast_gives_nearly_the_same() -> None:
    model = adapter()
    part = pack(pieces(RAGGED, masked=True))
    full = model.embed(part)
    with torch.autocast("cpu", torch.bfloat16):
        half = model.embed(part)
    assert (full - half).abs().mean() < 0.03
    model.to(torch.bfloat16)
    assert model.embed(part).dtype == torch.bfloat16


def test_pixels_that_do_not_fill_the_cells_are_refused() -> None:
    part = pack(pieces([(16, 16)], patch=8))
    with pytest.raises(ShapeError, match=r"256 pixels in a grid of \(1, 1, 1\) do not fill 1 cells of 8 x 8"):
        adapter().embed(part)


def test_settings_that_fit_no_stem_are_refused() -> None:
    with pytest.raises(CardError, match="`stem` of IMAGE is 'vit'"):
        adapter(stem="vit")
    with pytest.raises(CardError, match=r"`widths` of IMAGE has 1 entries for patch 4\n  help: write 2: one per step"):
        adapter(widths=[8])
