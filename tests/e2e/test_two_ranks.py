"""Two real processes (gloo, DDP) train what one process trains."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.run.run_folder import RunFolder

SCRIPT = """
import hashlib, os, sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
import tiny_worlds as worlds
names, more = {names!r}, {more!r}
cards = [worlds.task(n, weight=[[0, 1], [2, 0]] if n == "caption" else [[0, 1]]) for n in names]
if {broken!r}:
    cards = [worlds.task("caption", worlds.rows(23) + [{{**worlds.rows(1)[0], "id": "bad", "img": b"broken"}}])]
model = worlds.run(cards, Path({folder!r}), devices=2, strategy="ddp", **more)
digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in worlds.weights(model).values())).hexdigest()
print("weights of rank", os.environ.get("LOCAL_RANK", "0"), digest, flush=True)
"""


def two_ranks(folder: Path, names: tuple[str, ...], broken: bool = False, **more: Any) -> subprocess.Popen[str]:
    """A training of two processes in a process of its own."""
    script = folder.with_suffix(".py")
    script.write_text(SCRIPT.format(names=names, more=more, folder=str(folder), broken=broken))
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(process: subprocess.Popen[str]) -> str:
    """What the process said; asserts that it ended well."""
    said, _ = process.communicate(timeout=600)
    assert process.returncode == 0, said
    return said


@pytest.mark.slow
@pytest.mark.parametrize("budget", [10_000, 40])
def test_two_ranks_end_with_the_weights_of_one(tmp_path: Path, budget: int) -> None:
    # captions leave after two steps: their adapter is absent on both ranks; small packs leave one rank with empty ones
    names = ("caption", "speech", "record")
    more: dict[str, Any] = {"steps": 5, "samples_per_step": 9, "ema": 0.5, "clip": 0.5, "log_every": 5}
    process = two_ranks(tmp_path / "two", names, source_budget=budget, target_budget=budget, **more)
    cards = [worlds.task(n, weight=[[0, 1], [2, 0]] if n == "caption" else [[0, 1]]) for n in names]
    worlds.run(cards, tmp_path / "one", **more)
    said = finished(process)
    one, two = (torch.load(RunFolder(tmp_path / n).last, weights_only=True) for n in ("one", "two"))
    start = {f"network.{n}": v for n, v in worlds.weights(worlds.generalist(worlds.ready(cards))).items()}
    moved = sum(float((one["state_dict"][n] - v).abs().sum()) for n, v in start.items())
    apart = sum(float((one["state_dict"][n] - two["state_dict"][n]).abs().sum()) for n in start)
    assert apart < 1e-3 * moved, said
    logged = [[r for r in RunFolder(tmp_path / n).history() if r["kind"] == "train"] for n in ("one", "two")]
    assert len(logged[0]) == len(logged[1])
    for first, second in zip(*logged, strict=True):
        assert {k: first[k] for k in ("task", "slot", "tokens", "samples")} == {
            k: second[k] for k in ("task", "slot", "tokens", "samples")
        }
        assert first["loss"] == pytest.approx(second["loss"], rel=1e-3)


@pytest.mark.slow
def test_two_ranks_resume_bit_for_bit(tmp_path: Path) -> None:
    names = ("caption", "speech")
    more: dict[str, Any] = {"samples_per_step": 8, "lr": 1e-3, "warmup": 0.0, "final": 1.0}
    whole = two_ranks(tmp_path / "whole", names, steps=4, **more)
    finished(two_ranks(tmp_path / "parts", names, steps=2, **more))
    finished(two_ranks(tmp_path / "parts", names, steps=4, resume=True, **more))
    finished(whole)
    one, two = (torch.load(RunFolder(tmp_path / n).last, weights_only=True) for n in ("whole", "parts"))
    assert worlds.equal(one["state_dict"], two["state_dict"])


@pytest.mark.slow
def test_two_ranks_of_several_optimizers_and_resting_parameters_are_alike_and_resume_bit_for_bit(
    tmp_path: Path,
) -> None:
    names = ("caption", "speech")
    rules = [{"match": "body.encoder.*", "train": [3, None]}, {"match": "*.mlp_norm.*", "train": False, "lr": 0.5}]
    more: dict[str, Any] = {"samples_per_step": 8, "optimizer": {"path": "muon", "lr": 2.0}, "parameters": rules}
    more |= {"warmup": 0.0, "final": 1.0}
    whole = two_ranks(tmp_path / "whole", names, steps=5, **more)
    finished(two_ranks(tmp_path / "parts", names, steps=2, **more))
    finished(two_ranks(tmp_path / "parts", names, steps=5, resume=True, **more))
    said = finished(whole)
    hashes = [line.split()[-1] for line in said.splitlines() if line.startswith("weights of rank")]
    assert len(hashes) == 2, said
    assert hashes[0] == hashes[1], said
    one, two = (torch.load(RunFolder(tmp_path / n).last, weights_only=True) for n in ("whole", "parts"))
    assert worlds.equal(one["state_dict"], two["state_dict"])
    cards = [worlds.task(n, weight=[[0, 1], [2, 0]] if n == "caption" else [[0, 1]]) for n in names]
    worlds.run(cards, tmp_path / "one", steps=5, **more)
    alone = torch.load(RunFolder(tmp_path / "one").last, weights_only=True)["state_dict"]
    start = {f"network.{n}": v for n, v in worlds.weights(worlds.generalist(worlds.ready(cards))).items()}
    moved = sum(float((alone[n] - v).abs().sum()) for n, v in start.items())
    apart = sum(float((alone[n] - one["state_dict"][n]).abs().sum()) for n in start)
    assert apart < 2e-2 * moved  # an update of Muon turns where a small singular value rounds
    assert all(torch.equal(one["state_dict"][n], v) for n, v in start.items() if ".mlp_norm." in n)


@pytest.mark.slow
def test_rows_refused_on_one_rank_stand_in_the_ledger_of_the_run(tmp_path: Path) -> None:
    process = two_ranks(tmp_path / "two", (), broken=True, steps=4, samples_per_step=12, quarantine=0.1)
    finished(process)
    rows = [json.loads(line) for line in RunFolder(tmp_path / "two").quarantine.read_text().splitlines()]
    assert [r["row"] for r in rows] == [23]
    process = two_ranks(tmp_path / "strict", (), broken=True, steps=4, samples_per_step=12, quarantine=0.0)
    said, _ = process.communicate(timeout=600)
    assert process.returncode != 0
    assert "Quarantined (1 of 24 rows, limit 0 %)" in said


LINE = "+tasks.mine.instruction=[TEXT:q] what? -> [TEXT:a,closed_set]"
COMMAND = [
    *("train", "name=r", "model=tiny", "trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2"),
    *("trainer.compile=false", "trainer.precision=fp32", "trainer.workers=1", "trainer.samples_per_step=8"),
    *(
        "trainer.log_every=1",
        "trainer.valid_every=0",
        "steps=100000",
        "data.pieces=300",
        "+tasks.mine.data.train=d.csv",
    ),
]


def rows_of(folder: Path) -> int:
    """Rows of the run's log."""
    return len(RunFolder(folder / "runs" / "r").history())


def signalled(folder: Path, arguments: list[str], target: str, number: signal.Signals) -> tuple[int, str]:
    """Exit code and output of a training of two ranks, started by Lightning, some steps into which a signal comes."""
    script = folder / "ofasys.py"  # the launcher repeats the command line, which a file must stand in
    script.write_text("import sys; from ofasys_lite.commands.app import main; sys.exit(main())\n")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    before = rows_of(folder)
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    while rows_of(folder) < before + 10 and process.poll() is None:
        time.sleep(0.05)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (other,) = (int(c) for c in children if b"hydra.job.name" in Path(f"/proc/{c}/cmdline").read_bytes())
    if target == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(other if target == "rank 1" else process.pid, number)
    said, _ = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the other rank in /proc")
def test_two_ranks_end_at_a_signal_to_any_of_them_and_go_on_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("q,a\n" + "".join(f"word {n} of {n % 7},{'abc'[n % 3]}\n" for n in range(60)))
    arguments = [*COMMAND, LINE]
    for target, number in (("rank 1", signal.SIGTERM), ("group", signal.SIGUSR1), ("rank 0", signal.SIGINT)):
        code, said = signalled(tmp_path, arguments, target, number)
        assert code == 128 + number, said
        assert "to go on where it stopped: ofasys-lite train resume=runs/r\n" in said
        assert "Traceback" not in said
        run = RunFolder(tmp_path / "runs" / "r")
        steps = [row["step"] for row in run.history() if row["kind"] == "step"]
        assert steps == list(range(1, len(steps) + 1))
        assert torch.load(run.last, weights_only=True)["global_step"] == len(steps)
        arguments = ["train", "resume=runs/r"]
