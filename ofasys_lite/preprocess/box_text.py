"""Boxes as text, as Qwen-VL writes them (arXiv 2308.12966): `(x0,y0),(x1,y1)`, whole numbers in [0, 1000)."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: The numbers are thousandths of the picture's width and height.
PARTS = 1000
#: Most pieces of such a text: three for each number, and what stands between them.
LONGEST = 24

_FORM = re.compile(r"\((\d{1,3}),(\d{1,3})\),\((\d{1,3}),(\d{1,3})\)")


def spelled(box: Sequence[float], side: tuple[float, float], wide: bool = False) -> str:
    """The text of corners in pixels of a picture of (width, height).

    Args:
        wide: The box is made to span a thousandth at least.
    """
    lengths = (*side, *side)
    numbers = [min(PARTS - 1, max(0, round(n / length * PARTS))) for n, length in zip(box, lengths, strict=True)]
    for low, high in ((0, 2), (1, 3)) if wide else ():
        if numbers[high] <= numbers[low]:
            numbers[low] = min(numbers[low], PARTS - 2)
            numbers[high] = numbers[low] + 1
    return "({},{}),({},{})".format(*numbers)


def parsed(text: str, side: tuple[float, float]) -> list[float] | None:
    """[x0, y0, x1, y1] in pixels; None where the text has another form or the box no area.

    Example:
        >>> parsed("(100,200),(500,999)", (32, 32)), parsed("(100,200),(50", (32, 32))
        ([3.2, 6.4, 16.0, 31.968], None)
    """
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return None
    x0, y0, x1, y1 = (int(number) for number in found.groups())
    if x1 <= x0 or y1 <= y0:
        return None
    width, height = side
    return [x0 * width / PARTS, y0 * height / PARTS, x1 * width / PARTS, y1 * height / PARTS]
