import math
import sys

import numpy as np
import pytest

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.metrics import (
    PICTURE_METRICS,
    RANK_METRICS,
    Score,
    Statistics,
    Training,
    direction,
    evaluate_metric,
    find_metric,
    margin,
    metric_names,
    normalised,
)

WORDS = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "it", "rains", "in", "spain"]
#: What it judges is no text, but what a text costs.
BITS = ("bits_per_byte",)


def sentences(count, seed=0):
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, size=generator.integers(1, 12))) for _ in range(count)]


def test_an_unknown_metric_is_refused_with_the_nearest_name():
    with pytest.raises(CardError, match=r"metric `acuracy` is not known\. Did you mean `accuracy`\?"):
        find_metric("acuracy")


def test_a_dotted_path_without_module_or_function_says_which_is_missing(tmp_path, monkeypatch):
    (tmp_path / "lonely_metrics.py").write_text("def shortness(predictions, references):\n    return [1.0]\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CardError, match="no module `nowhere_metrics`"):
        find_metric("nowhere_metrics.shortness")
    with pytest.raises(CardError, match="did you mean `shortness`"):
        find_metric("lonely_metrics.shortnes")


@pytest.mark.parametrize(
    ("body", "value"),
    [
        ("return [float(len(p) < 3) for p in predictions]", 0.5),
        ("return sum(len(p) < 3 for p in predictions) / len(predictions)", 0.5),
        (
            "from ofasys_lite.metrics import Statistics\n"
            "    return Statistics.ratio([len(p) for p in predictions], [10, 10])",
            0.35,
        ),
    ],
)
def test_a_metric_of_the_user_is_one_function_of_any_of_three_forms(tmp_path, monkeypatch, body, value):
    (tmp_path / "own_metrics.py").write_text(
        f"def brief(predictions, references):\n    {body}\n\nbrief.higher_is_better = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "own_metrics", raising=False)
    score = evaluate_metric("own_metrics.brief", ["ab", "abcde"], ["", ""], samples=200)
    assert score.value == pytest.approx(value)
    assert score.low <= value <= score.high
    monkeypatch.delitem(sys.modules, "own_metrics")


def test_a_metric_of_the_user_says_which_direction_is_better_or_is_refused(tmp_path, monkeypatch):
    body = "def misses(predictions, references):\n    return [float(p != r) for p, r in zip(predictions, references)]\n"
    (tmp_path / "missing_metrics.py").write_text(
        f"{body}\ndef said(p, r):\n    return misses(p, r)\n\n\nsaid.higher_is_better = False\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    right, wrong = ["a"] * 12, ["b"] * 12
    with pytest.raises(
        CardError, match=r"metric `missing_metrics\.misses` does not say whether more is better"
    ) as caught:
        evaluate_metric("missing_metrics.misses", right, right)
    assert "`better: low`" in str(caught.value.help)
    assert "misses.higher_is_better = False" in str(caught.value.help)
    by_card = evaluate_metric("missing_metrics.misses", right, right, higher=False)
    by_function = evaluate_metric("missing_metrics.said", right, right)
    assert normalised(by_card) == normalised(by_function) == 1.0
    assert not by_function.higher_is_better
    better = margin("missing_metrics.said", right, wrong, right)
    assert better.value == 1.0
    assert better.clear
    with pytest.raises(CardError, match="leave `better` out"):
        direction("wer", "high")
    assert direction("wer") is None


def test_a_metric_of_the_user_that_returns_something_else_is_named(tmp_path, monkeypatch):
    (tmp_path / "odd_metrics.py").write_text(
        "def odd(predictions, references, rows):\n    return 'good'\n\nodd.higher_is_better = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=r"metric `odd_metrics\.odd` returned str, not 2 numbers"):
        evaluate_metric("odd_metrics.odd", ["a", "b"], ["a", "b"])


def test_lists_of_different_length_are_refused():
    with pytest.raises(DataError, match="1 predictions for 2 references"):
        evaluate_metric("accuracy", ["a"], ["a", "b"])
    with pytest.raises(DataError, match="1 groups for 2 references"):
        evaluate_metric("accuracy", ["a", "b"], ["a", "b"], groups=["x"])


def test_the_interval_leaves_out_groups_not_items():
    right = [True] * 50 + [False] * 50
    predictions = ["yes" if ok else "no" for ok in right]
    references = ["yes"] * 100
    by_item = evaluate_metric("accuracy", predictions, references)
    by_group = evaluate_metric("accuracy", predictions, references, groups=[str(i // 25) for i in range(100)])
    assert (by_item.items, by_item.groups, by_group.groups) == (100, 100, 4)
    assert by_group.high - by_group.low > 3 * (by_item.high - by_item.low)


def test_the_interval_agrees_with_the_binomial_one():
    predictions = ["a"] * 300 + ["b"] * 700
    score = evaluate_metric("accuracy", predictions, ["a"] * 1000, samples=4000)
    half = 1.96 * math.sqrt(0.3 * 0.7 / 1000)
    assert score.low == pytest.approx(0.3 - half, abs=0.004)
    assert score.high == pytest.approx(0.3 + half, abs=0.004)


def test_one_group_or_no_items_have_no_interval():
    one = evaluate_metric("accuracy", ["a", "b"], ["a", "a"], groups=["g", "g"])
    none = evaluate_metric("wer", [], [])
    assert (one.value, none.items, none.groups) == (0.5, 0, 0)
    # 0 would be a perfect error rate
    assert all(map(math.isnan, (one.low, one.high, none.value, none.low, none.high)))


def test_a_margin_pairs_the_groups_and_is_tighter_than_two_intervals():
    generator = np.random.default_rng(0)
    references = ["x"] * 400
    hard = generator.random(400) < 0.5
    baseline = ["x" if easy else "o" for easy in ~hard]
    ours = ["x" if b == "x" or lucky else "o" for b, lucky in zip(baseline, generator.random(400) < 0.1, strict=True)]
    found = margin("accuracy", ours, baseline, references)
    score = evaluate_metric("accuracy", ours, references)
    assert found.clear
    assert found.value == pytest.approx(score.value - evaluate_metric("accuracy", baseline, references).value)
    assert found.high - found.low < score.high - score.low


def test_a_margin_is_positive_for_the_better_side_of_an_error_rate():
    references = sentences(50)
    better = margin("wer", references, ["spam"] * 50, references)
    assert better.clear
    assert better.unit == "errors per word"
    worse = margin("wer", ["spam"] * 50, references, references)
    assert worse.value == pytest.approx(-better.value)
    assert not worse.clear


@pytest.mark.parametrize("name", [n for n in metric_names() if n not in {"sql_execution", *PICTURE_METRICS, *BITS}])
@pytest.mark.parametrize("nothing", [None, "", [], {}, "%$#", [[1, 2], None], {"box": "x"}, 7, [1, 2, 3, math.nan]])
def test_empty_and_senseless_predictions_never_crash_and_earn_nothing(name, nothing):
    references = {
        "iou_at_0.5": [0, 0, 5, 5],
        "mean_iou": [0, 0, 5, 5],
        "detection_f1": [{"box": [0, 0, 5, 5], "label": "cat"}],
        "slot_f1": {"room": "kitchen"},
        "record_f1": [{"room": "kitchen"}],
        "triplet_f1": [["Rome", "in", "Italy"]],
        "struct_exact": {"room": "kitchen"},
        "sudoku_solved": (grid := [[1, 2, 3, 4], [3, 4, 1, 2], [2, 1, 4, 3], [4, 3, 2, 1]]),
        "grid_cells": grid,
    }
    reference = references.get(name, "the quick fox")
    score = evaluate_metric(name, [nothing] * 3, [reference] * 3, samples=20)
    assert normalised(score) == pytest.approx(0, abs=0.05 if name == "chrf" else 1e-9)  # chrF credits single letters


_OF_FILES = {"sql_execution", "mcd", "motion_error", "frame_mse", *PICTURE_METRICS, *BITS}


@pytest.mark.parametrize("name", [n for n in metric_names() if n not in _OF_FILES])
def test_a_prediction_equal_to_its_reference_earns_everything(name):
    references = {
        "iou_at_0.5": [0, 0, 5, 5],
        "mean_iou": [0, 0, 5, 5],
        "detection_f1": [{"box": [0, 0, 5, 5], "label": "cat"}, {"box": [1, 0, 5, 5], "label": "cat"}],
        "slot_f1": {"room": "kitchen", "lights": ["a", "b"]},
        "record_f1": [{"room": "kitchen"}],
        "triplet_f1": [["Rome", "in", "Italy"], ["Rome", "near", "sea"]],
        "struct_exact": '{"room": "kitchen"}',
        **dict.fromkeys(("sudoku_solved", "grid_cells"), "1234\n3412\n2143\n4321"),
        **{metric: ["r1", "r2"] for metric in RANK_METRICS},
    }
    reference = references.get(name, "the quick brown fox jumps")
    score = evaluate_metric(name, [reference] * 3, [reference] * 3, samples=20)
    assert normalised(score) == pytest.approx(1)
    # three items without a miss say little of the next
    assert score.value in (pytest.approx(score.low), pytest.approx(score.high))
    assert score.high - score.low > 0.1


def test_normalised_scores_lie_in_zero_to_one_with_more_being_better():
    assert normalised(Score("bleu", 25.0, 20, 30, 9, 9, "points")) == 0.25
    assert normalised(Score("wer", 1.7, 1, 2, 9, 9, "errors per word", higher_is_better=False)) == 0.0
    assert normalised(Score("accuracy", math.nan, math.nan, math.nan, 0, 0)) == 0.0


def test_statistics_of_no_counts_combine_to_zero():
    for statistics in (Statistics.f1([0], [0], [0]), Statistics.ratio([0], [0])):
        assert float(statistics.combine(statistics.sums_NK.sum(0))) == 0.0


def counted(predictions, references, rows, train):
    """Predictions that are among the training references, for tests."""
    assert len(train.references) == len(train.rows)
    return [float(prediction in train.references) for prediction in predictions]


counted.higher_is_better = True  # type: ignore[attr-defined]


def test_a_metric_with_a_parameter_train_gets_the_training_rows(monkeypatch):
    monkeypatch.setitem(sys.modules, "my_train_metrics", type(sys)("my_train_metrics"))
    sys.modules["my_train_metrics"].counted = counted
    training = Training(["a", "b"], [{}, {}])
    reads = []

    def read():
        reads.append(1)
        return training

    name = "my_train_metrics.counted"
    assert evaluate_metric(name, ["a", "x"], ["a", "x"], samples=5, train=read).value == 0.5
    assert margin(name, ["a", "b"], ["x", "b"], ["a", "b"], samples=5, train=read).value == 0.5
    assert len(reads) == 3
    with pytest.raises(DataError, match=f"metric `{name}` looks at training rows"):
        evaluate_metric(name, ["a"], ["a"], samples=5)
    evaluate_metric("accuracy", ["a"], ["a"], samples=5, train=read)
    assert len(reads) == 3  # nobody else makes them be read
