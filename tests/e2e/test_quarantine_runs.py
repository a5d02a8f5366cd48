"""Rows that cannot be read, of every kind: listed in quarantine.jsonl and the checkpoint, or a clear end of the run."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from PIL import Image

from ofasys_lite.errors import DataError, OfasysError
from ofasys_lite.run.run_folder import RunFolder


def png(high: int = 16, wide: int = 16) -> bytes:
    """A PNG of noise."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (high, wide, 3)).astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def giant() -> bytes:
    """A PNG whose header promises 20,000 x 10,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 10_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")
    )


#: Kind -> (task, what the row is given, words of the reason).
BROKEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "missing file": ("caption", {"img": "nowhere/cat.png"}, "cat.png"),
    "truncated png": ("caption", {"img": png(64, 64)[:900]}, "image"),
    "no image": ("caption", {"img": b"hello"}, "image"),
    "empty image": ("caption", {"img": b""}, "empty"),
    "bad base64": ("caption", {"img": "data:image/png;base64,@@@"}, "image"),
    "200 megapixels": ("caption", {"img": giant()}, "megapixel"),
    "image of a wrong type": ("caption", {"img": 17}, "image"),
    "no caption": ("caption", {"cap": None}, "cap"),
    "empty audio": ("speech", {"wav": b""}, "audio"),
    "audio without samples": ("speech", {"wav": {"array": np.zeros(0, np.float32), "rate": 16000}}, "audio"),
    "audio that is none": ("speech", {"wav": b"RIFF0000WAVEnothing"}, "audio"),
    "speech too short for its text": ("speech", {"text": "a very long text " * 20}, "aligned"),
    "bad json": ("record", {"record": '{"intent": "red"'}, "JSON"),
    "no json value": ("record", {"record": object()}, "record"),
    "grid of a wrong size": ("puzzle", {"puzzle": [[1, 2, 1]]}, "puzzle"),
    "cell of a wrong value": ("puzzle", {"solution": [[1, 2], [2, 9]]}, "solution"),
    "box of three": ("find", {"box": [1.0, 2.0, 3.0]}, "box"),
    "box of words": ("find", {"box": "left of it"}, "box"),
    "box without size": ("find", {"box": [float("nan"), 0.0, 1.0, 1.0]}, "box"),
    "label outside the set": ("detect", {"objects": [{"box": [0.0, 0.0, 4.0, 4.0], "label": "pink"}]}, "pink"),
    "objects that are none": ("detect", {"objects": "red"}, "objects"),
    "object without box": ("detect", {"objects": [{"label": "red"}]}, "box"),
    "list for a text": ("spell", {"text": ["sun", "moon"]}, "text"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_row_that_cannot_be_read_is_quarantined_with_its_reason(tmp_path: Path, kind: str) -> None:
    name, change, words = BROKEN[kind]
    rows = worlds.rows(12)
    rows[5] = {**rows[5], **change, "id": "broken"}
    data = {"train": rows, "valid": worlds.rows(2), "test": worlds.rows(2)}
    more: dict[str, Any] = {"steps": 3, "samples_per_step": 6, "quarantine": 0.1}
    worlds.run([worlds.task(name, data)], tmp_path / "run", **more)
    folder = RunFolder(tmp_path / "run")
    listed = [json.loads(line) for line in folder.quarantine.read_text().splitlines()]
    assert [(r["task"], r["row"]) for r in listed] == [(name, 5)]
    assert words.lower() in listed[0]["reason"].lower()
    assert "Traceback" not in listed[0]["reason"]
    assert not listed[0]["reason"].startswith("task ")
    state = torch.load(folder.last, weights_only=True)
    kept = next(v for k, v in state["callbacks"].items() if k.startswith("Quarantining"))
    assert kept["entries"] == listed


def test_every_kind_at_once_stops_the_run_with_task_row_id_and_limit(tmp_path: Path) -> None:
    rows = worlds.rows(40)
    for number in range(4):
        rows[number] = {**rows[number], "img": b""}
    data = {"train": rows, "valid": worlds.rows(2), "test": worlds.rows(2)}
    with pytest.raises(
        DataError,
        match=r"caption, .*, row \d+ .*: .*empty.*Quarantined \(\d of 40 rows, limit 5 %, and 3 rows in any case\)",
    ):
        worlds.run([worlds.task("caption", data)], tmp_path / "run", steps=20, samples_per_step=8, quarantine=0.05)
    assert len(RunFolder(tmp_path / "run").quarantine.read_text().splitlines()) > 2


@pytest.mark.parametrize("workers", [0, 1])
def test_a_task_without_one_readable_row_stops_the_run_with_the_reason(tmp_path: Path, workers: int) -> None:
    rows = [{**row, "img": b""} for row in worlds.rows(30)]
    data = {"train": rows, "valid": worlds.rows(2), "test": worlds.rows(2)}
    more: dict[str, Any] = {"steps": 2, "quarantine": 1.0, "workers": workers}
    with pytest.raises(DataError, match="20 rows in a row cannot be read") as caught:
        worlds.run([worlds.task("caption", data), worlds.task("spell")], tmp_path / "run", **more)
    assert caught.value.help == "run: ofasys-lite check caption"
    assert "Traceback" not in str(caught.value)
    rows_listed = [json.loads(line) for line in RunFolder(tmp_path / "run").quarantine.read_text().splitlines()]
    assert sum(row["attempts"] for row in rows_listed) == 20


def test_the_ledger_of_a_resumed_run_is_that_of_the_undisturbed_one(tmp_path: Path) -> None:
    rows = worlds.rows(30)
    rows[3], rows[20] = {**rows[3], "img": b""}, {**rows[20], "img": base64.b64encode(b"no image").decode()}
    card = worlds.task("caption", {"train": rows, "valid": rows[:2], "test": rows[:2]})
    more: dict[str, Any] = {"samples_per_step": 10, "quarantine": 0.2, "lr": 1e-3, "warmup": 0.0, "final": 1.0}
    whole = worlds.run([card], tmp_path / "whole", steps=8, **more)
    worlds.run([card], tmp_path / "parts", steps=3, **more)
    parts = worlds.run([card], tmp_path / "parts", steps=8, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    one, two = (RunFolder(tmp_path / n).quarantine.read_text() for n in ("whole", "parts"))
    assert one == two
    assert [json.loads(line)["row"] for line in one.splitlines()] == [3, 20]


def test_a_missing_column_is_refused_before_a_step(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k != "cap"} | {"capt": "x"} for row in worlds.rows(12)]
    card = worlds.task("caption", {"train": rows, "valid": rows, "test": rows})
    with pytest.raises(OfasysError, match="cap"):
        worlds.run([card], tmp_path / "run", steps=2)
