"""Row by row: what check lets pass a training lays out, and what a training refuses check tells."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import soundfile
from check_tables import CARDS
from PIL import Image

from ofasys_lite.cards import load_task_card
from ofasys_lite.data.findings import Tally
from ofasys_lite.data.row_values import Looker
from ofasys_lite.errors import DataError
from ofasys_lite.layout.ready import DataSettings, make_ready

NAN = float("nan")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (48, 48, 3)).astype(np.uint8))


def encoded(kind: str) -> bytes:
    file = io.BytesIO()
    NOISE.save(file, kind)
    return file.getvalue()


def wave(samples: int, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.sin(np.arange(samples) / 9), rate, format="WAV")
    return file.getvalue()


TEXTS: list[Any] = [
    "x", "", "  ", None, NAN, 3, 2.5, [], ["a"], {"a": 1}, b"ok", b"\xff", "\ud800", np.float32(1), "\x00",
]  # fmt: skip
BOXES: list[Any] = [
    [1, 2, 3, 4], "1,2,3,4", [1, 2, 3], [3, 2, 1, 4], [NAN, 1, 2, 3], None, "", [0, 0, 99, 9], [-1, 0, 9, 9],
    [5, 5, 5, 5], {"x": 1}, np.array([1, 2, 3, 4]), [10**400, 1, 1, 1], ["1", "2", "3", "4"], [-0.5, -0.5, 48.5, 48.5],
]  # fmt: skip
IMAGES: list[Any] = [
    encoded("PNG"), encoded("JPEG")[:-200], b"", b"xx", "", None, "missing.png", np.zeros((9, 9, 3), np.uint8),
    np.full((9, 9, 3), NAN), np.zeros((0, 5, 3), np.uint8), NOISE, {"bytes": encoded("GIF"), "path": None},
    {"bytes": None, "path": None}, 3, [1, 2], np.ones((9, 9, 3)) * 2,
]  # fmt: skip
SOUNDS: list[Any] = [
    wave(8000), wave(0), wave(50), wave(8000, 8000), b"", b"RIFFxxx", None, "", "missing.wav",
    {"array": np.ones(9000), "rate": 16_000}, {"array": np.ones(9000)}, {"array": [], "rate": 16_000},
    {"array": np.full(9000, NAN), "rate": 16_000}, (np.ones(9000), 16_000), [0.1] * 9000, wave(16_000 * 40),
]  # fmt: skip
PHONES: list[Any] = ["AH B", "", " ", [], ["AH"], None, 3, ["AH", 3]]
STRUCTS: list[Any] = [{"a": 1}, [], {}, "", "{}", "not json", 3, None, NAN, {1: 2}, {"a": NAN}, {"x": float("inf")}]
CHOICES: list[Any] = [["good", "x"], ["x"], [], None, "good", '["good"]', ["good", "good"], ["good", None], [1, "good"]]

#: Lines that read or write the column `v`, and values of it; the first one is good.
LINES: dict[str, list[Any]] = {
    "[TEXT:v] -> [TEXT:g]": TEXTS,
    "[TEXT:g] -> [TEXT:v]": TEXTS,
    "[TEXT:g] -> [TEXT:v,closed_set]": TEXTS,
    "[TEXT:g] -> [TEXT:v?,closed_set]": TEXTS,
    "[TEXT:g] -> [TEXT:v,no_loss] [TEXT:g]": TEXTS,
    "[CATEGORY:v] -> [CATEGORY:v,closed_set]": TEXTS,
    "[IMAGE:i] -> [BOX:v]": BOXES,
    "[IMAGE:i] [BOX:v] -> [TEXT:g]": BOXES,
    "[IMAGE:i] -> [BOX:v?,format=xywh]": BOXES,
    "[TEXT:g] -> [BOX:v,size=50]": BOXES,
    "[IMAGE:v] -> [TEXT:g]": IMAGES,
    "[IMAGE:v?,mask_ratio=0.5] [TEXT:g] -> [TEXT:g]": IMAGES,
    "[IMAGE:v] -> [BOX:b]": IMAGES,
    "[AUDIO:v] -> [TEXT:g]": SOUNDS,
    "[AUDIO:v,min_length=20,max_length=30,sample_rate=8000] -> [TEXT:g]": SOUNDS,
    "[PHONE:v] -> [TEXT:g]": PHONES,
    "[TEXT:g] -> [PHONE:v]": PHONES,
    "[STRUCT:v] -> [TEXT:g]": STRUCTS,
    "[TEXT:g] -> [STRUCT:v]": STRUCTS,
    "[TEXT:g] -> [TEXT:g,closed_set=@v]": CHOICES,
    "([IMAGE:v])*<over=os> -> [TEXT:g]": IMAGES,
    "[IMAGE:i] -> ([BOX:v])*<over=os>": BOXES,
    "[TEXT:g] -> ([TEXT:v,closed_set] [PHONE:p?])*<over=os>": TEXTS,
    "[TEXT:g] -> ([TEXT:v])*": [["x"], [], ["x", ""], None, "x", [["y"]]],
}


@pytest.mark.parametrize("line", LINES)
def test_check_and_training_agree_on_every_row(line: str) -> None:
    values = LINES[line]
    fixed = {"g": "good", "i": NOISE, "b": [1, 2, 9, 9]}
    rows = [{**fixed, "v": value, "os": [{"v": values[0]}, {"v": value}]} for value in values]
    data = {"train": rows, "valid": rows[:1], "test": rows[:1]}
    card = load_task_card({"instruction": line, "data": data}, name="t")
    task = make_ready([card], CARDS, DataSettings(pieces=400, bins=50)).tasks[0]
    looker, source = Looker(card, task.plan, CARDS), task.sources["train"]
    found = {}
    for index, row in enumerate(rows):
        tally = Tally(card)
        looker.look(tally, source, index, set())
        looker.read_whole(tally, source, index)
        try:
            task.maker.lengths(source, index)
            task.maker.example(row, str(index), np.random.default_rng(0), True)
            read = True
        except DataError:
            read = False
        found[index] = (read, not tally.codes)
    assert found[0] == (True, True)
    assert {repr(values[i])[:60]: each for i, each in found.items() if each[0] != each[1]} == {}
