"""Pictures judged by the nearest real one: ties, ceiling, chance, galleries of training and of references."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import DataError
from ofasys_lite.metrics import Training, evaluate_metric
from ofasys_lite.metrics.nearest_caption import Gallery, caption_retrieval


def plain(red: int, green: int, blue: int, side: int = 20) -> Image.Image:
    return Image.new("RGB", (side, side), (red, green, blue))


GALLERY = [plain(250, 0, 0), plain(0, 250, 0), plain(0, 0, 250), plain(240, 10, 0)]
CAPTIONS = ["red", "green", "blue", "red"]


def test_the_nearest_picture_is_found_whatever_size_and_form_a_picture_has() -> None:
    gallery = Gallery(GALLERY, CAPTIONS)
    asked = [plain(200, 30, 30, side=7), np.asarray(plain(9, 90, 9)), plain(0, 0, 99), None]
    assert gallery.nearest(asked) == [3, 1, 2, None]


def test_of_equally_near_pictures_the_first_counts() -> None:
    assert Gallery([plain(0, 0, 0), plain(20, 0, 0), plain(0, 0, 0)], ["a", "b", "c"]).nearest(
        [plain(10, 0, 0), plain(0, 0, 0)]
    ) == [0, 0]


def test_nearest_is_that_of_all_distances_one_by_one() -> None:
    generator = np.random.default_rng(3)
    real = generator.integers(0, 256, (90, 16, 16, 3), dtype=np.uint8)
    asked = generator.integers(0, 256, (40, 16, 16, 3), dtype=np.uint8)
    one_by_one = [int(((real.astype(int) - each) ** 2).sum((1, 2, 3)).argmin()) for each in asked]
    assert Gallery(list(real), ["x"] * 90).nearest(list(asked)) == one_by_one


def test_the_score_has_chance_and_ceiling_beside_it() -> None:
    train = Training(
        GALLERY, [{"caption": caption, "label": "warm" if caption == "red" else "cold"} for caption in CAPTIONS]
    )
    real = [plain(200, 0, 0), plain(0, 200, 0), plain(0, 190, 0)]  # the last is called blue and looks green
    rows = [
        {"caption": " Red", "label": "warm"},
        {"caption": "green", "label": "cold"},
        {"caption": "blue", "label": "cold"},
    ]
    made = [plain(220, 0, 0), None, plain(0, 0, 220)]
    score = evaluate_metric("nearest_caption", made, real, rows=rows, train=lambda: train)
    assert score.value == pytest.approx(2 / 3)
    assert score.details["ceiling"] == pytest.approx(2 / 3)
    assert score.details["chance"] == pytest.approx(1 / 3)
    coarse = evaluate_metric("nearest_label", [*made[:1], plain(0, 0, 220), None], real, rows=rows, train=lambda: train)
    assert coarse.value == pytest.approx(2 / 3)
    assert coarse.details["ceiling"] == 1.0


def test_training_pictures_that_cannot_be_opened_are_left_out() -> None:
    train = Training([None, *GALLERY], [{"caption": "lost"}, *({"caption": caption} for caption in CAPTIONS)])
    rows = [{"caption": "red"}]
    score = evaluate_metric("nearest_caption", GALLERY[:1], GALLERY[:1], rows=rows, train=lambda: train)
    assert (score.value, score.details["gallery"]) == (1.0, 4)


def test_retrieval_looks_among_the_pictures_that_are_judged() -> None:
    real, captions = GALLERY[:3], CAPTIONS[:3]
    rows = [{"caption": caption} for caption in captions]
    assert evaluate_metric("caption_retrieval", real, real, rows=rows).value == 1.0
    made = [plain(200, 0, 0), plain(210, 0, 0), plain(190, 0, 0)]
    assert evaluate_metric("caption_retrieval", made, real, rows=rows).value == pytest.approx(1 / 3)
    alone = evaluate_metric("caption_retrieval", real[:1], real[:1], rows=rows[:1])
    assert math.isnan(alone.value)
    assert alone.details["note"] == "one caption in all rows"


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(DataError, match="real picture 2 cannot be opened"):
        caption_retrieval([None, None], [GALLERY[0], "no.png"], [{"caption": "a"}, {"caption": "b"}])
    with pytest.raises(DataError, match="0 real pictures with 0 captions"):
        Gallery([], [])
    with pytest.raises(DataError, match="`nearest_label`: row 1 does not say") as error:
        evaluate_metric("nearest_label", GALLERY, GALLERY, rows=[{"caption": "a"}] * 4, train=lambda: Training([], []))
    assert error.value.help == "give each row the column label; the row has: caption"
