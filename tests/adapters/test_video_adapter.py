"""Clips through the image adapter: pairs of frames are pictures where nothing moves, and packs change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from test_image_adapter import D, pack
from torch import nn

from ofasys_lite.adapters.base import Asked, Shared
from ofasys_lite.adapters.image import ImageAdapter
from ofasys_lite.adapters.image_stem import LinearStem
from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.preprocess.base import Context, Piece, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.video import VideoPreprocess

SETTINGS = modalities()["VIDEO"].settings
STEMS: dict[str, dict[str, Any]] = {"conv": {}, "linear": {"stem": "linear"}, "blocks": {"blocks": 1}}


def adapter(**settings: Any) -> ImageAdapter:
    torch.manual_seed(0)
    return ImageAdapter({**SETTINGS, **settings}, Shared(D, nn.Embedding(4, D)))


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def clip(pixels: np.ndarray[Any, Any], **said: Any) -> Piece:
    tool = VideoPreprocess(Context(SETTINGS, None, adapter="image"))  # type: ignore[arg-type]
    return tool.encode(pixels, tuple(said.items()), RowContext(rng=np.random.default_rng(1)))


def image(pixels: np.ndarray[Any, Any], **said: Any) -> Piece:
    tool = ImagePreprocess(Context(SETTINGS, None, adapter="image"))  # type: ignore[arg-type]
    return tool.encode(pixels, tuple(said.items()), RowContext(rng=np.random.default_rng(1)))


def mixed() -> list[Piece]:
    """Clips and pictures of several sizes, some masked."""
    return [
        clip(noise(6, 32, 32)),
        image(noise(32, 32, seed=1)),
        clip(noise(5, 16, 32, seed=2), mask_ratio=0.5),
        clip(noise(1, 32, 32, seed=3)),
        image(noise(16, 32, seed=4), mask_ratio=0.5),
        clip(noise(2, 32, 32, seed=5)),
    ]


@pytest.mark.parametrize("stem", STEMS)
def test_a_pair_of_equal_frames_is_the_picture(stem: str) -> None:
    model = adapter(**STEMS[stem])
    picture = noise(24, 32)
    pair = clip(np.stack([picture, picture]))
    assert len(pair.arrays["pixels"]) == 2 * 24 * 32
    with torch.no_grad():
        found = [model.embed(pack([each])) for each in (pair, clip(picture[None]), image(picture))]
    torch.testing.assert_close(found[0], found[2], rtol=0, atol=1e-5)
    assert torch.equal(found[1], found[2])
    other = clip(np.stack([picture, noise(24, 32, seed=9)]))
    with torch.no_grad():
        assert not torch.allclose(model.embed(pack([other])), found[2], atol=1e-2)


def test_a_linear_stem_is_one_map_of_both_frames() -> None:
    """The inflated patch embedding of Qwen2-VL: a kernel that is two frames deep."""
    model = adapter(stem="linear", coordinates=False)
    assert isinstance(model.stem, LinearStem)
    assert model.motion is not None
    both = noise(2, 8, 8)
    kernel = torch.cat([(model.stem.cell.weight + s * model.motion.weight) / 2 for s in (-1, 1)], dim=1)
    x = torch.from_numpy(both.reshape(1, -1)).float() / 127.5 - 1
    expected = model.norm(x @ kernel.T + model.stem.cell.bias)
    torch.testing.assert_close(model.embed(pack([clip(both)])), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("ragged", [True, False], ids=["ragged", "equal"])
def test_packed_clips_equal_clips_one_by_one_in_values_and_gradients(stem: str, ragged: bool) -> None:
    model = adapter(**STEMS[stem])
    pieces = mixed() if ragged else [clip(noise(4, 32, 32, seed=n)) for n in range(3)]
    judge = torch.randn(sum(p.count for p in pieces), D)
    packed = model.embed(pack(pieces))
    (packed * judge).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    model.zero_grad()
    single = torch.cat([model.embed(pack([each])) for each in pieces])
    (single * judge).sum().backward()
    torch.testing.assert_close(packed, single, rtol=0, atol=1e-5)
    for key, parameter in model.named_parameters():
        grad, expected = gradients[key], parameter.grad
        assert grad is not None
        assert expected is not None
        torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-4)
    assert float(gradients["motion.weight"].abs().sum()) > 0  # type: ignore[union-attr]


def test_frames_do_not_see_other_pairs() -> None:
    model = adapter()
    one, two = noise(4, 32, 32), noise(4, 32, 32)
    two[2:] = noise(2, 32, 32, seed=7)
    with torch.no_grad():
        found = [model.embed(pack([clip(each)])) for each in (one, two)]
    assert torch.equal(found[0][:16], found[1][:16])
    assert not torch.equal(found[0][16:], found[1][16:])


def test_only_clips_move_what_only_they_need() -> None:
    model = adapter()
    assert model.motion is not None
    section = next(each for each in model.sections() if model.motion.weight in set(each.parameters))

    def needed(pieces: Sequence[Piece]) -> int:
        return section.count(Asked((pack(pieces),)))

    assert needed([image(noise(32, 32)), clip(noise(1, 32, 32))]) == 0
    assert needed(mixed()) == 3
    model.embed(pack([image(noise(32, 32))])).sum().backward()
    assert model.motion.weight.grad is not None
    assert float(model.motion.weight.grad.abs().sum()) == 0


def test_a_model_without_clips_has_no_weights_for_them() -> None:
    settings = modalities()["IMAGE"].settings
    model = ImageAdapter(settings, Shared(D, nn.Embedding(4, D)))
    assert model.motion is None
    with pytest.raises(ShapeError, match="made without clips"):
        model.embed(pack([clip(noise(2, 16, 16))]))
    with pytest.raises(CardError, match="temporal_patch"):
        adapter(temporal_patch=3)
    broken = clip(noise(2, 16, 16))
    part = pack([broken])
    with pytest.raises(ShapeError, match="do not fill 4 cells"):
        adapter().embed(
            type(part)(
                part.adapter, part.rows_P, part.counts, part.arrays, {**part.sizes, "pixels": (300,)}, part.grids
            )
        )
