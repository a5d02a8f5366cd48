"""PERFORMANCE row 14: a training that was stopped in mid-epoch goes on with the same samples, to the same weights.

    OMP_NUM_THREADS=1 python benchmarks/resuming.py

Three of the quickstart's tasks (pictures, sound, text), a small model, with dropout, averaged weights and Muon. One run
of 12 steps is left alone; others are stopped by a signal after 5 and go on with another number of loader processes.
Compared: what every step was made of (a hash of all arrays of all packs), and the weights at the end, bit for bit.
Seconds: CPU time of a fresh process from its start, imports included, until its first step, when it begins and when it
goes on; and wall time, which hangs on who else uses the machine.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

STEPS, STOP = 12, 5
TASKS = ["digits", "speech", "g2p"]
WORKERS = ((0, 0), (0, 2), (1, 0))


def child(folder: Path, workers: int, resume: bool, stop: int) -> None:
    """One process of a training; tells what its steps were made of and what the weights are at the end."""
    import torch

    torch.set_num_threads(1)
    from ofasys_lite import GeneralistModel, fit
    from ofasys_lite.training.module import TrainingModule

    told: dict[str, Any] = {"steps": {}, "imports_cpu_s": time.process_time()}
    plain = TrainingModule.training_step

    def step(self: Any, share: Any, batch_idx: int) -> None:
        told.setdefault("cpu_s", time.process_time())
        told.setdefault("wall_s", time.time() - float(os.environ["BEGUN"]))
        told["steps"][self.global_step] = hashlib.sha256(pickle.dumps(share.packs)).hexdigest()
        if self.global_step == stop:
            os.kill(os.getpid(), signal.SIGTERM)  # a thread notes it, and it is obeyed between two steps
            time.sleep(0.1)
        plain(self, share, batch_idx)
        (folder.parent / "told.json").write_text(json.dumps(told), encoding="utf-8")

    TrainingModule.training_step = step  # type: ignore[method-assign]
    sizes: dict[str, Any] = {"width": 64, "heads": 2, "ffn": 128, "encoder_layers": 2, "decoder_layers": 2}
    settings = {"optimizer": "muon", "ema": 0.9, "preset": "cpu", "threads": 1, "pieces": 400, "samples_per_step": 16}
    model = GeneralistModel("tiny", dropout=0.1, **sizes)
    fit(model, TASKS, steps=STEPS, folder=folder, resume=resume, workers=workers, valid_every=0, **settings)
    digest = hashlib.sha256()
    for name, value in sorted(model.generalist.network.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    told["weights"] = digest.hexdigest()
    (folder.parent / "told.json").write_text(json.dumps(told), encoding="utf-8")


def run(folder: Path, workers: int, resume: bool = False, stop: int = -1) -> dict[str, Any]:
    """What a process of its own tells of its part of the training."""
    command = [sys.executable, __file__, "--child", str(folder), str(workers), str(int(resume)), str(stop)]
    done = subprocess.run(command, env={**os.environ, "BEGUN": str(time.time())}, capture_output=True, text=True)
    if done.returncode not in (0, 128 + signal.SIGTERM):
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, Any] = json.loads((folder.parent / "told.json").read_text(encoding="utf-8"))
    return found


def measured(folder: Path) -> dict[str, Any]:
    """Exactness and seconds of every pair of numbers of loader processes."""
    (folder / "whole").mkdir()
    whole = run(folder / "whole" / "run", 0)
    cases = []
    for first, second in WORKERS:
        place = folder / f"{first}-{second}"
        place.mkdir()
        begun = run(place / "run", first, stop=STOP)
        on = run(place / "run", second, resume=True)
        expected = {step: made for step, made in whole["steps"].items() if step not in begun["steps"]}
        if not 0 < len(expected) < STEPS:
            raise SystemExit(f"the run was not stopped in its middle: it made {len(begun['steps'])} steps")
        cases.append(
            {
                "workers": [first, second],
                "samples_equal": on["steps"] == expected,
                "weights_equal": on["weights"] == whole["weights"],
                "imports_cpu_s": on["imports_cpu_s"],
                "fresh_cpu_s": begun["cpu_s"],
                "resumed_cpu_s": on["cpu_s"],
                "fresh_wall_s": begun["wall_s"],
                "resumed_wall_s": on["wall_s"],
            }
        )
    seconds = ("imports_cpu_s", "fresh_cpu_s", "resumed_cpu_s")
    profile = {
        "what": "CPU seconds of a process from its start",
        "head": [
            "loader processes",
            "torch, Lightning and the project are imported",
            "first step of a new run",
            "resumed",
        ],
        "rows": [[" then ".join(map(str, c["workers"])), *(f"{c[key]:.1f}" for key in seconds)] for c in cases],
    }
    return {"steps": STEPS, "stopped_behind": STOP, "tasks": TASKS, "cases": cases, "profile": profile}


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and stores; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    parser.add_argument("--child", nargs=4, default=None, help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    if asked.child is not None:
        folder, workers, resume, stop = asked.child
        child(Path(folder), int(workers), bool(int(resume)), int(stop))
        return {}
    from common import machine, table, write_row

    with tempfile.TemporaryDirectory() as name:
        row = {**measured(Path(name)), "machine": machine("torch", "lightning")}
    cases: list[dict[str, Any]] = row["cases"]
    print(table([list(cases[0]), *([str(value) for value in case.values()] for case in cases)]))
    print("stored in", write_row("resuming", row, asked.out))
    return row


if __name__ == "__main__":
    main()
