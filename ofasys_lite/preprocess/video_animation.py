"""Animated GIF, WebP and PNG by Pillow; how long each frame is shown, by the file's own marks, without decoding."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.video_clips import Clip, Header, Limits, held, shown_at

if TYPE_CHECKING:
    from PIL import Image

#: What browsers make of a frame that is shown for less than 20 ms.
_COMMON_MS = 100


def shown_ms(delay: int) -> int:
    """Milliseconds that a frame is shown: as browsers do it, a delay below 20 counts as 100."""
    return delay if delay >= 20 else _COMMON_MS


class Animation(Clip):
    """An opened animation; a picture with one frame only is a clip of one frame."""

    def __init__(self, content: bytes, what: str, limits: Limits) -> None:
        from ofasys_lite.preprocess.image_decode import open_image, reading

        self.what = what
        try:
            delays = _delays(content) or [0]
        except (struct.error, IndexError):
            raise self._broken("its frames cannot be counted") from None
        self._ends = np.cumsum([shown_ms(delay) for delay in delays]) / 1000
        with reading(what):
            self._image = open_image(content, None, limits.megapixels)
        width, height = self._image.size
        self.header = held(Header(len(self._ends), float(self._ends[-1]), height, width), limits)

    def close(self) -> None:
        """Closes the file."""
        self._image.close()

    def at(self, moments: Sequence[float]) -> Iterator[Image.Image]:
        """As `Clip.at`; all frames before the last one are decoded, too: each is drawn over the one before."""
        from ofasys_lite.preprocess.image_decode import reading

        at = -1
        frame: Image.Image = self._image
        with reading(self.what):
            for wanted in (shown_at(self._ends, moment) for moment in moments):
                while at < wanted:
                    at += 1
                    try:
                        self._image.seek(at)
                    except EOFError:
                        raise self._broken(f"it ends at frame {at} of {len(self._ends)}") from None
                    if at == wanted:
                        self._image.load()
                        frame = self._image.copy()
                        frame.info = dict(self._image.info)
                yield frame

    def _broken(self, why: str) -> DataError:
        return DataError(f"cannot read video: {self.what} is broken or truncated: {why}", help="write the file again")


def _delays(content: bytes) -> list[int]:
    """Milliseconds as written of each frame; of a picture without animation nothing, or one."""
    if content[:4] == b"RIFF":
        return [
            int.from_bytes(body[12:15], "little") for name, body in _chunks(content, 12, "<4sI", 2) if name == b"ANMF"
        ]
    if content[:4] == b"\x89PNG":
        # width, height and place come first, then the delay as a fraction of a second
        marks = [body for name, body in _chunks(content, 8, ">I4s", 1) if name == b"fcTL"]
        fractions = [struct.unpack_from(">HH", body, 20) for body in marks]
        return [1000 * number // (parts or 100) for number, parts in fractions]
    return _gif_delays(content)


def _chunks(content: bytes, at: int, form: str, align: int) -> Iterator[tuple[bytes, bytes]]:
    """(name, body) of the chunks of a RIFF or PNG file; a last one that is cut off is left out."""
    while at + 8 <= len(content):
        first, second = struct.unpack_from(form, content, at)
        name, size = (first, second) if isinstance(first, bytes) else (second, first)
        if at + 8 + size > len(content):
            return
        yield name, content[at + 8 : at + 8 + size]
        at += 8 + size + size % align + (4 if align == 1 else 0)  # PNG: a checksum behind each


def _gif_delays(content: bytes) -> list[int]:
    """Of the blocks of a GIF: each frame's delay stands in the extension before it, in hundredths of a second."""
    found, delay, at = list[int](), 0, 13
    if content[10] & 0x80:
        at += 3 << (content[10] & 7) + 1
    while at < len(content):
        mark = content[at]
        if mark == 0x21:  # extension
            if content[at + 1] == 0xF9:
                delay = 10 * struct.unpack_from("<H", content, at + 4)[0]
            at += 2
        elif mark == 0x2C:  # frame
            found.append(delay)
            table = content[at + 9]
            at += 11 + (3 << (table & 7) + 1 if table & 0x80 else 0)
            delay = 0
        else:  # the end
            return found
        while content[at]:  # blocks of data, each with its length before it
            at += 1 + content[at]
        at += 1
    return found
