"""BOX: (x0, y0, x1, y1) <-> four bins, bin = round(x / side * (bins - 1)) as in OFA (arXiv 2202.03052); or as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Constraint, Corners, Free
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import READ, Look, Piece, Preprocess, RowContext
from ofasys_lite.preprocess.box_text import LONGEST, parsed, spelled
from ofasys_lite.preprocess.doubled import read_json

#: Boxes may stick out of their picture by this share of its side; they are cut.
_SLACK = 0.02
_HELP = 'a list of four numbers, or text such as "1, 2, 30, 40"; several boxes of a row: ([BOX:...])*<over=column>'
#: Pieces of a box that is text, about.
_PIECES = 18


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
            found = read_json(text if text.startswith("[") else f"[{text}]")
        except ValueError:
            raise DataError(f"BOX reads four numbers; found the text `{text[:40]}`", help=_HELP) from None
    if not isinstance(found, (list, tuple, np.ndarray)) or len(found) != 4:
        what = f"{len(found)} values" if isinstance(found, (list, tuple, np.ndarray)) else type(found).__name__
        raise DataError(f"BOX reads four numbers x0, y0, x1, y1; found {what}", help=_HELP)
    try:
        x0, y0, x1, y1 = (float(v) for v in found)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"BOX reads four numbers; found {list(found)!r:.60}", help=_HELP) from None
    if form == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    if not all(np.isfinite((x0, y0, x1, y1))):
        raise DataError(f"box {list(found)!r:.60} holds what is no finite number", help="leave the row out")
    if x1 < x0 or y1 < y0:
        if form == "xywh":
            raise DataError(f"box {list(found)!r:.60} has a width or height below 0", help="leave `format=xywh` out")
        help = "boxes are x0, y0, x1, y1; for x, y, width, height write [BOX:...,format=xywh]"
        raise DataError(f"box {[x0, y0, x1, y1]} has its corners reversed", help=help)
    return x0, y0, x1, y1


def held_box(value: Any, options: Options, known: RowContext) -> tuple[tuple[float, ...], tuple[float, float] | None]:
    """(corners of `value`, the width and height they are held against, None where neither is known).

    Raises:
        DataError: It is no box, lies outside, or is to be written and has no area.
    """
    form = str(option(options, "format", "xyxy"))
    box = read_box(value, form)
    side = _side(options, known)
    if side is not None:
        width, height = side
        for number, length in zip(box, (width, height, width, height), strict=True):
            if not -_SLACK * length <= number <= (1 + _SLACK) * length:
                raise _outside(value, box, side, form)
    if known.side == "target" and (box[2] <= box[0] or box[3] <= box[1]):
        raise DataError(f"box {list(box)} has no area", help="a box that is written has a width and a height")
    return box, side


def _side(options: Options, known: RowContext) -> tuple[float, float] | None:
    """Width and height that the numbers of boxes refer to: `size=`, else the row's picture."""
    size = option(options, "size")
    if size is not None:
        return float(str(size)), float(str(size))
    return None if known.frame is None else (float(known.frame[0]), float(known.frame[1]))


def _as_text(options: Options) -> bool:
    return option(options, "format") == "text"


def _outside(value: Any, box: tuple[float, ...], side: tuple[float, float], form: str) -> DataError:
    """The error for a box outside its picture, with the reading that would fit it."""
    width, height = side
    help = "numbers of another scale are said by `size`: [BOX:...,size=1] for shares of the picture, size=1000 ..."
    if form == "xywh":
        x0, y0, x1, y1 = box[0], box[1], box[2] - box[0], box[3] - box[1]
        if x0 <= x1 <= (1 + _SLACK) * width and y0 <= y1 <= (1 + _SLACK) * height:
            help = "as corners its numbers lie inside: leave `format=xywh` out"
    return DataError(f"box {list(box)} lies outside its image of {width:g} x {height:g} pixels", help=help)


def _resized(known: RowContext) -> Iterator[tuple[str, str]]:
    """A remark where the row's `width` and `height`, as COCO has them, are not those of its picture."""
    if known.frame is None or not isinstance(known.row, Mapping):
        return
    told = [known.row.get(key) for key in ("width", "height")]
    width, height = (round(number) for number in known.frame)
    if all(isinstance(n, int) and n > 0 for n in told) and told != [width, height]:
        example = f"{told[0]} x {told[1]} where the picture has {width} x {height}"
        yield "the row's `width` and `height`, which boxes may be of, are not its picture's in", example


class BoxPreprocess(Preprocess):
    """Boxes in pixels of the row's first image <-> four of the vocabulary's bins, or text (`format=text`).

    Text is written freely: what is no box of the form is None, an answer without a box.
    """

    kind: ClassVar[str] = kinds.BOX
    framed: ClassVar[bool] = True
    fixed_rows: ClassVar[int | None] = 4

    def _known_side(self, side: tuple[float, float] | None) -> tuple[float, float]:
        if side is not None:
            return side
        raise DataError(
            "a box needs the size of its image, and this row has none",
            help="put the IMAGE slot into the line, or say [BOX:...,size=1] for boxes in fractions of the image",
        )

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """Four ids, or those of the text; a box that is written spans one bin, or a thousandth, at least."""
        box, side = held_box(value, options, known)
        if _as_text(options):
            target = known.side == "target"
            ids = self.vocabulary.encode(spelled(box, self._known_side(side), wide=target))
            return Piece.of_ids([*ids, self.vocabulary.control("close")] if target else ids)
        last = self.vocabulary.bins - 1
        lengths = self._known_side(side) * 2
        bins = [min(last, max(0, round(n / length * last))) for n, length in zip(box, lengths, strict=True)]
        if known.side == "target":
            for low, high in ((0, 2), (1, 3)):
                if bins[high] <= bins[low]:
                    bins[low] = min(bins[low], last - 1)
                    bins[high] = bins[low] + 1
        return Piece.of_ids(self.vocabulary.box_low + bin for bin in bins)

    @classmethod
    def spells(cls, options: Options) -> bool:
        """True of boxes that are written as text."""
        return _as_text(options)

    def constraint(self, options: Options, known: RowContext) -> Constraint:
        """Four bins of a box that has an area; or any text of its length."""
        if _as_text(options):
            low, high = self.vocabulary.text_low, self.vocabulary.text_high
            return Free(low, high, 1, max(LONGEST, self._longest()), self.vocabulary.control("close"))
        return Corners(self.vocabulary.box_low, self.vocabulary.box_low + self.vocabulary.bins)

    def _longest(self) -> int:
        """Pieces of the longest text where the vocabulary spells marks in bytes."""
        return len(self.vocabulary.encode(spelled((0.999,) * 4, (1.0, 1.0))))

    def decode(self, ids: npt.NDArray[np.int64], options: Options, known: RowContext) -> list[float] | None:
        """[x0, y0, x1, y1] in pixels; None for a text that is no box."""
        width, height = self._known_side(_side(options, known))
        if _as_text(options):
            close = self.vocabulary.control("close")
            return parsed(self.vocabulary.decode(i for i in ids if i != close), (width, height))
        x0, y0, x1, y1 = ((int(i) - self.vocabulary.box_low) / (self.vocabulary.bins - 1) for i in ids)
        corners = [x0 * width, y0 * height, x1 * width, y1 * height]
        if option(options, "format", "xyxy") == "xywh":
            corners[2:] = [corners[2] - corners[0], corners[3] - corners[1]]
        return corners

    @classmethod
    def rows_fixed(cls, options: Options) -> int | None:
        """Four; of text about as many as its numbers have digits and marks."""
        return _PIECES if _as_text(options) else cls.fixed_rows

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` is not a box, or lies outside the `frame` or `size` that are known."""
        held_box(value, options, known)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """How large its numbers are, where they are pixels of a picture; whether the row says another size of it."""
        if option(options, "size") is not None or known.frame is None:
            return Look()
        largest = max(0.0, *read_box(value, str(option(options, "format", "xyxy"))))
        return Look(largest=largest, remarks=tuple(_resized(known)))

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> list[float]:
        """[x0, y0, x1, y1], whatever form the line gives them."""
        return list(read_box(value, str(option(options, "format", "xyxy"))))
