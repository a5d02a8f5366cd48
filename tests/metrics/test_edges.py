"""What every metric says at its edges: nothing said, nothing there, neither, one item, values of another type."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.metrics import PICTURE_METRICS, evaluate_metric, metric_names

NAN = float("nan")
BOX = [0, 0, 4, 4]
CAT = [{"box": BOX, "label": "cat"}]
SQUARE = [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]
RED = Image.new("RGB", (4, 4), "red")


@pytest.mark.parametrize(
    ("name", "predictions", "references", "value"),
    [
        # texts and classes
        ("accuracy", [None], ["a"], 0),
        ("accuracy", ["None"], [None], 0),
        ("accuracy", [None], [""], 1),  # an optional target that is not there, and nobody said it was
        ("accuracy", ["3", 3, "3.0", True, NAN], [3, "3", 3.0, "true", None], 1),
        ("accuracy", [np.float32(0.5), np.int64(7)], ["0.5", "7"], 1),
        ("exact_match", ["-5", "1.5", "1/2", "10:30", "3-4", ".5", "50%", "1,5"], list("5") * 8, 0),
        ("exact_match", ["1.5", "1:30", "1/2", "3-4"], ["15", "130", "12", "34"], 0),
        (
            "exact_match",
            ["\N{MINUS SIGN}5", "5.", "(5)", "1,000", "It's!", "\N{EN DASH}7"],
            ["-5", "5", "5", "1000", "its", "-7"],
            1,
        ),
        ("exact_match", ["..."], ["!"], 0),
        ("token_accuracy", [""], ["a b"], 0),
        ("token_accuracy", ["a b"], [["x", "a b"]], 1),
        ("token_accuracy", [""], [""], NAN),
        ("macro_f1", [None, "a"], ["a", "a"], 2 / 3),
        ("macro_f1", ["grey"], [["gray", "grey"]], 1),
        # error rates: insertions count, over all reference elements of the corpus (jiwer)
        ("wer", ["hello there"], [""], 2),
        ("cer", ["hello"], [""], 5),
        ("per", ["AA B"], [""], 2),
        ("wer", ["", ""], ["", ""], 0),
        ("wer", ["hello there", "a b"], ["", "a b"], 1),
        ("wer", [None], ["a b"], 1),
        ("wer", ["a c"], [["a b", "a c"]], 0),
        ("cer", [5], [5], 0),
        ("per", [["K", "AE", "T"]], [["K", "AE", "T"]], 0),
        ("per", ["K AH T"], [["K AE T", "K AH T"]], 0),
        ("per", [None], [None], 0),
        # translations
        ("bleu", [""], ["a b"], 0),
        ("bleu", [None], [None], 0),
        ("chrf", [""], ["a b"], 0),
        ("chrf", [""], [""], 0),
        ("chrf", [7], [7], 100),
        # boxes
        ("mean_iou", [None], [BOX], 0),
        ("mean_iou", [BOX], [None], 0),
        ("mean_iou", [None, BOX], [None, BOX], 1),  # nothing to find and nothing said: left out
        ("iou_at_0.5", [[NAN, 0, 4, 4], [4, 4, 0, 0], "box"], [BOX] * 3, 0),
        ("iou_at_0.5", [None], [None], NAN),
        ("detection_f1", [[]], [[]], NAN),
        ("detection_f1", [CAT], [[]], 0),
        ("detection_f1", [[], CAT], [[], CAT], 1),
        ("detection_f1", [7], [CAT], 0),
        # structures
        ("slot_f1", [None], [{}], NAN),
        ("slot_f1", [{"a": NAN}], [{"a": 1}], 0),
        ("record_f1", [{}], [{}], NAN),
        ("struct_exact", [{}], [{}], NAN),
        ("struct_exact", [{}], [{"a": 1}], 0),
        ("struct_exact", ['{"a": 1}'], [{"a": 1.0}], 1),
        ("sudoku_solved", [None], [SQUARE], 0),
        ("sudoku_solved", [SQUARE], [SQUARE], 1),
        ("pixel_mse", [None], [RED], 1),
        ("pixel_mse", [RED], [b"broken"], NAN),
    ],
)
def test_values_at_the_edges(name: str, predictions: list[Any], references: list[Any], value: float) -> None:
    score = evaluate_metric(name, predictions, references)
    assert score.value == pytest.approx(value, nan_ok=True)
    assert score.items == len(references)
    if math.isnan(value):
        assert score.details["note"] == "nothing to count in any item"
        assert math.isnan(score.low)


@pytest.mark.parametrize("name", [n for n in metric_names() if n not in {"sql_execution", *PICTURE_METRICS}])
@pytest.mark.parametrize("reference", [None, "", [], {}, 7, NAN, True, ["a", "b"], b"bytes", np.zeros(3)])
def test_no_reference_makes_a_metric_fail(name: str, reference: Any) -> None:
    for prediction in (None, "", "a b", 3, NAN, [], {}, b"x", np.zeros((2, 2))):
        score = evaluate_metric(name, [prediction, prediction], [reference, reference])
        assert math.isnan(score.value) or score.value >= 0


@pytest.mark.parametrize("name", [n for n in metric_names() if n not in {"sql_execution", *PICTURE_METRICS}])
def test_one_item_has_a_value_and_no_interval(name: str) -> None:
    score = evaluate_metric(name, ["a"], ["a"])
    assert score.items == 1
    assert math.isnan(score.low)


def test_all_pronunciations_of_a_row_are_accepted() -> None:
    rows = [
        {"pronunciations": ["D R AY V ER", "D R AY V R"]},
        {"pronunciations": None},
        {"pronunciations": np.array(["B", "P"])},
    ]
    references = ["D R AY V ER", "B", "B"]
    assert evaluate_metric("per", ["D R AY V R", "B", "B"], references, rows=rows).value == 0
    assert evaluate_metric("per", ["D R AY V R", "B", "B"], references).value == pytest.approx(1 / 7)
