"""`ofasys-lite codec`: trains, encodes and shows from a user's own card; mistakes are told before data is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.commands import app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    cards = tmp_path / "mine" / "tasks"
    cards.mkdir(parents=True)
    rows = ["file,name"]
    for i in range(40):
        Image.fromarray(np.full((8, 8, 3), 6 * i, np.uint8)).save(cards / f"{i}.png")
        rows.append(f"{i}.png,{i}")
    (cards / "rows.csv").write_text("\n".join(rows) + "\n")
    splits = "{train: rows.csv, valid: rows.csv, test: rows.csv}"
    (cards / "greys.yaml").write_text(f"instruction: |\n  [IMAGE:file] how grey? -> [TEXT:name]\ndata: {splits}\n")
    (cards / "words.yaml").write_text("instruction: |\n  [TEXT:file] -> [TEXT:name]\ndata: {train: none.csv}\n")
    return tmp_path


def run(*words: str) -> int:
    return app.main(["codec", *words, "--config-dir", "mine"])


SIZES = {"size": 8, "factor": 2, "codes": 8, "channels": 4, "width": 8, "steps": 4, "batch": 4}
SMALL = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]


def test_a_codec_is_trained_shown_and_used(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "greys", "--out", "c", *SMALL) == 0
    assert "mean squared error with 2 of 2 codes" in capsys.readouterr().out
    assert run("show", "c", "greys", "--rows", "5", "--out", "sheet.png") == 0
    with Image.open(folder / "sheet.png") as sheet:
        assert sheet.size == (5 * 96, 3 * 96)  # originals, then one line per depth
    capsys.readouterr()
    assert run("encode", "c", "greys") == 0
    with np.load(capsys.readouterr().out.strip()) as found:
        assert found["codes"].shape == (40, 16, 2)


def test_mistakes_are_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "words", "--out", "c", *SMALL) == 1
    assert "task words has no IMAGE slot" in capsys.readouterr().err
    assert run("train", "greys", "--out", "c", "--size", "9") == 1
    assert "write size=8" in capsys.readouterr().err
    assert run("show", "none", "greys") == 1
    assert "codec train TASK --out FOLDER" in capsys.readouterr().err
    assert run("train", "greys", "--out", "c", *SMALL, "--steps", "0") == 1
    assert "all are above 0" in capsys.readouterr().err


def test_scalar_codes_need_no_book_and_their_number_follows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = [word for name, value in SIZES.items() if name != "codes" for word in (f"--{name}", str(value))]
    assert run("train", "greys", "--out", "c", *small, "--levels", "3", "2") == 0
    assert run("train", "greys", "--out", "d", *SMALL, "--levels", "3", "2") == 1
    assert "levels [3, 2] do not make 8 codes" in capsys.readouterr().err
    assert run("encode", "c", "greys") == 0
    with np.load(capsys.readouterr().out.strip()) as found:
        assert found["codes"].shape == (40, 16, 2)
        assert found["codes"].max() < 6
