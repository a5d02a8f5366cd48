"""Contact sheets: texts and pictures above one another in white cells, cells side by side, one PNG."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.writing.files import atomic, behind

if TYPE_CHECKING:
    from PIL.Image import Image

_PADDING = 8


@cache
def font(size: int) -> Any:
    """DejaVu Sans, which knows most alphabets, from matplotlib's files or the system's, else Pillow's own font."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    base = Path(found.origin or "").parent if found is not None else Path()
    for name in (base / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf", "DejaVuSans.ttf"):
        try:
            return ImageFont.truetype(str(name), size)
        except OSError:
            continue
    return ImageFont.load_default(size)


@dataclass(frozen=True, slots=True)
class ContactSheet:
    """How the cells of a sheet look.

    Attributes:
        width: Of a cell, in pixels.
        gap: Between cells, in pixels.
        lines: Most lines of one text.
    """

    width: int
    gap: int
    lines: int

    @property
    def inner(self) -> int:
        """Pixels that a part of a cell may be wide."""
        return self.width - 2 * _PADDING

    def text(self, text: str, colour: str, size: int) -> Image:
        """The text in lines no wider than a cell, the last ones left out where they are too many."""
        from PIL import Image, ImageDraw

        lines = [line for part in text.splitlines() or [""] for line in self._wrapped(part, size)]
        if len(lines) > self.lines:
            lines = [*lines[: self.lines - 1], "…"]
        image = Image.new("RGB", (self.inner, (size + 4) * len(lines)), "white")
        draw = ImageDraw.Draw(image)
        for number, line in enumerate(lines):
            draw.text((0, number * (size + 4)), line, fill=colour, font=font(size))
        return image

    def _wrapped(self, text: str, size: int) -> list[str]:
        """Lines that fit, broken between words, or between letters where a word is wider than a line."""
        lines, rest, length = [], text, font(size).getlength
        while length(rest) > self.inner:
            end = len(rest) - 1
            while end > 1 and length(rest[:end]) > self.inner:
                end -= 1
            space = rest.rfind(" ", 1, end + 1)
            cut = space if space > 0 else end
            lines.append(rest[:cut])
            rest = rest[cut:].lstrip()
        return [*lines, rest]

    def cell(self, parts: Sequence[Image]) -> Image:
        """The parts above one another on white."""
        from PIL import Image

        cell = Image.new("RGB", (self.width, 12 + sum(part.height + 6 for part in parts)), "white")
        top = _PADDING
        for part in parts:
            cell.paste(part, ((self.width - part.width) // 2, top))
            top += part.height + 6
        return cell

    def save(self, cells: Sequence[Image], path: str | os.PathLike[str], columns: int, *heads: Image) -> Path:
        """The path of the written PNG: heads above all, `columns` cells in a row, rows as high as their highest one."""
        from PIL import Image

        rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
        rows = [*([head] for head in heads), *rows]
        heights = [max(cell.height for cell in row) for row in rows]
        wide = columns * (self.width + self.gap) + self.gap
        sheet = Image.new("RGB", (wide, sum(heights) + self.gap * (len(rows) + 1)), "#e9ecef")
        top = self.gap
        for row, height in zip(rows, heights, strict=True):
            for number, cell in enumerate(row):
                sheet.paste(cell, (self.gap + number * (self.width + self.gap), top))
            top += height + self.gap
        with atomic(behind(Path(path))) as partial:
            sheet.save(partial, "PNG")
        return Path(path)
