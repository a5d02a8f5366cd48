"""What the speed run's ledger says: prices of targets, scores on test beside README's of 9e93b69, docs/speedrun.md."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

#: README's table at 9e93b69: scores on test after 75,200 samples with AdamW; of phones and speech errors.
README = {
    **{"digits": 0.946, "vqa": 0.739, "detection": 0.139, "g2p": 0.232, "intent": 0.906, "slots": 0.0108},
    **{"speech": 0.0547, "sudoku": 0.458, "translation": 34.5, "text_to_sql": 0.265},
}
ERRORS = ("g2p", "speech")
#: Optimizer steps and samples that README's table at 9e93b69 took.
README_STEPS, README_SAMPLES = 2350, 75_200
#: Steps over whose training losses a mean is taken: scores of one seed jump where a plateau ends, losses less.
LAST = 100
#: Seeds from which on a mean says something.
SEEDS = 3


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


def mean_on_test(found: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Task -> the mean of a try's scores on test over its seeds; empty where none was scored."""
    scored = [run["test"] for run in found["runs"] if "test" in run]
    if not scored:
        return {}
    return {task: {"value": statistics.fmean(test[task]["value"] for test in scored)} for task in README}


def best(found: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Of what was kept, the try of fewest samples, then of the least price, that holds all of README's scores, by the
    means of its seeds."""
    able = [
        each
        for each in found["tries"]
        if not each.get("kept", "no").startswith("no")
        and sum("test" in run for run in each["runs"]) >= SEEDS
        and len(held_on_test(mean_on_test(each))) == len(README)
    ]
    return min(able, key=lambda each: (samples_of(each), each.get("price", {}).get("ratio", math.inf)), default=None)


def samples_of(found: Mapping[str, Any]) -> int:
    """Samples of one seed of a try."""
    run = found["runs"][0]
    return int(run["course"][-1]["step"] * run["samples_per_step"])


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
        "their scores, so short tries are told apart by losses. What was not kept is not in the code, or a choice that",
        "no preset of the quickstart makes (`schedule: wsd`, `beta2`, `near_bias`).\n",
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
        "Whole test splits, each model scored once; README's row is AdamW after 75,200 samples. From 2026-11-30-9 on",
        "weights of tasks were chosen after test scores of tries before had been seen: no fresh test of that choice.",
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
        scored = sum("test" in run for run in each["runs"])
        if scored > 1:
            means = mean_on_test(each)
            held = held_on_test(means)
            cells = [f"**{v['value']:.3g}**" if t in held else f"{v['value']:.3g}" for t, v in means.items()]
            name = f"{each['id']}, mean of {scored}"
            lines.append(f"| {name} | {samples_of(each):,} | {' | '.join(cells)} | {len(held)} of 10 |")
    return lines
