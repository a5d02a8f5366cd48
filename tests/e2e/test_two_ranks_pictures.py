"""Two real processes (gloo, DDP) train tasks that write pictures in codes, and their codecs, as one process does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import code_worlds as codes
import pytest
import tiny_worlds as worlds
import torch
from rich.console import Console

from ofasys_lite.cards import modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.missing_codecs import CodecTrainer

#: Two codecs, one of pictures that every second row lacks; pictures are read, too.
LINES = {
    "draw": "draw [TEXT:cap,drop=0.2] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps=6)]",
    "maybe": "perhaps [TEXT:cap] -> [IMAGE:sub?,size=8,codec=dnd(depth=2,factor=4,codes=8,steps=6)] [TEXT:label]",
    "name": codes.LINES["name"],
}
SCRIPT = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
import code_worlds as codes
import test_two_ranks_pictures as here
codes.small_run(here.cards(), Path({folder!r}), devices=2, strategy="ddp", **{more!r})
"""
#: How the second process begins: by Lightning when training begins, or beside the first, whose codecs it waits for.
LAUNCHERS = {"lightning": (), "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")}


def cards() -> list[TaskCard]:
    """The tasks; `draw` leaves after two steps, and its adapter is absent on both ranks."""
    found = []
    for name, line in LINES.items():
        weight = [[0, 1], [2, 0]] if name == "draw" else [[0, 1]]
        found.append(codes.task(name, Path(), line, weight=weight))
    return found


def two_ranks(folder: Path, launcher: str, **more: Any) -> str:
    """What the two processes of a training said; asserts that they ended well."""
    script = folder.with_suffix(".py")
    script.write_text(SCRIPT.format(folder=str(folder), more=more))
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *LAUNCHERS[launcher], str(script)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def start() -> dict[str, torch.Tensor]:
    """The weights before training, without those of the codecs, which are not learned."""
    find = CodecTrainer(modalities(), codes.DATA, 0, 2, Console(file=io.StringIO()), lambda: None, lambda: None).find
    model = worlds.generalist(codes.ready(cards(), find_codec=find), decoder_layers=2)
    return {f"network.{n}": p.detach().clone() for n, p in model.network.named_parameters() if p.requires_grad}


@pytest.mark.slow
@pytest.mark.parametrize(("launcher", "budget"), [("lightning", 10_000), ("torchrun", 40)])
def test_two_ranks_that_write_pictures_end_with_the_weights_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, budget: int
) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    # small packs leave one rank with empty ones
    more: dict[str, Any] = {"steps": 5, "samples_per_step": 9, "ema": 0.5, "clip": 0.5, "log_every": 5}
    said = two_ranks(tmp_path / "two", launcher, source_budget=budget, target_budget=budget, **more)
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/codecs/*/codec.json")}
    assert len(trained) == 2
    codes.small_run(cards(), tmp_path / "one", **more)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cache/codecs/*/codec.json")} == trained
    one, two = (torch.load(RunFolder(tmp_path / n).last, weights_only=True)["state_dict"] for n in ("one", "two"))
    begun = start()
    moved = sum(float((one[n] - v).abs().sum()) for n, v in begun.items())
    apart = sum(float((one[n] - two[n]).abs().sum()) for n in begun)
    assert moved > 0
    assert apart < 1e-3 * moved, said
    assert one.keys() == two.keys()
    frozen = [n for n in one if ".codec." in n and n not in begun]
    assert frozen
    assert [n for n in frozen if not torch.equal(one[n], two[n])] == []
    logged = [[r for r in RunFolder(tmp_path / n).history() if r["kind"] == "train"] for n in ("one", "two")]
    assert len(logged[0]) == len(logged[1])
    for first, second in zip(*logged, strict=True):
        counts = ("task", "slot", "tokens", "samples")
        assert {k: first[k] for k in counts} == {k: second[k] for k in counts}
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)
