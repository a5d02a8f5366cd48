"""What a clip is, wherever it comes from: a header, and the frames that are shown at given moments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, slots=True)
class Limits:
    """What is refused by its header: larger frames, in megapixels, and longer clips, in seconds."""

    megapixels: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of a clip without decoding it.

    Attributes:
        frames: Number of frames; of some formats an estimate, by duration and rate.
        seconds: Duration; None for frames without a rate.
        height: Of a frame in pixels, as stored: where frames are turned by a quarter it is the width of what is shown.
        width: Likewise, with pixels made square.
    """

    frames: int
    seconds: float | None
    height: int
    width: int

    @property
    def length(self) -> float:
        """Seconds, of frames without a rate their number: in what moments are counted."""
        return float(self.frames) if self.seconds is None else self.seconds


@dataclass(frozen=True, slots=True, eq=False)
class WrittenClip:
    """A clip that a model wrote.

    Attributes:
        frames_FHW3: Pixels, uint8.
        rate: Frames a second.
    """

    frames_FHW3: npt.NDArray[np.uint8]
    rate: float


class Clip:
    """An opened clip; `at` may be called once."""

    header: Header

    def at(self, moments: Sequence[float]) -> Iterator[Image.Image]:
        """The frame that is shown at each moment, upright, one by one: large ones do not pile up.

        Moments rise from 0, in seconds (`Header.length`).

        Raises:
            DataError: The clip is damaged, or ends before its header says.
        """
        raise TypeError(f"{type(self).__name__} does not say what its frames are")

    def close(self) -> None:
        """Closes the file."""


def moments(
    header: Header, count: int, rate: float | None, most: int, part: tuple[float, float] = (0, 1)
) -> list[float]:
    """Moments at which frames are taken: in the middle of equal parts of the clip.

    Args:
        count: How many, at most those that the clip has; without `rate`.
        rate: How many a second, or None.
        most: Most of them; `rate` is lowered to fit.
        part: Beginning and end of what is looked at, in shares of the clip.

    Raises:
        DataError: A rate, and frames of which nobody knows how long they are shown.
    """
    start, length = part[0] * header.length, (part[1] - part[0]) * header.length
    if rate is not None:
        if header.seconds is None:
            help = 'give {"frames": [...], "fps": 25}, or write `frames=8` in the place of `sample_rate`'
            raise DataError("cannot read video: the frames have no rate, and `sample_rate` needs one", help=help)
        count = max(1, round(length * rate))
    wanted = max(1, min(count, most, header.frames))
    return [start + (number + 0.5) * length / wanted for number in range(wanted)]


def held(header: Header, limits: Limits) -> Header:
    """`header`, if the clip is one that may be decoded; DataError if it is too large, too long, or has no pixels."""
    size = f"{header.width} x {header.height}"
    if not header.frames or not header.width or not header.height:
        raise DataError(f"cannot read video: it has no frames ({header.frames} of {size})", help="leave the row out")
    if header.width * header.height > limits.megapixels * 1e6:
        pixels = header.width * header.height / 1e6
        help = f"its frames are {size}; shrink them first, or raise the setting `max_megapixels`"
        raise DataError(f"cannot read video: frames of {pixels:.0f} megapixels, limit {limits.megapixels:g}", help=help)
    if header.seconds is not None and header.seconds > limits.seconds:
        help = "cut it, or raise the setting `max_seconds`"
        raise DataError(
            f"cannot read video: it lasts {header.seconds:.0f} s, the limit is {limits.seconds:g} s", help=help
        )
    return header


class Frames(Clip):
    """Frames that lie in memory, or a picture file each.

    Args:
        frames: Any value each that IMAGE reads.
        ends: (F,) second at which each goes, or None for frames without a rate.
    """

    def __init__(self, frames: Sequence[Any], ends: Any, folder: str | None, limits: Limits) -> None:
        self.frames, self.folder, self.limits = frames, folder, limits
        self.ends = np.arange(1, len(frames) + 1) if ends is None else np.asarray(ends)
        width, height = self._image(0, whole=False).size
        self.header = Header(len(frames), None if ends is None else float(self.ends[-1]), height, width)

    def at(self, moments: Sequence[float]) -> Iterator[Image.Image]:
        """As `Clip.at`; DataError where a frame has another size than the first."""
        for moment in moments:
            image = self._image(shown_at(self.ends, moment))
            if (image.height, image.width) != (self.header.height, self.header.width):
                sizes = f"{self.header.width} x {self.header.height} and {image.width} x {image.height}"
                raise DataError(f"cannot read video: its frames differ in size: {sizes}", help="bring them to one size")
            yield image

    def _image(self, number: int, whole: bool = True) -> Image.Image:
        from ofasys_lite.preprocess.image_decode import open_image, reading

        value = self.frames[number]
        image = open_image(value, self.folder, self.limits.megapixels)
        if image is not value and not whole:
            image.close()
        elif image is not value:
            with reading(image):
                image.load()  # which closes its file
        return image


def shown_at(ends: Any, moment: float) -> int:
    """Number of the frame that is shown at a moment, by the seconds at which each goes."""
    return min(int(np.searchsorted(ends, moment, side="right")), len(ends) - 1)
