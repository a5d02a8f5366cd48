"""BOX: (x0, y0, x1, y1) <-> four bins, bin = round(x / side * (bins - 1)) as in OFA (arXiv 2202.03052)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Constraint, Range, Series
from ofasys_lite.plan.types import Options, option
from ofasys_lite.preprocess.base import Piece, Preprocess

__all__ = ["BoxPreprocess", "read_box"]


def read_box(value: Any, form: str = "xyxy") -> tuple[float, float, float, float]:
    """Corners (x0, y0, x1, y1) of `value`; DataError if it is not a box.

    Args:
        value: Four numbers, or text that holds them (`"1,2,3,4"` as OFASys' files have it, or JSON).
        form: `xyxy` for corners, `xywh` for corner, width and height.
    """
    found = value
    if isinstance(value, str):
        text = value.strip()
        try:
            found = json.loads(text if text.startswith("[") else f"[{text}]")
        except (ValueError, RecursionError):
            raise DataError(f"BOX reads four numbers; found the text `{text[:40]}`") from None
    if not isinstance(found, (list, tuple, np.ndarray)) or len(found) != 4:
        what = f"{len(found)} values" if isinstance(found, (list, tuple, np.ndarray)) else type(found).__name__
        raise DataError(f"BOX reads four numbers x0, y0, x1, y1; found {what}")
    try:
        x0, y0, x1, y1 = (float(v) for v in found)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"BOX reads four numbers; found {list(found)!r:.60}") from None
    if form == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    if not all(np.isfinite((x0, y0, x1, y1))) or x1 < x0 or y1 < y0:
        help = "boxes are x0, y0, x1, y1 in pixels; for x, y, width, height write [BOX:...,format=xywh]"
        raise DataError(f"box {[x0, y0, x1, y1]} has its corners reversed or is not finite", help=help)
    return x0, y0, x1, y1


class BoxPreprocess(Preprocess):
    """Boxes in pixels of the row's first image <-> four of the vocabulary's bins."""

    def _side(self, options: Options) -> tuple[float, float]:
        size = option(options, "size")
        if size is not None:
            return float(str(size)), float(str(size))
        frame = option(options, "frame")
        if isinstance(frame, tuple) and len(frame) == 2:
            return float(frame[0]), float(frame[1])
        raise DataError(
            "a box needs the size of its image, and this row has none",
            help="put the IMAGE slot into the line, or say [BOX:...,size=1] for boxes in fractions of the image",
        )

    def encode(self, value: Any, options: Options, rng: np.random.Generator | None, train: bool) -> Piece:
        """Four ids."""
        box = read_box(value, str(option(options, "format", "xyxy")))
        width, height = self._side(options)
        last = self.vocabulary.bins - 1
        ids: list[int] = []
        for number, side in zip(box, (width, height, width, height), strict=True):
            if not -0.02 * side <= number <= 1.02 * side:
                raise DataError(f"box {list(box)} lies outside its image of {width:g} x {height:g} pixels")
            ids.append(self.vocabulary.box_low + min(last, max(0, round(number / side * last))))
        return Piece.of_ids(ids)

    def constraint(self, options: Options, candidates: tuple[str, ...] | None = None) -> Constraint:
        """Four bins."""
        one = Range(self.vocabulary.box_low, self.vocabulary.declared_low)
        return Series((one, one, one, one))

    def decode(self, ids: npt.NDArray[np.int64], options: Options) -> list[float]:
        """[x0, y0, x1, y1] in pixels, corners in order."""
        width, height = self._side(options)
        x0, y0, x1, y1 = ((int(i) - self.vocabulary.box_low) / (self.vocabulary.bins - 1) for i in ids)
        corners = [min(x0, x1) * width, min(y0, y1) * height, max(x0, x1) * width, max(y0, y1) * height]
        if option(options, "format", "xyxy") == "xywh":
            corners[2:] = [corners[2] - corners[0], corners[3] - corners[1]]
        return corners

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises DataError if `value` is not a box."""
        read_box(value, str(option(options, "format", "xyxy")))
