"""What became of the tasks that a model had learned before: measured as it began and when it was done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.errors import OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.writing import write_atomic

#: In the run's folder.
FILE = "start.json"
#: Rows per task: enough to see a task go, and quick.
_ROWS = 100


def measured(model: Generalist, tasks: Iterable[str] | None = None) -> dict[str, dict[str, Any]]:
    """Per task its metric and score on at most 100 rows of the test split, or the reason why there is none."""
    found: dict[str, dict[str, Any]] = {}
    for task in model.tasks if tasks is None else tasks:
        try:
            results = evaluate(model, [task], limit=_ROWS, baselines=False, samples=0, bootstrap=1, seen="drop")
            metric = results.tasks[0].metric
            found[task] = {"metric": metric.name, "score": metric.value, "rows": metric.items}
        except OfasysError as error:
            found[task] = {"reason": error.errors[0].message}
    return found


def note(path: str, before: Mapping[str, Mapping[str, Any]], model: Generalist, folder: Path) -> dict[str, Any]:
    """What became of the tasks that were measured `before`, written into the run's folder."""
    after = measured(model, [task for task, one in before.items() if "score" in one])
    told = {"path": path, "before": dict(before), "after": after}
    write_atomic(folder / FILE, json.dumps(told, indent=1, ensure_ascii=False))
    return told


def changes(told: Mapping[str, Any]) -> list[str]:
    """A line per task: what it was and is, or why that is not known."""
    lines = []
    for task, before in told["before"].items():
        after = told.get("after", {}).get(task, {})
        if "score" in before and "score" in after:
            lines.append(f"{task}: {before['metric']} {before['score']:.3f} before, {after['score']:.3f} now")
        else:
            lines.append(f"{task}: not measured ({before.get('reason') or after.get('reason') or 'not done yet'})")
    return lines
