"""All rows of the table of speed, one script after the other: measures, stores one JSON a subject, writes the page.

    python -m benchmarks                    # all, some 25 minutes on two quiet cores (the sum of its parts)
    python -m benchmarks --rows 10 11       # the scripts of these rows
    python -m benchmarks --only-page        # docs/performance.md from what is stored, nothing is measured
    python -m benchmarks --list             # which script measures which row

Run it in the top folder of the checkout, with the data of the quickstart prepared (`ofasys-lite data prepare ...`), and
`pip install transformers ctranslate2` for the opponents. A script that fails loses nothing of the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))  # the scripts import each other by name

from goals import GOALS
from performance_page import renew
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

HERE = Path(__file__).resolve().parent
#: Arguments that a script is called with here, so that all of them take about 25 minutes; None: not run here.
ARGUMENTS: dict[str, tuple[str, ...] | None] = {
    "training_bart": ("--batches", "1", "--repetitions", "5", "--precisions", "auto"),
    "decoding": ("--repetitions", "3"),
    "sampling_dnd": ("--repetitions", "2", "--threads", "1"),
    "step_cost": ("--repetitions", "3", "--steps", "61"),
    # hours of training: `python benchmarks/speedrun.py try ...` fills it
    "speedrun": None,
}


def subjects(rows: Sequence[int]) -> list[str]:
    """Scripts of the rows (of all, where none are named), each once, in the order of the table."""
    return list(dict.fromkeys(goal.subject for goal in GOALS if not rows or goal.row in rows))


def command(subject: str) -> list[str] | None:
    """What measures a subject; None where nothing here does."""
    script, arguments = HERE / f"{subject}.py", ARGUMENTS.get(subject, ())
    return None if arguments is None or not script.exists() else [sys.executable, str(script), *arguments]


def measure(names: Sequence[str], console: Console) -> list[str]:
    """Runs the scripts one after the other; returns what failed or could not be run."""
    failed = []
    columns = (TextColumn("{task.description}"), BarColumn(20), TextColumn("{task.completed} of {task.total}"))
    with Progress(*columns, TimeElapsedColumn(), console=console) as bar:
        whole = bar.add_task("benchmarks", total=len(names))
        for name in names:
            bar.update(whole, description=name)
            asked, begin = command(name), time.monotonic()
            if asked is None:
                console.print(f"{name}: not run from here, its stored result is taken", highlight=False)
            else:
                environment = {"OMP_NUM_THREADS": "1", **os.environ}
                done = subprocess.run(asked, capture_output=True, text=True, env=environment)
                seconds = f"{time.monotonic() - begin:.0f} s"
                if done.returncode:
                    failed.append(name)
                    last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
                    console.print(f"{name}: failed after {seconds}\n{last}", highlight=False, markup=False)
                else:
                    console.print(f"{name}: {seconds}\n{done.stdout.strip()}", highlight=False, markup=False)
            bar.advance(whole)
    return failed


def main(argv: Sequence[str] | None = None) -> int:
    """Measures what is asked and writes the page; 1 if a script failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    numbers = [goal.row for goal in GOALS]
    parser.add_argument("--rows", type=int, nargs="+", default=[], choices=numbers, metavar="N", help="these rows only")
    parser.add_argument("--only-page", action="store_true", help="write docs/performance.md, measure nothing")
    parser.add_argument("--list", action="store_true", help="print which script measures which row")
    asked = parser.parse_args(argv)
    console = Console(stderr=True)
    if asked.list:
        for goal in GOALS:
            print(f"{goal.row:3} {goal.subject:14} {goal.metric}")
        return 0
    failed = [] if asked.only_page else measure(subjects(asked.rows), console)
    console.print(f"written: {renew().relative_to(HERE.parent)}", highlight=False)
    if failed:
        console.print(f"failed: {', '.join(failed)}; their earlier results stay", highlight=False)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
