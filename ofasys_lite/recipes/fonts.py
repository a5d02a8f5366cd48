"""Fonts of pinned wheels, and words drawn with them: the same pixels wherever the same Pillow draws."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.fetch import Source, Wheels
from ofasys_lite.recipes.recipe import digest

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.ImageFont import FreeTypeFont

__all__ = ["FONTS", "FONT_SOURCES", "Font", "Writer"]

_OFL = "OFL-1.1 (pictures made with the font are not bound by it)"
FONT_SOURCES = (
    Source(
        "font-lato",
        "0.1.0",
        {"font_lato-0.1.0-py3-none-any.whl": "ff74f2d4647187bac4b853ab8215e6b2afe124fcd01c809629aadd8f4356e959"},
        _OFL,
    ),
    Source(
        "font-source-sans-pro",
        "0.0.1",
        {
            "font_source_sans_pro-0.0.1-py3-none-any.whl": (
                "2250396f565a0fea35726e56059216d1d5d75071d64d075ebdfec183b4b85765"
            )
        },
        _OFL,
    ),
    Source(
        "font-source-serif-pro",
        "0.0.1",
        {
            "font_source_serif_pro-0.0.1-py3-none-any.whl": (
                "38dd9a8d8027d22aa8ef2d10d27d7c558701b32772ff9f3790f509577e91dca4"
            )
        },
        _OFL,
    ),
    Source(
        "font-manrope",
        "0.0.2",
        {"font_manrope-0.0.2-py3-none-any.whl": "2ca9192f3602a3459323dfd7447c8c5ffa0795696c62fac465ef7c9b0521d292"},
        _OFL,
    ),
    Source(
        "font-fjallaone",
        "0.1.7",
        {"font_fjallaone-0.1.7-py3-none-any.whl": "240406876d6fa87a04cdf70bd2ddd7663689cadacc99c90bf285a542ba352bce"},
        _OFL,
    ),
    Source(
        "font-fredoka-one",
        "0.0.4",
        {"font_fredoka_one-0.0.4-py3-none-any.whl": "f177fdb46dcb7be565a68ece3a7b353a92cf038554a037f57b6303f6a5478ff8"},
        _OFL,
    ),
    Source(
        "font-caladea",
        "0.0.2",
        {"font_caladea-0.0.2-py3-none-any.whl": "eab5b77f1da830226524f419d16d4bc4cb5b68d2de0f47ef83760a8b202e94bc"},
        "Apache-2.0",
    ),
    Source(
        "font-rhd",
        "0.1.3",
        {"font_rhd-0.1.3-py3-none-any.whl": "6fb9651d44be07d7bdb674dcdf1514dac474b9819f174658555ff9dbf394afc2"},
        _OFL,
    ),
    Source(
        "font-hanken-grotesk",
        "0.0.2",
        {
            "font_hanken_grotesk-0.0.2-py3-none-any.whl": (
                "7c3609e9bcdc2c9550b2a3baaed937eb7598fc1034e7df1ebcc4eb5489fa86f9"
            )
        },
        _OFL,
    ),
)


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
