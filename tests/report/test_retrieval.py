"""Sides of `<->` that look for each other: candidates, what is right, baselines, samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.errors import CardError
from ofasys_lite.generalist import embedding, predicting
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.metrics import evaluate_metric, fit_predict
from ofasys_lite.metrics.baselines.rankings import Candidates, rank_at_random, rank_by_words
from ofasys_lite.model import autocast
from ofasys_lite.report import foretold
from ofasys_lite.report.evaluate_model import evaluate, open_split
from ofasys_lite.report.judge import judges
from ofasys_lite.report.predictions import load_predictions, save_predictions
from ofasys_lite.report.retrieval import contents_of, retrieved

LINE = "[TEXT:q] <-> [TEXT:a]"
ROWS = [
    {"id": "0", "q": "colour of grass", "a": "grass is green"},
    {"id": "1", "q": "colour of the sky", "a": "the sky is blue"},
    {"id": "2", "q": "colour of grass", "a": "green"},
    {"id": "3", "q": "colour of snow", "a": "white"},
    {"id": "4", "q": "colour of lawns", "a": "green"},
    *({"id": str(n), "q": f"number {n}", "a": f"it is {n}"} for n in range(5, 40)),
]
DATA = {"train": ROWS, "valid": ROWS, "test": ROWS}


@pytest.fixture(scope="module")
def model() -> Generalist:
    return worlds.generalist(worlds.ready([worlds.task("pairs", line=LINE, data=DATA)]))


def test_candidates_of_equal_content_are_one_and_all_that_belong_together_are_right(model: Generalist) -> None:
    rows = open_split(model, "pairs", "test", data=DATA).rows
    contents, unread = contents_of(rows, range(40))
    assert not unread
    assert list(contents.firsts[1])[:4] == ["0", "1", "2", "3"]
    assert "4" not in contents.firsts[1]
    found = retrieved(model, rows, range(40))
    assert found.right[1][:5] == [["0", "2"], ["1"], ["0", "2"], ["3"], ["2"]]
    assert found.right[0][2] == ["0", "4"]
    assert all(len(set(names)) == 10 for names in found.rankings[1])
    assert {name for names in found.rankings[1] for name in names} <= set(contents.firsts[1])


def test_recall_counts_a_right_candidate_among_the_nearest() -> None:
    found = [["a", "b", "c"], ["b", "a"], []]
    right = [["c"], ["b", "x"], ["a"]]
    assert evaluate_metric("recall_at_1", found, right).value == pytest.approx(1 / 3)
    assert evaluate_metric("recall_at_5", found, right).value == pytest.approx(2 / 3)


def test_chance_and_words_are_the_baselines_of_two_texts(model: Generalist) -> None:
    (result,) = evaluate(model, ["pairs"], data={"pairs": DATA}, seen="keep", samples=4).tasks
    assert result.metric.name == "recall_at_1"
    names = {b.name: b for b in result.baselines}
    assert set(names) == {"chance", "tfidf"}
    assert names["chance"].note == "of 39 candidates"
    assert names["tfidf"].score.value > 0.8
    assert result.margin is not None
    assert not result.clear
    assert {f"recall_at_{k} of {side}" for k in (5, 10) for side in "aq"} < set(result.metric.details)
    assert result.samples[0].looks[1] is not None
    assert result.samples[0].looks[1].text.startswith("1. grass is green\n2. green")


def test_rankings_are_kept_and_read_again(model: Generalist, tmp_path: Any) -> None:
    results = evaluate(model, ["pairs"], data={"pairs": DATA}, seen="keep")
    (path,) = save_predictions(results, tmp_path)
    said = results.tasks[0].said
    assert said is not None
    assert [list(told.predictions) for told in load_predictions(path).told] == [list(t.predictions) for t in said.told]


def test_rankings_of_baselines() -> None:
    candidates = Candidates(["a", "b", "c"], ["red apple", "green apple", "a house"])
    assert rank_by_words(["green", "house of apple"], candidates, 2) == [["b", "a"], ["c", "a"]]
    drawn = rank_at_random(200, candidates, 3, 0)
    assert np.mean([names[0] == "a" for names in drawn]) == pytest.approx(1 / 3, abs=0.1)
    assert drawn == rank_at_random(200, candidates, 3, 0)
    with pytest.raises(CardError, match="ranks the candidates of a line with `<->`"):
        fit_predict("chance", [{"q": "a", "t": "b"}], [{"q": "a"}], ["q"], "t", "text")


@pytest.mark.parametrize(
    ("line", "metrics", "message"),
    [
        (LINE, [{"name": "recall_at_5", "column": "b"}], "no side of the line"),
        (LINE, ["chrf"], "cannot judge what a side of `<->` finds"),
        ("[TEXT:q] -> [TEXT:a]", ["recall_at_5"], "cannot judge `a`, which is text"),
        ("[TEXT:q] <-> [TEXT:a,closed_set]", ["recall_at_1"], "cannot judge `a`, which is text"),
    ],
)
def test_metrics_and_lines_must_fit(line: str, metrics: list[Any], message: str) -> None:
    from ofasys_lite.cards import modalities
    from ofasys_lite.plan import build_plan

    card = worlds.task("pairs", line=line, data=DATA, metrics=metrics)
    with pytest.raises(CardError, match=message):
        judges(build_plan(card, modalities()), card, modalities())


@pytest.mark.parametrize("line", [LINE, "[TEXT:q] -> [TEXT:a]", "-> [TEXT:a]"])
def test_every_way_to_evaluate_takes_the_asked_precision_and_leaves_the_models(
    line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, taken = worlds.generalist(worlds.ready([worlds.task("one", line=line, data=DATA)])), set[str]()

    def told(device: torch.device, precision: str) -> torch.autocast:
        taken.add(precision)
        return autocast(device, precision)

    for way in (embedding, predicting, foretold):
        monkeypatch.setattr(way, "autocast", told)
    results = evaluate(model, limit=4, precision="bf16", seen="keep", baselines=False)
    assert taken == {"bf16"}
    assert "bf16" in results.facts["evaluation"]
    assert model.precision == "fp32"
