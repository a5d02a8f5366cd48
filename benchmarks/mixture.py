"""Cost of naming the samples of one step, for 1, 10 and 100 tasks, near the start and far into a run.

    python benchmarks/mixture.py [--samples 64] [--repetitions 7]

CPU time of one process, cases interleaved, median and range; prints a table and writes results/mixture.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial

from common import cpu_seconds, interleave, machine, spread, table, write_row

from ofasys_lite.data.mixture import Mixture, MixtureTask, Schedule
from ofasys_lite.layout.loader import deal

STEPS = 300
FAR = 10**9


def tasks(count: int, ramps: bool) -> list[MixtureTask]:
    """Tasks of different sizes and weights, constant or moving."""
    weights = [1 + number % 7 for number in range(count)]
    schedules = [Schedule.parse([[0, weight], [10_000, weight + 1]] if ramps else weight) for weight in weights]
    return [MixtureTask(f"task{n}", 1_000 + 997 * n, schedule) for n, schedule in enumerate(schedules)]


def draws(mixture: Mixture, start: int, repetition: int) -> None:
    """The samples of some steps."""
    for step in range(start, start + STEPS):
        mixture.draw(step)


def deals(lengths: list[tuple[int, int]], repetition: int) -> None:
    """The same step dealt to two ranks, several times."""
    for _ in range(STEPS):
        deal(lengths, 2, (4096, 2048))


def main() -> None:
    parser = argparse.ArgumentParser(description="Cost of naming the samples of one step.")
    parser.add_argument("--samples", type=int, default=64, help="samples of a step")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    sides: dict[str, Callable[[int], object]] = {}
    made: dict[str, float] = {}
    for count in (1, 10, 100):
        for ramps in (False, True):
            what = f"{count} task{'s' * (count > 1)}{', all on ramps' * ramps}"
            build = partial(Mixture, tasks(count, ramps), 0, options.samples)
            made[what] = cpu_seconds(build)
            mixture = build()
            sides[f"{what}, first steps"] = partial(draws, mixture, 0)
            sides[f"{what}, step 1e9"] = partial(draws, mixture, FAR)
    lengths = [(10 + 37 * number % 300, 1 + 11 * number % 60) for number in range(options.samples)]
    sides["deal to 2 ranks"] = partial(deals, lengths)
    found = {name: spread(list(times)) for name, times in interleave(sides, options.repetitions).items()}
    base = found["1 task, first steps"].median
    rows = [["case", "microseconds a step (range)", "over 1 task"]]
    for name, times in found.items():
        each = spread([seconds / STEPS * 1e6 for seconds in (times.low, times.median, times.high)])
        rows.append([name, str(each), f"{times.median / base:.2f}"])
    print(f"{options.samples} samples a step, CPU time, {options.repetitions} repetitions of {STEPS} steps")
    print(table(rows))
    print("construction, ms:", ", ".join(f"{what}: {seconds * 1e3:.1f}" for what, seconds in made.items()))
    row = {
        "samples": options.samples,
        "steps": STEPS,
        "seconds": {name: times.to_dict() for name, times in found.items()},
        "construction_seconds": made,
        "machine": machine("numpy"),
    }
    print(json.dumps(row))
    write_row("mixture", row)


if __name__ == "__main__":
    main()
