"""PERFORMANCE rows 6 and 12: how long a trainer waits for its loader, how much of its rows is padding; quickstart.

    OMP_NUM_THREADS=1 python benchmarks/loader_wait.py

The quickstart as its command trains it, a few steps of it. The wait is wall time in the loader's `next`, the share is
over the wall time of those steps; the first steps, when the worker fills its queue, do not count. Beside it the CPU
seconds a step of the worker and of the trainer, which do not hang on who else uses the machine: below 1, a worker that
has a core keeps up. Padding: rows that went through encoder and decoder beside those that samples have.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from common import machine, table, write_row
from torch.utils.data import dataloader
from watched import watching

from ofasys_lite.commands.app import main as ofasys_lite

SKIPPED = 8


def measured(steps: int, folder: Path) -> dict[str, Any]:
    """Waits and times of a training of so many steps."""
    waits: list[float] = []
    iterator = dataloader._BaseDataLoaderIter
    plain = iterator.__next__

    def following(self: Any) -> Any:
        begin = time.monotonic()
        try:
            return plain(self)
        finally:
            waits.append(time.monotonic() - begin)

    command = ["train", "experiment=quickstart", f"steps={steps}", "minutes=null", "evaluate=false", "overwrite=true"]
    command += ["trainer.workers=1", "trainer.threads=1", "trainer.valid_every=0", f"name={folder.name}"]
    iterator.__next__ = following  # type: ignore[method-assign]
    try:
        before = os.times()
        with watching(time.process_time) as spent:
            with watching(time.monotonic) as passed:
                if ofasys_lite(command):
                    raise SystemExit("the training failed")
            children = os.times()
    finally:
        iterator.__next__ = plain  # type: ignore[method-assign]
    wall = passed.begins[-1] - passed.begins[SKIPPED]
    # the share of step n is fetched before step n begins
    waited = sum(waits[SKIPPED + 1 : len(passed.begins)])
    own = (spent.begins[-1] - spent.begins[SKIPPED]) / (len(spent.begins) - 1 - SKIPPED)
    worker = (children.children_user + children.children_system - before.children_user - before.children_system) / steps
    return {
        "steps": steps,
        "wait_share": waited / wall,
        "first_wait_s": waits[0],
        "wall_s_a_step": wall / (len(passed.begins) - 1 - SKIPPED),
        "trainer_cpu_s_a_step": own,
        "worker_cpu_s_a_step": worker,
        "worker_over_trainer": worker / own,
        "padding": passed.padding(),
        "longest_wait_s": max(waits[SKIPPED + 1 :]),
    }


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints and stores; returns the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    asked = parser.parse_args(argv)
    torch.set_num_threads(1)
    out = None if asked.out is None else asked.out.resolve()
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)  # runs/ is made where the command is given
        try:
            row = {**measured(asked.steps, Path("loader-wait")), "machine": machine("torch", "lightning")}
        finally:
            os.chdir(before)
    print(table([["figure", "value"], *([key, str(value)] for key, value in row.items())]))
    print("stored in", write_row("loader_wait", row, out))
    return row


if __name__ == "__main__":
    main()
