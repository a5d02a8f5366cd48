"""`ofasys-lite codec`: trains, encodes and shows from a user's own card; mistakes are told before data is read."""

from __future__ import annotations

import json
import sys
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


NETWORK = """
from torch import nn

def edges():
    return nn.Conv2d(3, 4, 3, padding=1)
"""


def test_a_named_network_and_a_discriminator_judge_the_pictures(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "my_edges_here.py").write_text(NETWORK)
    monkeypatch.setattr("sys.path", [*sys.path])  # the command puts the working directory in front
    words = ["--perceptual", "my_edges_here:edges", "--gan-weight", "0.5", "--loss", "l1"]
    assert run("train", "greys", "--out", "c", *SMALL, *words) == 0
    content = json.loads((folder / "c" / "codec.json").read_text())
    assert content["codec"]["loss"] == "l1"
    told = content["losses"]
    assert (told["perceptual_weight"], told["gan_weight"], told["gan_start"]) == (1.0, 0.5, 2)
    row = json.loads((folder / "c" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"perceptual", "discriminator", "gan_weight"} <= row.keys()
    capsys.readouterr()
    assert run("train", "greys", "--out", "c", *SMALL, *words, "--resume") == 0
    assert run("train", "greys", "--out", "c", *SMALL, "--loss", "l1", "--resume") == 1
    assert "is of another run: losses was perceptual my_edges_here:edges" in capsys.readouterr().err
    assert run("encode", "c", "greys") == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--perceptual-weight", "2"], "--perceptual-weight without a network"),
        (["--gan-start", "2"], "--gan-start without a discriminator"),
        (["--gan-weight", "0", "--gan-start", "2"], "--gan-start without a discriminator"),
        (["--gan-weight", "1", "--gan-start", "4"], "the discriminator begins at step 4 of 4"),
        (["--gan-weight", "-1"], "gan weight is -1.0"),
        (["--perceptual", "no_such_module:net"], "no module `no_such_module`"),
        (["--perceptual", "no_such_module:net", "--perceptual-weight", "-2"], "perceptual weight is -2.0"),
    ],
)
def test_mistakes_of_the_losses_are_told(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert run("train", "greys", "--out", "c", *SMALL, *words) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "c").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "greys", "--out", "c", "--dept", "2"], "help: did you mean `--depth`?"),
        (["trian", "greys"], "help: did you mean `train`? allowed: train, encode, show"),
        (["show", "c", "greys", "--row=3"], "help: did you mean `--rows`? allowed: --column, --config-dir"),
    ],
)
def test_an_unknown_flag_or_verb_is_told_with_the_nearest(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("mine", ["metrics.jsonl", "checkpoint.pt", "model.safetensors"])
def test_a_codec_is_not_trained_over_files_of_others(
    folder: Path, capsys: pytest.CaptureFixture[str], mine: str
) -> None:
    (folder / "own").mkdir()
    (folder / "own" / mine).write_text("precious")
    assert run("train", "greys", "--out", "own", *SMALL) == 1
    assert "own" in capsys.readouterr().err
    assert run("train", "greys", "--out", "own", *SMALL, "--resume") == 1
    assert (folder / "own" / mine).read_text() == "precious"
    (folder / "file").write_text("precious")
    assert run("train", "greys", "--out", "file", *SMALL) == 1
    assert "it is a file" in capsys.readouterr().err


def test_a_codec_stands_beside_other_files_and_has_one_trainer(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "c").mkdir()
    (folder / "c" / "notes.txt").write_text("precious")
    assert run("train", "greys", "--out", "c", *SMALL) == 0
    capsys.readouterr()
    assert (folder / "c" / "notes.txt").read_text() == "precious"
    (folder / "sheet.png").write_text("precious")
    assert run("show", "c", "greys", "--out", "sheet.png") == 1
    assert "sheet.png is there already" in capsys.readouterr().err
    assert run("show", "c", "greys") == run("show", "c", "greys") == 0
