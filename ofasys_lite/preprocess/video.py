"""VIDEO on the CPU side: any value that holds a clip -> uint8 pixels of frames taken from it, and their cells.

Two frames are one row deep (temporal patches of two, Qwen2-VL, arXiv 2409.12191), so a clip costs half the rows of its
pictures; a frame is resized as an image is. Shapes: F frames, P rows, h and w pixels, f pixels a cell is wide and high.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError, InstructionError
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Array, Context, Look, Piece, Preprocess, RowContext, Size
from ofasys_lite.preprocess.image import ImageSettings, as_read, cell_mask, cell_size, recoloured, window_of
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.media import elsewhere, locate, setting
from ofasys_lite.preprocess.video_clips import Header, Limits, moments
from ofasys_lite.preprocess.video_decode import BASE64_HEADS, open_clip

if TYPE_CHECKING:
    from PIL import Image

_GREY = 128  # of hidden cells, where a person looks at them
#: Frames of a strip; pixels of a line of it, and of a frame's longer side, above which it is reduced.
_STRIP, _LINE, _SIDE = 8, 680, 160
#: Share of a clip that `window` keeps, at least.
_WINDOW = 0.5


@dataclass(frozen=True, slots=True)
class VideoSettings:
    """What the card and a slot say of how a clip is read.

    Attributes:
        image: Of each frame, without the budget of the clip.
        frames: Frames taken evenly, where no rate is given.
        rate: Frames a second, or None.
        most_frames: Most frames, whatever is asked for.
        patch: Frames a row is deep, 1 or 2.
        max_rows: Most rows of a clip: its frames are reduced to fit.
        window: A random stretch is read in training.
        mask_ratio: Share of the cells that is hidden, the same ones in all frames.
    """

    image: ImageSettings
    frames: int
    rate: float | None
    most_frames: int
    patch: int
    max_rows: int
    limits: Limits
    window: bool
    mask_ratio: float

    @staticmethod
    def of(settings: Mapping[str, Any], options: Options = ()) -> VideoSettings:
        """The settings; what the slot says goes before.

        Raises:
            CardError: A number of the wrong type or range.
        """
        said: dict[str, Any] = dict(options)
        rate = said.get("sample_rate")
        patch = setting(settings, "temporal_patch", 2, 1, 2)
        most = setting(settings, "most_frames", 64, 1, 4096)
        frames = said.get("frames") or setting(settings, "frames", 8, 1, 4096)
        return VideoSettings(
            ImageSettings.of(settings, options),
            frames if isinstance(frames, int) else most,
            float(rate) if isinstance(rate, (int, float)) and rate else None,
            max(most, frames) if rate is None and isinstance(frames, int) else most,
            patch,
            said.get("max_rows") or setting(settings, "max_rows", 512, 1),
            Limits(setting(settings, "max_megapixels", 100.0, 1e-6), setting(settings, "max_seconds", 3600.0, 1e-3)),
            bool(said.get("window")),
            float(said.get("mask_ratio") or 0.0),
        )

    def moments(self, header: Header, part: tuple[float, float] = (0, 1)) -> list[float]:
        """When frames are taken from a clip, or of a part of it."""
        return moments(header, self.frames, self.rate, self.most_frames, part)

    def depth(self, frames: int) -> int:
        """Rows that so many frames are deep."""
        return -(-frames // self.patch)

    def size(self, height: int, width: int, frames: int) -> tuple[int, int]:
        """(height, width) in pixels that frames are resized to: as images, and the clip within its rows.

        Raises:
            DataError: A side is too long, or the rows do not hold one cell of each frame.
        """
        depth, image = self.depth(frames), self.image
        cells = self.max_rows // depth
        if not cells:
            help = f"write fewer `frames`, or `max_rows={depth}` at least"
            raise DataError(f"cannot read video: {frames} frames do not fit in max_rows={self.max_rows}", help=help)
        most = min(image.max_pixels, cells * image.cell**2)
        high, wide = cell_size(height, width, replace(image, min_pixels=min(image.min_pixels, most), max_pixels=most))
        rows = depth * (high // image.cell) * (wide // image.cell)
        if rows > self.max_rows and image.size is not None:
            help = f"write a smaller `size`, fewer `frames`, or `max_rows={rows}`"
            raise DataError(f"cannot read video: {frames} frames of {high} x {wide} are {rows} rows", help=help)
        return high, wide


class VideoPreprocess(Preprocess):
    """Reads clips; the piece holds these arrays.

    - `pixels` (F * h * w, 3) uint8, frame by frame and line by line; a last frame without partner stands twice, and a
      clip of one frame is a picture;
    - `mask` (P,) bool, True at masked cells, the same ones of all frames (VideoMAE's tubes, arXiv 2203.12602), so that
      no other moment shows what is hidden; empty without `mask_ratio`.

    Attributes of a slot: `frames` or `sample_rate` (frames a second), `size`, `max_pixels` of a frame, `max_rows` of
    the clip, `window` and `augment` (in training only, alike on all frames), `mask_ratio`.
    """

    kind: ClassVar[str] = kinds.VIDEO
    ending: str = ".mp4"
    #: (frames, milliseconds, height, width)
    typical: ClassVar[Size] = (250, 10_000, 240, 320)

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._chosen: dict[Options, VideoSettings] = {}

    def chosen(self, options: Options) -> VideoSettings:
        """How a slot with these options is read."""
        if options not in self._chosen:
            self._chosen[options] = VideoSettings.of(self.settings, options)
        return self._chosen[options]

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a clip: P = F / 2 * h / f * w / f rows at (number of the pair, line, column).

        Raises:
            DataError: No clip, broken, missing, too large or too long; PyAV is missing.
        """
        chosen = self.chosen(options)
        drawn = known.rng if known.train else None
        part = (0.0, 1.0)
        if drawn is not None and chosen.window:
            share = _WINDOW + (1 - _WINDOW) * float(drawn.random())
            start = (1 - share) * float(drawn.random())
            part = (start, start + share)
        augment = chosen.image.augment if drawn is not None else 0.0
        box = None if drawn is None or not augment else window_of(augment, drawn)
        pixels = list[npt.NDArray[np.uint8]]()
        with open_clip(value, self.context.folder, chosen.limits) as clip:
            taken = chosen.moments(clip.header, part)
            for image in clip.at(taken):
                if not pixels:
                    high, wide = chosen.size(image.height, image.width, len(taken))
                pixels.append(as_read(image, (high, wide), chosen.image, 1, box, draft=False))
        pixels_FHW3 = np.stack(pixels)
        if drawn is not None and augment:
            pixels_FHW3 = recoloured(pixels_FHW3, augment, drawn)
        if len(pixels) > 1 and len(pixels) % chosen.patch:
            pixels_FHW3 = np.concatenate([pixels_FHW3, pixels_FHW3[-1:]])
        lines, columns = high // chosen.image.cell, wide // chosen.image.cell
        grid = (chosen.depth(len(pixels)), lines, columns)
        mask = np.zeros(0, dtype=np.bool_)
        if chosen.mask_ratio:
            if known.rng is None:
                raise TypeError("`mask_ratio` defines the task: encode needs a generator for it in every split")
            mask = np.tile(cell_mask(lines, columns, chosen.mask_ratio, "patches", known.rng), grid[0])
        positions = np.stack([axis.ravel() for axis in np.indices(grid)], axis=1).astype(np.int64)
        arrays: dict[str, Array] = {"pixels": pixels_FHW3.reshape(-1, 3), "mask": mask}
        return Piece(self.context.adapter, positions, arrays, grid=grid)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError for attributes that exclude each other or a `size=` that cannot be, CardError for
        numbers of the card."""
        chosen = VideoSettings.of(settings, options)
        said = dict(options)
        if said.get("frames") is not None and said.get("sample_rate") is not None:
            raise InstructionError(
                "`frames` and `sample_rate` both say which frames are taken", help="write one of them"
            )
        cell = chosen.image.cell
        cell_size(cell, cell, chosen.image)
        if chosen.rate is None:
            try:
                chosen.size(cell, cell, chosen.frames)
            except DataError as error:
                said_here = any(said.get(key) is not None for key in ("frames", "size", "max_rows"))
                kind = InstructionError if said_here else CardError
                raise kind(error.message.removeprefix("cannot read video: "), help=error.help) from None

    @classmethod
    def cut_by(cls, settings: Mapping[str, Any]) -> str:
        """`crop`, where it is set."""
        return "crop" if settings.get("crop") is not None else ""

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` holds no clip, or one that is too large or too long; reads headers only.

        Relative paths are looked up in `settings["folder"]`, and passed over if that is not given.
        """
        cls.look(value, options, settings, known)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """Its frame, and whether frames are reduced or fewer than asked for; `whole` decodes those that are taken."""
        if elsewhere(value, settings):
            return Look()
        chosen = VideoSettings.of(settings, options)
        with open_clip(value, settings.get("folder"), chosen.limits) as clip:
            header = clip.header
            taken = chosen.moments(header)
            high, wide = chosen.size(header.height, header.width, len(taken))
            if whole:
                for _ in clip.at(taken):
                    pass
        remarks = []
        size = f"{header.width} x {header.height}"
        if header.height * header.width > high * wide and chosen.image.size is None:
            remarks.append((f"frames are reduced, max_rows={chosen.max_rows}", f"{size} to {wide} x {high}"))
        if header.frames == 1:
            remarks.append(("a clip of one frame is read as a picture", size))
        elif chosen.rate is None and len(taken) < chosen.frames:
            remarks.append((f"frames={chosen.frames} are more than the clip has", f"{header.frames} frames"))
        elif chosen.rate is not None and len(taken) < round(header.length * chosen.rate):
            remarks.append((f"most_frames={chosen.most_frames} lowers sample_rate", f"{header.length:.1f} s"))
        return Look((header.width, header.height), len(taken) * header.width * header.height, tuple(remarks))

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """(frames, milliseconds, height, width) by the header; 0 ms of frames without a rate."""
        with open_clip(value, folder, Limits(float("inf"), float("inf"))) as clip:
            header = clip.header
        return header.frames, round(1000 * (header.seconds or 0)), header.height, header.width

    def rows_of(self, size: Size, options: Options) -> int:
        """Cells of the frames that are taken of a clip of that size."""
        frames, milliseconds, height, width = size
        if not frames or not height or not width:
            return 1
        chosen = self.chosen(options)
        header = Header(frames, milliseconds / 1000 or (1.0 if chosen.rate else None), height, width)
        count = len(chosen.moments(header))
        try:
            high, wide = chosen.size(height, width, count)
        except DataError:
            return 1
        return chosen.depth(count) * (high // chosen.image.cell) * (wide // chosen.image.cell)

    def frame(self, value: Any) -> tuple[int, int] | None:
        """(width, height) in pixels as shown: what boxes of the row refer to. The first frame is decoded for it."""
        with open_clip(value, self.context.folder, self.chosen(()).limits) as clip:
            size: tuple[int, int] = next(clip.at([0.0])).size
        return size

    @classmethod
    def located(cls, value: Any, folder: str | None) -> Any:
        """Bytes or path of the clip; frames as they are."""
        found = locate(value, folder, "video", BASE64_HEADS)
        return value if found is None else found

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The clip as bytes, path or frames."""
        return cls.located(value, folder)

    def seen(self, piece: Piece) -> Image.Image:
        """The frames as the model reads them, on a strip; hidden cells are grey and transparent."""
        from PIL import Image

        cell = self.chosen(()).image.cell
        frames_FHW3 = frames_of(piece, cell)
        depth, lines, columns = piece.grid or (1, 1, 1)
        mask = piece.arrays["mask"]
        hidden = (mask if len(mask) else np.zeros(depth * lines * columns, np.bool_)).reshape(depth, lines, columns)
        hidden_FHW = hidden.repeat(len(frames_FHW3) // depth, 0).repeat(cell, 1).repeat(cell, 2)
        colours = np.where(hidden_FHW[..., None], np.uint8(_GREY), frames_FHW3)
        alpha = np.where(hidden_FHW, 0, 255).astype(np.uint8)
        return strip([Image.fromarray(np.dstack(pair)) for pair in zip(colours, alpha, strict=True)])

    def show(self, value: Any) -> Shown | None:
        """A strip of frames with their number and duration, the same moving; what `seen` gave as it is."""
        if hasattr(value, "getbbox") and not getattr(value, "is_animated", False):
            return Shown(picture=value)
        with open_clip(value, self.context.folder, self.chosen(()).limits) as clip:
            header = clip.header
            width, height, images = 0, 0, list[Any]()
            for image in clip.at(moments(header, _STRIP, None, _STRIP)):
                width, height = image.size
                images.append(_reduced(image))
        length = "" if header.seconds is None else f", {header.seconds:.1f} s"
        told = f"{header.frames} frames of {width} x {height}{length}"
        return Shown(told, strip(images), moving=_moving(images, header.seconds), scale=_scale(width, height))


def frames_of(piece: Piece, cell: int) -> npt.NDArray[np.uint8]:
    """(F, h, w, 3) pixels of a clip's piece, whose cells are `cell` pixels wide and high."""
    _, lines, columns = piece.grid or (1, 1, 1)
    pixels: npt.NDArray[np.uint8] = piece.arrays["pixels"].reshape(-1, lines * cell, columns * cell, 3)
    return pixels


def strip(images: list[Image.Image]) -> Image.Image:
    """Frames side by side, in lines, on white."""
    from PIL import Image

    width, height = images[0].size
    gap = max(1, width // 16)
    columns = min(len(images), max(1, (_LINE + gap) // (width + gap)))
    lines = -(-len(images) // columns)
    size = (columns * (width + gap) - gap, lines * (height + gap) - gap)
    sheet = Image.new("RGBA", size, (255, 255, 255, 255))
    for number, image in enumerate(images):
        sheet.paste(image.convert("RGBA"), (number % columns * (width + gap), number // columns * (height + gap)))
    return sheet


def _moving(images: list[Image.Image], seconds: float | None) -> bytes:
    """A GIF of the frames of a strip, as long as the clip; a second where nobody knows."""
    first, *rest = [image.convert("RGB") for image in images]
    file = io.BytesIO()
    delay = max(20, round(1000 * (seconds or 1.0) / len(images)))
    first.save(file, "GIF", save_all=True, append_images=rest, duration=delay, loop=0)
    return file.getvalue()


def _scale(width: int, height: int) -> float:
    """Pixels of a strip per pixel of a frame."""
    return min(1.0, _SIDE / max(width, height))


def _reduced(image: Image.Image) -> Image.Image:
    """A frame as a strip has it."""
    scale = _scale(image.width, image.height)
    flat = image.convert("RGBA")
    return (
        flat if scale == 1 else flat.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    )
