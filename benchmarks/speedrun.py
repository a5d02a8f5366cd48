"""What the quickstart's mixture costs until it is learned: samples, FLOPs and CPU seconds to fixed validation targets.

    python benchmarks/speedrun.py try "AdamW, as it was" --steps 2350 --seeds 0 1 2 -- trainer.optimizer=adamw
    python benchmarks/speedrun.py try "Muon x2" --steps 1200 -- '+trainer.optimizer={path: muon, lr: 2.0}'
    python benchmarks/speedrun.py targets 2026-11-29-1     targets: what that try ended with (median of its seeds)
    python benchmarks/speedrun.py keep 2026-11-29-2 "half the samples for 25 lines of code"
    python benchmarks/speedrun.py test 2026-11-29-2        the whole test split, once, beside README's table of 9e93b69
    python benchmarks/speedrun.py price 2026-11-29-2 OLD/bin/ofasys-lite       CPU seconds beside 9e93b69's own code
    python benchmarks/speedrun.py page                     docs/speedrun.md from the ledger

A try trains `experiment=quickstart` with the Hydra values behind `--`, in this process, one thread, loader included,
and every EVERY steps scores ROWS rows of every task's validation split with the averaged weights, as a training does;
what that costs is not counted. A target is reached where its task's normalised score is at least the target's; all are
held from the first validation on after which no score falls below its target again. The ledger is
benchmarks/results/speedrun.json: one dated row a try, failures too. Tries are chosen by these; `test` scores what is
left in runs/ of a chosen one on all rows of the test split, and holds it against the table in README of 9e93b69.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, commit, machine
from speedrun_ledger import LAST, README_STEPS, page

HERE = Path(__file__).resolve().parents[1]
LEDGER = RESULTS / "speedrun.json"
PAGE = HERE / "docs" / "speedrun.md"
EVERY = 200
#: Tasks whose cards ask for a beam since 2026-12-01: tries are greedy, as those before and README's table of 9e93b69.
BEAMS = ("g2p", "slots", "sudoku", "detection")
ROWS = 200


def tried(what: str, steps: int, seed: int, values: Sequence[str], folder: Path) -> dict[str, Any]:
    """One training: the course of its validation scores over samples and CPU seconds."""
    import torch

    from ofasys_lite.commands.app import main as ofasys_lite
    from ofasys_lite.report.validation import Validator
    from ofasys_lite.training.callbacks import Validating
    from ofasys_lite.training.module import TrainingModule

    torch.set_num_threads(1)
    course: list[dict[str, Any]] = []
    begun: list[float] = []
    scoring = [0.0]
    floats = [0.0]
    plain_step = TrainingModule.training_step

    def step(self: Any, share: Any, batch_idx: int) -> None:
        if not begun:
            begun.append(time.process_time())
        if self.trainer.global_step == 5:  # one step of the mixture is like another but for its rows
            from torch.utils.flop_counter import FlopCounterMode

            # torch counts its own products only
            kept, self.onednn = self.onednn, 0
            with FlopCounterMode(display=False) as counter:
                plain_step(self, share, batch_idx)
            self.onednn = kept
            floats[0] = float(counter.get_total_flops())
        else:
            plain_step(self, share, batch_idx)

    def due(self: Any, trainer: Any, module: Any, *_: Any) -> None:
        if trainer.global_step % EVERY == 0 and trainer.global_step < steps:
            self.validate(trainer, module)

    plain_call = Validator.__call__

    def call(self: Any, model: Any, number: int, seconds: float) -> float | None:
        spent = time.process_time() - begun[0] - scoring[0]
        before = time.process_time()
        rows = len(self.folder.history())
        mean = plain_call(self, model, number, seconds)
        found = {row["task"]: round(row["value"], 4) for row in self.folder.history()[rows:] if row["kind"] == "valid"}
        course.append({"step": number, "cpu": round(spent, 1), "scores": found})
        scoring[0] += time.process_time() - before
        print(f"{what}, seed {seed}, step {number}: {spent:.0f} CPU s, mean {mean:.3f}", file=sys.stderr, flush=True)
        return mean

    TrainingModule.training_step = step  # type: ignore[method-assign]
    Validating.on_train_batch_end = due  # type: ignore[method-assign]
    Validator.__call__ = call  # type: ignore[method-assign]
    size = 32
    try:
        arguments = [
            *(
                "train",
                "experiment=quickstart",
                "minutes=null",
                f"steps={steps}",
                f"seed={seed}",
                "evaluate=false",
                "overwrite=true",
            ),
            *("trainer.workers=0", "trainer.threads=1", f"trainer.valid_samples={ROWS}", f"name={folder.name}"),
            *("trainer.precision=fp32", "trainer.valid_every=1000", "trainer.checkpoint_every=30"),
            *(f"tasks.{task}.decoding={{beam: 1}}" for task in BEAMS),
            *values,
        ]
        size = next((int(v.partition("=")[2]) for v in values if v.startswith("trainer.samples_per_step=")), size)
        if ofasys_lite(arguments):
            raise SystemExit(f"the training of seed {seed} failed")
        losses = last_losses(Path("runs") / folder.name / "metrics.jsonl", steps - LAST)
    finally:
        TrainingModule.training_step = plain_step  # type: ignore[method-assign]
        Validator.__call__ = plain_call  # type: ignore[method-assign]
    gflop = round(floats[0] / 1e9, 1)
    return {"seed": seed, "samples_per_step": size, "gflop_a_step": gflop, "course": course, "losses": losses}


def last_losses(log: Path, after: int) -> dict[str, float]:
    """Nats per token (or row, or box) of each task's target, mean over the log's rows behind a step."""
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    held: dict[str, list[float]] = {}
    for row in rows:
        if row["kind"] == "train" and row["step"] > after and ":" not in row["slot"]:
            held.setdefault(row["task"], []).append(row["loss"])
    return {task: round(statistics.mean(losses), 4) for task, losses in held.items()}


def tested(name: str) -> dict[str, dict[str, float]]:
    """Task -> score on all test rows with the ends of its interval, of a run in runs/."""
    from ofasys_lite.commands.app import main as ofasys_lite

    folder = Path("runs") / name
    if ofasys_lite(["evaluate", f"run={folder}", "baselines=false", "report=false", f"output={folder}/test"]):
        raise SystemExit(f"{folder} could not be evaluated")
    tasks = json.loads((folder / "test" / "metrics.json").read_text(encoding="utf-8"))["tasks"]
    return {t: {k: each["metric"][k] for k in ("value", "low", "high")} for t, each in tasks.items()}


def price(found: Mapping[str, Any], old: Path, repetitions: int = 2) -> dict[str, Any]:
    """CPU seconds of a step of a try and of the quickstart of 9e93b69 by its own code, in turns; one thread each.

    A process of 80 steps less one of 20, so that what is done before the first step does not count.

    Args:
        old: The command of an environment in which 9e93b69 is installed.
    """
    here = Path(sys.executable).parent / "ofasys-lite"
    size = f"trainer.samples_per_step={found['runs'][0]['samples_per_step']}"
    values = {"try": [*found["values"], *(() if size in found["values"] else (size,))], "9e93b69": []}
    spent: dict[str, list[float]] = {name: [] for name in values}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(repetitions):
            for name, command in (("9e93b69", old), ("try", here)):
                few, many = (_cpu_seconds(command, steps, values[name], Path(folder)) for steps in (20, 80))
                spent[name].append(round((many - few) / 60, 4))
    whole = {"9e93b69": README_STEPS, "try": found["runs"][0]["course"][-1]["step"]}
    seconds = {name: statistics.median(each) * whole[name] for name, each in spent.items()}
    return {"cpu_a_step": spent, "ratio": round(seconds["try"] / seconds["9e93b69"], 3), "machine": machine("torch")}


def _cpu_seconds(command: Path, steps: int, values: Sequence[str], folder: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    arguments = ["train", "experiment=quickstart", "minutes=null", f"steps={steps}", "evaluate=false"]
    arguments += ["trainer.workers=0", "trainer.threads=1", "trainer.precision=fp32", "trainer.valid_every=0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(dir=folder) as place:
        subprocess.run([command, *arguments, *values], cwd=place, env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ledger() -> dict[str, Any]:
    """What was tried so far."""
    if LEDGER.exists():
        return dict(json.loads(LEDGER.read_text(encoding="utf-8")))
    return {"benchmark": "speedrun", "targets": {}, "targets_of": "", "tries": []}


def write(found: Mapping[str, Any]) -> None:
    """Stores the ledger, its page, and the page of all goals of speed."""
    from performance_page import renew

    LEDGER.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    renew()


def main(argv: Sequence[str] | None = None) -> None:
    """Tries, or changes what the ledger says."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    values: list[str] = []
    if "--" in arguments:
        values = arguments[arguments.index("--") + 1 :]
        arguments = arguments[: arguments.index("--")]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    trying = verbs.add_parser("try")
    trying.add_argument("what")
    trying.add_argument("--steps", type=int, default=1200)
    trying.add_argument("--seeds", type=int, nargs="+", default=[0])
    for name in ("targets", "keep", "test", "price"):
        verb = verbs.add_parser(name)
        verb.add_argument("id")
        if name == "keep":
            verb.add_argument("reason")
        if name == "price":
            verb.add_argument("old", type=Path)
    verbs.add_parser("page")
    asked = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = ledger()
    if asked.verb == "try":
        day = datetime.date.today().isoformat()
        row = {"what": asked.what, "commit": commit(HERE), "values": values, "machine": machine("torch")}
        name = ""
        for seed in asked.seeds:
            run = tried(asked.what, asked.steps, seed, values, Path(f"speedrun-{os.getpid()}-{seed}"))
            run["run"] = f"speedrun-{os.getpid()}-{seed}"
            now = ledger()  # another try may have ended meanwhile
            name = name or f"{day}-{1 + sum(t['id'].startswith(day) for t in now['tries'])}"
            here = next((t for t in now["tries"] if t["id"] == name), None)
            if here is None:
                now["tries"].append(here := {"id": name, **row, "runs": []})
            here["runs"].append(run)
            write(now)  # each seed at once: what ends the next one loses nothing
        return
    if asked.verb != "page":
        each = next((t for t in found["tries"] if t["id"] == asked.id), None)
        if each is None:
            raise SystemExit(f"no try {asked.id}; there are: {', '.join(t['id'] for t in found['tries'])}")
        if asked.verb == "keep":
            each["kept"] = asked.reason
        elif asked.verb == "price":
            each["price"] = price(each, asked.old.absolute())
            print(each["price"])
        elif asked.verb == "test":
            for run in each["runs"]:
                run["test"] = tested(run["run"])
        else:
            ends = [run["course"][-1]["scores"] for run in each["runs"]]
            found["targets"] = {task: statistics.median(end[task] for end in ends) for task in ends[0]}
            found["targets_of"] = f"{each['id']} ({each['what']})"
    write(found)


if __name__ == "__main__":
    main()
