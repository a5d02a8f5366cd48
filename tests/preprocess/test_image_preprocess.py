"""Images become uint8 pixels of whole cells; whatever is no image is refused with words."""

from __future__ import annotations

import base64
import csv
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import CardError, DataError, InstructionError
from ofasys_lite.preprocess.base import Context, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess, cell_mask, picture, smart_resize

FIXTURE = Path(__file__).parent.parent / "fixtures" / "positions" / "smart_resize.csv"


def reader(folder: str | None = None, **settings: Any) -> ImagePreprocess:
    return ImagePreprocess(Context(settings, None, adapter="image", folder=folder))  # type: ignore[arg-type]


def read(value: Any, *options: tuple[str, object], rng: int | None = None, train: bool = False, **kw: Any) -> Any:
    generator = None if rng is None else np.random.default_rng(rng)
    return reader(**kw).encode(value, options, RowContext(rng=generator, train=train))


def gradient(height: int, width: int, mode: str = "RGB") -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    channels = [rows * 255 // max(1, height - 1), columns * 255 // max(1, width - 1), (rows + columns) % 256]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8)).convert(mode)


def encoded(image: Image.Image, kind: str = "PNG", **kw: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **kw)
    return file.getvalue()


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body)) + b"\0\0\1\0IDAT"


def test_smart_resize_equals_the_published_function_on_every_row_of_the_fixture() -> None:
    with FIXTURE.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 103
    for row in rows:
        factor, low, high, height, width = (
            int(row[k]) for k in ("factor", "min_pixels", "max_pixels", "height", "width")
        )
        if row["resized_height_x_width"] == "ValueError":
            with pytest.raises(ValueError, match="more than 200 times"):
                smart_resize(height, width, factor, low, high)
        else:
            new = smart_resize(height, width, factor, low, high)
            assert f"{new[0]}x{new[1]}" == row["resized_height_x_width"], row


def test_a_very_long_image_keeps_at_least_one_cell_where_the_published_function_gives_none() -> None:
    assert smart_resize(50, 10000, 8, 64, 4096) == (0, 904)
    piece = read(np.zeros((50, 10000), np.uint8), min_pixels=64, max_pixels=4096)
    assert picture(piece).shape == (8, 904, 3)


def test_an_image_keeps_its_proportions_and_its_cells_have_their_line_and_column() -> None:
    piece = read(gradient(24, 40))
    assert piece.count == 15
    assert picture(piece).shape == (24, 40, 3)
    assert piece.adapter == "image"
    assert piece.positions_P3.tolist() == [[0, line, column] for line in range(3) for column in range(5)]
    assert {k: v.dtype.name for k, v in piece.arrays.items()} == {"pixels": "uint8", "mask": "bool"}
    assert (picture(piece) == np.asarray(gradient(24, 40))).all()


def spellings(folder: Path) -> dict[str, Any]:
    image = gradient(16, 24)
    content = encoded(image)
    (folder / "cat.png").write_bytes(content)
    array = np.asarray(image)
    text = base64.b64encode(content).decode()
    return {
        "relative path": "cat.png",
        "absolute path": str(folder / "cat.png"),
        "path object": folder / "cat.png",
        "file url": f"file://{folder / 'cat.png'}",
        "bytes": content,
        "bytearray": bytearray(content),
        "base64": text,
        "url-safe base64": base64.urlsafe_b64encode(content).decode(),
        "base64 in lines": "\n".join(text[i : i + 76] for i in range(0, len(text), 76)),
        "data url": f"data:image/png;base64,{text}",
        "pil": image,
        "array": array,
        "channels first": array.transpose(2, 0, 1),
        "floats": (array / 255).astype(np.float32),
        "int64": array.astype(np.int64),
        "uint16": array.astype(np.uint16) * 257,
        "hugging face bytes": {"bytes": content, "path": None},
        "hugging face path": {"bytes": None, "path": "cat.png"},
    }


def test_every_spelling_of_an_image_gives_the_same_pixels(tmp_path: Path) -> None:
    expected = np.asarray(gradient(16, 24))
    for name, value in spellings(tmp_path).items():
        assert (picture(read(value, folder=str(tmp_path))) == expected).all(), name


def test_urls_are_read_through_fsspec() -> None:
    fsspec = pytest.importorskip("fsspec")
    with fsspec.open("memory://pictures/cat.png", "wb") as file:
        file.write(encoded(gradient(16, 24)))
    assert read("memory://pictures/cat.png").count == 6
    with pytest.raises(DataError, match=r"cannot read image memory://pictures/dog\.png"):
        read("memory://pictures/dog.png")


def test_every_colour_mode_becomes_rgb() -> None:
    grey = np.asarray(gradient(16, 16).convert("L"))
    for mode in ("1", "L", "P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX", "F", "I"):
        source = gradient(16, 16).convert("L").convert(mode) if mode in ("F", "I") else gradient(16, 16).convert(mode)
        if mode == "F":
            source = Image.fromarray(np.asarray(source) / np.float32(255))
        if mode == "I":
            source = Image.fromarray(np.asarray(source).astype(np.int32) * 257)
        pixels = picture(read(source))
        assert pixels.shape == (16, 16, 3)
        if mode in ("L", "F", "I"):
            assert (pixels == grey[:, :, None]).all(), mode


def test_sixteen_bit_files_are_scaled_not_clipped() -> None:
    levels = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    pixels = picture(read(encoded(Image.fromarray(levels))))
    assert pixels[0, 0, 0] == 0
    assert pixels[-1, -1, 0] == 255
    assert abs(int(pixels[8, 0, 0]) - 128) <= 1


def test_transparency_is_laid_on_white() -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    clear[:, 8:] = (255, 0, 0, 255)
    palette = Image.fromarray(np.repeat([[0] * 8 + [1] * 8], 16, 0).astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    for value in (clear, encoded(Image.fromarray(clear)), encoded(palette, transparency=0)):
        pixels = picture(read(value))
        assert (pixels[:, :8] == 255).all()
        assert (pixels[:, 8:] == (255, 0, 0)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_in_a_photograph_is_applied(orientation: int) -> None:
    upright = gradient(24, 40)
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # the PIL transposition that the orientation takes back
    stored = upright if orientation == 1 else upright.transpose(Image.Transpose(undo[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = picture(read(encoded(stored, "JPEG", exif=exif, quality=98, subsampling=0)))
    assert pixels.shape == (24, 40, 3)
    assert np.abs(pixels.astype(int) - np.asarray(upright)).mean() < 8


def test_a_large_photograph_decoded_small_looks_like_one_decoded_whole() -> None:
    large = gradient(960, 1280)
    small = picture(read(encoded(large, "JPEG", quality=95), max_pixels=128 * 96))
    whole = np.asarray(large.resize(small.shape[1::-1], Image.Resampling.BICUBIC))
    assert np.abs(small[4:-4, 4:-4].astype(int) - whole[4:-4, 4:-4]).mean() < 4


def test_a_pil_image_of_the_user_is_not_changed() -> None:
    image = Image.open(io.BytesIO(encoded(gradient(320, 320), "JPEG")))
    read(image, max_pixels=4096)
    assert image.size == (320, 320)


BAD: dict[str, tuple[Any, str]] = {
    "missing": ("cta.png", r"cta\.png: no such file\n  help: did you mean `cat\.png`\?"),
    "folder": (".", r"it is a folder"),
    "missing folder": ("no/where/cat.png", r"the folder .*no/where does not exist"),
    "empty file": ("empty.png", r"empty\.png: it is empty \(0 bytes\)"),
    "empty bytes": (b"", r"it is empty \(0 bytes\)"),
    "empty text": ("", r"the value is an empty text"),
    "text file": ("notes.txt", r"notes\.txt is no image of a known format"),
    "bytes": (b"GIF? no, text", r"13 bytes that begin with b'GIF\? no,' is no image of a known format"),
    "truncated png": (encoded(gradient(64, 64))[:-90], r"PNG image of 64 x 64 is broken or truncated"),
    "truncated jpeg": (encoded(gradient(64, 64), "JPEG")[:500], r"broken or truncated|no image of a known"),
    "bomb": (png_header(20000, 10000), r"200 megapixels are too many"),
    "big": (png_header(12000, 10000), r"120 megapixels, the limit is 100\n  help: .* is 12000 x 10000; shrink"),
    "no pixels": (np.zeros((0, 4), np.uint8), r"array of shape \(0, 4\)"),
    "number": (7, r"found a value of type int\n  help: an IMAGE is a path, URL"),
    "none": (None, r"found a value of type NoneType"),
    "list": ([1, 2], r"found a value of type list"),
    "dictionary": ({"url": "x"}, r"found a dictionary with `url`"),
    "empty dictionary": ({"bytes": None, "path": None}, r"`bytes` and `path` are both empty"),
    "shape": (np.zeros((2, 8, 8, 3), np.uint8), r"array of shape \(2, 8, 8, 3\) .*\n  help: shapes: \(h, w\)"),
    "range": (np.full((8, 8), 7.5), r"float64 pixels range from 7.5 to 7.5\n  help: floats must lie from 0 to 1"),
    "nan": (np.full((8, 8), np.nan), r"pixels range from nan"),
    "negative": (np.full((8, 8), -1), r"integers must lie from 0 to 255"),
    "type": (np.full((8, 8), "a"), r"an array of type <U1"),
    "ratio": (np.zeros((1, 300), np.uint8), r"300 x 1: one side is more than 200 times the other"),
    "base64": ("iVBORw0KGgo" + "!" * 40, r"is no base64"),
    "data url": ("data:image/png,abc", r"is no data URL"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_saying_what_was_found(name: str, tmp_path: Path) -> None:
    spellings(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "empty.png").write_bytes(b"")
    value, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read(value, folder=str(tmp_path))


def test_damaged_files_raise_data_errors_only() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "ICO", "PPM", "TGA"):
        whole = np.frombuffer(encoded(gradient(32, 32), kind), np.uint8)
        for _ in range(60):
            content = whole.copy()
            content[rng.integers(len(content), size=rng.integers(1, 6))] = rng.integers(0, 256)
            content = content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content
            try:
                read(content.tobytes(), max_megapixels=1.0)
            except DataError:
                continue


def test_a_number_of_hidden_cells_follows_from_the_ratio_in_every_style() -> None:
    for style in ("patches", "block", "center"):
        piece = read(gradient(64, 48), ("mask_ratio", 0.5), ("mask_style", style), rng=3)
        assert piece.arrays["mask"].sum() == 24, style
        again = read(gradient(64, 48), ("mask_ratio", 0.5), ("mask_style", style), rng=3)
        assert (piece.arrays["mask"] == again.arrays["mask"]).all()
    assert cell_mask(4, 4, 0.01, "patches", np.random.default_rng(0)).sum() == 1
    assert cell_mask(4, 4, 1.0, "block", np.random.default_rng(0)).all()
    assert cell_mask(4, 4, 0.25, "center", np.random.default_rng(0)).reshape(4, 4)[1:3, 1:3].all()
    with pytest.raises(TypeError, match="needs a generator"):
        read(gradient(16, 16), ("mask_ratio", 0.5))


def test_augmentation_changes_pixels_in_training_only_and_follows_from_the_generator() -> None:
    for style in ("light", "strong"):
        plain, first = picture(read(gradient(64, 64))), picture(read(gradient(64, 64), ("augment", style)))
        assert (first == plain).all()
        assert (picture(read(gradient(64, 64), ("augment", style), rng=1)) == plain).all()
        changed = picture(read(gradient(64, 64), ("augment", style), rng=1, train=True))
        again = picture(read(gradient(64, 64), ("augment", style), rng=1, train=True))
        assert (changed == again).all()
        assert (changed != plain).any()
        assert changed[:8, :, 0].mean() < changed[-8:, :, 0].mean()  # never mirrored
        assert changed[:, :8, 1].mean() < changed[:, -8:, 1].mean()


def test_a_fixed_size_gives_that_side_and_a_side_between_cells_is_refused_with_the_nearest() -> None:
    assert picture(read(gradient(30, 50), ("size", 32))).shape == (32, 32, 3)
    with pytest.raises(InstructionError, match=r"`size=30` is no multiple of 8 .*\n  help: write `size=32`"):
        read(gradient(30, 50), ("size", 30))


def test_pixel_bounds_of_the_slot_go_before_those_of_the_card() -> None:
    assert picture(read(gradient(64, 64), ("max_pixels", 1024))).shape == (32, 32, 3)
    assert picture(read(gradient(64, 64), ("max_pixels", 1024), min_pixels=2048)).shape == (32, 32, 3)
    assert picture(read(gradient(16, 16), ("min_pixels", 4096))).shape == (64, 64, 3)
    with pytest.raises(CardError, match="`min_pixels` is 2048, above `max_pixels`, 1024"):
        read(gradient(16, 16), ("max_pixels", 1024), ("min_pixels", 2048))


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(CardError, match=r"setting `patch` is '8'\n  help: write a whole number from 1"):
        read(gradient(16, 16), patch="8")
    assert read(gradient(16, 16), patch=None).count == 4  # null: the default
    with pytest.raises(CardError, match="setting `max_megapixels` is 0"):
        read(gradient(16, 16), max_megapixels=0)


def test_length_and_kind_are_known_from_the_header(tmp_path: Path) -> None:
    settings = {"folder": str(tmp_path)}
    for value in spellings(tmp_path).values():
        assert reader(str(tmp_path)).frame(value) == (24, 16)
        ImagePreprocess.check(value, (), settings)
    cut = encoded(gradient(64, 48), "JPEG")[:-40]  # the header is whole, the pixels are not
    assert reader().frame(cut) == (48, 64)
    assert reader().rows_of((64 * 48,), ()) == 48
    assert reader().rows_of((10**9,), ()) == 256
    assert reader().rows_of((0,), ()) == 1
    assert reader().rows_of((64 * 48,), (("size", 32),)) == 16
    ImagePreprocess.check("relative.png", (), {})
    with pytest.raises(DataError, match="no such file"):
        ImagePreprocess.check("relative.png", (), settings)
    with pytest.raises(DataError, match="120 megapixels"):
        ImagePreprocess.check(png_header(12000, 10000), (), {})


@pytest.mark.parametrize("values", [[0, 70_000], [-1, 5]])
def test_whole_numbers_beyond_16_bits_are_refused_not_cut(values: list[int]) -> None:
    image = Image.fromarray(np.tile(np.array(values, dtype=np.int32), (8, 4)))
    with pytest.raises(DataError, match=f"range from {values[0]} to {values[1]}") as told:
        ImagePreprocess.look(image, (), {}, whole=True)
    assert "scale it" in told.value.help
