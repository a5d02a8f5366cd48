"""A trained generalist is judged on its tasks: metrics, baselines, margins, samples, validation."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from rich.console import Console

from ofasys_lite.data.source import spread
from ofasys_lite.errors import CardError, CheckpointError, DataError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.recipes.recipe import split_of
from ofasys_lite.report import RunResults, load_results, print_table, render_report, save_results
from ofasys_lite.report import against as against_module
from ofasys_lite.report.chance import chance_levels
from ofasys_lite.report.evaluate_model import NoRows, evaluate, open_split
from ofasys_lite.report.validation import Validator, losses
from ofasys_lite.run.run_folder import RunFolder

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFASYS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def plain_rows(count: int, seed: int) -> list[dict[str, Any]]:
    """Pictures of one colour in equal shares; two rows a group."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = tuple(COLOURS)[number % 3]
        pixels = np.clip(np.array(COLOURS[label]) + rng.integers(-20, 20, (16, 16, 3)), 0, 255).astype(np.uint8)
        found.append({"id": f"{seed}-{number}", "img": pixels, "label": label, "scene": str(number // 2)})
    return found


@pytest.fixture(scope="module")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Generalist:
    """A model that has learned the colour of a picture."""
    data = {"train": plain_rows(48, 0), "valid": plain_rows(9, 1), "test": plain_rows(24, 2)}
    metric = {"name": "accuracy", "baselines": ["majority", "question_only"], "references": ["nearest_pixels"]}
    card = worlds.task(
        "colour",
        data,
        line="[IMAGE:img] which colour? -> [TEXT:label,closed_set]",
        metrics=[metric, "macro_f1"],
        group="scene",
    )
    return worlds.run([card], tmp_path_factory.mktemp("colour"), steps=50)


@pytest.fixture(scope="module")
def results(coloured: Generalist) -> RunResults:
    return evaluate(coloured, samples=5)


@pytest.fixture(scope="module")
def untrained() -> Generalist:
    """An untrained model of every kind of task."""
    return worlds.generalist(worlds.ready([worlds.task(name, decoding={"max_length": 12}) for name in worlds.LINES]))


def test_a_model_that_has_learned_its_task_clears_the_strongest_trivial_baseline(results: RunResults) -> None:
    (task,) = results.tasks
    assert task.metric.name == "accuracy"
    assert task.metric.value >= 0.9
    assert task.metric.groups == 12
    assert task.clear
    assert results.clear == 1
    best = task.strongest()
    assert best is not None
    assert best.score.value == pytest.approx(1 / 3)
    assert {(b.name, b.kind) for b in task.baselines} == {
        ("majority", "trivial"),
        ("question_only", "trivial"),
        ("nearest_pixels", "reference"),
    }
    assert next(b for b in task.baselines if b.kind == "reference").score.value == 1.0


def test_further_metrics_stand_among_the_details_of_the_headline(results: RunResults) -> None:
    details = results.tasks[0].metric.details
    assert details["macro_f1"] >= 0.9
    assert len(details["macro_f1 95 %"]) == 2


def test_further_metrics_have_their_baselines_and_the_name_of_their_column() -> None:
    metrics = [
        {"name": "chrf", "column": "cap", "baselines": ["majority"]},
        {"name": "accuracy", "column": "cap"},
        {"name": "accuracy", "column": "label", "baselines": ["majority"]},
    ]
    card = worlds.task("both", metrics=metrics, decoding={"max_length": 4})
    (task,) = evaluate(worlds.generalist(worlds.ready([card])), bootstrap=10).tasks
    assert [baseline.name for baseline in task.baselines] == ["majority"]
    assert task.metric.details["judged"] == "cap"
    names = {name for name in task.metric.details if "95" not in name}
    assert names >= {"accuracy of cap", "accuracy of label", "accuracy of label, majority"}


def test_the_margin_is_held_against_the_strongest_of_error_rates_above_one() -> None:
    rows = [{"id": str(n), "say": "a b c d e f", "text": "a"} for n in range(24)]
    metric = {"name": "wer", "baselines": ["copy", "majority"]}
    data = {"train": [{**row, "text": "x y"} for row in rows], "valid": rows, "test": rows}
    card = worlds.task(
        "said", data, line="hear [TEXT:say] -> [TEXT:text]", metrics=[metric], decoding={"max_length": 4}
    )
    (task,) = evaluate(worlds.generalist(worlds.ready([card])), bootstrap=10).tasks
    scores = {baseline.name: baseline.score.value for baseline in task.baselines}
    assert scores == {"copy": 5.0, "majority": 2.0}
    best = task.strongest()
    assert best is not None
    assert best.name == "majority"
    assert task.margin is not None
    assert task.margin.value == pytest.approx(2.0 - task.metric.value)


def test_new_test_rows_alone_are_enough_where_the_card_has_train_rows(coloured: Generalist) -> None:
    (task,) = evaluate(coloured, data={"colour": {"test": plain_rows(6, 7)}}).tasks
    assert task.metric.items == 6
    assert task.margin is not None


def test_chance_of_three_equal_answers_is_the_logarithm_of_three(results: RunResults) -> None:
    assert results.tasks[0].chance["label"] == pytest.approx(math.log(3))


def test_samples_are_spread_over_the_split_with_their_pictures(results: RunResults) -> None:
    samples = results.tasks[0].samples
    assert [sample.id for sample in samples] == ["2-0", "2-4", "2-9", "2-14", "2-19"]
    assert all(sample.inputs[0].modality == "IMAGE" for sample in samples)
    assert all(sample.correct == (sample.prediction == sample.reference) for sample in samples)


def test_saved_results_give_the_same_report_without_the_model(results: RunResults, tmp_path: Path) -> None:
    loaded = load_results(save_results(results, tmp_path / "evaluation.json"))
    assert loaded.tasks[0].metric == results.tasks[0].metric
    assert loaded.tasks[0].margin == results.tasks[0].margin
    page = render_report(loaded)
    assert page.count('<img class="shot" src="data:image/png;base64,') == 5
    assert "nearest_pixels" in page
    assert "✓ clear" in page


def test_a_missing_or_broken_evaluation_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no evaluation yet"):
        load_results(tmp_path / "evaluation.json")
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(CheckpointError, match="is damaged"):
        load_results(tmp_path / "evaluation.json")


def test_every_kind_of_task_is_evaluated_by_its_default_metric(untrained: Generalist) -> None:
    found = evaluate(untrained, samples=2)
    names = {task.task: task.metric.name for task in found.tasks}
    assert names.keys() == worlds.LINES.keys()
    assert names["find"] == "iou_at_0.5"
    assert names["detect"] == "detection_f1"
    assert names["region"] == names["next"] == "accuracy"
    assert names["sound"] == "per"
    assert names["record"] == names["puzzle"] == "struct_exact"
    assert names["speech"] == "chrf"
    assert not found.quarantine
    kinds = {task.task: [b.name for b in task.baselines] for task in found.tasks}
    assert kinds["detect"] == ["constant_list", "greedy_list"]
    assert kinds["region"] == ["majority"]
    assert render_report(found).count('class="task"') == len(worlds.LINES)


def test_rows_that_cannot_be_read_are_left_out_and_listed(coloured: Generalist) -> None:
    good = plain_rows(6, 3)
    rows = [*good, {**good[0], "id": "torn", "img": b"\x89PNG\r\n\x1a\n123"}, {**good[0], "id": "bare", "label": None}]
    found = evaluate(coloured, data={"colour": {"train": plain_rows(9, 4), "valid": good, "test": rows}})
    assert found.tasks[0].metric.items == 6
    assert {row.id for row in found.quarantine} == {"torn", "bare"}
    told = {row.id: row for row in found.quarantine}
    assert "column `label`: the label is empty" in told["bare"].reason
    assert told["torn"].reason.startswith("column `img`: cannot read image")
    assert told["bare"].place.endswith("row 8")
    assert told["bare"].place in render_report(found)


def test_baselines_are_answered_once_for_the_same_rows(coloured: Generalist, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate(coloured, limit=12)

    def never(*_: Any) -> list[Any]:
        raise RuntimeError("fitted again")

    monkeypatch.setattr(against_module, "fit_predict", never)
    again = evaluate(coloured, limit=12)
    assert again.tasks[0].baselines == first.tasks[0].baselines
    with pytest.raises(RuntimeError, match="fitted again"):
        evaluate(coloured, limit=11)


def test_a_baseline_of_an_infilling_task_sees_the_masks_and_not_the_answer() -> None:
    rows = [{"id": str(i), "text": f"the cat number {i} sat on the mat"} for i in range(20)]
    metric = {"name": "exact_match", "baselines": ["copy", "bigram_infill"]}
    card = worlds.task(
        "mend",
        {"train": rows, "valid": rows, "test": rows},
        line="[TEXT:text,mask_ratio=0.4] whole? -> [TEXT:text]",
        metrics=[metric],
        decoding={"max_length": 20},
    )
    task = evaluate(worlds.generalist(worlds.ready([card]))).tasks[0]
    copied = next(b for b in task.baselines if b.name == "copy")
    assert copied.score.value == 0.0
    assert all("<mask>" in sample.inputs[0].value for sample in task.samples)
    assert all("<mask>" not in sample.reference for sample in task.samples)


def test_a_baseline_blind_to_the_label_knows_the_other_boxes_of_the_scene() -> None:
    image = np.zeros((16, 16, 3), np.uint8)
    boxes = [[0.0, 0.0, 6.0, 6.0], [10.0, 10.0, 16.0, 16.0]]
    rows = [
        {"id": f"{s}-{i}", "img": image, "text": f"box {i}", "box": box, "scene": str(s)}
        for s in range(40)
        for i, box in enumerate(boxes)
    ]
    metric = {"name": "iou_at_0.5", "baselines": ["label_blind_box"]}
    card = worlds.task("place", {"train": rows, "valid": rows, "test": rows}, metrics=[metric], group="scene",
                       line="[IMAGE:img] where is [TEXT:text]? -> [BOX:box]")  # fmt: skip
    task = evaluate(worlds.generalist(worlds.ready([card]))).tasks[0]
    assert 0.3 < task.baselines[0].score.value < 0.7


def test_what_was_not_learned_is_refused_with_the_near_name(coloured: Generalist) -> None:
    with pytest.raises(CheckpointError, match="has not learned the task `colours`") as raised:
        evaluate(coloured, ["colours"])
    assert "did you mean `colour`?" in str(raised.value)
    with pytest.raises(DataError, match="unknown split `tset`"):
        evaluate(coloured, split="tset")
    with pytest.raises(DataError, match="limit is 0"):
        evaluate(coloured, limit=0)


def test_answers_are_decoded_as_the_card_says_or_as_asked_for() -> None:
    model = worlds.generalist(worlds.ready([worlds.task("sound", decoding={"max_length": 12})]))
    held = evaluate(model, baselines=False)
    assert held.facts["decoding"] == "max_length=12 in sound"
    short = evaluate(model, baselines=False, decoding={"max_length": 1})
    assert short.facts["decoding given"] == "max_length=1"
    assert "decoding" not in short.facts
    longest = [max(len(str(v)) for v in each.tasks[0].said.told[0].predictions) for each in (held, short)]
    assert longest[0] > longest[1]
    with pytest.raises(OfasysError, match="task sound: decoding: `steps` does nothing"):
        evaluate(model, decoding={"steps": 4})


def test_a_model_read_from_disk_says_that_its_rows_were_python_objects(coloured: Generalist, tmp_path: Path) -> None:
    loaded = Generalist.from_pretrained(coloured.save_pretrained(tmp_path / "export"))
    with pytest.raises(OfasysError, match=r"train rows were Python objects \(list in memory\)"):
        evaluate(loaded)
    found = evaluate(loaded, data={"colour": {"train": plain_rows(48, 0), "test": plain_rows(24, 2)}})
    assert found.tasks[0].metric == evaluate(coloured).tasks[0].metric


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (["acuracy"], "metric `acuracy` is not known. Did you mean `accuracy`?"),
        ([{"name": "accuracy", "baselines": ["majorty"]}], "baseline `majorty` is not known"),
        ([{"name": "accuracy", "column": "lable"}], "judges `lable`, which is no target"),
        ([{"name": "accuracy", "baselines": ["mean_box"]}], "task colour: baseline `mean_box` predicts box"),
    ],
)
def test_a_card_that_cannot_be_judged_is_refused_before_anything_is_predicted(
    metrics: list[Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = plain_rows(6, 0)
    card = worlds.task("colour", {"train": rows, "valid": rows, "test": rows}, metrics=metrics,
                       line="[IMAGE:img] which colour? -> [TEXT:label,closed_set]")  # fmt: skip
    model = worlds.generalist(worlds.ready([card]))
    monkeypatch.setattr("ofasys_lite.report.evaluate_model.told", None)
    with pytest.raises(CardError) as raised:
        evaluate(model)
    assert message in str(raised.value)


def test_a_metric_of_a_line_with_two_targets_must_name_one() -> None:
    card = worlds.task("both", metrics=["accuracy"])
    model = worlds.generalist(worlds.ready([card]))
    with pytest.raises(CardError, match="does not say which target it judges") as raised:
        evaluate(model)
    assert "column: cap or label" in str(raised.value)


def test_validation_writes_a_row_per_task_and_gives_their_mean(coloured: Generalist, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    mean = Validator(folder, 9)(coloured, 50, 12.5)
    (row,) = folder.history()
    assert row["kind"] == "valid"
    assert row["task"] == "colour"
    assert row["metric"] == "accuracy"
    assert (row["step"], row["time"], row["items"]) == (50, 12.5, 9)
    assert mean == row["value"] >= 0.8
    assert 0 <= row["loss"]["label"] < math.log(3)


def test_losses_of_an_untrained_model_lie_above_chance(untrained: Generalist) -> None:
    opened = open_split(untrained, "region", "train")
    assert losses(untrained, opened.rows, opened.numbers)["label"] > chance_levels(opened.train)["label"] > 0.5


def test_rows_are_taken_evenly_over_a_split() -> None:
    assert spread(10, None) == tuple(range(10))
    assert spread(3, 5) == (0, 1, 2)
    assert spread(100, 4) == (0, 25, 50, 75)


def test_a_task_without_rows_in_its_split_is_named_and_the_others_are_evaluated() -> None:
    keys = [key for key in map(str, range(40)) if split_of(key) == "train"]
    rows = [{"id": key, "text": "sun", "label": "red"} for key in keys]
    small = worlds.task("small", {"train": rows}, line="[TEXT:text] -> [TEXT:label,closed_set]")
    model = worlds.generalist(worlds.ready([small, worlds.task("sound", decoding={"max_length": 4})]))
    found = evaluate(model, bootstrap=10)
    assert [task.task for task in found.tasks] == ["sound"]
    assert found.facts["not evaluated"] == "small (no rows in test)"
    told = io.StringIO()
    print_table(found, Console(file=told))
    assert "not evaluated: small (no rows in test)" in told.getvalue()
    with pytest.raises(NoRows, match="task small: its test split has no rows"):
        evaluate(model, ["small"])
