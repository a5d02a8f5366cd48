"""What a precision of predictions costs in scores and in CPU seconds: one trained run, evaluated in each of them.

    python benchmarks/precisions.py runs/quickstart                # test rows of every task, fp32, bf16 and int8
    python benchmarks/precisions.py runs/quickstart --limit 100    # at most so many rows a task
    python benchmarks/precisions.py --page                         # the table of docs/model.md from what is stored

One thread, process CPU time, tasks one after the other, each in all precisions; what is read from disk is read before
by a first evaluation of a few rows. Answers are compared with those in fp32, row by row, as they are printed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common import RESULTS, machine, table, write_row

PRECISIONS = ("fp32", "bf16", "int8")
PAGE = Path(__file__).parents[1] / "docs" / "model.md"
BEGIN, END = "<!-- precisions:begin -->\n", "<!-- precisions:end -->"


def measure(folder: str, limit: int | None) -> dict[str, Any]:
    """Task -> precision -> score, ends of its interval, CPU seconds, share of answers as in fp32."""
    from ofasys_lite import GeneralistModel, evaluate

    models = {name: GeneralistModel.from_pretrained(folder, device="cpu", precision=name) for name in PRECISIONS}
    found: dict[str, dict[str, Any]] = {}
    for task in models["fp32"].generalist.tasks:
        said: dict[str, Sequence[Any]] = {}
        for name, model in models.items():
            evaluate(model, task, limit=4, baselines=False)
            begin = time.process_time()
            (result,) = evaluate(model, task, limit=limit, baselines=False).tasks
            seconds = time.process_time() - begin
            said[name] = [str(each) for each in result.said.told[0].predictions] if result.said else []
            alike = sum(a == b for a, b in zip(said[name], said["fp32"], strict=True)) / max(1, len(said[name]))
            score = result.metric
            found.setdefault(task, {"metric": score.name})[name] = {
                "value": score.value, "low": score.low, "high": score.high, "cpu_s": round(seconds, 1),
                "rows": len(said[name]), "alike": round(alike, 4),
            }  # fmt: skip
            print(task, name, found[task][name], flush=True)
    return found


def page(row: Mapping[str, Any]) -> str:
    """The table as Markdown."""
    lines = [["task", "metric", *PRECISIONS, "answers as in fp32: bf16, int8", "CPU s: fp32, bf16, int8"]]
    for task, found in row["tasks"].items():
        scores = [f"{found[name]['value']:.3g}" for name in PRECISIONS]
        alike = ", ".join(f"{100 * found[name]['alike']:.1f} %" for name in PRECISIONS[1:])
        seconds = ", ".join(f"{found[name]['cpu_s']:.0f}" for name in PRECISIONS)
        lines.append([task, found["metric"], *scores, alike, seconds])
    said = row["machine"]
    where = f"`python benchmarks/precisions.py {row['run']}`, {row['date']}, {row['commit']}, {said['cpu']}, one thread"
    return f"{where}, load {row['load']}; the quickstart's test rows:\n\n{table(lines)}\n"


def renew(row: Mapping[str, Any]) -> None:
    """Puts the table into docs/model.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, behind = rest.partition(END)
    PAGE.write_text(before + BEGIN + page(row) + END + behind, encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> None:
    """Measures and stores, or only writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", nargs="?", help="a trained run")
    parser.add_argument("--limit", type=int, default=None, help="most rows of a task")
    parser.add_argument("--page", action="store_true", help="write docs/model.md from what is stored")
    args = parser.parse_args(argv)
    if not args.page:
        if args.run is None:
            parser.error("name a run, such as runs/quickstart")
        import torch

        torch.set_num_threads(1)
        tasks = measure(args.run, args.limit)
        write_row("precisions", {"run": args.run, "limit": args.limit, "machine": machine("torch"), "tasks": tasks})
    renew(json.loads((RESULTS / "precisions.json").read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
