"""Lines with `<->` in a mixture, judged, and used: vectors, similarities, classes, candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from pair_worlds import COLOURS, DATA, PAIRS, SORT, logged

from ofasys_lite import GeneralistModel
from ofasys_lite.errors import CardError, CheckpointError, DataError, OfasysError
from ofasys_lite.generalist.embedding import Index, embed, predict_pairs
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model of an aligned task, one with classes, and a caption task, in one mixture."""
    folder = tmp_path_factory.mktemp("aligned") / "run"
    cards = [
        worlds.task("pairs", line=PAIRS.format("clip(block=8)"), data=DATA),
        worlds.task("sort", line=SORT, data=DATA),
        worlds.task("caption", data=DATA),
    ]
    validator = Validator(RunFolder(folder), samples=12)
    more = {"steps": 120, "samples_per_step": 32, "lr": 3e-3, "validate": validator, "valid_every": 60}
    return worlds.run(cards, folder, **more), folder


def test_an_aligned_task_trains_in_a_mixture_and_is_validated(trained: tuple[Generalist, Path]) -> None:
    _, folder = trained
    losses = [r for r in logged(folder, "train", "pairs") if r["slot"] == "clip"]
    assert losses[-1]["loss"] < 0.6 * losses[0]["loss"]
    assert losses[-1]["tokens"] == losses[-1]["samples"]
    assert {r["samples"] % 8 for r in losses} == {0}
    valid = logged(folder, "valid", "pairs")
    assert [r["metric"] for r in valid] == ["recall_at_1"] * len(valid)
    assert set(valid[-1]["loss"]) == {"clip"}
    assert logged(folder, "valid", "sort")[-1]["metric"] == "accuracy"


def test_recall_both_ways_and_classes_are_judged_beside_baselines(trained: tuple[Generalist, Path]) -> None:
    model, _ = trained
    found = evaluate(model, ["pairs", "sort"], data={"pairs": DATA, "sort": DATA})
    results = {task.task: task for task in found.tasks}
    pairs, sort = results["pairs"], results["sort"]
    # four captions: the right one among four by chance
    assert pairs.metric.name == "recall_at_1"
    assert pairs.metric.value > 0.9
    assert pairs.metric.details["judged"] == "cap"
    assert pairs.metric.details["recall_at_5 of img"] > pairs.metric.details["recall_at_5 of img, chance"]
    assert [b.name for b in pairs.baselines] == ["chance"]
    assert pairs.baselines[0].score.value < 0.6
    assert pairs.baselines[0].note == "of 4 candidates"
    assert pairs.samples[0].looks[0] is not None
    assert "1. a " in pairs.samples[0].looks[0].text
    assert sort.metric.name == "accuracy"
    assert sort.metric.value > 0.9
    assert [b.name for b in sort.baselines] == ["majority"]


def test_vectors_pairs_classes_and_candidates(trained: tuple[Generalist, Path]) -> None:
    model, folder = trained
    test = DATA["test"]
    asked = [Request("pairs", {"img": row["img"]}, row["id"]) for row in test]
    left = embed(model, asked, 0)
    assert left.shape == (24, model.network.config.width)
    np.testing.assert_allclose((left**2).sum(1), 1, rtol=1e-5)
    # what a row is embedded to does not depend on the others
    np.testing.assert_allclose(embed(model, asked[3:4], 0)[0], left[3], atol=2e-5)
    right = embed(model, [Request("pairs", {"cap": row["cap"]}, row["id"]) for row in test], 1)
    both = predict(model, [Request("pairs", row, row["id"]) for row in test])
    assert [p.values for p in both if p] == [
        {"similarity": round(float(a @ b), 6)} for a, b in zip(left, right, strict=True)
    ]
    sorted_ = predict_pairs(model, [Request("sort", {"img": row["img"]}, row["id"]) for row in test])
    assert np.mean([p is not None and p.text == row["label"] for p, row in zip(sorted_, test, strict=True)]) > 0.9
    names = [Request("pairs", {"cap": f"a {name} one"}, name) for name in sorted(COLOURS)]
    found = Index(model, names, 0).nearest(asked[:4], top=2)
    assert [each[0].id for each in found] == [row["label"] for row in test[:4]]
    assert all(len(each) == 2 and each[0].score >= each[1].score for each in found)
    loaded = Generalist.from_pretrained(folder)
    assert np.array_equal(embed(loaded, asked, 0), left)


def test_a_call_gives_a_similarity_or_one_of_any_values(trained: tuple[Generalist, Path]) -> None:
    model = GeneralistModel.from_pretrained(trained[1])
    row = DATA["test"][1]
    assert model("pairs", img=row["img"], cap=row["cap"]).value > 0.8
    assert model("sort", img=row["img"]).text == row["label"]
    line = "[IMAGE:img] <-> a photo of [TEXT:cap]"
    assert (
        model(line, img=row["img"], closed_set=["a red one", "a blue one", f"a {row['label']} one"]).text == row["cap"]
    )
    found = model.nearest("pairs", [{"id": n, "cap": f"a {n} one"} for n in COLOURS], img=row["img"], top=1)
    assert [[match.id for match in each] for each in found] == [[row["label"]]]
    assert model.embed("pairs", cap="a red one").shape == (1, model.config.width)
    assert model.embed("pairs", [row, row], side="left").shape == (2, model.config.width)
    for wrong, message in (
        ({"img": row["img"], "cap": row["cap"]}, "both sides are given"),
        ({}, "no side is given whole"),
        ({"cap": "x", "side": "top"}, "unknown side `top`"),
    ):
        with pytest.raises(DataError, match=message):
            model.embed("pairs", **wrong)
    with pytest.raises(DataError, match="has no sides"):
        model.embed("caption", img=row["img"])
    with pytest.raises(CardError, match="beam: a line with `<->` writes nothing"):
        model("sort", img=row["img"], beam=4)


def test_rows_that_hold_nothing_on_a_side_are_told(trained: tuple[Generalist, Path]) -> None:
    model, _ = trained
    with pytest.raises(DataError, match="the side of `<->` is empty"):
        embed(model, [Request("pairs", {"cap": " "}, "0")], 1)
    reasons: dict[int, str] = {}
    found = embed(model, [Request("pairs", {"cap": "a red one"}), Request("pairs", {"cap": ""})], 1, reasons=reasons)
    assert list(reasons) == [1]
    assert not found[1].any()
    assert found[0].any()


def test_a_new_line_with_sides_is_used_by_what_was_learned(trained: tuple[Generalist, Path]) -> None:
    model, _ = trained
    name = model.task_of_line("[IMAGE:picture] <-> [TEXT:words]")
    vectors = embed(model, [Request(name, {"words": "a photo of a red one"})], 1)
    own = embed(model, [Request("pairs", {"cap": "a red one"})], 1)
    assert float((vectors @ own.T).item()) > 0.9
    plain_model = worlds.generalist(worlds.ready([worlds.task("caption", data=DATA)]))
    with pytest.raises(CheckpointError, match="has learned no line with `<->`"):
        plain_model.task_of_line("[IMAGE:picture] <-> [TEXT:words]")


#: Every kind of side: an objective of a slot beside the pairs, a group, an optional slot, boxes of a picture.
SIDES_OF_ALL_KINDS = {
    "sound": "[AUDIO:wav,loss=ctc(text,weight=0.3)] is heard <-> [TEXT:text,loss=clip(block=4)]",
    "record": "[STRUCT:record,loss=clip(block=4)] hint: [TEXT:sub?] <-> [PHONE:phones]",
    "history": "([TEXT:title] [CATEGORY:action])*<over=events,max=2> <-> [IMAGE:img,loss=clip(block=4)] [BOX:box]",
}


def test_sides_of_all_kinds_train_and_are_embedded(tmp_path: Path) -> None:
    data = worlds.rows(12)
    cards = [worlds.task(name, line=line, data=data) for name, line in SIDES_OF_ALL_KINDS.items()]
    model = worlds.run(cards, tmp_path / "run", steps=3, samples_per_step=12)
    logged_ = {(r["task"], r["slot"]) for r in RunFolder(tmp_path / "run").history() if r["kind"] == "train"}
    assert logged_ == {("sound", "clip"), ("sound", "wav:ctc"), ("record", "clip"), ("history", "clip")}
    for name in SIDES_OF_ALL_KINDS:
        for side in (0, 1):
            found = embed(model, [Request(name, row, row["id"]) for row in data[:3]], side)
            assert np.isfinite(found).all()
            assert found.any(1).all()


@pytest.mark.parametrize("more", [{"metrics": ["bleu"]}, {"metrics": [{"name": "recall_at_1", "column": "capp"}]}])
def test_metrics_that_cannot_judge_a_side_are_refused(more: dict[str, Any]) -> None:
    from ofasys_lite.cards import modalities
    from ofasys_lite.report.judge import wrong_judges

    (error,) = wrong_judges([worlds.task("pairs", line=PAIRS.format("clip"), data=DATA, **more)], modalities())
    assert isinstance(error, OfasysError)
    assert "recall_at_1" in str(error) or "did you mean `cap`" in str(error)
