"""Generated pictures are judged, shown beside the data's, kept in files, and validated during training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
from PIL import Image

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.metrics import METRICS
from ofasys_lite.plan import build_plan
from ofasys_lite.report import RunResults, load_results, metrics_json, render_report, save_pictures, save_results
from ofasys_lite.report.evaluate_model import evaluate, open_split
from ofasys_lite.report.judge import Judge, judges
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

CARDS = modalities()
FILL = "[IMAGE:img,mask_ratio=0.5,size=8] -> [IMAGE:img,codec=dnd({codec}),decode=mask_predict(steps=2)]"
METRICS_OF_DRAW: list[dict[str, Any]] = [
    {"name": "nearest_caption", "baselines": ["random_image"], "references": ["nearest_tfidf"]},
    {"name": "pixel_mse", "baselines": ["mean_image"]},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An untrained model that draws and fills in."""
    folder = tmp_path_factory.mktemp("pictures")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OFASYS_CACHE", str(folder / "cache"))
        draw = worlds.task("draw", worlds.codec(folder / "one"), metrics=METRICS_OF_DRAW)
        fill_metrics = [{"name": "pixel_mse", "baselines": ["mean_fill", "mean_image"]}]
        fill = worlds.task("fill", worlds.codec(folder / "two", seed=1), FILL, metrics=fill_metrics)
        yield worlds.generalist(worlds.ready([draw, fill]))


@pytest.fixture(scope="module")
def results(model: Generalist) -> RunResults:
    return evaluate(model, samples=2, bootstrap=10)


def judge(line: str, **card: Any) -> Judge:
    made = load_task_card({"instruction": line, **card}, name="t")
    return judges(build_plan(made, CARDS), made, CARDS)[0]


def test_the_default_of_a_picture_is_its_difference_to_the_datas_against_pictures() -> None:
    made = judge("[TEXT:q] -> [IMAGE:a,codec=dnd(depth=2)]")
    assert (made.kind, made.metric.name) == ("image", "pixel_mse")
    assert made.metric.baselines == ("mean_image", "random_image", "common_image")


@pytest.mark.parametrize("metric", ["accuracy", "chrf", "mean_iou", "struct_exact"])
def test_a_metric_of_texts_or_boxes_cannot_judge_a_picture(metric: str) -> None:
    with pytest.raises(CardError, match=f"metric `{metric}` cannot judge `a`, which is image"):
        judge("[TEXT:q] -> [IMAGE:a,codec=dnd(depth=2)]", metrics=[metric])


@pytest.mark.parametrize("metric", ["pixel_mse", "nearest_caption", "ocr_accuracy"])
def test_a_metric_of_pictures_cannot_judge_a_text(metric: str) -> None:
    with pytest.raises(CardError, match=f"metric `{metric}` cannot judge `a`, which is text"):
        judge("[TEXT:q] -> [TEXT:a]", metrics=[metric])


def test_a_reference_picture_is_found_beside_its_data_and_a_broken_one_is_told(tmp_path: Path) -> None:
    made = judge("[TEXT:q] -> [IMAGE:a,codec=dnd(depth=2)]")
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    assert made.reference({"a": "a.png"}, str(tmp_path)) == tmp_path / "a.png"
    assert made.reference({"a": np.zeros((2, 3, 3), np.uint8)}).size == (3, 2)
    for value in (b"no picture", "b.png", 7):
        with pytest.raises(DataError, match="cannot read image"):
            made.reference({"a": value}, str(tmp_path))
    with pytest.raises(DataError, match="`a`"):
        made.reference({"q": "x"})


def test_pictures_within_a_group_are_left_out_of_what_is_compared() -> None:
    made = judge("[TEXT:q] -> ([IMAGE:i,codec=dnd(depth=2)] [TEXT:label])*<over=pages>")
    pages = [{"i": np.zeros((2, 2, 3), np.uint8), "label": "a"}]
    assert made.reference({"pages": pages}) == [{"label": "a"}]
    assert made.prediction({"pages": [{"i": Image.new("RGB", (2, 2)), "label": "b"}]}) == [{"label": "b"}]


def test_pictures_are_scored_against_pictures_and_training_rows(results: RunResults) -> None:
    draw, fill = results.tasks
    assert draw.metric.name == "nearest_caption"
    assert {b.name for b in draw.baselines} == {"random_image", "nearest_tfidf"}
    assert 0 <= draw.metric.value <= 1
    assert draw.margin is not None
    assert 0 < draw.metric.details["pixel_mse"] < 1
    assert draw.metric.details["pixel_mse, mean_image"] > 0
    scores = {b.name: b.score.value for b in fill.baselines}
    assert scores["mean_fill"] < scores["mean_image"]  # half of each picture is given


def test_chance_of_codes_is_their_entropy_by_depth(model: Generalist, results: RunResults) -> None:
    for task in results.tasks:
        assert set(task.chance) == {"img"}
        assert 0 < task.chance["img"] <= np.log(worlds.SIZES["codes"]) + 1e-6


def test_a_masked_picture_is_shown_as_the_model_saw_it(model: Generalist, results: RunResults) -> None:
    (shown,) = results.tasks[1].samples[0].inputs
    pixels = np.asarray(shown.value)
    hidden = pixels[..., 3] == 0
    assert hidden.mean() == 0.5
    assert (pixels[hidden][:, :3] == 128).all()
    (given,) = open_split(model, "fill", "test").rows.masked()
    assert given == "img"


def test_samples_show_the_generated_picture_beside_the_datas_and_survive_the_file(
    results: RunResults, tmp_path: Path
) -> None:
    sample = results.tasks[0].samples[0]
    assert sample.prediction.size == (8, 8)
    path = save_results(results, tmp_path / "evaluation.json")
    json.loads(path.read_text("utf-8"))
    json.dumps(metrics_json(results), allow_nan=False)
    loaded = load_results(path)
    kept = loaded.tasks[0].samples[0]
    for held, made in ((kept.prediction, sample.prediction), (kept.reference, sample.reference)):
        assert held.startswith(b"\x89PNG")
        assert (np.asarray(Image.open(io.BytesIO(held))) == np.asarray(made.convert("RGB"))).all()
    page = render_report(loaded)
    shown = 2 * 2 + sum(len(task.worst) for task in loaded.tasks)  # two samples of two tasks, and the worst of each
    assert page.count('alt="model"') == page.count('alt="reference"') == shown
    assert "PIL.Image" not in page
    assert str(sample.inputs[0].value) in page


def test_pictures_of_samples_are_written_with_a_sheet(results: RunResults, tmp_path: Path) -> None:
    sheets = save_pictures(results, tmp_path / "samples")
    assert [sheet.name for sheet in sheets] == ["draw.png", "fill.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.width > 2 * 260
    files = sorted((tmp_path / "samples" / "draw").iterdir())
    assert len(files) == 2
    with Image.open(files[0]) as image:
        assert image.size == (8, 8)


def test_validation_draws_a_few_pictures_and_logs_their_score(model: Generalist, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert Validator(folder, samples=2)(model, 7, 1.0) is not None
    rows = [row for row in folder.history() if row["kind"] == "valid"]
    assert [(row["task"], row["metric"], row["items"]) for row in rows] == [
        ("draw", "nearest_caption", 2),
        ("fill", "pixel_mse", 2),
    ]
    assert all(set(row["loss"]) == {"img"} and 0 < row["loss"]["img"] < 10 for row in rows)


def lacking(predictions: Any, references: Any) -> Any:
    """A metric whose package is not installed."""
    raise DataError("reading needs a package", help="pip install it")


def test_a_metric_that_cannot_judge_is_told_before_predictions_and_stops_no_training(
    model: Generalist, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ofasys_lite.metrics.by_name.METRICS", {**METRICS, "nearest_caption": lacking})
    calls: list[str] = []
    with pytest.raises(DataError, match="task draw: reading needs a package"):
        evaluate(model, ["draw"], progress=lambda task, done, total: calls.append(task))
    assert calls == []
    folder = RunFolder(tmp_path)
    Validator(folder, samples=2)(model, 7, 1.0)
    assert [row["metric"] for row in folder.history() if row["kind"] == "valid"] == ["pixel_mse", "pixel_mse"]
