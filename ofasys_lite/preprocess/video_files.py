"""Files of clips that were written: animations by Pillow, films by PyAV (extra `video`)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

from ofasys_lite.errors import DataError, needed
from ofasys_lite.preprocess.video_clips import WrittenClip

#: Formats of Pillow by ending, with what they are written with.
_ANIMATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    ".gif": ("GIF", {"optimize": False, "disposal": 1}),
    ".webp": ("WEBP", {"lossless": True}),
    ".png": ("PNG", {}),
}
#: Codecs of FFmpeg by ending, the first that is there.
_FILMS = {".mp4": ("libx264", "mpeg4"), ".webm": ("libvpx-vp9", "libvpx")}
#: Endings of files of clips.
ENDINGS = (*_ANIMATIONS, *_FILMS)


def clip_file(clip: WrittenClip, ending: str) -> bytes:
    """The bytes of a file of that ending, which shows each frame 1 / rate seconds; animations repeat for ever.

    Raises:
        DataError: A film, and PyAV or its codec is missing.
    """
    return _animation(clip, ending) if ending in _ANIMATIONS else _film(clip, ending)


def _animation(clip: WrittenClip, ending: str) -> bytes:
    from PIL import Image

    form, options = _ANIMATIONS[ending]
    first, *rest = [Image.fromarray(frame) for frame in clip.frames_FHW3]
    file = io.BytesIO()
    first.save(file, form, save_all=True, append_images=rest, duration=round(1000 / clip.rate), loop=0, **options)
    return file.getvalue()


def _film(clip: WrittenClip, ending: str) -> bytes:
    av = needed("av", f"cannot write a film ({ending}), which", "video")
    codec = next((name for name in _FILMS[ending] if name in av.codecs_available), None)
    if codec is None:
        help = f"write {', '.join(_ANIMATIONS)}"
        raise DataError(f"cannot write {ending}: this FFmpeg has none of {', '.join(_FILMS[ending])}", help=help)
    file = io.BytesIO()
    with av.open(file, "w", format=ending[1:]) as container:
        stream = container.add_stream(codec, rate=Fraction(clip.rate).limit_denominator(1000))
        high, wide = clip.frames_FHW3.shape[1:3]
        # chroma has half the lines and columns: an odd one is left out
        stream.height, stream.width, stream.pix_fmt = high - high % 2, wide - wide % 2, "yuv420p"
        for pixels in clip.frames_FHW3:
            frame = av.VideoFrame.from_ndarray(pixels[: stream.height, : stream.width].copy(), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return file.getvalue()
