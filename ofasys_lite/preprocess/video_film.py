"""Films by PyAV (extra `video`): MP4, MOV, WebM, Matroska, AVI, MPEG and what else FFmpeg reads.

Moments count by the frames' own times, so a variable rate is sampled as it is seen. Where the file has an index,
frames before the last keyframe at or before a moment are skipped, not decoded.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.errors import DataError, OfasysError, needed
from ofasys_lite.preprocess.media import Source
from ofasys_lite.preprocess.video_clips import Clip, Header, Limits, held

if TYPE_CHECKING:
    from PIL import Image

#: What PyAV raises on broken files beside its own errors.
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, MemoryError, IndexError, OverflowError)
#: A clip may end this much earlier than its header says: in seconds, and as a share.
_SLACK_SECONDS, _SLACK = 0.5, 0.15
#: Entries at the end of an index that are looked at for data behind the file's end.
_LAST = 50
#: (a, b, c, d) of a display matrix -> how to turn a stored frame upright, as names of PIL's transposes.
_TURNS = {
    (-1, 0, 0, 1): "FLIP_LEFT_RIGHT",
    (-1, 0, 0, -1): "ROTATE_180",
    (1, 0, 0, -1): "FLIP_TOP_BOTTOM",
    (0, 1, 1, 0): "TRANSPOSE",
    (0, 1, -1, 0): "ROTATE_270",
    (0, -1, -1, 0): "TRANSVERSE",
    (0, -1, 1, 0): "ROTATE_90",
}


_AGAIN = "write or fetch the file again, or drop the row"


@contextmanager
def _reading(av: Any, what: str) -> Iterator[None]:
    try:
        yield
    except OfasysError:
        raise
    except (av.FFmpegError, *_BROKEN) as error:
        said = str(getattr(error, "strerror", None) or error).strip() or type(error).__name__
        what = f"cannot read video: {what} is broken or no clip of a known format ({said})"
        raise DataError(what, help="write or fetch the file again, or leave the row out") from error


class Film(Clip):
    """An opened film, only its header read.

    Raises:
        DataError: PyAV is missing; no film, broken, truncated, without pictures, too large or too long.
    """

    def __init__(self, source: Source, what: str, limits: Limits) -> None:
        self.what = what
        self._av = av = needed("av", f"cannot read video: {what} is a film, which", "video")
        with _reading(av, what):
            self._container = av.open(io.BytesIO(source) if isinstance(source, bytes) else str(source))
            try:
                size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
                self._read_header(size, limits)
            except BaseException:
                self._container.close()
                raise

    def close(self) -> None:
        """Closes the file."""
        self._container.close()

    def _read_header(self, size: int, limits: Limits) -> None:
        streams = [s for s in self._container.streams.video if not _cover(s)]
        if not streams:
            kinds = ", ".join(sorted({s.type for s in self._container.streams})) or "nothing"
            help = "a slot [AUDIO:...] reads sound"
            raise DataError(f"cannot read video: {self.what} has no pictures, only {kinds}", help=help)
        self._stream = stream = streams[0]
        if stream.codec_context is None:
            raise DataError(f"cannot read video: {self.what} has pictures of a codec that nobody knows", help=_AGAIN)
        stream.codec_context.thread_count = 1  # workers are processes, one a core
        self._unit = float(stream.time_base) if stream.time_base else 1e-6
        self._start = (stream.start_time or 0) * self._unit
        entries = list(getattr(stream, "index_entries", None) or ())
        # an index counts by the order of decoding, which frames that are shown between others delay
        delay = self._start - entries[0].timestamp * self._unit if entries else 0.0
        keys = (e.timestamp * self._unit + delay for e in entries if e.is_keyframe)
        self._keys = sorted(keys) if len(entries) > 1 else []
        rate = stream.average_rate or stream.guessed_rate
        self._step = 1 / float(rate) if rate else 0.04
        self._square = float(stream.sample_aspect_ratio or 1) or 1.0
        seconds = self._seconds(entries)
        frames = stream.frames or (round(seconds / self._step) if seconds else 0)
        if not seconds or not frames:
            seconds, frames = self._counted()
        context = stream.codec_context
        self.header = held(Header(frames, seconds, context.height, round(context.width * self._square)), limits)
        if any(e.pos + e.size > size for e in entries[-_LAST:]):
            told = f"cannot read video: {self.what} is truncated: its index goes on behind its end"
            raise DataError(told, help=_AGAIN)

    def _seconds(self, entries: Sequence[Any]) -> float:
        """The duration by the header; an index knows better where it names later frames."""
        stream, container = self._stream, self._container
        said = stream.duration * self._unit if stream.duration else (container.duration or 0) / 1e6
        last = max((e.timestamp for e in entries), default=0) * self._unit - self._start if len(entries) > 1 else 0.0
        return max(float(said), last + self._step if last > said else 0.0)

    def _counted(self) -> tuple[float, int]:
        """(seconds, frames) of a stream without a duration: its packets are counted, not decoded."""
        times = [p.pts * self._unit for p in self._container.demux(self._stream) if p.pts is not None and p.size]
        self._container.seek(0, backward=True)
        if not times:
            raise DataError(f"cannot read video: {self.what} has no frames", help="leave the row out")
        return max(times) - min(times) + self._step, len(times)

    def at(self, moments: Sequence[float]) -> Iterator[Image.Image]:
        """As `Clip.at`."""
        with _reading(self._av, self.what):
            yield from self._at(moments)

    def _at(self, moments: Sequence[float]) -> Iterator[Image.Image]:
        shown, coming, decoded = None, None, iter(self._decoded())
        last: Any = None
        for moment in moments:
            wanted = self._start + moment
            key = self._key_before(wanted)
            if key is not None and (shown is None or key > shown[0] + self._step):
                self._container.seek(round(key / self._unit), stream=self._stream, backward=True)
                shown, coming, decoded = None, None, iter(self._decoded())
            while coming is None or coming[0] <= wanted:
                shown = coming or shown
                coming = next(decoded, None)
                if coming is None:
                    break
            picked = shown or coming
            if picked is None:
                raise DataError(f"cannot read video: {self.what} has no frame that can be decoded", help=_AGAIN)
            if coming is None:
                self._ended(picked, wanted)
            if last is None or last[0] is not picked[1]:
                last = picked[1], self._upright(picked[1])
            yield last[1]

    def _decoded(self) -> Iterator[tuple[float, Any]]:
        """(second, frame) from where the container stands."""
        now = self._start
        for frame in self._container.decode(self._stream):
            now = frame.pts * self._unit if frame.pts is not None else now + self._step
            yield now, frame

    def _key_before(self, wanted: float) -> float | None:
        """Second of the last keyframe at or before a moment; None where it is the first one, or there is no index."""
        place = bisect_right(self._keys, wanted)
        return self._keys[place - 1] if place > 1 else None

    def _ended(self, last: tuple[float, Any], wanted: float) -> None:
        """Raises DataError where the frames end long before the moment that the header promised."""
        length = self.header.length
        end = last[0] + max(self._step, (last[1].duration or 0) * self._unit)
        if wanted - end > max(_SLACK_SECONDS, _SLACK * length):
            told = f"its frames end at {end - self._start:.1f} s of {length:.1f} s"
            raise DataError(f"cannot read video: {self.what} is damaged or truncated: {told}", help=_AGAIN)

    def _upright(self, frame: Any) -> Image.Image:
        from PIL import Image

        if frame.is_corrupt:
            raise DataError(f"cannot read video: {self.what} is damaged at {frame.time or 0:.1f} s", help=_AGAIN)
        image: Image.Image = frame.to_image()
        if self._square != 1:
            image = image.resize((round(image.width * self._square), image.height))
        turn = _turn(self._av, frame)
        return image.transpose(Image.Transpose[turn]) if turn else image


def _cover(stream: Any) -> bool:
    """Whether a stream is the picture on the cover of a sound file."""
    disposition = getattr(stream, "disposition", None)
    return "attached_pic" in str(disposition)


def _turn(av: Any, frame: Any) -> str:
    """Name of the transpose that brings a frame upright; empty where it is so already."""
    matrix = frame.side_data.get(av.sidedata.sidedata.Type.DISPLAYMATRIX)
    if matrix is None:
        return ""
    a, b, _, c, d = (int(np.sign(v)) if abs(v) > 1 << 15 else 0 for v in np.frombuffer(bytes(matrix), np.int32)[:5])
    return _TURNS.get((a, b, c, d), "")
