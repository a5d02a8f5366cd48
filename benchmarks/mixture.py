"""Cost of naming the samples of one step, for 1, 10 and 100 tasks, near the start and far into a run.

    python benchmarks/mixture.py [--samples 64] [--repeats 7]

Prints a table and one JSON row. CPU time of one process, median over repeats, the cases interleaved.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import numpy as np

from ofasys_lite.data.deal import deal
from ofasys_lite.data.mixture import Mixture, MixtureTask, Schedule

STEPS = 300
FAR = 10**9


def tasks(count: int, schedules: bool) -> list[MixtureTask]:
    """Tasks of different sizes and weights."""
    weights = [1 + number % 7 for number in range(count)]
    return [
        MixtureTask(
            f"task{number}",
            1_000 + 997 * number,
            Schedule.parse([[0, weight], [10_000, weight + 1]]) if schedules else weight,
        )
        for number, weight in enumerate(weights)
    ]


def seconds(mixture: Mixture, start: int) -> float:
    """CPU seconds of one draw."""
    begin = time.process_time()
    for step in range(start, start + STEPS):
        mixture.draw(step)
    return (time.process_time() - begin) / STEPS


def dealt(samples: int) -> float:
    """CPU seconds of dealing one step to two ranks."""
    lengths = [(10 + 37 * number % 300, 1 + 11 * number % 60) for number in range(samples)]
    sources, targets = zip(*lengths, strict=True)
    begin = time.process_time()
    for _ in range(STEPS):
        deal(lengths, sources, targets, 2, 4096, 2048)
    return (time.process_time() - begin) / STEPS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=64, help="samples of a step")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cases = {}
    for count in (1, 10, 100):
        for schedules in (False, True):
            begin = time.process_time()
            mixture = Mixture(tasks(count, schedules), 0, options.samples)
            made = time.process_time() - begin
            for name, start in (("start", 0), ("far", FAR)):
                cases[f"{count} tasks{', ramps' if schedules else ''}, {name}"] = (mixture, start, made)
    times: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(options.repeats + 1):
        for name, (mixture, start, _) in cases.items():
            found = seconds(mixture, start)
            if number:  # the first round warms up
                times[name].append(found)
    deals = [dealt(options.samples) for _ in range(options.repeats + 1)][1:]
    base = statistics.median(times["1 tasks, start"])
    print(f"{options.samples} samples a step; microseconds of CPU per step; median (least - most) of {options.repeats}")
    rows = {}
    for name, found in times.items():
        middle = statistics.median(found)
        rows[name] = {"us": middle * 1e6, "over_one_task": middle / base, "construction_ms": cases[name][2] * 1e3}
        spread = f"({min(found) * 1e6:.0f} - {max(found) * 1e6:.0f})"
        print(f"{name:28} {middle * 1e6:7.0f} {spread:16} x{middle / base:.2f}  made in {cases[name][2] * 1e3:.1f} ms")
    print(f"{'deal to 2 ranks':28} {statistics.median(deals) * 1e6:7.0f}")
    facts = {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.machine()}
    print(json.dumps({"benchmark": "mixture", "samples": options.samples, "cases": rows, **facts}))


if __name__ == "__main__":
    main()
