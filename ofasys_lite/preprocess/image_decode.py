"""Decoding of images: any value that holds one -> (h, w, 3) uint8 pixels of a given size, fast and never a bomb.

JPEGs are decoded at the smallest of libjpeg's scales that still covers the wanted size, so that a photograph costs
little more than its thumbnail. Shapes: HWC uint8.
"""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.media import found, locate

Pixels = npt.NDArray[np.uint8]

#: Base64 of the first bytes of JPEG, PNG, GIF, WEBP, TIFF (both byte orders) and BMP files.
BASE64_HEADS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "SUkqA", "TU0AK", "Qk0", "Qk1", "Qk2", "Qk3")
#: What Pillow raises on broken files.
_BROKEN = (
    *(OSError, SyntaxError, ValueError, EOFError, KeyError, IndexError, TypeError, OverflowError),
    *(AttributeError, MemoryError, zlib.error, struct.error),
)
#: A JPEG may be decoded this much smaller than wanted: enlarging by a tenth costs no detail that one could see.
_SLACK = 0.9
_ORIENTATION = 0x0112
#: EXIF orientation -> how to turn the stored image upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HELP = "an IMAGE is a path, URL, bytes, base64 text, PIL image, array (h, w) or (h, w, c), or {bytes, path}"


_AGAIN = "write or fetch the file again, or leave the row out"
_FORMATS = (
    "PNG, JPEG, WEBP, GIF, BMP, TIFF and others of Pillow's are read; a drawing (SVG, PDF) is saved as one of them"
)


@contextmanager
def reading(of: Image.Image | str) -> Iterator[None]:
    """Turns Pillow's many exceptions into DataErrors and keeps its warnings about broken metadata quiet."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except DataError:
        raise
    except (Image.DecompressionBombError, *_BROKEN) as error:
        raise _unread(error, of if isinstance(of, str) else _name(of)) from error


def _unread(error: Exception, what: str) -> DataError:
    if isinstance(error, Image.DecompressionBombError):
        number = re.search(r"\((\d+) pixels\)", str(error))
        size = f"{int(number[1]) / 1e6:.0f} megapixels" if number else str(error)
        return DataError(f"cannot read image: {size} are too many", help=f"found {what}; shrink it first")
    if isinstance(error, UnidentifiedImageError):
        return DataError(f"cannot read image: {what} is no image of a known format", help=_FORMATS)
    return DataError(f"cannot read image: {what} is broken or truncated ({error})", help=_AGAIN)


def open_image(value: Any, folder: str | None, limit: float) -> Image.Image:
    """The image in `value`, files with only their header read.

    Raises:
        DataError: Not an image, empty, missing, of a size above `limit` megapixels or without pixels.
    """
    if isinstance(value, Image.Image):
        image, what = value, "a PIL image"
    else:
        source = locate(value, folder, "image", BASE64_HEADS)
        if source is None:
            image, what = _from_array(value), found(value)
        else:
            what = found(source) if isinstance(source, bytes) else str(source)
            with reading(what):
                if not isinstance(source, bytes) and source.stat().st_size == 0:
                    raise DataError(f"cannot read image {source}: it is empty (0 bytes)", help=_AGAIN)
                image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
    width, height = image.size
    if not width or not height:
        raise DataError(f"cannot read image: {what} has no pixels ({width} x {height})", help=_AGAIN)
    if width * height > limit * 1e6:
        raise DataError(
            f"cannot read image: {width * height / 1e6:.0f} megapixels, the limit is {limit:g}",
            help=f"{what} is {width} x {height}; shrink it first, or raise the setting `max_megapixels`",
        )
    return image


def header_size(value: Any, folder: str | None, limit: float) -> tuple[int, int]:
    """(height, width) in pixels as stored, from the header alone; the EXIF orientation is not applied."""
    image = open_image(value, folder, limit)
    width, height = image.size
    if image is not value:
        image.close()
    return height, width


def turned(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; from 5 on, height and width are swapped."""
    with reading(image):  # some formats keep EXIF behind the pixels and are decoded here
        orientation = image.getexif().get(_ORIENTATION, 1)
    return orientation if orientation in _TURNS else 1


def resized(
    image: Image.Image,
    height: int,
    width: int,
    orientation: int = 1,
    box: tuple[float, float, float, float] | None = None,
    draft: bool = True,
    resample: str | None = None,
) -> Pixels:
    """(height, width, 3) uint8: `image` upright, on white, cut to `box` and resized, antialiased.

    Args:
        image: What `open_image` gave.
        height: Wanted height after turning, in pixels.
        width: Wanted width after turning.
        orientation: What `turned` gave.
        box: Part to keep as (left, top, right, bottom) in shares of the stored image, or None.
        draft: Let a JPEG decode at a smaller scale, which changes `image`: only for images opened here.
        resample: Name of Pillow's filter, in one step of all pixels; None: bicubic, and what is reduced to a fourth or
            less is averaged first, which is faster.
    """
    stored = (height, width) if orientation >= 5 else (width, height)
    with reading(image):
        cover = 1.0 if box is None else min(box[2] - box[0], box[3] - box[1])
        if draft and image.format in ("JPEG", "MPO"):
            wanted = _SLACK / cover
            image.draft(None, (math.ceil(stored[0] * wanted), math.ceil(stored[1] * wanted)))
        image.load()
        flat = _to_rgb(image)
        part = None
        if box is not None:
            part = (box[0] * flat.width, box[1] * flat.height, box[2] * flat.width, box[3] * flat.height)
        if flat.size != stored or part is not None:
            filter = Image.Resampling[(resample or "bicubic").upper()]
            flat = flat.resize(stored, filter, box=part, reducing_gap=2.0 if resample is None else None)
        if orientation in _TURNS:
            flat = flat.transpose(_TURNS[orientation])
    return np.asarray(flat)


def middle(image: Image.Image, sized: tuple[int, int], whole: tuple[int, int]) -> Image.Image:
    """The part of a stored image that is left where `sized` is cut out of the middle of `whole`, both upright."""
    if sized == whole:
        return image
    shares = [kept / all for kept, all in zip(sized, whole, strict=True)]
    down, across = shares if turned(image) < 5 else shares[::-1]
    left, top = image.width * (1 - across) / 2, image.height * (1 - down) / 2
    return image.crop((round(left), round(top), round(image.width - left), round(image.height - top)))


def transparent(image: Image.Image, lines: int, columns: int, orientation: int = 1) -> npt.NDArray[np.bool_]:
    """(lines, columns): True for cells of the upright image that hold a pixel more than half transparent."""
    with reading(image):
        if not (image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
            return np.zeros((lines, columns), dtype=np.bool_)
        alpha = image.convert("RGBA").getchannel("A")
        if orientation in _TURNS:
            alpha = alpha.transpose(_TURNS[orientation])
    holes = np.asarray(alpha) < 128
    cells = np.zeros((lines, columns), dtype=np.bool_)
    # the cell of each pixel, and the pixel in the middle of each cell, for pictures smaller than their cells
    row, column = (np.arange(n) * most // n for n, most in zip(holes.shape, cells.shape, strict=True))
    np.logical_or.at(cells, (row[:, None], column[None]), holes)
    middle = [(2 * np.arange(most) + 1) * n // (2 * most) for n, most in zip(holes.shape, cells.shape, strict=True)]
    return cells | holes[np.ix_(*middle)]


def pages(image: Image.Image) -> int:
    """Pictures that a file holds: frames of an animation, pages; a camera's previews do not count."""
    with reading(image):
        return (
            1
            if image.format == "MPO" or not getattr(image, "is_animated", False)
            else int(getattr(image, "n_frames", 1))
        )


def _name(image: Image.Image) -> str:
    return f"the {image.format or 'PIL'} image of {image.size[0]} x {image.size[1]}"


def _to_rgb(image: Image.Image) -> Image.Image:
    """`image` in mode RGB: transparency on white, 16 bits scaled (not clipped) to 8."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(
                f"cannot read image: its pixels range from {values.min()} to {values.max()}",
                help="whole numbers of 16 bits are read, 0 to 65535: scale it first",
            )
        return Image.fromarray((values // 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        return _from_array(np.asarray(image)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _from_array(value: Any) -> Image.Image:
    """A PIL image of an array (h, w), (h, w, c) or (c, h, w); DataError if it can be no image."""
    if not hasattr(value, "__array__"):
        raise DataError(f"cannot read image: found {found(value)}", help=_HELP)
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)) or 0 in array.shape:
        raise DataError(
            f"cannot read image: found {found(value)}", help="shapes: (h, w), (h, w, c) or (c, h, w) with c = 1, 3 or 4"
        )
    array = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    return Image.fromarray(np.ascontiguousarray(_to_bytes(array)))


def _to_bytes(array: npt.NDArray[Any]) -> Pixels:
    """uint8 values 0 to 255 of bool, integer or float (0 to 1) pixels."""
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.bool_:
        return np.where(array, 255, 0).astype(np.uint8)
    if array.dtype == np.uint16:
        return np.asarray(array // 257, dtype=np.uint8)
    floats = np.issubdtype(array.dtype, np.floating)
    if not floats and not np.issubdtype(array.dtype, np.integer):
        raise DataError(f"cannot read image: an array of type {array.dtype}", help="types: uint8, uint16, bool, float")
    low, high, top = float(array.min()), float(array.max()), 1 if floats else 255
    if not (low >= 0 and high <= top):  # also refuses NaN
        raise DataError(
            f"cannot read image: {array.dtype} pixels range from {low:g} to {high:g}",
            help=f"{'floats' if floats else 'integers'} must lie from 0 to {top}",
        )
    return np.asarray(np.rint(array * (255 if floats else 1)), dtype=np.uint8)
