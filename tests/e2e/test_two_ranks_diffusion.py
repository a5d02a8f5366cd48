"""Diffusion and flow on two ranks: what they train is what one rank trains, in one pack and in several."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import test_video_written as films
import tiny_worlds as worlds
import torch

from ofasys_lite.run.run_folder import RunFolder

SCRIPT = """
import warnings
from pathlib import Path
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
import test_video_written as films
import tiny_worlds as worlds
cards = films.cards(films.TIMED, films.FLOW)
worlds.run(cards, Path({folder!r}), data=films.DATA, devices=2, strategy="ddp", **{more!r})
"""


@pytest.mark.slow
def test_two_ranks_train_what_one_pack_trains(tmp_path: Path) -> None:
    more: dict[str, Any] = {"steps": 3, "samples_per_step": 16, "log_every": 3}
    budget = {**more, "source_budget": 60, "target_budget": 80}
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path / "two"), more=budget))
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    cards = films.cards(films.TIMED, films.FLOW)
    worlds.run(cards, tmp_path / "one", data=films.DATA, **more)
    worlds.run(cards, tmp_path / "four", data=films.DATA, **budget)
    one, four, two = (
        torch.load(RunFolder(tmp_path / n).last, weights_only=True)["state_dict"] for n in ("one", "four", "two")
    )
    begun = worlds.weights(worlds.generalist(films.prepared(films.TIMED, films.FLOW)))
    start = {f"network.{n}": v for n, v in begun.items()}
    moved = sum(float((one[n] - v).abs().sum()) for n, v in start.items())
    assert moved > 0
    for other in (four, two):
        assert sum(float((one[n] - other[n]).abs().sum()) for n in start) < 1e-3 * moved
    losses = [
        [row["loss"] for row in RunFolder(tmp_path / n).history() if row["kind"] == "train" and row["step"] == 3]
        for n in ("one", "four", "two")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] == pytest.approx(losses[2], rel=1e-3)
