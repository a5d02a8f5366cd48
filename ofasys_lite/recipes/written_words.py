"""Written words: pictures of one short English word each in fonts of pinned wheels, for text-to-image that is read."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.digits import png
from ofasys_lite.recipes.fetch import Wheels, contents
from ofasys_lite.recipes.g2p import read_words
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, digest, split_of
from ofasys_lite.recipes.recipe import digest as hashed

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
_DRAWN = contents("written_words.json")
FONTS = tuple(Font(name, **said) for name, said in _DRAWN["fonts"].items())

FINE = 8  # words are drawn this many times larger and averaged down: hinting does not matter then
TALLEST = "bdlpgj"  # letters that reach as far up and down as any
TRIAL = 100  # points at which a word is measured


class Writer:
    """Draws words in the fonts of opened wheels, black on white.

    Args:
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


SIDE = 32  # the smallest side at which OCR reads 0.9 also of blurred and noisy pictures (docs/data.md)
WORDS = 3000  # the most frequent: valid and test words are some of them
RARER = 7500  # words after these, for training only
SHORTEST, LONGEST = 2, 5
FONTS_PER_WORD = {"train": 3, "valid": 2, "test": 2}
STYLES = 8  # words a font is shown by
KINDS = ("seen", "unseen_word", "unseen_font", "unseen_both")
PER_KIND = 400  # test rows of each kind
# frequent on the web, crude or abusive: not for a sample sheet
UNWELCOME = frozenset(_DRAWN["unwelcome"])


def frequent_words(wheels: Wheels, count: int = WORDS) -> list[str]:
    """The most frequent words of 2 to 5 letters on the web that the pronouncing dictionary knows, most frequent first.

    Names and abbreviations are among them.
    """
    known = read_words(wheels)
    found: list[str] = []
    for line in wheels.read("wordsegment", "wordsegment/unigrams.txt").decode("utf-8").splitlines():
        word = line.partition("\t")[0]
        short = SHORTEST <= len(word) <= LONGEST and re.fullmatch("[a-z]*[aeiouy][a-z]*", word)
        if short and word in known and word not in UNWELCOME:
            found.append(word)
            if len(found) == count:
                break
    return found


def build(wheels: Wheels, limits: Limits) -> Built:
    """Training words, frequent and rarer, in seen fonts; for testing unseen words, unseen fonts, and both."""
    found = frequent_words(wheels, WORDS + RARER)
    words, rarer = found[:WORDS], found[WORDS:]
    parts = {word: split_of(f"written {word}") for word in words}
    seen, unseen = [font for font in FONTS if font.seen], [font for font in FONTS if not font.seen]
    chosen: list[tuple[str, str, Font, str]] = []
    for word in words:
        split = parts[word]
        kind = "seen" if split == "train" else "unseen_word"
        chosen += [(split, kind, font, word) for font in _fonts(word, seen, FONTS_PER_WORD[split])]
        if split == "test":
            chosen += [("test", "unseen_both", font, word) for font in _fonts(word, unseen, FONTS_PER_WORD["test"])]
    # rarer words teach how letters stand side by side; styles and tests stay those of the frequent ones
    chosen += [("train", "seen", font, word) for word in rarer for font in _fonts(word, seen, FONTS_PER_WORD["train"])]
    learned = [word for word in words if parts[word] == "train"]
    tried = sorted(learned, key=lambda word: hashed(f"unseen font {word}"))[:PER_KIND]
    chosen += [("test", "unseen_font", _fonts(word, unseen, 1)[0], word) for word in tried]
    rows, splits = _rows(wheels, _limited(chosen), learned)
    return Built(assemble("written_words", rows, limits, splits.__getitem__))


def _fonts(word: str, fonts: list[Font], count: int) -> list[Font]:
    """`count` of the fonts, by hash."""
    return sorted(fonts, key=lambda font: hashed(f"{word} in {font.name}"))[:count]


def _limited(chosen: list[tuple[str, str, Font, str]]) -> list[tuple[str, str, Font, str]]:
    """The same list with at most PER_KIND test rows of each kind, by hash."""
    kept = [each for each in chosen if each[0] != "test"]
    for kind in KINDS:
        of_kind = [each for each in chosen if each[:2] == ("test", kind)]
        kept += sorted(of_kind, key=lambda each: hashed(f"kept {each[3]} {each[2].name}"))[:PER_KIND]
    return kept


def _rows(
    wheels: Wheels, chosen: list[tuple[str, str, Font, str]], learned: list[str]
) -> tuple[list[Row], dict[str, str]]:
    """Rows with their pictures, and the split of each group."""
    writer = Writer(wheels, SIDE)
    styles = {
        font.name: [
            (word, png(writer.draw(word, font)))
            for word in sorted(learned, key=lambda word: hashed(f"style {word} {font.name}"))[:STYLES]
        ]
        for font in FONTS
    }
    rows: list[Row] = []
    splits: dict[str, str] = {}
    for split, kind, font, word in chosen:
        group = f"{word} in {'seen' if font.seen else 'unseen'} fonts"
        splits[group] = split
        others = [picture for shown, picture in styles[font.name] if shown != word]
        rows.append(
            {
                "group": group,
                "image": png(writer.draw(word, font)),
                "word": word,
                "font": font.name,
                "kind": kind,
                "style": others[int(hashed(f"style of {word} {font.name}"), 16) % len(others)],
            }
        )
    return rows, splits
