"""Words on pictures read back: real rendered words, damaged ones, and the error where the reader is not installed."""

from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from ofasys_lite.errors import DataError
from ofasys_lite.metrics import evaluate_metric, ocr
from ofasys_lite.metrics.pictures import asked_texts, grey_picture

WORDS = ["house", "green", "at", "the", "seven", "jump"]


def written(word: str, side: int = 32) -> Image.Image:
    """The word in DejaVu Sans, black on white, drawn large and averaged down."""
    matplotlib = pytest.importorskip("matplotlib")
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    font = ImageFont.truetype(str(path), 8 * side // 4, layout_engine=ImageFont.Layout.BASIC)
    large = Image.new("L", (8 * side, 8 * side), 255)
    ImageDraw.Draw(large).text((4 * side, 4 * side), word, fill=0, font=font, anchor="mm")
    return large.resize((side, side), Image.Resampling.BOX)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    # OpenCV, which it needs, asks for libGL of the system
    pytest.importorskip("rapidocr_onnxruntime", exc_type=ImportError)
    return [written(word) for word in WORDS]


def test_words_are_read_from_small_pictures(pictures: list[Image.Image]) -> None:
    assert ocr.read_words(pictures) == WORDS


def test_a_picture_is_read_alike_alone_and_in_every_form(pictures: list[Image.Image]) -> None:
    ocr._reader.cache_clear()
    assert [ocr.read_words([picture])[0] for picture in pictures] == WORDS
    array = np.asarray(pictures[0])
    buffer = io.BytesIO()
    pictures[0].save(buffer, format="PNG")
    forms = [array, array[..., None], np.stack([array] * 3, -1), buffer.getvalue(), {"bytes": buffer.getvalue()}]
    assert ocr.read_words([*forms, pictures[0].convert("RGB"), 255 - array]) == ["house"] * 7
    alpha = Image.merge("LA", [Image.new("L", array.shape[::-1], 0), Image.fromarray(255 - array)])
    assert ocr.read_words([alpha]) == ["house"]


def test_accuracy_and_character_errors_are_those_of_what_is_read(pictures: list[Image.Image]) -> None:
    rows = [{"word": word, "caption": "not this"} for word in WORDS]
    assert evaluate_metric("ocr_accuracy", pictures, pictures, rows=rows).value == 1.0
    assert evaluate_metric("ocr_cer", pictures, pictures, rows=rows).value == 0.0
    swapped = [pictures[1], pictures[0], *pictures[2:]]
    assert evaluate_metric("ocr_accuracy", swapped, pictures, rows=rows).value == pytest.approx(4 / 6)
    score = evaluate_metric("ocr_cer", [*pictures[:-1], pictures[0]], WORDS)
    assert score.value == pytest.approx(5 / sum(map(len, WORDS)), abs=0.05)  # house for jump: 4 or 5 edits
    assert not score.higher_is_better


def test_case_white_space_and_alternatives_are_forgiven(pictures: list[Image.Image]) -> None:
    assert evaluate_metric("ocr_accuracy", pictures[:1], [" House "]).value == 1.0
    assert evaluate_metric("ocr_accuracy", pictures[:1], [["home", "house"]]).value == 1.0


@pytest.mark.parametrize(
    "nothing", [None, "", [], {}, "%$#", 7, [1, 2, math.nan], b"\x89PNG", np.zeros(4), np.ones((4, 4))]
)
def test_what_is_no_picture_earns_nothing(pictures: list[Image.Image], nothing: object) -> None:
    del pictures
    assert grey_picture(nothing) is None
    score = evaluate_metric("ocr_accuracy", [nothing], ["house"])
    assert (score.value, score.details["blank"]) == (0.0, 1)
    assert evaluate_metric("ocr_cer", [nothing], ["house"]).value == 1.0


def test_blank_pictures_and_noise_are_not_the_word(pictures: list[Image.Image]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 32, 32), dtype=np.uint8)
    blank = [Image.new("L", (32, 32), grey) for grey in (255, 0, 128, 250, 5, 200)]
    assert ocr.read_words(blank) == [""] * 6
    assert evaluate_metric("ocr_accuracy", list(noise), WORDS).value == 0.0
    assert evaluate_metric("ocr_accuracy", [picture.resize((4, 4)) for picture in pictures], WORDS).value == 0.0


def test_a_row_that_does_not_say_its_word_is_refused_before_anything_is_read() -> None:
    with pytest.raises(DataError, match="row 2 does not say what its picture shows") as error:
        ocr.ocr_accuracy([None, None], [None, None], [{"word": "a"}, {"name": "b"}])
    assert error.value.help == "give each row one of the columns word, text, caption, label; the row has: name"
    assert asked_texts("m", [None, "x", None], [{"label": "7"}, {}, {"text": ["a", "b"]}]) == [["7"], ["x"], ["a", "b"]]


def test_a_missing_reader_is_told_with_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr_onnxruntime", None)
    ocr._reader.cache_clear()
    with pytest.raises(DataError, match="reading pictures needs rapidocr-onnxruntime") as error:
        ocr.ocr_accuracy([None], ["word"], [{}])
    assert error.value.help == "pip install 'ofasys_lite[ocr]'"
