"""The benchmark of depth trains codecs of a user's card, keeps them, and writes what it measured."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import CheckpointError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    return importlib.import_module("codec_depth")


def _card(folder: Path) -> Path:
    """A folder with a card of small pictures in two classes, 80 to train on and 70 to test."""
    rng = np.random.default_rng(0)
    (folder / "tasks").mkdir(parents=True)
    for split, count in (("train", 80), ("valid", 4), ("test", 70)):
        rows = ["picture,kind"]
        for i in range(count):
            image = np.zeros((8, 8, 3), np.uint8)
            place, label = rng.integers(1, 6), int(rng.integers(0, 2))
            (image if label else image.swapaxes(0, 1))[place : place + 2] = rng.integers(120, 255, 3)
            Image.fromarray(image).save(folder / "tasks" / f"{split}{i}.png")
            rows.append(f"{split}{i}.png,{'ab'[label]}")
        (folder / "tasks" / f"{split}.csv").write_text("\n".join(rows) + "\n")
    line = "'[IMAGE:picture] which? -> [TEXT:kind,closed_set]'"
    card = f"instruction: {line}\ndata: {{train: train.csv, valid: valid.csv, test: test.csv}}\n"
    (folder / "tasks" / "bars.yaml").write_text(card)
    return folder


def _measured(benchmark: ModuleType, depth: int, seed: int, mse: float) -> object:
    return benchmark.Measured(depth, seed, mse, mse, 2 * mse, (0.0, 1.0), mse, 3 * mse, 0.5, 4, 1.0, 0.5)


def test_margins_pair_neighbouring_depths_by_seed(benchmark: ModuleType) -> None:
    values = {(1, 0): 0.5, (1, 7): 0.6, (2, 0): 0.25, (2, 7): 0.2, (4, 0): 0.125, (4, 7): 0.4}
    found = [_measured(benchmark, depth, seed, mse) for (depth, seed), mse in values.items()]
    gained = benchmark.margins(found, [1, 2, 4], [0, 7])
    first, second = (m for m in gained if m.figure == "mse")
    assert (first.low, first.high, second.low, second.high) == (1, 2, 2, 4)
    assert first.gains == pytest.approx([0.25, 0.4])
    assert second.gains == pytest.approx([0.125, -0.2])
    assert first.ratio == pytest.approx((2 + 3) / 2)
    shown = benchmark.show(found, gained, [1, 2, 4], {"frechet_train": 3.0, "accuracy": 0.9})
    assert "**325.00** (250.00, 400.00)" in shown
    assert "**-37.50** (125.00, -200.00)" in shown


def test_folders_of_a_machine_are_not_in_the_command_that_is_kept(benchmark: ModuleType) -> None:
    assert benchmark._short("/somewhere/else/codecs") == "codecs"
    assert benchmark._short(str(BENCHMARKS / "results")) == "benchmarks/results"
    assert benchmark._short("--steps") == "--steps"


@pytest.mark.slow
def test_it_trains_measures_draws_and_uses_its_codecs_again(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--config-dir", str(_card(tmp_path / "mine")), "--task", "bars", "--image", "picture", "--label", "kind"]
    words += ["--set", "bars8", "--side", "8", "--factor", "2", "--codes", "8", "--channels", "4", "--width", "8"]
    words += ["--depths", "1", "2", "--seeds", "0", "--steps", "100", "--batch", "16", "--out", str(tmp_path)]
    words += ["--folder", str(tmp_path / "codecs"), "--sheet", str(tmp_path / "sheet.png")]
    (tmp_path / "codec_depth.json").write_text(json.dumps({"sets": {"other": {"kept": True}}}))
    benchmark.main(words)
    sets = json.loads((tmp_path / "codec_depth.json").read_text())["sets"]
    assert sets["other"] == {"kept": True}
    assert [(m["depth"], m["seed"]) for m in sets["bars8"]["codecs"]] == [(1, 0), (2, 0)]
    assert all(m["mse"] < 0.03 and m["accuracy"] > 0.9 for m in sets["bars8"]["codecs"])  # their variance is near 0.1
    assert sets["bars8"]["settings"]["images"] == {"train": 80, "test": 70, "classes": 2}
    with Image.open(tmp_path / "sheet.png") as drawn:
        assert drawn.size[1] == 3 * 84 + 4
    capsys.readouterr()
    benchmark.main(words)
    assert "bars8-d2-s0: from its checkpoint" in capsys.readouterr().out
    again = json.loads((tmp_path / "codec_depth.json").read_text())["sets"]
    assert again["bars8"]["codecs"] == sets["bars8"]["codecs"]
    with pytest.raises(CheckpointError, match="another run"):
        benchmark.main([*words, "--steps", "120"])
