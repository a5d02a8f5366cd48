"""VIDEO as a target: squares that move, by their words; learned by diffusion and by flow, judged, saved, exported."""

from __future__ import annotations

import io
from itertools import pairwise
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
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.metrics.baselines import fit_predict
from ofasys_lite.preprocess.video_clips import WrittenClip
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

#: Words -> (columns a frame, colour, frames).
MOVES = {"red right": (2, 0, 4), "red left": (-2, 0, 6), "blue right": (2, 2, 6), "blue left": (-2, 2, 4)}
TIMED = "film: [TEXT:name,drop=0.1] -> [VIDEO:clip,sample_rate=5]"
FLOW = "show: [TEXT:name,drop=0.1] -> [VIDEO:clip,frames=4,fps=5,loss=flow]"
FILLED = "[VIDEO:clip,frames=4,size=16,mask_ratio=0.5] is [TEXT:name] -> [VIDEO:clip,frames=4,size=16]"
READ = "[VIDEO:clip] what is seen? -> [TEXT:name,closed_set]"
SETTINGS = {"written_size": 16, "most_frames": 8, "frames": 4}
DATA = DataSettings(pieces=300, bins=32, modalities={"VIDEO": SETTINGS, "IMAGE": {"patch": 4, "widths": [8, 8]}})


def square(name: str, seed: int = 0) -> dict[str, Any]:
    """A square of 6 pixels on black that moves along a line and comes back on the other side."""
    step, colour, count = MOVES[name]
    start = int(np.random.default_rng(seed).integers(16))
    pixels = np.zeros((count, 16, 16, 3), np.uint8)
    for number, frame in enumerate(pixels):
        for column in range(6):
            frame[5:11, (start + column + number * step) % 16, colour] = 255
    return {"frames": pixels, "fps": 5}


def rows(count: int = 64) -> list[dict[str, Any]]:
    return [{"id": str(i), "name": (name := list(MOVES)[i % 4]), "clip": square(name, i)} for i in range(count)]


def cards(*lines: str) -> list[Any]:
    held = {"train": rows(), "valid": rows()[:8], "test": rows()[:8]}
    return [worlds.task(f"t{i}", held, line=line) for i, line in enumerate(lines)]


def prepared(*lines: str) -> Ready:
    return make_ready(cards(*lines), modalities(), DATA)


def seen(clip: WrittenClip) -> str:
    """What a clip shows: the colour that is brightest, the way by which each frame fits best to the next."""
    light_FHW3 = clip.frames_FHW3.astype(np.float64)
    colour = ["red", "green", "blue"][int(light_FHW3.mean((0, 1, 2)).argmax())]
    lines_FW = light_FHW3.sum((1, 3))
    fits = {s: sum((np.roll(a, s) * b).sum() for a, b in pairwise(lines_FW)) for s in (-2, 2)}
    return f"{colour} {'right' if fits[2] > fits[-2] else 'left'}"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model that films by diffusion (`t0`) and by flow (`t1`)."""
    folder = tmp_path_factory.mktemp("films") / "run"
    more = {"steps": 800, "samples_per_step": 24, "lr": 3e-3, "ema": 0.99, "data": DATA, "model": {"width": 64}}
    return worlds.run(cards(TIMED, FLOW), folder, **more), folder


def filmed(model: Generalist, task: str, **options: Any) -> list[WrittenClip]:
    given = model.entry(task).options(**options)
    found = predict(model, [Request(task, {"name": name}, name, given) for name in MOVES])
    return [each.values["clip"] for each in found if each is not None]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["t0", "t1"])
def test_squares_have_their_colour_and_move_their_way(run: tuple[Generalist, Path], task: str) -> None:
    found = filmed(run[0], task, steps=25, cfg=2.0, seed=1)
    assert [seen(clip) for clip in found] == list(MOVES)
    frames = [len(clip.frames_FHW3) for clip in found]
    assert frames == ([4, 6, 6, 4] if task == "t0" else [4] * 4)  # the model is asked; the line says it
    assert {clip.rate for clip in found} == {5.0}
    others = filmed(run[0], task, steps=25, cfg=2.0, seed=2)
    assert not np.array_equal(found[0].frames_FHW3, others[0].frames_FHW3)
    again = filmed(run[0], task, steps=25, cfg=2.0, seed=1)
    np.testing.assert_array_equal(found[2].frames_FHW3, again[2].frames_FHW3)


@pytest.mark.slow
def test_a_sample_does_not_depend_on_what_it_is_written_with(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    options = model.entry("t0").options(steps=4)
    asked = [Request("t0", {"name": name}, str(n), options) for n, name in enumerate([*MOVES, *MOVES])]
    together, (alone,) = predict(model, asked), predict(model, asked[5:6])
    assert together[5] is not None
    assert alone is not None
    far = together[5].values["clip"].frames_FHW3.astype(int) - alone.values["clip"].frames_FHW3
    assert np.abs(far).max() <= 1


@pytest.mark.slow
def test_guidance_of_one_is_none_and_more_is_not(run: tuple[Generalist, Path]) -> None:
    plain, one, more = (filmed(run[0], "t1", steps=4, **g)[1].frames_FHW3 for g in ({}, {"cfg": 1.0}, {"cfg": 3.0}))
    np.testing.assert_array_equal(plain, one)
    assert not np.array_equal(one, more)


@pytest.mark.slow
def test_it_is_validated_exported_and_saved(run: tuple[Generalist, Path], tmp_path: Path) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=8)(model, 320, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}
    assert set(valid["t0"]["loss"]) == {"clip", "clip:length"}
    assert set(valid["t1"]["loss"]) == {"clip"}
    assert valid["t0"]["loss"]["clip"] < 0.15  # the squares' own variance is .45
    assert valid["t0"]["loss"]["clip:length"] < 0.1
    assert "value" in valid["t0"]
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    clip = filmed(loaded, "t0", steps=3)[1]
    np.testing.assert_array_equal(clip.frames_FHW3, filmed(model, "t0", steps=3)[1].frames_FHW3)
    place = tmp_path / "red.gif"
    assert main(["predict", str(folder), "t0", "name=red left", "--out", str(place)]) == 0
    with Image.open(io.BytesIO(place.read_bytes())) as image:
        assert (image.n_frames, image.size, image.info["duration"]) == (6, (16, 16), 200)  # type: ignore[attr-defined]


@pytest.mark.parametrize("line", [TIMED, FLOW, FILLED, TIMED.replace("rate=5", "rate=5,loss=diffusion(target=v)")])
def test_packed_and_one_by_one_is_the_same(line: str) -> None:
    (task,) = prepared(line).tasks
    model = worlds.generalist(prepared(line))
    torch.nn.init.normal_(model.network.get_parameter("adapters.image:videowriter.denoiser.out.weight"))
    one, many = (worlds.gradients(model, task, rows(), p) for p in ([range(9)], [[i] for i in range(9)]))
    assert one.keys() == many.keys()
    heads = [n for n in one if "denoiser" in n]
    assert any(one[n].abs().max() > 1e-7 for n in heads)
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=2e-4, atol=2e-6, msg=name)


def test_noise_is_a_function_of_the_sample_alone() -> None:
    (task,) = prepared(TIMED).tasks

    def fed(seed: int | None) -> Any:
        rng = None if seed is None else np.random.default_rng(seed)
        (target, length) = task.maker.example(rows()[1], "1", rng, seed is not None).targets
        (asked,) = length.learned
        assert asked.arrays["labels"].tolist() == [3]  # moments of two frames
        return target.pieces[0].arrays["values"]

    np.testing.assert_array_equal(fed(3), fed(3))
    np.testing.assert_array_equal(fed(None), fed(None))
    assert np.abs(fed(3) - fed(4)).max() > 0.1


def test_what_is_seen_of_a_clip_stays_as_it_is() -> None:
    (task,) = prepared(FILLED).tasks
    model = worlds.generalist(prepared(FILLED))
    example = task.maker.example(rows()[0], "0", np.random.default_rng(0), True)
    batch = collate([example])
    hidden = example.masked["clip"].arrays["mask"]
    assert batch.losses[0].counts == (hidden.sum(),)
    (found,) = predict(model, [Request("t0", rows()[0], "0", model.entry("t0").options(steps=2))])
    assert found is not None
    pixels = square("red right")["frames"]
    same = (found.values["clip"].frames_FHW3 == pixels).all(-1)
    # half of the 2 x 2 cells is given, to the last bit, in all four frames
    assert same.reshape(4, 2, 8, 2, 8).all((0, 2, 4)).sum() == 2


def test_clips_that_cannot_be_read_are_told_before_training() -> None:
    held = [*rows(8), *[{"id": f"x{n}", "name": "red left", "clip": np.zeros((4, 16, 16, 3))} for n in range(5)]]
    errors = check_tasks([worlds.task("t", {"train": held, "valid": rows(4)}, line=TIMED)], modalities()).errors
    assert any("the frames have no rate" in error.message for error in errors), errors


def test_clips_are_compared_frame_by_frame() -> None:
    references = [square(name)["frames"] for name in MOVES]
    assert evaluate_metric("frame_mse", references, references).value == 0
    half = [np.repeat(clip[:, :, :8], 2, 2) for clip in references]
    assert evaluate_metric("frame_mse", half, references).value > 0.01
    longer = [clip.repeat(2, 0) for clip in references]  # neither rate nor length counts
    assert evaluate_metric("frame_mse", longer, references).value == 0
    none = evaluate_metric("frame_mse", [None, b"", "no.gif", 3], references)
    assert none.value == 1
    assert not none.higher_is_better
    (mean,) = fit_predict(
        "mean_frames", [{"clip": clip} for clip in references] + [{"clip": 3}], [{}], [], "clip", "video"
    )
    want = np.mean([references[0].mean(), references[3].mean(), references[1].mean(), references[2].mean()])
    assert mean.frames_FHW3.mean() == pytest.approx(want, abs=0.5)
    assert (
        evaluate_metric("frame_mse", [mean] * 4, references).value
        < evaluate_metric("frame_mse", references[1:] + references[:1], references).value
    )
