"""VIDEO that is written: patches of pixels, some frames deep, in -1 to 1; and back to a clip that can be saved.

Shapes: F frames, s pixels a side of a frame, G frames a row is deep, p pixels it is wide and high, P rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError, InstructionError
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import READ, Context, Look, Piece, RowContext, Size
from ofasys_lite.preprocess.continuous import Floats, given_rows, value_piece, with_given
from ofasys_lite.preprocess.media import elsewhere, setting
from ofasys_lite.preprocess.video import VideoPreprocess, frames_of
from ofasys_lite.preprocess.video_clips import Header, Limits, WrittenClip
from ofasys_lite.preprocess.video_decode import open_clip
from ofasys_lite.preprocess.video_files import ENDINGS, clip_file

#: Numbers of a pixel: red, green, blue.
_COLOURS = 3


@dataclass(frozen=True, slots=True)
class WrittenSettings:
    """What the card and a slot say of how a clip is written.

    Attributes:
        size: Pixels of both sides of a frame.
        frames: Frames of every clip; None where the model finds how many.
        rate: Frames a second.
        most: Most frames of a clip.
        side: Pixels a row is wide and high.
        deep: Frames a row is deep.
        max_rows: Most rows of a clip.
    """

    size: int
    frames: int | None
    rate: float
    most: int
    side: int
    deep: int
    max_rows: int
    limits: Limits

    @staticmethod
    def of(settings: Mapping[str, Any], options: Options = ()) -> WrittenSettings:
        """The settings; what the slot says goes before.

        Raises:
            CardError: A number of the wrong type or range.
        """
        said = dict(options)
        rate = said.get("sample_rate")
        frames = said.get("frames") or setting(settings, "frames", 8, 1, 4096)
        shown = rate or said.get("fps") or setting(settings, "fps", 10.0, 0.1, 1000)
        size = said.get("size") or setting(settings, "written_size", 32, 1, 4096)
        return WrittenSettings(
            int(str(size)),
            None if rate else int(str(frames)),
            float(str(shown)),
            most_frames(settings) if rate else int(str(frames)),
            row_side(settings),
            row_depth(settings),
            setting(settings, "max_rows", 512, 1),
            Limits(setting(settings, "max_megapixels", 100.0, 1e-6), setting(settings, "max_seconds", 3600.0, 1e-3)),
        )

    @property
    def cells(self) -> int:
        """Rows of one moment, on a side."""
        return self.size // self.side

    def depth(self, frames: int) -> int:
        """Moments that so many frames are."""
        return -(-frames // self.deep)

    def grid(self, frames: int) -> tuple[int, int, int]:
        """(moments, lines, columns) of a clip's rows."""
        return self.depth(frames), self.cells, self.cells

    def count(self, header: Header) -> int:
        """Frames that a clip is written with: as many as asked for, or those of its first seconds at the rate.

        Raises:
            DataError: Nobody knows how long its frames are shown.
        """
        if self.frames is not None:
            return self.frames
        if header.seconds is None:
            help = 'give {"frames": [...], "fps": 25}, or write `frames=8` in the place of `sample_rate`'
            raise DataError("cannot read video: the frames have no rate, and `sample_rate` needs one", help=help)
        return min(self.most, max(1, round(header.seconds * self.rate)))

    def moments(self, header: Header) -> list[float]:
        """When frames are taken from a clip: at the middle of each; a clip that has fewer shows some of them twice."""
        count = self.count(header)
        step = header.length / count if self.frames is not None else 1 / self.rate
        return [min((number + 0.5) * step, header.length) for number in range(count)]


def row_side(settings: Mapping[str, Any]) -> int:
    """Pixels that a row is wide and high."""
    return setting(settings, "written_patch", 8, 1, 256)


def row_depth(settings: Mapping[str, Any]) -> int:
    """Frames that a row is deep."""
    return setting(settings, "temporal_patch", 2, 1, 2)


def most_frames(settings: Mapping[str, Any]) -> int:
    """Frames of the longest clip whose length the model finds."""
    return setting(settings, "most_frames", 64, 1, 4096)


def row_numbers(settings: Mapping[str, Any]) -> int:
    """Numbers of a row."""
    return row_depth(settings) * row_side(settings) ** 2 * _COLOURS


class VideoWriting(VideoPreprocess):
    """Clips as a target: `values` (P, G * p * p * 3), pixels in -1 to 1, at (number of the moment, line, column).

    Settings and attributes: the card, `modalities/video.yaml`.
    """

    ending: str = ".gif"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._asked: dict[Options, WrittenSettings] = {}

    def asked(self, options: Options) -> WrittenSettings:
        """How a slot with these options is written."""
        if options not in self._asked:
            self._asked[options] = WrittenSettings.of(self.settings, options)
        return self._asked[options]

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a clip; all its rows are to be written.

        Raises:
            DataError: As VideoPreprocess does.
        """
        from ofasys_lite.preprocess.image_decode import resized

        asked = self.asked(options)
        with open_clip(value, self.context.folder, asked.limits) as clip:
            images = clip.at(asked.moments(clip.header))
            frames = [resized(image, asked.size, asked.size, 1, None, draft=False) for image in images]
        grid = asked.grid(len(frames))
        values_PC = rows_of_frames(np.stack(frames), asked)
        most = 0 if asked.frames is not None else asked.depth(asked.most)
        nothing_P = np.zeros(len(values_PC), np.bool_)
        return value_piece(self.context.adapter, values_PC, _positions(grid), nothing_P, most, grid)

    def rest(self, piece: Piece, hidden: Piece, rng: np.random.Generator | None) -> Piece:
        """The clip with loss on the rows that the source hides; the others are given."""
        seen_PC = self._seen_rows(hidden)
        if seen_PC is None or not np.array_equal(seen_PC, piece.arrays["values"]):
            raise DataError(
                "the source hides a part of a clip that the target cuts in another way",
                help="give both slots the same `size` and `frames`, without `window` and `augment`, "
                f"and rows of one size: modalities.VIDEO.written_patch={self.chosen(()).image.cell}",
            )
        return with_given(piece, ~hidden.arrays["mask"])

    def _seen_rows(self, hidden: Piece) -> Floats | None:
        """(P, C) of a clip as the source reads it, hidden parts too; None where its cells are no rows of ours."""
        asked, cell = self.asked(()), self.chosen(()).image.cell
        if cell != asked.side or hidden.grid is None:
            return None
        return rows_of_frames(frames_of(hidden, cell), asked)

    def constraint(self, options: Options, known: RowContext) -> Whole:
        """All rows at once: of a clip as long as the slot says, or as the model finds right, or of one that is known
        in part."""
        asked, adapter = self.asked(options), self.context.adapter
        if known.hidden is not None and (seen_PC := self._seen_rows(known.hidden)) is not None:
            places = tuple(map(tuple, known.hidden.positions_P3.tolist()))
            return Whole(adapter, places, given=given_rows(seen_PC, ~known.hidden.arrays["mask"]))
        grid = asked.grid(asked.most)
        about = (("asked", True), ("unit", grid[1] * grid[2])) if asked.frames is None else ()
        return Whole(adapter, tuple(map(tuple, _positions(grid).tolist())), about)

    def decode(self, ids: npt.NDArray[Any], options: Options, known: RowContext) -> WrittenClip:
        """The clip of rows (P, G * p * p * 3)."""
        asked = self.asked(options)
        frames_FHW3 = frames_of_rows(ids, asked)
        return WrittenClip(frames_FHW3[: asked.frames], asked.rate)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError for attributes that exclude each other or leave no whole rows, CardError for numbers
        of the card."""
        asked, said = WrittenSettings.of(settings, options), dict(options)
        if said.get("sample_rate") is not None:
            other = next((key for key in ("frames", "fps") if said.get(key) is not None), None)
            what = "which frames are taken" if other == "frames" else "how many frames a second are"
            if other is not None:
                raise InstructionError(f"`{other}` and `sample_rate` both say {what}", help="write one of them")
        rows = asked.depth(asked.most) * asked.cells**2
        kind = InstructionError if said.keys() & {"size", "frames", "sample_rate"} else CardError
        if asked.size % asked.side:
            near = max(1, round(asked.size / asked.side)) * asked.side
            told = f"a clip that is written is made of rows {asked.side} pixels wide, and its size is {asked.size}"
            raise kind(told, help=f"write `size={near}`, or set modalities.VIDEO.written_patch")
        if rows > asked.max_rows:
            told = f"clips of {asked.most} frames of {asked.size} x {asked.size} are {rows} rows, above max_rows"
            help = f"write a smaller `size` or fewer frames, or train with modalities.VIDEO.max_rows={rows}"
            raise kind(f"{told}={asked.max_rows}", help=help)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """Its frame, and what is changed of it; `whole` decodes the frames that are taken."""
        if elsewhere(value, settings):
            return Look()
        asked = WrittenSettings.of(settings, options)
        with open_clip(value, settings.get("folder"), asked.limits) as clip:
            header = clip.header
            taken = asked.moments(header)
            if whole:
                for _ in clip.at(taken):
                    pass
        remarks = list[tuple[str, str]]()
        shown, size = f"{header.width} x {header.height}", f"{asked.size} x {asked.size}"
        if header.width != header.height:
            remarks.append(("frames that are not square are written square", f"{shown} to {size}"))
        if asked.frames is not None and header.frames < asked.frames:
            remarks.append((f"frames={asked.frames} are more than the clip has", f"{header.frames} frames"))
        if asked.frames is None and len(taken) < round(header.length * asked.rate):
            remarks.append((f"most_frames={asked.most} cuts", f"{header.length:.1f} s"))
        return Look((header.width, header.height), len(taken) * header.width * header.height, tuple(remarks))

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a clip of that size."""
        asked = self.asked(options)
        frames, milliseconds, *_ = size
        # a clip without a rate is refused where the rate is asked for
        depth, lines, columns = asked.grid(asked.count(Header(frames, milliseconds / 1000, 1, 1)))
        return max(1, depth * lines * columns)

    def brief(self, value: Any) -> str:
        """`<video of 8 frames of 32 x 32, 0.8 s>`."""
        count, height, width = value.frames_FHW3.shape[:3]
        return f"<video of {count} frames of {width} x {height}, {count / value.rate:.1f} s>"

    @classmethod
    def place(cls, path: str | Path) -> Path:
        """Where a clip is written: an animation (`.gif`, `.webp`, `.png`) or, by PyAV, a film (`.mp4`, `.webm`)."""
        place = Path(path)
        place = place if place.suffix else place.with_name(f"{place.name}{cls.ending}")
        if place.suffix.lower() not in ENDINGS:
            raise DataError(f"cannot write {place}: no clip ends like that", help=f"write {', '.join(ENDINGS)}")
        return place

    def save(self, value: Any, ending: str) -> bytes:
        """The content of a file; DataError where a film is asked for and PyAV is missing."""
        return clip_file(value, ending)


def rows_of_frames(frames_FHW3: npt.NDArray[np.uint8], asked: WrittenSettings) -> Floats:
    """(P, G * p * p * 3) in -1 to 1, moment by moment and line by line; a last frame without partner stands twice."""
    rest = -len(frames_FHW3) % asked.deep
    frames_FHW3 = np.concatenate([frames_FHW3, frames_FHW3[-1:].repeat(rest, 0)])
    (count, high, wide), side, deep = frames_FHW3.shape[:3], asked.side, asked.deep
    cut = frames_FHW3.reshape(count // deep, deep, high // side, side, wide // side, side, _COLOURS)
    rows = cut.transpose(0, 2, 4, 1, 3, 5, 6).reshape(-1, deep * side * side * _COLOURS)
    values_PC: Floats = (rows / np.float32(127.5) - 1).astype(np.float32)
    return values_PC


def frames_of_rows(values_PC: npt.NDArray[Any], asked: WrittenSettings) -> npt.NDArray[np.uint8]:
    """(F, s, s, 3) pixels of rows."""
    cells, side, deep = asked.cells, asked.side, asked.deep
    cut = values_PC.reshape(-1, cells, cells, deep, side, side, _COLOURS).transpose(0, 3, 1, 4, 2, 5, 6)
    pixels = cut.reshape(-1, cells * side, cells * side, _COLOURS)
    frames_FHW3: npt.NDArray[np.uint8] = np.clip(np.rint((pixels + 1) * 127.5), 0, 255).astype(np.uint8)
    return frames_FHW3


def _positions(grid: tuple[int, int, int]) -> npt.NDArray[np.int64]:
    """(P, 3) number of the moment, line, column."""
    return np.stack([axis.ravel() for axis in np.indices(grid)], axis=1).astype(np.int64)
