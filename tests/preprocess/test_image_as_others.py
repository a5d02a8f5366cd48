"""Pictures as other houses bring them to their networks: one size, a middle cut out, a filter used exactly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_image_preprocess import encoded, gradient, read, reader

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError
from ofasys_lite.preprocess.base import Context, RowContext
from ofasys_lite.preprocess.image import picture
from ofasys_lite.preprocess.video import VideoPreprocess


def noise(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8))


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "lanczos", "nearest"])
def test_a_named_filter_is_pillows_to_the_last_bit_though_much_is_reduced(name: str) -> None:
    image = noise(400, 500)
    wanted = np.asarray(image.resize((32, 32), Image.Resampling[name.upper()]))
    assert np.array_equal(picture(read(image, resample=name, size=32)), wanted)
    assert np.array_equal(picture(read(encoded(image), resample=name, size=32)), wanted)


def test_a_jpeg_is_decoded_whole_where_a_filter_is_named() -> None:
    stored = encoded(gradient(640, 640), "JPEG")
    import io

    wanted = np.asarray(Image.open(io.BytesIO(stored)).resize((32, 32), Image.Resampling.BICUBIC))
    assert np.array_equal(picture(read(stored, resample="bicubic", size=32)), wanted)


@pytest.mark.parametrize("shape", [(90, 120), (121, 64), (64, 64), (300, 77)])
def test_the_middle_is_cut_out_as_clip_does_it(shape: tuple[int, int]) -> None:
    image = noise(*shape)
    high, wide = (64 if n == min(shape) else int(64 * n / min(shape)) for n in shape)
    whole = image.resize((wide, high), Image.Resampling.BICUBIC)
    top, left = (high - 48) // 2, (wide - 48) // 2
    wanted = np.asarray(whole.crop((left, top, left + 48, top + 48)))
    piece = read(image, resample="bicubic", size=48, crop=64)
    assert np.array_equal(picture(piece), wanted)
    assert piece.grid == (1, 6, 6)


def test_a_size_of_the_card_gives_way_to_the_slots() -> None:
    assert read(noise(64, 64), size=32).count == 16
    assert read(noise(64, 64), ("size", 64), size=32).count == 64
    assert reader(size=32).rows_of((64 * 64, 64, 64), ()) == 16


def test_holes_of_a_picture_that_is_cut_are_those_of_its_middle() -> None:
    image = gradient(64, 128, "RGBA")
    alpha = np.full((64, 128), 255, np.uint8)
    alpha[:32, 32:64] = 0  # the upper left quarter of the middle
    image.putalpha(Image.fromarray(alpha))
    known = RowContext(rng=np.random.default_rng(0), own_holes=True)
    piece = reader(size=64, crop=64).encode(image, (("mask_ratio", 0.5),), known)
    assert np.array_equal(
        piece.arrays["mask"].reshape(8, 8), np.arange(64).reshape(8, 8) % 8 // 4 + np.arange(8)[:, None] // 4 == 0
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 30}, "no multiple of 8"),
        ({"size": "32"}, "`size` is '32'"),
        ({"crop": 64}, "`crop` is 64, and `size` is None"),
        ({"crop": 16, "size": 32}, "`crop` is 16, and `size` is 32"),
        ({"resample": "bicubik"}, "did you mean `bicubic`"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CardError) as error:
        read(noise(32, 32), **settings)
    assert message in str(error.value)


def test_frames_of_a_clip_are_resized_and_cut_as_pictures_are() -> None:
    settings = {**modalities()["VIDEO"].settings, "resample": "bilinear", "size": 32, "crop": 40}
    tool = VideoPreprocess(Context(settings, None, adapter="image"))  # type: ignore[arg-type]
    frames = np.random.default_rng(0).integers(0, 256, (2, 300, 400, 3)).astype(np.uint8)
    piece = tool.encode(frames, (), RowContext())
    alone = [picture(read(Image.fromarray(each), resample="bilinear", size=32, crop=40)) for each in frames]
    assert np.array_equal(piece.arrays["pixels"].reshape(2, 32, 32, 3), np.stack(alone))
