"""Written words: pictures of one short English word each in several fonts, for text-to-image that can be read."""

from __future__ import annotations

import re

from ofasys_lite.recipes.digits import png
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.fonts import FONTS, Font, Writer
from ofasys_lite.recipes.g2p import read_words
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, split_of
from ofasys_lite.recipes.recipe import digest as hashed

SIDE = 32  # the smallest side at which OCR reads 0.9 also of blurred and noisy pictures (docs/data.md)
WORDS = 3000  # the most frequent: valid and test words are some of them
RARER = 7500  # words after these, for training only
SHORTEST, LONGEST = 2, 5
FONTS_PER_WORD = {"train": 3, "valid": 2, "test": 2}
STYLES = 8  # words a font is shown by
KINDS = ("seen", "unseen_word", "unseen_font", "unseen_both")
PER_KIND = 400  # test rows of each kind
# frequent on the web, crude or abusive: not for a sample sheet
_CRUDE = (
    "anal ass bitch boob boobs busty butt butts cock cocks coon crap cum cunt cunts dick dicks dildo fag fags fuck "
    "horny naked nazi nigga nude nudes orgy penis piss porn porno pussy rape raped sexy shit slut sluts spank sperm "
    "suck sucks thong tit tits whore xxx anus arse boner bitchy chink clit cooch cums darky dyke dykes enema "
    "fanny felch feces fucks fecal gook gooks homo homos honky jap japs jizz kike kikes labia lesbo limey negro orgie "
    "paki pansy perv pimp pimps piss poon poop prick pubic pussy queer queef rapes raper semen sexed shits spic spick "
    "sodom spunk teats tramp twat twats urine vulva wank wanks wench wimp wog wop"
)
UNWELCOME = frozenset(_CRUDE.split())


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
