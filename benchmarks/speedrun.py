"""What the quickstart's mixture costs until it is learned: samples, FLOPs and CPU seconds to fixed validation targets.

    python benchmarks/speedrun.py try "AdamW, as it was" --steps 2350 --seeds 0 1 2 -- trainer.optimizer=adamw
    python benchmarks/speedrun.py try "Muon x2" --steps 1200 -- '+trainer.optimizer={path: muon, lr: 2.0}'
    python benchmarks/speedrun.py targets 2026-11-29-1     targets: what that try ended with (median of its seeds)
    python benchmarks/speedrun.py keep 2026-11-29-2 "half the samples for 25 lines of code"
    python benchmarks/speedrun.py test 2026-11-29-2        the whole test split, once, beside README's table of 9e93b69
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
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, commit, machine

HERE = Path(__file__).resolve().parents[1]
LEDGER = RESULTS / "speedrun.json"
PAGE = HERE / "docs" / "speedrun.md"
EVERY = 200
ROWS = 200
#: README's table at 9e93b69: scores on test after 75,200 samples with AdamW; of phones and speech errors.
README = {
    **{"digits": 0.946, "vqa": 0.739, "detection": 0.139, "g2p": 0.232, "intent": 0.906, "slots": 0.0108},
    **{"speech": 0.0547, "sudoku": 0.458, "translation": 34.5, "text_to_sql": 0.265},
}
ERRORS = ("g2p", "speech")
#: Steps over whose training losses a mean is taken: scores of one seed jump where a plateau ends, losses less.
LAST = 100


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
            kept, self.onednn = self.onednn, False
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
            *("trainer.precision=fp32", "trainer.valid_every=1000", "trainer.checkpoint_every=30", *values),
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


def held_on_test(found: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Tasks whose score on test is at least README's of 9e93b69."""
    sign = {task: -1 if task in ERRORS else 1 for task in README}
    return [task for task, goal in README.items() if sign[task] * (found[task]["value"] - goal) >= 0]


def reached(run: Mapping[str, Any], targets: Mapping[str, float]) -> dict[str, Any]:
    """Samples, CPU seconds and TFLOP until each target, and until all are held; None where that never was."""

    def price(index: int | None) -> dict[str, float] | None:
        if index is None:
            return None
        at = run["course"][index]
        samples = at["step"] * run["samples_per_step"]
        return {"samples": samples, "cpu": at["cpu"], "tflop": round(at["step"] * run["gflop_a_step"] / 1000, 1)}

    def held(tasks: Mapping[str, float]) -> int | None:
        good = [all(at["scores"].get(t, 0.0) >= goal for t, goal in tasks.items()) for at in run["course"]]
        last = max((i for i, one in enumerate(good) if not one), default=-1)
        return last + 1 if last + 1 < len(good) else None

    return {"all": price(held(targets)), **{task: price(held({task: goal})) for task, goal in targets.items()}}


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


def _figure(values: Sequence[float | None]) -> str:
    """Median and range of the seeds; how many of them never came there."""
    there = [v for v in values if v is not None]
    if not there:
        return "–"
    text = f"{statistics.median(there):,.0f}"
    if len(there) > 1:
        text += f" ({min(there):,.0f}-{max(there):,.0f})"
    return text if len(there) == len(values) else f"{text}, {len(there)} of {len(values)} seeds"


def page(found: Mapping[str, Any]) -> str:
    """docs/speedrun.md."""
    targets = found["targets"]
    lines = [
        "# Speed run\n",
        "What the quickstart's ten tasks cost until fixed validation targets are held: samples, FLOPs (counted by",
        "torch in one step, the optimizer's products included), CPU seconds of one thread (validation not counted).",
        "Written by `python benchmarks/speedrun.py page` from benchmarks/results/speedrun.json; failures stay in it.",
        f"Last losses are nats over the last {LAST} steps, all tasks alike: seeds differ by .02 in them and by .05 in",
        "their scores, so short tries are told apart by losses. What was not kept is not in the code.\n",
    ]
    if targets:
        lines += [
            f"Targets: normalised validation scores with which {found['targets_of']} ended (median of its seeds).\n",
            "| " + " | ".join(targets) + " |",
            "|" + "---|" * len(targets),
            "| " + " | ".join(f"{v:.3f}" for v in targets.values()) + " |\n",
        ]
    lines += [
        "| try | what | commit | seeds | steps x samples | mean score at the end | mean of the last losses "
        "| samples to all targets | CPU s to all | TFLOP to all | CPU s a step | kept |",
        "|" + "---|" * 12,
    ]
    for each in found["tries"]:
        runs = each["runs"]
        ends = [statistics.mean(run["course"][-1]["scores"].values()) for run in runs]
        prices = [reached(run, targets)["all"] for run in runs] if targets else [None] * len(runs)
        cells = [[None if p is None else p[key] for p in prices] for key in ("samples", "cpu", "tflop")]
        last = runs[0]["course"][-1]
        mean = f"{statistics.median(ends):.3f}" + (f" ({min(ends):.3f}-{max(ends):.3f})" if len(ends) > 1 else "")
        step = statistics.median(run["course"][-1]["cpu"] / run["course"][-1]["step"] for run in runs)
        size = runs[0]["samples_per_step"]
        shown = [each["id"], each["what"], each["commit"], str(len(runs)), f"{last['step']} x {size}", mean]
        losses = [statistics.mean(run["losses"].values()) for run in runs if run.get("losses")]
        shown += [f"{statistics.median(losses):.3f}" if losses else "–"]
        shown += [*map(_figure, cells), f"{step:.2f}", each.get("kept", "not decided")]
        lines.append(f"| {' | '.join(shown)} |")
    if found["tries"]:
        names = list(found["tries"][0]["runs"][0]["course"][-1]["scores"])
        lines += ["\nScores at the end (normalised, median of the seeds):\n", "| try | " + " | ".join(names) + " |"]
        lines.append("|" + "---|" * (len(names) + 1))
        for each in found["tries"]:
            held = [run["course"][-1]["scores"] for run in each["runs"]]
            scores = [f"{statistics.median(s.get(n, 0.0) for s in held):.3f}" for n in names]
            lines.append(f"| {each['id']} | " + " | ".join(scores) + " |")
    return "\n".join([*lines, *tests(found), *screenings(found), *together(found)]) + "\n"


def screenings(found: Mapping[str, Any]) -> list[str]:
    """The table of ideas that were tried on one task alone."""
    lines = [
        "\n## Screened on one task alone\n",
        "`model=quick`, the quickstart's settings; nats of a number of a box, mean of steps 181 to 240.\n",
        "| date, commit | task | what | steps x samples, seed | loss | kept |",
        "|---|---|---|---|---|---|",
    ]
    for row in found.get("screenings", ()):
        cells = [
            f"{row['date']}, {row['commit']}",
            row["task"],
            row["what"],
            f"{row['steps']} x {row['samples']}, {row['seed']}",
        ]
        lines.append(f"| {' | '.join(cells)} | {row['loss']:.2f} | {row['kept']} |")
    return lines


def together(found: Mapping[str, Any]) -> list[str]:
    """The table of ideas that were tried on the tasks with plateaus, learned together."""
    rows = found.get("together", ())
    names = list(rows[0]["losses"]) if rows else []
    return [
        "\n## Screened on the tasks with plateaus together\n",
        "sudoku 2.2, detection 2.4, easy-vqa 2.0 and speech 1.7, `model=quick`, Muon x3, coordinates_deviation .15,",
        "480 steps of 24 samples; nats, mean of steps 401 to 480. Seeds of the base differ as much as most rows.\n",
        "| date, commit | what | seed | " + " | ".join(names) + " | kept |",
        "|---|---|---|" + "---|" * len(names) + "---|",
        *(
            f"| {row['date']}, {row['commit']} | {row['what']} | {row['seed']} | "
            f"{' | '.join(f'{loss:.2f}' for loss in row['losses'].values())} | {row['kept']} |"
            for row in rows
        ),
    ]


def tests(found: Mapping[str, Any]) -> list[str]:
    """The table of tries whose models were scored on the test split."""
    lines = [
        "\n## On test, beside README's table of 9e93b69\n",
        "Whole test splits, scored once, of tries chosen on validation; README's column is AdamW after 75,200 samples.",
        "Phones and speech are errors. Behind a score its 95 % interval; bold: at least README's.\n",
        "| try, seed | samples | " + " | ".join(README) + " | held |",
        "|---|---|" + "---|" * len(README) + "---|",
        "| README | 75,200 | " + " | ".join(f"{goal:g}" for goal in README.values()) + " | |",
    ]
    for each in found["tries"]:
        for run in each["runs"]:
            if "test" in run:
                held = held_on_test(run["test"])
                shown = {t: f"{v['value']:.3g} [{v['low']:.3g}, {v['high']:.3g}]" for t, v in run["test"].items()}
                cells = [f"**{shown[t]}**" if t in held else shown[t] for t in README]
                samples = run["course"][-1]["step"] * run["samples_per_step"]
                lines.append(f"| {each['id']}, {run['seed']} | {samples:,} | {' | '.join(cells)} | {len(held)} of 10 |")
    return lines


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
    for name in ("targets", "keep", "test"):
        verb = verbs.add_parser(name)
        verb.add_argument("id")
        if name == "keep":
            verb.add_argument("reason")
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
