"""A Vision Transformer as image adapter: packed equals one by one, whatever the sizes; every weight learns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_image_adapter import D, pack
from torch import nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_tower import TowerAdapter
from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError
from ofasys_lite.preprocess.base import Context, Piece, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.video import VideoPreprocess

CARD = modalities()["VIDEO"].settings
SMALL = {"width": 32, "depth": 2, "heads": 2, "ffn": 48, "table": 4}
TOWERS: dict[str, dict[str, Any]] = {
    "class token": {"patch": 4, "tower": SMALL},
    "entry norm": {
        "patch": 4,
        "tower": {**SMALL, "entry_norm": True, "final_norm": "class", "activation": "quick_gelu", "patch_bias": False},
    },
    "no class token": {"patch": 4, "tower": {**SMALL, "class_token": False, "activation": "gelu_tanh"}},
    "merged": {
        "patch": 4,
        "tower": {**SMALL, "class_token": False, "positions": "rotary", "merge": 2, "out": 40, "temporal": 2},
    },
}
SIZES = [(32, 32), (48, 16), (32, 32), (8, 8), (24, 40)]


def adapter(name: str, **settings: Any) -> TowerAdapter:
    torch.manual_seed(0)
    return TowerAdapter({**CARD, **TOWERS[name], **settings}, Shared(D, nn.Embedding(4, D)))


def noise(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3)).astype(np.uint8)


def picture(pixels: np.ndarray[Any, Any], **said: Any) -> Piece:
    tool = ImagePreprocess(Context(CARD, None, adapter="image"))  # type: ignore[arg-type]
    return tool.encode(pixels, tuple(said.items()), RowContext(rng=np.random.default_rng(1)))


def clip(pixels: np.ndarray[Any, Any], **said: Any) -> Piece:
    tool = VideoPreprocess(Context(CARD, None, adapter="image"))  # type: ignore[arg-type]
    return tool.encode(pixels, tuple(said.items()), RowContext(rng=np.random.default_rng(1)))


def mixed() -> list[Piece]:
    """Pictures and clips of several sizes, some with hidden cells."""
    pictures = [picture(noise(*size, seed=i)) for i, size in enumerate(SIZES)]
    hidden = [picture(noise(32, 48, seed=9), mask_ratio=0.5), clip(noise(4, 16, 32, seed=7), mask_ratio=0.5)]
    return [*pictures, clip(noise(5, 32, 32, seed=8)), *hidden, clip(noise(1, 16, 16, seed=6))]


@pytest.mark.parametrize("name", TOWERS)
def test_packed_equals_one_by_one_and_every_weight_learns(name: str) -> None:
    model, pieces = adapter(name).train(), mixed()
    packed = model.embed(pack(pieces))
    assert packed.shape == (sum(piece.count for piece in pieces), D)
    single = torch.cat([model.embed(pack([piece])) for piece in pieces])
    torch.testing.assert_close(packed, single, rtol=1e-4, atol=1e-5)
    packed.square().sum().backward()
    idle = [key for key, value in model.named_parameters() if value.grad is None or not value.grad.any()]
    assert not idle


@pytest.mark.parametrize("name", TOWERS)
def test_what_is_hidden_is_not_seen(name: str) -> None:
    model = adapter(name).eval()
    one, other = noise(32, 48), noise(32, 48, seed=1)
    hidden = picture(one, mask_ratio=0.5)
    mask = hidden.arrays["mask"].reshape(4, 6).repeat(8, 0).repeat(8, 1)
    changed = picture(np.where(mask[..., None], other, one), mask_ratio=0.5)
    assert torch.equal(model.embed(pack([hidden])), model.embed(pack([changed])))
    assert not torch.equal(model.embed(pack([hidden])), model.embed(pack([picture(one)])))


@pytest.mark.parametrize("name", TOWERS)
def test_a_pair_of_equal_frames_is_the_picture(name: str) -> None:
    model, still = adapter(name).eval(), noise(32, 32)
    both = model.embed(pack([clip(np.stack([still, still]))]))
    torch.testing.assert_close(both, model.embed(pack([picture(still)])), rtol=1e-4, atol=1e-5)
    moved = model.embed(pack([clip(np.stack([still, noise(32, 32, seed=5)]))]))
    assert not torch.allclose(both, moved, atol=1e-2)


def test_where_a_cell_lies_changes_its_row() -> None:
    flat = np.full((32, 32, 3), 200, np.uint8)
    for name in ("class token", "merged"):
        seen, _ = adapter(name).eval().seen(pack([picture(flat)]))
        # rotary positions turn queries and keys: of equal values attention gives the same whatever it looks at
        assert torch.allclose(seen[0], seen[5], atol=1e-5) == (name == "merged")


def test_no_pictures_are_no_rows_and_touch_every_weight() -> None:
    model = adapter("class token")
    model.embed(pack([])).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_cost_of_a_row_is_counted() -> None:
    part = pack([picture(noise(32, 32))])
    part.arrays.update({name: tensor.to("meta") for name, tensor in part.arrays.items()})
    deep, flat = adapter("class token"), adapter("class token", tower={**SMALL, "depth": 1})
    assert deep.work([part])[0].flops > 1.5 * flat.work([part])[0].flops > 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"widht": 3}, "did you mean `width`"),
        ({"heads": 5}, "a width of 32 and 5 heads"),
        ({"activation": "gellu"}, "did you mean `gelu`"),
        ({"depth": "2"}, "`tower.depth` of IMAGE is '2'"),
        ({"depth": True}, "`tower.depth` of IMAGE is True"),
        ({"merge": 2}, "`merge` is 2 and `out` is 0"),
        ({"merge": 3}, "`tower.merge` of IMAGE is 3"),
        ({"positions": "rotary"}, "`class_token` with"),
        ({"class_token": False, "final_norm": "class"}, "without a class token"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError) as error:
        adapter("class token", tower={**SMALL, **changed})
    assert message in str(error.value)


def test_means_and_deviations_are_three_numbers() -> None:
    for key, value in (("pixel_mean", [0.5]), ("pixel_deviation", [0.5, 0.0, 0.5]), ("pixel_mean", ["a", 1, 1])):
        with pytest.raises(CardError, match="three numbers of red, green and blue"):
            adapter("class token", **{key: value})
