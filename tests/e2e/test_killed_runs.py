"""kill -9 at any moment leaves a run that goes on, and ends with the weights of the undisturbed one."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.run.run_folder import RunFolder

STEPS = 120
SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_worlds as worlds
cards = worlds.tasks("caption", "restore", "speech", "record")
more = dict(steps={steps}, samples_per_step=8, ema=0.9, log_every=1, workers=int(sys.argv[2]), checkpoint_every=1e-9)
worlds.run(cards, Path(sys.argv[1]), resume=True, model={{"dropout": 0.1}}, **more)
"""


def started(script: Path, folder: Path, workers: int = 1) -> subprocess.Popen[bytes]:
    """A training in a process of its own (and of its own group, with its loader workers)."""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), str(folder), str(workers)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, start_new_session=True)


def logged(folder: Path) -> int:
    """The last step in metrics.jsonl."""
    return max((int(r["step"]) for r in RunFolder(folder).history()), default=0)


def kill_at(process: subprocess.Popen[bytes], folder: Path, step: int, rng: random.Random) -> None:
    """Kills the process a random moment behind `step`; for step 0 a random moment after its start, or ten steps on."""
    begin, far = time.monotonic(), step or logged(folder) + 10
    patience = 120 if step else rng.uniform(0.5, 9.0)
    while logged(folder) < far and process.poll() is None and time.monotonic() - begin < patience:
        time.sleep(0.002)
    time.sleep(rng.uniform(0.0, 0.08) if step else 0.0)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(steps=STEPS))
    assert started(script, tmp_path / "whole", workers=0).wait() == 0
    rng = random.Random(20)
    folder = tmp_path / "killed"
    for number, target in enumerate((0, 9, 20, 31, 0, 45, 58, 70, 84, 97)):
        process = started(script, folder, workers=number % 3)
        kill_at(process, folder, target and max(target, logged(folder) + 1), rng)
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
        last = RunFolder(folder).last
        if last.exists():
            torch.load(last, weights_only=True)
    assert started(script, folder).wait() == 0
    one, two = (torch.load(RunFolder(tmp_path / n).last, weights_only=True) for n in ("whole", "killed"))
    assert two["global_step"] == STEPS
    assert worlds.equal(one["state_dict"], two["state_dict"])
    assert worlds.equal(one["ofasys"]["average"], two["ofasys"]["average"])
    steps = [r["step"] for r in RunFolder(folder).history() if r["kind"] == "step"]
    assert steps == list(range(1, STEPS + 1))
    exports = [Generalist.from_pretrained(tmp_path / n) for n in ("whole", "killed")]
    assert worlds.equal(worlds.weights(exports[0]), worlds.weights(exports[1]))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "workers"), [(signal.SIGINT, 0), (signal.SIGTERM, 1), (signal.SIGUSR1, 2)])
def test_a_signal_keeps_a_checkpoint_of_the_last_step(tmp_path: Path, number: signal.Signals, workers: int) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(steps=100_000).replace("checkpoint_every=1e-9", "checkpoint_every=60.0"))
    folder = tmp_path / "run"
    process = started(script, folder, workers)  # the whole group gets the signal, as from a scheduler
    while logged(folder) < 5 and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, number)
    assert process.wait(timeout=120) == 128 + number
    assert torch.load(RunFolder(folder).last, weights_only=True)["global_step"] == logged(folder)


@pytest.mark.slow
def test_signals_at_random_moments_of_random_trainings_lose_nothing() -> None:
    command = [sys.executable, str(Path(__file__).with_name("chaos_signals.py")), "--runs", "12", "--seed", "7"]
    path = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
    assert [line for line in done.stdout.splitlines() if re.match(r" *\d+ lost ", line)] == []
    assert "12 runs, seed 7, 0 lost" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="no pseudo terminals here")
def test_a_closed_terminal_keeps_a_checkpoint_of_the_last_step(tmp_path: Path) -> None:
    import fcntl
    import termios

    (tmp_path / "d.csv").write_text("q,a\n" + "".join(f"word {n},{'abc'[n % 3]}\n" for n in range(60)))
    keyboard, terminal = os.openpty()
    task = ["+tasks.mine.instruction=[TEXT:q] what? -> [TEXT:a,closed_set]", "+tasks.mine.data.train=d.csv"]
    settings = ["model=tiny", "trainer.workers=1", "trainer.samples_per_step=8", "trainer.log_every=1", "steps=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ofasys_lite", "train", "name=r", *task, *settings],
        **{"stdin": terminal, "stdout": terminal, "stderr": terminal, "cwd": tmp_path, "start_new_session": True},
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(terminal)
    folder = tmp_path / "runs" / "r"
    while logged(folder) < 5 and process.poll() is None:
        os.read(keyboard, 65536)  # what nobody reads holds up who prints
    os.close(keyboard)
    assert process.wait(timeout=120) == 128 + signal.SIGHUP
    assert torch.load(RunFolder(folder).last, weights_only=True)["global_step"] == logged(folder)
