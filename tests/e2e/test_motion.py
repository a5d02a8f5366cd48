"""MOTION: swings by their names, read and written; learned by diffusion, filled in, judged, exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from PIL import Image

from ofasys_lite.cards import modalities
from ofasys_lite.commands.app import main
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.preprocess.clips import read_clip
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

#: Name -> (turns a clip, frames).
SWINGS = {"slow": (1.0, 12), "quick": (2.0, 16), "still": (0.0, 8)}
WRITTEN = "motion: [TEXT:name,drop=0.1] -> [MOTION:clip,loss=diffusion(steps=100,target=x0)]"
READ = "[MOTION:clip] what is done? -> [TEXT:name,closed_set]"
FILLED = "[MOTION:clip,mask_ratio=0.5] is [TEXT:name] -> [MOTION:clip]"
OPEN = "go on: [TEXT:name] -> [MOTION:clip,use_mask]"
DATA = DataSettings(pieces=300, bins=32)


def swing(name: str, seed: int = 0) -> Any:
    """(T, 3): a sine, its cosine, and a slope, in units of their own."""
    turns, frames = SWINGS[name]
    rng = np.random.default_rng(seed)
    phase = 2 * np.pi * turns * np.arange(frames) / frames
    waves = np.stack([100 + 20 * np.sin(phase), 0.05 * np.cos(phase), np.arange(frames) / frames], 1)
    return (waves + rng.normal(0, 0.01, waves.shape) * [20, 0.05, 1]).astype(np.float32)


def rows(count: int = 48) -> list[dict[str, Any]]:
    return [{"id": str(i), "name": (name := list(SWINGS)[i % 3]), "clip": swing(name, i)} for i in range(count)]


def cards(*lines: str) -> list[Any]:
    held = {"train": rows(), "valid": rows()[:6], "test": rows()[:6]}
    return [worlds.task(f"t{i}", held, line=line) for i, line in enumerate(lines)]


def prepared(*lines: str) -> Ready:
    return make_ready(cards(*lines), modalities(), DATA)


def nearest(frames: Any) -> str:
    """The swing that a clip is most like."""

    def far(name: str) -> float:
        own = swing(name)
        count = min(len(own), len(frames))
        return float((np.abs(own[:count] - frames[:count]) / [20, 0.05, 1]).mean()) + abs(len(own) - len(frames)) / 10

    return min(SWINGS, key=far)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model that writes (`t0`), reads (`t1`), fills in (`t2`) and goes on (`t3`)."""
    folder = tmp_path_factory.mktemp("motion") / "run"
    more = {"steps": 300, "samples_per_step": 16, "lr": 1e-2, "ema": 0.9, "data": DATA, "model": {"width": 48}}
    return worlds.run(cards(WRITTEN, READ, FILLED, OPEN), folder, **more), folder


def asked(model: Generalist, task: str, given: Sequence[Any], **options: Any) -> list[Any]:
    chosen = model.entry(task).options(**options)
    column = "name" if task == "t1" else "clip"
    found = predict(model, [Request(task, row, str(n), chosen) for n, row in enumerate(given)])
    return [each.values[column] for each in found if each is not None]


NAMES = [{"name": name} for name in SWINGS]


def test_swings_are_written_in_their_form_and_length(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    found = asked(model, "t0", NAMES, steps=12, seed=1)
    assert [nearest(clip.frames_TC) for clip in found] == list(SWINGS)
    assert [len(clip) for clip in found] == [frames for _, frames in SWINGS.values()]
    assert asked(model, "t1", [{"clip": clip.frames_TC} for clip in found]) == list(SWINGS)
    again, other = (asked(model, "t0", NAMES, steps=12, seed=seed)[1].frames_TC for seed in (1, 2))
    np.testing.assert_array_equal(found[1].frames_TC, again)
    assert not np.array_equal(again, other)


def test_frames_that_are_given_stay_and_the_others_are_written(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    whole = swing("quick", 5)
    holes = whole.copy()
    holes[6:10] = np.nan
    row = {"name": "quick", "clip": holes}
    (filled,) = asked(model, "t3", [row], steps=12)
    known = ~np.isnan(holes).any(1)
    np.testing.assert_allclose(filled.frames_TC[known], whole[known], rtol=1e-4, atol=1e-4)
    far = np.abs(filled.frames_TC - whole)[~known] / [20, 0.05, 1]
    blank = np.abs(np.nanmean(holes, 0) - whole)[~known] / [20, 0.05, 1]
    assert far.mean() < 0.6 * blank.mean()
    # what evaluation knows whole is written anew, and what is hidden by the line stays hidden
    (anew,) = asked(model, "t3", [{"name": "quick", "clip": whole}], steps=4)
    assert np.abs(anew.frames_TC[: len(whole)] - whole[: len(anew)]).min() > 0
    (drawn,) = asked(model, "t2", [{"name": "quick", "clip": whole}], steps=12)
    same = np.isclose(drawn.frames_TC, whole, rtol=1e-4, atol=1e-4).all(1)
    assert same.sum() == len(whole) // 2


def test_guidance_of_one_is_none_and_more_is_not(run: tuple[Generalist, Path]) -> None:
    plain, one, more = (
        asked(run[0], "t0", NAMES, steps=4, **given)[1].frames_TC for given in ({}, {"cfg": 1.0}, {"cfg": 3.0})
    )
    np.testing.assert_array_equal(plain, one)
    count = min(len(one), len(more))
    assert np.abs(one[:count] - more[:count]).max() > 1e-3


def test_it_is_validated_exported_and_predicted_to_files(
    run: tuple[Generalist, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=6)(model, 300, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}
    assert valid["t0"]["loss"]["clip"] < 0.5  # the clips' variance is 1: the cost of saying nothing
    assert valid["t1"]["score"] == 1.0
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    # mean, deviation and channels travel with it
    first, second = (asked(each, "t0", NAMES[1:2], steps=3)[0].frames_TC for each in (loaded, model))
    np.testing.assert_array_equal(first, second)
    for ending in (".csv", ".npy", ".gif"):
        out = tmp_path / f"quick{ending}"
        main(["predict", str(folder), "t0", "name=quick", "steps=3", "--out", str(out)])
        if ending == ".gif":
            with Image.open(out) as film:
                assert film.n_frames > 1  # type: ignore[attr-defined]
        else:
            np.testing.assert_allclose(read_clip(out, None).frames_TC, first, rtol=2e-3, atol=2e-3)
    assert capsys.readouterr().out.splitlines()[0] == "<motion of 16 frames>"


@pytest.mark.parametrize(
    "line", [WRITTEN, FILLED, OPEN, WRITTEN.replace("x0", "v"), WRITTEN.replace("x0", "eps"), READ]
)
def test_packed_and_one_by_one_is_the_same(line: str) -> None:
    (task,) = prepared(line).tasks
    model = worlds.generalist(prepared(line))
    torch.nn.init.normal_(model.network.get_parameter("adapters.motion.denoiser.out.weight"))
    one, many = (worlds.gradients(model, task, rows(), p) for p in ([range(9)], [[i] for i in range(9)]))
    assert one.keys() == many.keys()
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=3e-4, atol=3e-6, msg=name)


def test_noise_and_what_is_hidden_are_functions_of_the_sample_alone() -> None:
    for line in (WRITTEN, FILLED, OPEN):
        (task,) = prepared(line).tasks

        def fed(seed: int | None, task: Any = task) -> Any:
            rng = None if seed is None else np.random.default_rng(seed)
            example = task.maker.example(rows()[2], "2", rng or np.random.default_rng(9), seed is not None)
            return example.targets[0].pieces[0].arrays["values"]

        np.testing.assert_array_equal(fed(3), fed(3))
        np.testing.assert_array_equal(fed(None), fed(None))
        assert np.abs(fed(3) - fed(4)).max() > 0.1


def test_open_settings_are_found_in_training_and_normalise_what_is_read() -> None:
    ready = prepared(WRITTEN)
    own = ready.modalities["MOTION"].settings
    frames = np.concatenate([row["clip"] for row in rows()])
    assert (own["channels"], own["longest"], own["skeleton"]) == (3, 16, None)
    np.testing.assert_allclose(own["mean"], frames.mean(0), rtol=1e-4)
    np.testing.assert_allclose(own["deviation"], frames.std(0), rtol=1e-4)
    given = DataSettings(pieces=300, bins=32, modalities={"MOTION": {"mean": 0.0, "deviation": [1.0, 2.0, 3.0]}})
    (task,) = make_ready(cards(READ), modalities(), given).tasks
    piece = task.maker.example(rows()[0], "0", None, False).sources[0].pieces[0]
    np.testing.assert_allclose(piece.arrays["values"], rows()[0]["clip"] / [1, 2, 3], rtol=1e-5)


@pytest.mark.parametrize(
    ("clip", "told"),
    [
        (np.zeros((4, 5)), "it has 5 numbers a frame, and the model reads 3"),
        ([[1, 2, 3], None], "frame 1 has numbers that are not known"),
        (b"HIERARCHY", "the HIERARCHY of the BVH has no ROOT"),
        ([], "it has no frames"),
        (np.zeros((20_000, 3)), "20,000 frames, the limit is 10,000"),
    ],
)
def test_what_the_model_cannot_read_is_told_before_training(clip: Any, told: str) -> None:
    held = [*rows(), *[{"id": f"x{n}", "name": "slow", "clip": clip} for n in range(5)]]
    errors = check_tasks([worlds.task("t", {"train": held, "valid": rows(3)}, line=READ)], modalities()).errors
    assert any(told in error.message + error.help for error in errors), errors
