"""IMAGE on the CPU side: any value that holds an image -> uint8 pixels at the image's own resolution, and its cells.

An image keeps its proportions and is resized to whole cells of 2 x 2 patches (`smart_resize` of Qwen2-VL, arXiv
2409.12191), so images of different size cost different numbers of rows. Pixels travel as uint8, flattened, and are
normalised on the device. Shapes: P cells (rows of the stream), h and w pixels, f pixels a cell is wide and high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError, InstructionError, did_you_mean
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import READ, Array, Context, Look, Piece, RowContext, Size
from ofasys_lite.preprocess.image_values import ImageValues, header_check, look_at_image
from ofasys_lite.preprocess.media import setting

if TYPE_CHECKING:
    from PIL import Image

_MAX_RATIO = 200
_GREY = 128  # of hidden cells, where a person looks at them
#: Names of Pillow's filters.
FILTERS = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
_AUGMENT = {"light": 0.1, "strong": 0.3}


@dataclass(frozen=True, slots=True)
class ImageSettings:
    """What the card and a slot say of how an image is read.

    Attributes:
        cell: Side in pixels of a cell of 2 x 2 patches, which is a row of the stream.
        min_pixels: Smaller images are enlarged to about this many pixels.
        max_pixels: Larger images are reduced to about this many pixels.
        max_megapixels: Images above this size are refused by their header.
        size: Both sides in pixels of every image; None where each keeps its own proportions.
        crop: Pixels of the shorter side of an image, of whose middle `size` is cut out; None: all of it is squeezed.
        resample: Name of Pillow's filter, used in one step of all pixels, as other houses do it; None: bicubic, and
            what is reduced much is averaged first, which is faster.
        augment: How much windows and colours change in training, as a share.
        mask_ratio: Share of the cells that is hidden.
        mask_style: Which cells are (`cell_mask`).
    """

    cell: int
    min_pixels: int
    max_pixels: int
    max_megapixels: float
    size: object = None
    augment: float = 0.0
    mask_ratio: float = 0.0
    mask_style: str = "patches"
    crop: int | None = None
    resample: str | None = None

    @staticmethod
    def of(settings: Mapping[str, Any], options: Options = ()) -> ImageSettings:
        """The settings; `max_pixels` and `min_pixels` of the slot go before them, and each moves the other's setting.

        Raises:
            CardError: A number of the wrong type or range, or bounds that leave nothing.
        """
        said: dict[str, Any] = dict(options)
        side = 2 * setting(settings, "patch", 4, 1, 1024)
        slot = {key: said[key] for key in ("min_pixels", "max_pixels") if said.get(key) is not None}
        least = setting({**settings, **slot}, "min_pixels", side**2, 1)
        most = setting({**settings, **slot}, "max_pixels", 256 * side**2, side**2)
        if least > most and len(slot) == 1:
            least, most = (most, most) if "max_pixels" in slot else (least, least)
        if least > most:
            raise CardError(f"`min_pixels` is {least}, above `max_pixels`, {most}")
        size, crop = said.get("size"), settings.get("crop")
        if size is None and settings.get("size") is not None:
            size = setting(settings, "size", side, side, 4096)
            if size % side:
                help = f"write {max(1, round(size / side)) * side}"
                raise CardError(f"setting `size` is {size}, no multiple of {side}, the side of a cell", help=help)
        if crop is not None:
            crop = setting(settings, "crop", side, 1, 8192)
            if not isinstance(size, int) or crop < size:
                help = "the shorter side before `size` is cut out of the middle; null squeezes the whole picture"
                raise CardError(f"setting `crop` is {crop}, and `size` is {size}", help=help)
        if settings.get("resample") not in (None, *FILTERS):
            help = did_you_mean(str(settings["resample"]), FILTERS)
            raise CardError(f"setting `resample` is {settings['resample']!r}", help=help)
        return ImageSettings(
            side,
            least,
            most,
            setting(settings, "max_megapixels", 100.0, 1e-6),
            size,
            _AUGMENT.get(str(said.get("augment")), 0.0),
            float(said.get("mask_ratio") or 0.0),
            str(said.get("mask_style", "patches")),
            crop,
            settings.get("resample"),
        )

    def uncut(self, height: int, width: int, sized: tuple[int, int]) -> tuple[int, int]:
        """(height, width) that an image is resized to, of whose middle `sized` is kept: `sized` itself without `crop`.

        The longer side is rounded down, as transformers and torchvision have it.
        """
        if self.crop is None:
            return sized
        if height < width:
            return self.crop, int(self.crop * width / height)
        return int(self.crop * height / width), self.crop


def smart_resize(height: int, width: int, factor: int, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """(height, width) in multiples of `factor` with about the same proportions, within the pixel bounds.

    Equals the published function of Qwen2-VL (arXiv 2409.12191) to the last case, Python's rounding of halves to the
    even number included. As there, the sides are held at `factor` only in the first step, so that a very long image
    above `max_pixels` can come out with a side of 0: `cell_size` is what callers want.

    Raises:
        ValueError: One side is more than 200 times the other.

    Example:
        >>> smart_resize(28, 28, 8, 64, 4096)
        (32, 32)
    """
    if max(height, width) / min(height, width) > _MAX_RATIO:
        raise ValueError(f"{width} x {height}: one side is more than {_MAX_RATIO} times the other")
    new_height = max(factor, round(height / factor) * factor)
    new_width = max(factor, round(width / factor) * factor)
    if new_height * new_width > max_pixels:
        beta = math.sqrt(height * width / max_pixels)
        new_height = math.floor(height / beta / factor) * factor
        new_width = math.floor(width / beta / factor) * factor
    elif new_height * new_width < min_pixels:
        beta = math.sqrt(min_pixels / (height * width))
        new_height = math.ceil(height * beta / factor) * factor
        new_width = math.ceil(width * beta / factor) * factor
    return new_height, new_width


def cell_size(height: int, width: int, chosen: ImageSettings) -> tuple[int, int]:
    """(height, width) in pixels that an image of this size is resized to: at least one cell on each side.

    Raises:
        DataError: One side is more than 200 times the other.
        InstructionError: `size=` is no multiple of the cell.
    """
    cell, fixed = chosen.cell, chosen.size
    if fixed is not None:
        if not isinstance(fixed, int) or fixed < cell or fixed % cell:
            near = max(cell, round(fixed / cell) * cell) if isinstance(fixed, (int, float)) else cell
            raise InstructionError(
                f"`size={fixed}` is no multiple of {cell} pixels, the side of a cell (2 x patch {cell // 2})",
                help=f"write `size={near}`",
            )
        return fixed, fixed
    try:
        new_height, new_width = smart_resize(height, width, cell, chosen.min_pixels, chosen.max_pixels)
    except ValueError as error:
        raise DataError(f"cannot read image: {error}", help="cut it, or drop the row") from error
    return max(cell, new_height), max(cell, new_width)


def grid_positions(lines: int, columns: int) -> npt.NDArray[np.int64]:
    """(P, 3) positions of an image's cells, line by line: (0, line, column)."""
    positions_P3 = np.zeros((lines * columns, 3), dtype=np.int64)
    positions_P3[:, 1] = np.repeat(np.arange(lines), columns)
    positions_P3[:, 2] = np.tile(np.arange(columns), lines)
    return positions_P3


def cell_mask(lines: int, columns: int, ratio: float, style: str, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """(P,) True at the round(ratio * P) hidden cells; a ratio above 0 hides at least one.

    Args:
        style: `patches` (random cells, MAE, arXiv 2111.06377), `block` (random rectangles, BEiT, arXiv 2106.08254) or
            `center` (the cells nearest to the middle, a square of them).
        rng: Source of the drawing; `center` draws nothing.
    """
    total = lines * columns
    wanted = min(total, max(1, round(ratio * total))) if ratio > 0 else 0
    mask_P = np.zeros(total, dtype=np.bool_)
    if style == "patches":
        mask_P[rng.permutation(total)[:wanted]] = True
    elif style == "center":
        away = np.abs(np.indices((lines, columns)) - (np.array([lines, columns]) - 1)[:, None, None] / 2)
        mask_P[np.argsort(away.max(axis=0).reshape(-1), kind="stable")[:wanted]] = True
    else:
        _draw_blocks(mask_P.reshape(lines, columns), wanted, rng)
    return mask_P


def _draw_blocks(grid: npt.NDArray[np.bool_], wanted: int, rng: np.random.Generator) -> None:
    """Sets random rectangles of `grid` until exactly `wanted` cells are set."""
    lines, columns = grid.shape
    while (missing := wanted - int(grid.sum())) > 0:
        aspect = math.exp(rng.uniform(math.log(0.3), math.log(1 / 0.3)))
        area = rng.uniform(min(4, missing), missing + 1)
        high = min(lines, max(1, round(math.sqrt(area * aspect))))
        wide = min(columns, max(1, round(math.sqrt(area / aspect))))
        top, left = rng.integers(lines - high + 1), rng.integers(columns - wide + 1)
        block = grid[top : top + high, left : left + wide]
        free = np.flatnonzero(~block.reshape(-1))[:missing]
        block[np.unravel_index(free, block.shape)] = True


def picture(piece: Piece) -> npt.NDArray[np.uint8]:
    """(h, w, 3) pixels of an image piece, for reports and contact sheets."""
    _, lines, columns = piece.grid or (1, 1, 1)
    high = math.isqrt(len(piece.arrays["pixels"]) * lines // max(1, columns))
    pixels: npt.NDArray[np.uint8] = piece.arrays["pixels"].reshape(high, -1, 3)
    return pixels


class ImagePreprocess(ImageValues):
    """Reads images; the piece holds these arrays.

    - `pixels` (h * w, 3) uint8, line by line;
    - `mask` (P,) bool, True at masked cells; empty without `mask_ratio`.

    With `own_holes` of the row (a request asks for it, no line) cells with transparent pixels are the masked ones;
    `mask_ratio` draws only in pictures that have none.

    Attributes of a slot: `mask_ratio`, `mask_style=patches|block|center`, `size`, `max_pixels`,
    `min_pixels`, `augment=none|light|strong` (in training only; never mirrors).
    """

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._chosen: dict[Options, ImageSettings] = {}

    def chosen(self, options: Options) -> ImageSettings:
        """How a slot with these options is read."""
        if options not in self._chosen:
            self._chosen[options] = ImageSettings.of(self.settings, options)
        return self._chosen[options]

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of an image: P = h / f * w / f rows at (0, line, column).

        Raises:
            DataError: No image, broken, missing, too large, or far too long.
        """
        from ofasys_lite.preprocess.image_decode import middle, open_image, transparent, turned

        chosen = self.chosen(options)
        image = open_image(value, self.context.folder, chosen.max_megapixels)
        orientation = turned(image)
        width, height = image.size if orientation < 5 else image.size[::-1]
        high, wide = cell_size(height, width, chosen)
        drawn = known.rng if known.train and chosen.augment else None
        box = None if drawn is None else window_of(chosen.augment, drawn)
        pixels = as_read(image, (high, wide), chosen, orientation, box, draft=image is not value)
        if drawn is not None:
            pixels = recoloured(pixels, chosen.augment, drawn)
        lines, columns = high // chosen.cell, wide // chosen.cell
        mask = np.zeros(0, dtype=np.bool_)
        if chosen.mask_ratio:
            if known.rng is None:
                raise TypeError("`mask_ratio` defines the task: encode needs a generator for it in every split")
            mask = cell_mask(lines, columns, chosen.mask_ratio, chosen.mask_style, known.rng)
            if known.own_holes:
                whole = chosen.uncut(height, width, (high, wide))
                own = transparent(middle(image, (high, wide), whole), lines, columns, orientation).reshape(-1)
                mask = own if own.any() else mask
        arrays: dict[str, Array] = {"pixels": pixels.reshape(-1, 3), "mask": mask}
        return Piece(self.context.adapter, grid_positions(lines, columns), arrays, grid=(1, lines, columns))

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError for a `size=` that is no multiple of the cell, CardError for impossible bounds."""
        chosen = ImageSettings.of(settings, options)
        cell_size(chosen.cell, chosen.cell, chosen)
        if dict(options).get("queries") is not None:
            raise InstructionError("`queries` is of the resampler", help="write adapter=resampler(queries=16)")

    @classmethod
    def cut_by(cls, settings: Mapping[str, Any]) -> str:
        """`crop`, where it is set."""
        return "crop" if settings.get("crop") is not None else ""

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` holds no image or one that is too large; reads headers only.

        Relative paths are looked up in `settings["folder"]`, and passed over if that is not given.
        """
        chosen = ImageSettings.of(settings, options)
        size = header_check(value, settings)
        if size is not None:
            cell_size(*size, chosen)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """Its frame, whether it is reduced, and whether it holds several pictures."""
        chosen = ImageSettings.of(settings, options)
        most = chosen.max_pixels if chosen.size is None else None
        return look_at_image(value, settings, lambda high, wide: cell_size(high, wide, chosen), most, whole)

    def frame(self, value: Any) -> tuple[int, int] | None:
        """(width, height) in pixels as shown, from the header alone: what boxes of the row refer to."""
        from ofasys_lite.preprocess.image_decode import open_image, turned

        image = open_image(value, self.context.folder, self.chosen(()).max_megapixels)
        width, height = image.size if turned(image) < 5 else image.size[::-1]
        if image is not value:
            image.close()
        return width, height

    def seen(self, piece: Piece) -> Image.Image:
        """The picture as the model reads it, RGBA; hidden cells are grey and transparent."""
        from PIL import Image

        pixels_HW3 = picture(piece)
        hidden = piece.arrays["mask"].reshape((piece.grid or (1, 1, 1))[1], -1)
        cell = len(pixels_HW3) // len(hidden)
        hidden_HW = hidden.repeat(cell, 0).repeat(cell, 1)
        colours = np.where(hidden_HW[..., None], np.uint8(_GREY), pixels_HW3)
        alpha = np.where(hidden_HW, 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack([colours, alpha]))

    def rows_of(self, size: Size, options: Options) -> int:
        """Cells of an image of that many pixels."""
        chosen = self.chosen(options)
        side = chosen.size
        pixels = side * side if isinstance(side, int) else min(max(size[0], chosen.min_pixels), chosen.max_pixels)
        return max(1, pixels // chosen.cell**2)


def as_read(
    image: Image.Image,
    sized: tuple[int, int],
    chosen: ImageSettings,
    orientation: int = 1,
    box: tuple[float, float, float, float] | None = None,
    draft: bool = True,
) -> npt.NDArray[np.uint8]:
    """(height, width, 3) pixels of `sized`: the image, or `box` of it, resized, and cut where the settings say so."""
    from ofasys_lite.preprocess.image_decode import resized

    width, height = image.size if orientation < 5 else image.size[::-1]
    high, wide = sized if chosen.crop is None else chosen.uncut(height, width, sized)
    exact = chosen.resample is not None
    pixels = resized(image, high, wide, orientation, box, draft=draft and not exact, resample=chosen.resample)
    top, left = (high - sized[0]) // 2, (wide - sized[1]) // 2
    return pixels[top : top + sized[0], left : left + sized[1]]


def window_of(most: float, rng: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom), in shares, of a window that leaves out up to `most` of each side: crop and shift."""
    wide, high = 1 - most * rng.random(2)
    left, top = rng.random(2) * (1 - np.array([wide, high]))
    return float(left), float(top), float(left + wide), float(top + high)


def recoloured(pixels: npt.NDArray[np.uint8], most: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Brightness and contrast changed by up to `most`, channels by up to half of it; by a table of 256 levels each."""
    gain = (1 + rng.uniform(-most, most)) * (1 + rng.uniform(-most / 2, most / 2, 3))
    shift = rng.uniform(-128 * most, 128 * most)
    levels = np.arange(256)[:, None]
    table = np.clip(np.rint((levels - 127.5) * gain + 127.5 + shift), 0, 255).astype(np.uint8)
    return np.stack([table[:, c][pixels[..., c]] for c in range(3)], axis=-1)
