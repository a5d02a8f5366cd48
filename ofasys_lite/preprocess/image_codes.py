"""IMAGE as a target: a square picture on the CPU side, of which the adapter makes a grid of codes with depth.

The piece carries pixels: the codes are made where the model is, by the codec that the adapter holds, and kept there by
content. Shapes: L positions line by line, S pixels a side, K depth.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, InstructionError
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.constraints import Codes, Constraint
from ofasys_lite.plan.segments import Options, option, written_together
from ofasys_lite.preprocess.base import READ, Array, Look, Piece, RowContext, Size
from ofasys_lite.preprocess.image import grid_positions
from ofasys_lite.preprocess.image_values import ImageValues, header_check, look_at_image
from ofasys_lite.preprocess.judged import SHARE

#: Side and factor of a codec that is not known yet, for estimates of rows.
_SIDE, _FACTOR = 32, 4


def grid_of(options: Options) -> tuple[int, int]:
    """(pixels a side, positions a side) of the slot's codec; of the default one while the line only names sizes."""
    keyed = dict(_codec(options).keyed)
    size = keyed.get("size", option(options, "size", _SIDE))
    factor = keyed.get("factor", _FACTOR)
    if not isinstance(size, int) or not isinstance(factor, int):
        raise TypeError(f"codec of size {size!r} and factor {factor!r}")
    return size, size // factor


class ImageCodesPreprocess(ImageValues):
    """Reads the picture of a target; the piece holds these arrays.

    - `pixels` (1, S, S, 3) uint8, the picture stretched to the codec's square;
    - `key` (1,) int64, a hash of the pixels, under which codes are kept;
    - `order` (L,) int64, the position of the grid that each row writes, where rows stand in random order in training
      (`order=random`, arXiv 2411.00776); empty where they stand line by line;
    - `hidden` (L,) bool, True at positions that are to be written by mask-predict; empty where all are;
    - `judge`, only where the line has judges: empty, or of a picture that they learn from (1,), its kind.
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a picture: L rows at (0, line, column); DataError: no image, broken, missing or too large."""
        from ofasys_lite.preprocess.image_decode import open_image, resized, turned

        side, lines = grid_of(options)
        flat = flat_depth(options)
        image = open_image(value, self.context.folder, float(self.settings.get("max_megapixels", 100.0)))
        pixels = resized(image, side, side, turned(image), None, draft=image is not value)
        digest = hashlib.blake2b(pixels.tobytes(), digest_size=8).digest()
        positions = _positions(lines, flat)
        order = np.zeros(0, dtype=np.int64)
        if known.train and known.rng is not None and _codec(options).get("order") == "random":
            # ever more rows stand line by line as the steps go on (arXiv 2411.00776)
            anneal = int(str(_codec(options).get("anneal", 0)))
            drawn = not anneal or known.rng.random() >= (known.step or 0) / anneal
            order = known.rng.permutation(len(positions)) if drawn else np.arange(len(positions))
            positions = positions[order]
        arrays: dict[str, Array] = {
            "pixels": pixels[None],
            "key": np.frombuffer(digest, dtype=np.int64).copy(),
            "order": order,
            "hidden": np.zeros(0, dtype=np.bool_),
        }
        if _codec(options).get("judges") is not None:
            arrays["judge"] = np.zeros(0, dtype=np.int64)
        if not written_together(options):
            return Piece(self.context.adapter, positions, arrays)
        hidden = _some(np.ones(len(positions), dtype=np.bool_), known.rng if known.train else None)
        return Piece(self.context.adapter, positions, {**arrays, "hidden": hidden}, hidden)

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """L positions of K codes each."""
        _, lines = grid_of(options)
        keyed = dict(_codec(options).keyed)
        if "hash" not in keyed:
            raise InstructionError("the codec of this line is not known", help="train a task with it first")
        flat = flat_depth(options)
        positions = tuple((int(t), int(r), int(c)) for t, r, c in _positions(lines, flat))
        depth = 1 if flat else int(str(keyed["depth"]))
        return Codes(
            self.context.adapter, int(str(keyed["codes"])), depth, positions, together=written_together(options)
        )

    def decode(self, ids: npt.NDArray[Any], options: Options, known: RowContext) -> Any:
        """A PIL image of the (S, S, 3) uint8 pixels that the adapter rendered of the codes."""
        from PIL import Image

        if ids.ndim != 3:
            raise DataError(f"codes of shape {ids.shape} were not rendered")
        return Image.fromarray(ids)

    def rest(self, piece: Piece, hidden: Piece, rng: np.random.Generator | None) -> Piece:
        """The picture with loss on the positions that the source hides."""
        return infill(piece, hidden, rng)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Any, known: RowContext = READ) -> None:
        """Raises DataError if `value` holds no image or one that is too large; reads headers only."""
        header_check(value, settings)

    @classmethod
    def look(cls, value: Any, options: Options, settings: Any, known: RowContext = READ, whole: bool = False) -> Look:
        """Its frame, and whether it holds several pictures."""
        # the codec may not be known yet: any size shows whether the picture can be decoded
        return look_at_image(value, settings, lambda high, wide: (high, wide), None, whole)

    def rows_of(self, size: Size, options: Options) -> int:
        """Positions of the codec's grid, and on average those of judged pictures."""
        _, lines = grid_of(options)
        shown = SHARE if _codec(options).get("judges") is not None else 0.0
        return math.ceil(max(1, lines * lines * max(1, flat_depth(options))) * (1 + shown))


def infill(piece: Piece, source: Piece, rng: np.random.Generator | None) -> Piece:
    """`piece` with loss on the positions that `source` hides; the others are given.

    Args:
        piece: The whole picture as codes.
        source: The same picture as cells of pixels, some of them masked. A position is hidden with the cell that its
            middle lies in; where several cells lie in a position, with any of them.
        rng: Draws which positions of the hole are to be written now, where they are written together in rounds; None
            hides all of them.
    """
    cells = source.arrays["mask"].reshape((source.grid or (1, 1, 1))[1], -1)
    places = piece.positions_P3[:, 1:]
    lines = int(places.max()) + 1
    hole = _over(_over(cells, lines).T, lines).T[places[:, 0], places[:, 1]]
    if not len(piece.arrays["hidden"]):
        return replace(piece, learn_P=hole)
    hidden = _some(hole, rng)
    return replace(piece, arrays={**piece.arrays, "hidden": hidden}, learn_P=hidden)


def _over(cells: npt.NDArray[np.bool_], lines: int) -> npt.NDArray[np.bool_]:
    """(lines, columns) of cells (any number, columns): one line over several is True where any of them is."""
    count = len(cells)
    if count <= lines:
        return cells[(2 * np.arange(lines) + 1) * count // (2 * lines)]
    return np.stack([cells[p * count // lines : -(-(p + 1) * count // lines)].any(0) for p in range(lines)])


def _some(hole_L: npt.NDArray[np.bool_], rng: np.random.Generator | None) -> npt.NDArray[np.bool_]:
    """A random part of the hole, at least one: the cosine of a uniform quarter turn (MaskGIT, arXiv 2202.04200)."""
    places = np.flatnonzero(hole_L)
    if rng is None or not len(places):
        return hole_L
    count = max(1, math.ceil(math.cos(math.pi / 2 * rng.random()) * len(places)))
    hidden = np.zeros_like(hole_L)
    hidden[rng.permutation(places)[:count]] = True
    return hidden


def _codec(options: Options) -> CallValue:
    found = option(options, "codec")
    return found if isinstance(found, CallValue) else CallValue("")


def flat_depth(options: Options) -> int:
    """Codes per position where each is a row of its own (`layers=flat`, the one-dimensional control), else 0."""
    codec = _codec(options)
    return int(str(codec.get("depth", 1))) if codec.get("layers") == "flat" else 0


def _positions(lines: int, flat: int) -> npt.NDArray[np.int64]:
    """(L, 3) positions of the grid; of a flat sequence (L * K, 3), the codes of a position told apart by time."""
    positions = grid_positions(lines, lines)
    if flat:
        positions = positions.repeat(flat, axis=0)
        positions[:, 0] = np.tile(np.arange(flat), lines * lines)
    return positions
