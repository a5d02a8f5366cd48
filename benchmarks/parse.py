"""Microseconds to parse and to unparse one instruction line, over the lines of tests/instruction/lines.txt.

Protocol: every repetition parses each line `--rounds` times in one timed loop, process CPU time, one thread; the first
repetition warms up and is dropped; printed are the best and the median repetition per line, and the slowest line.

    python benchmarks/parse.py
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from common import machine, write_row

from ofasys_lite.instruction import parse, unparse

LINES = Path(__file__).parent.parent / "tests" / "instruction" / "lines.txt"
GOAL_US = 100.0


def microseconds(function: Callable[[], object], repetitions: int, rounds: int) -> list[float]:
    """CPU microseconds of one call, one value per repetition."""
    values = []
    for _ in range(repetitions + 1):
        start = time.process_time()
        for _ in range(rounds):
            function()
        values.append((time.process_time() - start) / rounds * 1e6)
    return values[1:]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--repetitions", type=int, default=9)
    arguments.add_argument("--rounds", type=int, default=50)
    arguments.add_argument("--out", type=Path, default=None, help="folder of the JSON row, default benchmarks/results")
    options = arguments.parse_args()

    lines = [line for line in LINES.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    per_line = {
        line: microseconds(lambda line=line: parse(line), options.repetitions, options.rounds)  # type: ignore[misc]
        for line in lines
    }
    trees = [parse(line) for line in lines]
    back = microseconds(lambda: [unparse(tree) for tree in trees], options.repetitions, options.rounds)
    medians = {line: statistics.median(values) for line, values in per_line.items()}
    slowest = max(medians, key=lambda line: medians[line])
    row = {
        "lines": len(lines),
        "parse_us_best": round(statistics.mean(min(values) for values in per_line.values()), 1),
        "parse_us_median": round(statistics.mean(medians.values()), 1),
        "parse_us_slowest_line": round(medians[slowest], 1),
        "lines_under_goal": sum(value < GOAL_US for value in medians.values()),
        "unparse_us_median": round(statistics.median(back) / len(lines), 1),
        "goal_us": GOAL_US,
        **machine(),
    }
    print(f"{row['lines']} lines, mean per line: parse {row['parse_us_median']} us (best {row['parse_us_best']}),")
    print(f"unparse {row['unparse_us_median']} us; goal {GOAL_US:.0f} us, {row['lines_under_goal']} lines under it")
    print(f"slowest, {row['parse_us_slowest_line']} us: {slowest}")
    print("stored in", write_row("parse", row, options.out))


if __name__ == "__main__":
    main()
