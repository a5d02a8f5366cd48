"""Clips of any source behind one door: films by PyAV (video_film.py), animations by Pillow, frames as they are.

Nothing is decoded that is not asked for.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.media import Source, found, locate, read_bytes
from ofasys_lite.preprocess.video_animation import Animation, shown_ms
from ofasys_lite.preprocess.video_clips import Clip, Frames, Limits, WrittenClip, held
from ofasys_lite.preprocess.video_film import Film

if TYPE_CHECKING:
    from PIL import Image

#: Base64 of the first bytes of MP4 and MOV, Matroska and WebM, GIF, WebP and AVI, MPEG-TS.
BASE64_HEADS = ("AAAAI", "AAAAF", "AAAAG", "AAAAH", "GkXfo", "R0lGOD", "UklGR", "R0ZA", "R0AA")
_SHAPES = "shapes: (t, h, w), (t, h, w, c), (t, c, h, w)"
_HELP = "a VIDEO is a path, URL, bytes, {bytes, path}, array (t, h, w, 3), list of pictures, or {frames, fps}"
#: Beginnings of picture files that hold one picture and no more.
_STILL = (b"\xff\xd8\xff", b"BM", b"II*\x00", b"MM\x00*")
_FPS = ("fps", "frame_rate", "rate")


@contextmanager
def open_clip(value: Any, folder: str | None, limits: Limits) -> Iterator[Clip]:
    """The clip in `value`, only its header read.

    Raises:
        DataError: No clip, missing, empty, broken, above the limits; PyAV is missing where it is needed.
    """
    source = locate(value, folder, "video", BASE64_HEADS)
    if source is None:
        clip: Clip = _in_memory(value, folder, limits)
        held(clip.header, limits)
        yield clip
        return
    what = found(source) if isinstance(source, bytes) else str(source)
    head = _head(source, what)
    if head.startswith(_STILL):
        raise DataError(f"cannot read video: {what} is a picture, not a clip", help="a slot [IMAGE:...] reads pictures")
    if head.startswith((b"GIF8", b"\x89PNG")) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        clip = Animation(read_bytes(source, "video"), what, limits)
    else:
        clip = Film(source, what, limits)
    try:
        yield clip
    finally:
        clip.close()


def _head(source: Source, what: str) -> bytes:
    """The first bytes of a file that is not empty."""
    if isinstance(source, bytes):
        return source[:16]
    try:
        with Path(source).open("rb") as file:
            head = file.read(16)
    except OSError as error:
        raise DataError(f"cannot read video {what}: {error.strerror or error}") from error
    if not head:
        raise DataError(f"cannot read video {what}: it is empty (0 bytes)", help="write the file again or drop the row")
    return head


def _in_memory(value: Any, folder: str | None, limits: Limits) -> Clip:
    """Frames of an array, a list, a dictionary with their rate, or an animated PIL image."""
    rate = None
    if isinstance(value, WrittenClip):
        value, rate = value.frames_FHW3, value.rate
    elif isinstance(value, Mapping):
        rate = next((value[key] for key in _FPS if value.get(key) is not None), None)
        value = next((value[key] for key in ("frames", "array") if value.get(key) is not None), value)
    elif isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], (int, float, np.number)):
        value, rate = value
    if hasattr(value, "get_frames_at") and hasattr(value, "metadata"):  # torchcodec, as Hugging Face data sets give it
        rate = getattr(value.metadata, "average_fps", rate)
    elif hasattr(value, "getbbox"):
        return _of_pil(value, folder, limits)
    elif hasattr(value, "__array__") or (isinstance(value, list) and value and isinstance(value[0], list)):
        value = _as_array(value)
        if value.ndim == 3 and (value.shape[2] in (1, 3, 4) or value.shape[0] in (1, 3, 4)):
            raise DataError(f"cannot read video: found {found(value)}, one picture", help="shape: (t, h, w, 3)")
        if value.ndim not in (3, 4):
            raise DataError(f"cannot read video: found {found(value)}", help=_SHAPES)
    elif not isinstance(value, (list, tuple)):
        raise DataError(f"cannot read video: found {found(value)}", help=_HELP)
    if not len(value):
        raise DataError("cannot read video: it has no frames", help="leave the row out")
    if rate is None:
        return Frames(value, None, folder, limits)
    if not isinstance(rate, (int, float, np.number)) or not 0 < float(rate) < math.inf:
        raise DataError(f"cannot read video: frames with the rate {rate!r}", help="`fps` is a number above 0")
    return Frames(value, np.arange(1, len(value) + 1) / float(rate), folder, limits)


def _as_array(value: Any) -> npt.NDArray[Any]:
    """An array, or what lists of lists of numbers are."""
    try:
        return np.asarray(value)
    except ValueError:
        raise DataError("cannot read video: lists of numbers of uneven length", help=_SHAPES) from None


def _of_pil(image: Image.Image, folder: str | None, limits: Limits) -> Clip:
    from ofasys_lite.preprocess.image_decode import pages, reading

    frames, ends, now = list[Any](), list[float](), 0
    count = pages(image)
    with reading(image):
        for number in range(count):
            image.seek(number)
            image.load()
            now += shown_ms(int(image.info.get("duration", 0)))
            frames.append(image.convert("RGBA" if "transparency" in image.info or "A" in image.mode else "RGB"))
            ends.append(now / 1000)
    return Frames(frames, ends, folder, limits)
