"""Films and animations written for tests: each frame is of one grey, so that what is read tells which frame it was."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

#: Grey of frame n is 10 n.
GREY = 10


def frames(count: int, height: int = 48, width: int = 64) -> np.ndarray[Any, Any]:
    """(count, height, width, 3) of rising greys; the upper left quarter is white, which shows how a frame is turned."""
    found = np.repeat(np.arange(count, dtype=np.uint8) * GREY, height * width * 3).reshape(count, height, width, 3)
    found[:, : height // 2, : width // 2] = 255
    return found


def number_of(image: Image.Image) -> int:
    """Which frame an image is, by its lower right corner."""
    pixels = np.asarray(image.convert("RGB"))
    return round(float(pixels[-6:-2, -6:-2].mean()) / GREY)


def film(
    path: Path | io.BytesIO,
    pixels: np.ndarray[Any, Any],
    rate: int = 10,
    times: Sequence[float] | None = None,
    codec: str = "libx264",
    key_every: int = 10,
    turn: int = 0,
    between: int = 0,
    **options: str,
) -> Path | io.BytesIO:
    """A film of the frames, by PyAV; `times` are the seconds at which each begins, where the rate varies."""
    import av

    form = "mp4" if isinstance(path, io.BytesIO) else None
    with av.open(path if form else str(path), "w", format=form, options=options) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = pixels.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.gop_size = key_every
        unit = Fraction(1, rate if times is None else 1000)
        stream.codec_context.time_base = unit
        stream.codec_context.max_b_frames = between  # where the rate varies, 0: else the last frame's end is lost
        if turn:
            stream.set_display_rotation(turn)
        for number, each in enumerate(pixels):
            frame = av.VideoFrame.from_ndarray(each, format="rgb24")
            frame.pts = number if times is None else round(times[number] / unit)
            frame.time_base = unit
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def sound(path: Path) -> Path:
    """A file with sound and no pictures."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def animation(pixels: np.ndarray[Any, Any], form: str = "WEBP", delays: int | list[int] = 100, **options: Any) -> bytes:
    """The bytes of an animated GIF, WebP or PNG, without loss but for GIF's 256 colours."""
    images = [Image.fromarray(each) for each in pixels]
    if form == "WEBP":
        options = {"lossless": True, **options}
    file = io.BytesIO()
    images[0].save(file, form, save_all=True, append_images=images[1:], duration=delays, **options)
    return file.getvalue()
