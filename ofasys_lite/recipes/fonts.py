"""Fonts of pinned wheels, and words drawn with them: the same pixels wherever the same Pillow draws."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFont import FreeTypeFont


@dataclass(frozen=True, slots=True)
class Font:
    """One font: its name, the wheel and member that hold it, and whether training may see it."""

    name: str
    package: str
    member: str
    seen: bool


# families are seen or unseen as a whole: a bold cut is no new font
FONTS = (
    Font("lato", "font-lato", "font_lato/files/Lato-Regular.ttf", True),
    Font("lato bold", "font-lato", "font_lato/files/Lato-Bold.ttf", True),
    Font("lato italic", "font-lato", "font_lato/files/Lato-Italic.ttf", True),
    Font("source sans", "font-source-sans-pro", "font_source_sans_pro/files/SourceSansPro-Regular.ttf", True),
    Font("source sans bold", "font-source-sans-pro", "font_source_sans_pro/files/SourceSansPro-Bold.ttf", True),
    Font("source serif", "font-source-serif-pro", "font_source_serif_pro/files/SourceSerifPro-Regular.ttf", True),
    Font("source serif bold", "font-source-serif-pro", "font_source_serif_pro/files/SourceSerifPro-Bold.ttf", True),
    Font("source serif italic", "font-source-serif-pro", "font_source_serif_pro/files/SourceSerifPro-It.ttf", True),
    Font("manrope", "font-manrope", "font_manrope/files/Manrope-Regular.ttf", True),
    Font("manrope bold", "font-manrope", "font_manrope/files/Manrope-Bold.ttf", True),
    Font("fjalla", "font-fjallaone", "font_fjallaone/files/FjallaOne-Regular.ttf", True),
    Font("fredoka", "font-fredoka-one", "font_fredoka_one/files/FredokaOne-Regular.ttf", True),
    Font("caladea", "font-caladea", "font_caladea/files/Caladea-Regular.ttf", False),
    Font("caladea bold", "font-caladea", "font_caladea/files/Caladea-Bold.ttf", False),
    Font("red hat", "font-rhd", "font_rhd/files/RedHatDisplay-Regular.ttf", False),
    Font("red hat bold", "font-rhd", "font_rhd/files/RedHatDisplay-Bold.ttf", False),
    Font("hanken grotesk", "font-hanken-grotesk", "font_hanken_grotesk/files/HankenGrotesk-Regular.otf", False),
)

FINE = 8  # words are drawn this many times larger and averaged down: hinting does not matter then
TALLEST = "bdlpgj"  # letters that reach as far up and down as any
TRIAL = 100  # points at which a word is measured


class Writer:
    """Draws words in the fonts of opened wheels, black on white.

    Args:
        wheels: Wheels that hold the fonts.
        side: Pixels of a picture in each direction.
        margin: Pixels kept free on each side.
        height: Largest share of the side that letters with both ascender and descender may take, so that short words
            are not drawn as huge ones.
        shift: Largest shift from the middle, in pixels; words that fill the width are not shifted sideways.
    """

    def __init__(self, wheels: Wheels, side: int, margin: float = 1.0, height: float = 0.6, shift: float = 2.0) -> None:
        self.wheels = wheels
        self.side, self.margin, self.height, self.shift = side, margin, height, shift
        self._files: dict[str, bytes] = {}
        self._fonts: dict[tuple[str, int], FreeTypeFont] = {}

    def draw(self, word: str, font: Font) -> NDArray[np.uint8]:
        """Grey picture (side, side) of the word; its place depends on word and font alone."""
        from PIL import Image, ImageDraw

        side, room = self.side * FINE, (self.side - 2 * self.margin) * FINE
        left, _, right, _ = self._font(font, TRIAL).getbbox(word)
        _, top, _, bottom = self._font(font, TRIAL).getbbox(TALLEST)
        chosen = self._font(font, int(TRIAL * min(room / (right - left), self.height * side / (bottom - top))))
        left, _, right, _ = chosen.getbbox(word)
        _, top, _, bottom = chosen.getbbox(TALLEST)
        free_x, free_y = max(0.0, room - (right - left)) / 2, max(0.0, room - (bottom - top)) / 2
        seed = int(digest(f"place {word} {font.name}"), 16)
        shift_x = min(free_x, self.shift * FINE) * (seed % 1001 / 500 - 1)
        shift_y = min(free_y, self.shift * FINE) * (seed // 1001 % 1001 / 500 - 1)
        x = round((side - left - right) / 2 + shift_x)
        y = round((side - top - bottom) / 2 + shift_y)
        picture = Image.new("L", (side, side), 255)
        ImageDraw.Draw(picture).text((x, y), word, fill=0, font=chosen)
        return np.asarray(picture.resize((self.side, self.side), Image.Resampling.BOX))

    def _font(self, font: Font, size: int) -> FreeTypeFont:
        from PIL import ImageFont

        key = (font.name, size)
        if key not in self._fonts:
            if font.name not in self._files:
                self._files[font.name] = self.wheels.read(font.package, font.member)
            # the basic layout is in every Pillow, the other only where libraqm is
            self._fonts[key] = ImageFont.truetype(
                io.BytesIO(self._files[font.name]), size, layout_engine=ImageFont.Layout.BASIC
            )
        return self._fonts[key]
