"""Rows are estimated from what a row holds, near enough that packs keep to their budget."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tiny_worlds as worlds

from ofasys_lite.cards import load_task_card
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.layout import costs
from ofasys_lite.layout.loader import Steps
from ofasys_lite.layout.ready import ReadyTask


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))


def image(side: int) -> np.ndarray[Any, Any]:
    return np.zeros((side, side, 3), dtype=np.uint8)


def sound(seconds: float, rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(int(seconds * rate)) / 9), rate, format="WAV")
    return file.getvalue()


def task(line: str, rows: list[dict[str, Any]]) -> ReadyTask:
    data = {"train": rows, "valid": rows[:1], "test": rows[:1]}
    return worlds.ready([load_task_card({"instruction": line, "data": data}, name="t")]).tasks[0]


SHOTS = [{"img": image(side), "a": "yes", "wav": {"array": np.ones(16_000), "rate": 16_000}} for side in (16, 64, 96)]

#: Lines with a row each whose rows a fixed number for an element would miss.
HELD = {
    "pictures": ("([IMAGE:img] A: [TEXT:a])*<over=shots> -> [TEXT:a]", {"shots": SHOTS * 2, "a": "no"}),
    "sounds": ("([AUDIO:wav])*<over=shots> -> [TEXT:a]", {"shots": SHOTS, "a": "no"}),
    "lists": ("([IMAGE:imgs] [TEXT:texts])* -> [TEXT:a]", {"imgs": [image(64)] * 5, "texts": ["x"] * 5, "a": "no"}),
    "cut": ("([IMAGE:img])*<over=shots,max=2> -> [TEXT:a]", {"shots": [SHOTS[1]] * 9, "a": "no"}),
    "alternatives": (
        "([IMAGE:img] | [TEXT:t])*<over=c,by=kind(img=1,t=2)> -> [TEXT:a]",
        {"c": [{"kind": "img", "img": image(64)}, {"kind": "t", "t": "so " * 40}, {"kind": "t", "t": "x"}], "a": "n"},
    ),
    "nested": (
        "(page [IMAGE:img] ([TEXT:w])*<over=ws>)*<over=pages> -> [TEXT:a]",
        {"pages": [{"img": image(64), "ws": [{"w": "long word"}] * 9}] * 3, "a": "no"},
    ),
    "written": (
        "[TEXT:a] -> ([TEXT:t] [BOX:b,size=1])*<over=os>",
        {"a": "x", "os": [{"t": "so " * 3, "b": [0, 0, 1, 1]}] * 6},
    ),
    "rate": ("[AUDIO:wav] -> [TEXT:a]", {"wav": sound(2.0, 44_100), "a": "no"}),
    "low rate": ("[AUDIO:wav] -> [TEXT:a]", {"wav": sound(2.0, 8_000), "a": "no"}),
    "kept frames": ("[AUDIO:wav,max_length=40] -> [TEXT:a]", {"wav": sound(2.0, 16_000), "a": "no"}),
    "spelled": ("[TEXT:q,spelled] -> [TEXT:a]", {"q": "abcdefghij" * 20, "a": "no"}),
    "cut text": ("[TEXT:q] -> [TEXT:a]", {"q": "the sun and the moon " * 900, "a": "no"}),
}


@pytest.mark.parametrize("name", HELD)
def test_the_estimate_of_a_row_is_near_what_it_becomes(name: str) -> None:
    line, row = HELD[name]
    found = task(line, [row] * 3)
    estimated = found.maker.lengths(found.sources["train"], 0)
    example = found.maker.example(row, "0", None, True)
    real = (sum(side.count for side in example.sources), sum(target.count for target in example.targets))
    for guess, count in zip(estimated, real, strict=True):
        assert 0.6 * count - 6 <= guess <= 1.7 * count + 6, (estimated, real)


def test_packs_of_groups_of_pictures_keep_to_their_budget() -> None:
    line, row = HELD["pictures"]
    found = task(line, [row] * 4)
    steps = Steps([found], Mixture([MixtureTask("t", 4)], 0, 8), 0, budgets=(1200, 600))
    packs = steps[0].packs
    assert len(packs) > 1
    assert max(sum(pack.source.lengths) for pack in packs) <= 1.2 * 1200


@pytest.mark.parametrize("name", ["pictures", "rate", "cut text"])
def test_loader_processes_measure_no_lengths(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    line, row = HELD[name]
    steps = Steps([task(line, [row] * 4)], Mixture([MixtureTask("t", 4)], 0, 8), 0)
    monkeypatch.setattr(costs, "_measure", None)  # from here on: what a worker does
    monkeypatch.setattr(costs, "_measured", None)
    assert pickle.loads(pickle.dumps(steps))[0].failure is None
    assert steps[1].failure is None
