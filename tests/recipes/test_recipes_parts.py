"""Spelling, sentence templates, speech and the contact sheet."""

from __future__ import annotations

import datetime
import io
import random
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import DataError
from ofasys_lite.recipes import contact_sheet, prepared_folders, spelling
from ofasys_lite.recipes.data_sheet import spectrogram
from ofasys_lite.recipes.digits import png
from ofasys_lite.recipes.intents import expand, parse
from ofasys_lite.recipes.recipe import SPLITS, Built, Column, Limits, RecipeInfo
from ofasys_lite.recipes.speech import PHRASES, RATE, TEST_SPEED, VARIANTS, Speaker, asked, finish, flac, unpack

NUMBERS = {
    21: "twenty-one einundzwanzig vingt_et_un veintiuno eenentwintig",
    71: "seventy-one einundsiebzig soixante_et_onze setenta_y_uno eenenzeventig",
    80: "eighty achtzig quatre-vingts ochenta tachtig",
    91: "ninety-one einundneunzig quatre-vingt-onze noventa_y_uno eenennegentig",
    100: "one_hundred einhundert cent cien honderd",
    342: "three_hundred_forty-two dreihundertzweiundvierzig trois_cent_quarante-deux trescientos_cuarenta_y_dos "
    "driehonderdtweeënveertig",
    2000: "two_thousand zweitausend deux_mille dos_mil tweeduizend",
}


@pytest.mark.parametrize("value", NUMBERS)
def test_numbers_are_spelled_as_each_language_does(value: int) -> None:
    spelled = [spelling.number(value, language).replace(" ", "_") for language in spelling.LANGUAGES]
    assert spelled == NUMBERS[value].split()


def test_no_two_numbers_are_spelled_alike() -> None:
    for language in spelling.LANGUAGES:
        assert len({spelling.number(value, language) for value in range(10_000)}) == 10_000


def test_no_two_times_are_spelled_alike() -> None:
    for language in spelling.LANGUAGES:
        clock = {spelling.time(hour, minute, language) for hour in range(1, 13) for minute in range(0, 60, 5)}
        assert len(clock) == 144
    assert [spelling.time(3, 30, each) for each in ("en", "de", "fr", "es", "nl")] == [
        "half past three",
        "halb vier",
        "trois heures et demie",
        "las tres y media",
        "half vier",
    ]


def test_dates_are_written_in_full() -> None:
    assert [spelling.date(datetime.date(2021, 3, 1), each) for each in ("en", "fr", "es")] == [
        "Monday, March 1, 2021",
        "lundi 1er mars 2021",
        "lunes, 1 de marzo de 2021",
    ]


def sentences(template: str, count: int = 60) -> set[str]:
    rules = {"the": parse("(the|my)")}
    slots: dict[str, str] = {}
    return {
        " ".join(expand(parse(template), rules, lambda name, _: (name, ""), random.Random(n), slots).split())
        for n in range(count)
    }


@pytest.mark.parametrize(
    ("template", "all_of_it"),
    [
        ("turn (on|off)", {"turn on", "turn off"}),
        ("light[s]", {"light", "lights"}),
        ("<the> lamp", {"the lamp", "my lamp"}),
        ("(a;b)", {"a b", "b a"}),
        ("[in [the] ]{area:room}", {"area", "in area", "in the area"}),
    ],
)
def test_templates_expand_to_all_they_say(template: str, all_of_it: set[str]) -> None:
    assert sentences(template) == all_of_it


def test_a_slot_keeps_the_meant_value_under_its_own_name() -> None:
    slots: dict[str, str] = {}
    expand(parse("{list:slot}"), {}, lambda name, _: ("spoken", "meant"), random.Random(0), slots)
    assert slots == {"slot": "meant"}


@pytest.mark.parametrize("template", ["turn (on", "turn on)", "[a", "a]", "(a]"])
def test_a_template_with_unpaired_brackets_is_refused(template: str) -> None:
    with pytest.raises(DataError, match=r"unpaired|not closed"):
        parse(template)


def test_a_finished_clip_is_cut_resampled_and_the_same_each_time() -> None:
    rate = 22050
    tone = (12000 * np.sin(np.arange(rate) * 2 * np.pi * 440 / rate)).astype(np.int16)
    wave = np.concatenate([np.zeros(rate, np.int16), tone, np.zeros(rate, np.int16)])
    clip = finish(wave, rate, "seed")
    assert abs(len(clip) / RATE - 1) < 0.06
    assert np.abs(np.fft.rfft(clip)).argmax() / len(clip) * RATE == pytest.approx(440, abs=2)
    assert (clip == finish(wave, rate, "seed")).all()
    assert (clip != finish(wave, rate, "other")).any()
    assert flac(clip)[:4] == b"fLaC"


def test_ways_of_speaking_are_split_once_and_for_all_and_none_is_in_two_splits() -> None:
    variants = [variant for split in SPLITS for variant in VARIANTS[split]]
    assert len(set(variants)) == len(variants)
    clips = {split: list(asked(split)) for split in SPLITS}
    assert {split: len(set(found)) for split, found in clips.items()} == {"train": 9720, "valid": 486, "test": 972}
    heard = {split: {voice.partition("+")[2] for voice, _, _ in found} for split, found in clips.items()}
    assert {split: len(found) for split, found in heard.items()} == {"train": 12, "valid": 9, "test": 36}
    assert {phrase for _, _, phrase in clips["test"]} == set(PHRASES)
    assert TEST_SPEED not in {speed for _, speed, _ in clips["train"]}
    assert sum(speed == TEST_SPEED for _, speed, _ in clips["test"]) == 486


def test_a_platform_without_the_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no library for this platform"):
        Speaker(tmp_path)


def test_a_wheel_is_unpacked_once(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "espeak.whl", "w") as archive:
        archive.writestr("espeakng_loader/espeak-ng-data/en_dict", b"data")
        archive.writestr("other/file", b"x")
    first = unpack(tmp_path / "espeak.whl", tmp_path)
    (tmp_path / "espeak.whl").unlink()
    assert unpack(tmp_path / "espeak.whl", tmp_path) == first
    assert [path.name for path in first.parent.iterdir()] == ["espeakng_loader"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A prepared folder with a column of every kind."""
    kinds = ["text", "image", "audio", "box", "objects", "grid", "list", "record"]
    box = [2.0, 2.0, 9.0, 12.0]
    row = {
        "text": "a rather long text with an é that has to be folded " * 6,
        "image": png(np.zeros((16, 16), np.uint8)),
        "audio": flac((8000 * np.sin(np.arange(4000) / 9)).astype(np.int16)),
        "box": box,
        "objects": [{"box": [4.0, 1.0, 15.0, 9.0], "label": "7"}],
        "grid": [[1, 0], [0, 2]],
        "list": ["a", "b"],
        "record": {"intent": "x", "columns": ["a", "b"]},
    }
    splits = {split: [{"id": f"{split}-{n}", "group": f"{n}", **row} for n in range(9)] for split in SPLITS}
    info = RecipeInfo(
        "kinds", "all kinds", (), "MIT", tuple(Column(k, k, "") for k in kinds), "n", Limits(9), {}, 0.0, "all"
    )
    prepared_folders.write(tmp_path / "kinds", info, Built(splits), {})
    return tmp_path / "kinds"


def test_a_contact_sheet_shows_every_kind_of_column(folder: Path, tmp_path: Path) -> None:
    path = contact_sheet(folder, "test", tmp_path / "deep" / "sheet.png", rows=6)
    with Image.open(path) as image:
        assert image.width == 4 * 260 + 10
        assert image.height > 600
        colours = {colour for _, colour in image.getcolors(1 << 20)}
    assert (31, 111, 235) in colours  # a wave form
    assert any(red == 255 and green == blue < 70 for red, green, blue in colours)  # a box
    assert contact_sheet(folder, "train", path, rows=100) == path


def test_a_contact_sheet_of_no_rows_or_of_an_unknown_split_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="shows nothing"):
        contact_sheet(folder, "test", tmp_path / "x.png", rows=0)
    with pytest.raises(DataError, match="no split `dev`"):
        contact_sheet(folder, "dev", tmp_path / "x.png")


def test_a_spectrogram_is_dark_where_the_tone_is() -> None:
    picture = spectrogram(np.sin(np.arange(8000) * 2 * np.pi * 1000 / 8000).astype(np.float32))
    assert picture.shape[0] == 129
    assert abs((128 - picture.mean(1).argmin()) * 8000 / 256 - 1000) < 60
    assert spectrogram(np.zeros(3, np.float32)).shape == (129, 1)


def test_values_survive_the_file(folder: Path) -> None:
    row = prepared_folders.read_split(folder, "valid", 1)[0]
    assert row["objects"] == [{"box": [4.0, 1.0, 15.0, 9.0], "label": "7"}]
    assert row["grid"] == [[1, 0], [0, 2]]
    with Image.open(io.BytesIO(row["image"])) as image:
        assert image.size == (16, 16)
