"""All predictions of an evaluation are kept, and are enough to make its scores, mistakes and worst cases anew."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ofasys_lite.errors import CheckpointError
from ofasys_lite.report import load_predictions, render_report, rescored, save_predictions
from ofasys_lite.report.html import confusion
from ofasys_lite.report.predictions import items_of, scored
from ofasys_lite.report.results import Answers, RunResults, Said, TaskResult, Told

PREDICTIONS = ["red", "red", "blue", "green", "blue", "red"] * 6
REFERENCES = ["red", "green", "blue", "green", "red", "red"] * 6


def said(name: str = "accuracy", higher: bool | None = None) -> Said:
    answers = Answers("majority", "trivial", ["red"] * 36, "fitted on 9 of 10 training rows")
    told = Told(name, "colour", "category", higher, ("red", "green", "blue"), PREDICTIONS, REFERENCES, (answers,))
    groups = [(f"v{i % 12}", f"p{i % 3}") for i in range(36)]
    return Said([f"row {i}" for i in range(36)], groups, [{"note": i} for i in range(36)], (told,))


def run(of: Said) -> RunResults:
    found = scored(of, 0, 1000)
    return RunResults("r", {}, (TaskResult("t", "line", found.metric, found.baselines, found.margin, said=of),))


def test_scores_are_made_anew_from_saved_predictions(tmp_path: Path) -> None:
    original = run(said())
    (path,) = save_predictions(original, tmp_path)
    assert path == tmp_path / "t.jsonl"
    loaded = load_predictions(path)
    assert loaded == said()
    old = replace(original.tasks[0], metric=replace(original.tasks[0].metric, low=0.0), margin=None, said=None)
    (task,) = rescored(replace(original, tasks=(old,)), tmp_path).tasks
    assert task.metric == original.tasks[0].metric
    assert task.margin == original.tasks[0].margin
    assert task.baselines == original.tasks[0].baselines
    assert task.metric.ways == (12, 3)


def test_a_task_without_predictions_or_whose_metric_is_gone_keeps_its_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = run(said())
    assert rescored(original, tmp_path).tasks == original.tasks
    monkeypatch.setitem(sys.modules, "gone_metrics", type(sys)("gone_metrics"))
    sys.modules["gone_metrics"].right = lambda p, r: [float(a == b) for a, b in zip(p, r, strict=True)]
    own = run(said("gone_metrics.right", True))
    save_predictions(own, tmp_path)
    monkeypatch.delitem(sys.modules, "gone_metrics")
    kept = rescored(own, tmp_path)
    assert kept.tasks[0].metric == own.tasks[0].metric
    assert kept.facts["scores as they were"] == "t"


def test_damaged_predictions_say_what_to_do(tmp_path: Path) -> None:
    (path,) = save_predictions(run(said()), tmp_path)
    lines = path.read_text().splitlines()
    for content in ("{", json.dumps({"format": 99}), "\n".join([lines[0], "{}"])):
        path.write_text(content)
        with pytest.raises(CheckpointError) as caught:
            load_predictions(path)
        assert caught.value.help == "evaluate the run again"


def test_mistakes_are_counted_by_reference_and_prediction() -> None:
    found = confusion(said())
    assert found is not None
    assert found.answers == ("red", "green", "blue")
    assert found.counts == ((12, 0, 6), (6, 6, 0), (0, 0, 6))
    assert found.mistakes == (("green", "red", 6, 12), ("red", "blue", 6, 18))
    page = render_report(run(said()))
    assert "What was taken for what" in page
    open_set = replace(said(), told=(replace(said().told[0], closed=()),))
    assert confusion(open_set) is None


def test_mistakes_of_many_answers_are_listed() -> None:
    names = [f"class {i:02d}" for i in range(20)]
    told = Told("accuracy", "a", "text", None, tuple(names), [names[0]] * 20, names)
    found = confusion(Said(names, names, [{}] * 20, (told,)))
    assert found is not None
    assert found.answers == ()
    assert found.mistakes[0] == ("class 01", "class 00", 1, 1)


def test_an_answer_outside_of_the_set_stands_in_a_column_of_its_own() -> None:
    told = Told("accuracy", "a", "text", None, ("x", "y"), ["x", None], ["x", "y"])
    found = confusion(Said(["1", "2"], ["1", "2"], [{}] * 2, (told,)))
    assert found is not None
    assert found.answers == ("x", "y", "(other)")
    assert found.counts == ((1, 0, 0), (0, 0, 1))


def test_items_are_scored_one_by_one() -> None:
    items = items_of(said())
    assert items is not None
    assert items == [float(p == r) for p, r in zip(PREDICTIONS, REFERENCES, strict=True)]
    words = replace(
        said(), told=(replace(said().told[0], name="wer", predictions=["a b"] * 36, references=["a c"] * 36),)
    )
    assert items_of(words) == [0.5] * 36
