"""MOTION: swings by their names, read and written; learned by diffusion, filled in, judged, exported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds

from ofasys_lite.cards import modalities
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready

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
