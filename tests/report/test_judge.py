"""Both sides of a comparison in one form: what the preprocess cannot tell apart is equal, what is absent is fine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError
from ofasys_lite.plan import build_plan
from ofasys_lite.report.judge import Judge, judges

CARDS = modalities()


def judge(line: str, **card: Any) -> Judge:
    made = load_task_card({"instruction": line, **card}, name="t")
    return judges(build_plan(made, CARDS), made, CARDS)[0]


@pytest.mark.parametrize(
    ("slot", "value", "wanted"),
    [
        ("[TEXT:a,no_punctuation]", "It's, ok.", "Its ok"),
        ("[TEXT:a,uncased,no_punctuation]", "It's", "its"),
        ("[TEXT:a,uncased]", ["One", "Two"], ["one", "two"]),
        ("[TEXT:a,closed_set=(A.,b)]", "A.", "A."),
        ("[STRUCT:a,uncased]", {"k": "ABC"}, {"k": "abc"}),
        ("[TEXT:a]", 3, "3"),
    ],
)
def test_a_reference_is_what_the_model_was_taught(slot: str, value: Any, wanted: Any) -> None:
    assert judge(f"[TEXT:q] -> {slot}").reference({"a": value}) == wanted


def test_an_optional_target_may_be_an_array_or_missing() -> None:
    made = judge("[IMAGE:i] where? -> [BOX:box?]")
    assert made.reference({"box": np.array([1.0, 2.0, 3.0, 4.0])}) == [1, 2, 3, 4]
    for row in ({}, {"box": None}, {"box": float("nan")}):
        assert made.reference(row) is None


def test_a_detection_may_lack_an_optional_box() -> None:
    made = judge("[IMAGE:i] what? -> ([BOX:box?] [TEXT:label])*<over=objects>")
    found = made.prediction({"objects": [{"box": None, "label": "a"}, {"box": [0.0, 0.0, 2.0, 2.0], "label": "b"}]})
    assert found == [{"box": None, "label": "a"}, {"box": [0, 0, 2, 2], "label": "b"}]


@pytest.mark.parametrize(
    ("line", "metric", "own"),
    [
        ("[TEXT:q] -> [TEXT:a]", "mean_iou", "chrf"),
        ("[TEXT:q] -> [PHONE:a]", "iou_at_0.5", "per"),
        ("[IMAGE:i] -> [BOX:a]", "detection_f1", "iou_at_0.5"),
        ("[IMAGE:i] -> ([BOX:a] [TEXT:l])*<over=o>", "mean_iou", "detection_f1"),
    ],
)
def test_a_metric_that_finds_nothing_in_a_target_is_refused(line: str, metric: str, own: str) -> None:
    with pytest.raises(CardError, match=f"metric `{metric}` cannot judge") as error:
        judge(line, metrics=[metric])
    assert own in str(error.value)


@pytest.mark.parametrize(
    ("line", "metrics", "baselines"),
    [
        ("[IMAGE:i] -> [TEXT:a,closed_set=(x,y)]", ["macro_f1"], ("majority",)),
        ("[IMAGE:i] [TEXT:q] -> [TEXT:a]", [{"name": "exact_match"}], ("majority", "question_only")),
        ("[TEXT:q] -> [TEXT:a]", ["bleu"], ("majority", "best_constant", "copy")),
        ("[AUDIO:s] -> [TEXT:a]", ["wer"], ("majority", "best_constant")),
        ("[IMAGE:i] -> [BOX:b]", ["mean_iou"], ("best_box",)),
        ("[IMAGE:i] -> ([BOX:a] [TEXT:l])*<over=o>", ["detection_f1"], ("constant_list", "greedy_list")),
        ("[TEXT:q] -> [TEXT:a]", [{"name": "wer", "baselines": ["copy"]}], ("copy",)),
        ("[TEXT:q] -> [TEXT:a]", [{"name": "wer", "references": ["nearest_tfidf"]}], ("majority", "best_constant")),
    ],
)
def test_a_named_metric_keeps_its_baselines_unless_the_card_names_some(line: str, metrics: Any, baselines: Any) -> None:
    assert judge(line, metrics=metrics).metric.baselines == baselines


def test_a_card_says_which_direction_of_ones_own_metric_is_better() -> None:
    own = "ofasys_lite.metrics.values.as_box"  # any function that says nothing itself
    with pytest.raises(CardError, match="does not say whether more is better"):
        judge("[TEXT:q] -> [TEXT:a]", metrics=[own])
    assert judge("[TEXT:q] -> [TEXT:a]", metrics=[{"name": own, "better": "low"}]).higher is False
    with pytest.raises(CardError, match="high"):
        judge("[TEXT:q] -> [TEXT:a]", metrics=[{"name": own, "better": "hihg"}])
