"""A user's own hole: transparent parts of the picture are filled in, the rest is given."""

from __future__ import annotations

from pathlib import Path

import code_worlds as worlds
import numpy as np
import pytest
from PIL import Image

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.rendering import given_elements
from ofasys_lite.plan.constraints import Codes
from ofasys_lite.preprocess.image_decode import transparent

# cells of 4 pixels: 4 x 4 of them on 16 pixels, as many as positions
LINE = "fill [IMAGE:img,mask_ratio=0.5,size=16] -> [IMAGE:img,codec=dnd({codec}),decode=mask_predict(steps=3)]"


def with_hole(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """The picture at 16 x 16 with a transparent box of pixels."""
    layer = image.convert("RGB").resize((16, 16)).convert("RGBA")
    layer.paste((0, 0, 0, 0), box)
    return layer


@pytest.mark.parametrize("size", [(16, 16), (37, 21), (3, 2)])
def test_cells_with_a_transparent_pixel_are_found_at_every_size(size: tuple[int, int]) -> None:
    image = Image.new("RGBA", size, (9, 9, 9, 255))
    assert not transparent(image, 4, 4).any()
    assert not transparent(image.convert("RGB"), 4, 4).any()
    image.putpixel((size[0] - 1, 0), (0, 0, 0, 0))
    found = transparent(image, 4, 4)
    assert found[0, 3]
    assert not found[3].any()
    assert not found[:, 0].any()
    # the same file shown turned by a quarter: its right upper corner is the left upper one (EXIF orientation 8)
    assert transparent(image, 4, 4, 8)[0, 0]
    assert transparent(Image.new("LA", size, (9, 0)), 4, 4).all()


def test_transparent_parts_are_written_and_the_rest_comes_back(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    prepared = worlds.ready([worlds.task("fill", place, LINE)])
    model = worlds.generalist(prepared)
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    row = {"img": with_hole(plain, (4, 0, 8, 8))}
    hole = np.zeros((4, 4), dtype=bool)
    hole[:2, 1] = True
    maker = model.maker("fill")
    example = maker.source(row, "0", sample_rng(0, "fill", "0", 0), own_holes=True)
    assert np.array_equal(example.masked["img"].arrays["mask"].reshape(4, 4), hole)
    known = given_elements(model.network, [maker.known(0, row, example.masked)])[0]["img"]
    assert np.array_equal(np.array(known).reshape(4, 4) < 0, hole)
    found = predict(model, [Request("fill", row, own_holes=True)])[0]
    assert found is not None
    heads = worlds.coder(model).heads
    packed = Codes("", heads.size, heads.depth, ())
    written = [packed.pack(codes) for codes in found.codes["img"]]
    assert all(e < 0 or e == w for e, w in zip(known, written, strict=True))


def test_opaque_pictures_and_evaluation_draw_the_hole(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    model = worlds.generalist(worlds.ready([worlds.task("fill", place, LINE)]))
    maker = model.maker("fill")
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
    masks = [
        maker.source({"img": image}, "0", sample_rng(0, "fill", "0", 0), own_holes=own).masked["img"].arrays["mask"]
        for image, own in ((plain, True), (plain, False), (with_hole(plain, (0, 0, 4, 4)), False))
    ]
    assert all(mask.sum() == 8 for mask in masks)
    assert np.array_equal(masks[0], masks[1])
    assert np.array_equal(masks[1], masks[2])


@pytest.mark.parametrize("size", [8, 16, 32, 48])
def test_a_hole_anywhere_in_a_position_is_written(tmp_path: Path, size: int) -> None:
    place = worlds.codec(tmp_path / "c")
    line = LINE.replace("size=16", f"size={size}")
    model = worlds.generalist(worlds.ready([worlds.task("fill", place, line)]))
    maker = model.maker("fill")
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size, size, 3), dtype=np.uint8))
    for y, x in ((0, 0), (size - 1, size // 4)):
        image = plain.convert("RGBA")
        image.putpixel((x, y), (0, 0, 0, 0))
        example = maker.source({"img": image}, "0", sample_rng(0, "fill", "0", 0), own_holes=True)
        # cells of 4 pixels: nine in a position of the largest picture, four positions in one of the smallest
        assert example.masked["img"].arrays["mask"].sum() == 1
        hidden = maker.known(0, {"img": image}, example.masked)["img"].learn_P
        assert hidden is not None
        shown = hidden.reshape(4, 4)
        assert shown[4 * y // size, 4 * x // size]
        assert shown.sum() == (4 if size == 8 else 1)
