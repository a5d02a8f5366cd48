"""Pictures against pictures, and the baselines that answer with one."""

import io

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import CardError
from ofasys_lite.metrics import evaluate_metric, fit_predict, normalised


def plain(level, size=(4, 4), mode="RGB"):
    return Image.new(mode, size, level if mode == "L" else (level,) * 3)


def png(image):
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def test_pixel_mse_is_the_mean_squared_difference_of_colours():
    score = evaluate_metric("pixel_mse", [plain(255), plain(0)], [plain(0), plain(51)], samples=10)
    assert score.value == pytest.approx((1 + 0.2**2) / 2)
    assert not score.higher_is_better
    assert normalised(score) == pytest.approx(1 - score.value)


def test_pixel_mse_brings_a_prediction_to_the_size_of_its_reference_whatever_holds_it(tmp_path):
    path = tmp_path / "a.png"
    plain(0, (9, 5)).save(path)
    predictions = [plain(255, (2, 2)), np.full((3, 3, 3), 255, np.uint8), png(plain(255, mode="L"))]
    score = evaluate_metric("pixel_mse", predictions, [path, str(path), {"bytes": png(plain(0))}], samples=10)
    assert score.value == 1
    transparent = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert evaluate_metric("pixel_mse", [transparent], [plain(255)], samples=10).value == 0


def test_pixel_mse_counts_no_picture_as_wrong_and_leaves_out_references_that_cannot_be_read():
    score = evaluate_metric("pixel_mse", [None, "text", plain(0)], [plain(0), plain(0), b"broken"], samples=10)
    assert score.value == 1
    assert score.details == {"unreadable": 1}


def rows(*levels, size=(4, 4)):
    return [{"word": str(level), "image": png(plain(level, size))} for level in levels]


def test_mean_image_is_the_mean_of_the_training_pictures_in_their_commonest_size():
    train = [*rows(0, 100), *rows(200, size=(8, 8)), {"word": "x", "image": b"broken"}]
    found = fit_predict("mean_image", train, rows(1, 2, 3), ["word"], "image", "image")
    assert len(found) == 3
    assert np.asarray(found[0]).shape == (4, 4, 3)
    assert set(np.asarray(found[0]).reshape(-1)) == {100}


def test_random_image_draws_training_pictures_by_the_seed():
    train = rows(*range(0, 200, 10))
    drawn = [
        fit_predict("random_image", train, rows(*range(9)), ["word"], "image", "image", seed) for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(set(drawn[0])) > 3
    assert set(drawn[0]) <= {row["image"] for row in train}


def test_mean_fill_keeps_what_is_given_and_fills_the_hole_from_the_mean():
    hole = np.zeros((4, 4, 4), np.uint8)
    hole[:2] = 255  # the upper half is given, and white
    test = [{"image (source)": Image.fromarray(hole)}]
    train = [{"image (source)": test[0]["image (source)"], "image": row["image"]} for row in rows(0, 100)]
    (found,) = fit_predict("mean_fill", train, test, ["image (source)"], "image", "image")
    assert set(np.asarray(found)[:2].reshape(-1)) == {255}
    assert set(np.asarray(found)[2:].reshape(-1)) == {50}
    with pytest.raises(CardError, match="no input has any"):
        fit_predict("mean_fill", [{"i": plain(0), "image": plain(0)}], [{"i": plain(0)}], ["i"], "image", "image")


@pytest.mark.parametrize("name", ["majority", "question_only", "copy", "unigram", "letter_phones", "bigram_infill"])
def test_a_baseline_that_has_no_picture_to_answer_with_is_refused(name):
    with pytest.raises(CardError, match=f"baseline `{name}` answers with no picture, and `image` is one") as error:
        fit_predict(name, rows(0), rows(1), ["word"], "image", "image")
    assert "random_image" in error.value.help


def test_baselines_of_pictures_are_refused_for_other_targets():
    with pytest.raises(CardError, match="baseline `mean_image` predicts image, but `word` is text"):
        fit_predict("mean_image", rows(0), rows(1), ["image"], "word", "text")


def test_the_picture_of_the_nearest_prompt_is_a_reference():
    train = rows(0, 100)
    assert fit_predict("nearest_tfidf", train, rows(100), ["word"], "image", "image") == [train[1]["image"]]
