"""The results of a run as a terminal table and as plain data for metrics.json."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ofasys_lite.metrics import FEWEST_GROUPS, Margin, Score, normalised
from ofasys_lite.plan.narrow import folded, keep_words
from ofasys_lite.report.drawn import drawn
from ofasys_lite.report.results import Baseline, RunResults, TaskResult

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def number_text(value: float, unit: str, signed: bool = False) -> str:
    """A value in its unit: shares and error rates with three digits, points with one; a dash for NaN."""
    if math.isnan(value):
        return "–"
    text = f"{value:+.{1 if unit == 'points' else 3}f}" if signed else f"{value:.{1 if unit == 'points' else 3}f}"
    return text.replace("-", "−")


def score_value(score: Score) -> str:
    """The value alone."""
    return number_text(score.value, score.unit)


def score_interval(score: Score) -> str:
    """`[low, high]`, empty where there is no interval."""
    if math.isnan(score.low):
        return ""
    return f"[{number_text(score.low, score.unit)}, {number_text(score.high, score.unit)}]"


def margin_text(margin: Margin) -> tuple[str, str]:
    """(value, interval) with signs."""
    if math.isnan(margin.low):
        return number_text(margin.value, margin.unit, signed=True), ""
    low, high = (number_text(value, margin.unit, signed=True) for value in (margin.low, margin.high))
    return number_text(margin.value, margin.unit, signed=True), f"[{low}, {high}]"


def items_text(score: Score) -> str:
    """How many items, and how many groups where those are others: `972 items, 36 x 27 groups`."""
    items = f"{score.items:,} items"
    ways = tuple(score.ways) or (score.groups,)
    return items if ways == (score.items,) else f"{items}, {' x '.join(f'{way:,}' for way in ways)} groups"


def clear_text(margin: Margin) -> str:
    """`clear`, `not clear`, or that there are too few groups to know."""
    if not margin.known:
        return f"too few groups ({margin.groups}) to know"
    return "clear" if margin.clear else "not clear"


def unit_mark(score: Score) -> str:
    """An arrow that says which way is better."""
    return "↑" if score.higher_is_better else "↓"


def detail_text(detail: object) -> str:
    """A further figure: numbers with three digits, a pair of them as an interval, anything else as it is."""
    if isinstance(detail, (list, tuple)):
        return f"[{', '.join(map(detail_text, detail))}]"
    return f"{detail:.3f}" if isinstance(detail, float) else str(detail)


#: Cells of a terminal below which the table has no frame and names are folded.
_NARROW = 100


def print_table(run: RunResults, console: Console) -> None:
    """Prints one line per task: metric with interval, strongest trivial baseline, margin, best reference."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    narrow = console.width < _NARROW
    table = Table(title=f"{run.name} on {run.split}", header_style="bold", pad_edge=False)
    if narrow:
        table.box, table.padding = SIMPLE_HEAD, (0, 1, 0, 0)
    name = folded if narrow else str
    table.add_column("task", overflow="fold")
    table.add_column("metric", overflow="fold")
    told = drawn(run.history)
    for title in ("score", "trivial baseline", "margin", "reference", *(["repeats"] if told else [])):
        table.add_column(title, justify="right", overflow="fold")
    for task in run.tasks:
        of = told.get(task.task)
        table.add_row(
            Text(name(task.task)),
            Text.assemble(f"{name(task.metric.name)} {unit_mark(task.metric)}", "\n", (items_text(task.metric), "dim")),
            _score(task.metric),
            _baseline(task.strongest(), name),
            _margin(task),
            _baseline(task.strongest("reference"), name),
            *([Text(of.text if of else "–", "" if of else "dim")] if told else []),
        )
    keep_words(table, console)
    console.print(table)
    console.print(f"{run.verdict} (95 % interval).")
    if any(task.margin is not None and not task.margin.known for task in run.tasks):
        console.print(f"?: fewer than {FEWEST_GROUPS} independent groups of rows say too little to know.")
    if "not evaluated" in run.facts:
        console.print(f"not evaluated: {run.facts['not evaluated']}", highlight=False, markup=False)
    if run.quarantine:
        count = len(run.quarantine)
        console.print(f"{count} row{' was' if count == 1 else 's were'} left out; the report lists them.")


def _score(score: Score) -> Text:
    from rich.text import Text

    return Text.assemble((score_value(score), "bold"), "\n", (score_interval(score), "dim"))


def _baseline(baseline: Baseline | None, name: Callable[[str], str]) -> Text:
    from rich.text import Text

    if baseline is None:
        return Text("–", "dim")
    return Text.assemble(score_value(baseline.score), "\n", (name(baseline.name), "dim"))


def _margin(task: TaskResult) -> Text:
    from rich.text import Text

    if task.margin is None:
        return Text("–", "dim")
    value, between = margin_text(task.margin)
    mark, colour = ("✓", "green") if task.clear else ("✗", "red")
    if not task.margin.known:
        mark, colour, between = "?", "yellow", clear_text(task.margin)
    return Text.assemble((f"{value} {mark}", colour), "\n", (between, "dim"))


def metrics_json(run: RunResults) -> dict[str, Any]:
    """Everything but samples and history as plain data that json.dump writes; NaN becomes None."""
    tasks = {task.task: _task_json(task) for task in run.tasks}
    plain = {
        "name": run.name,
        "split": run.split,
        "facts": dict(run.facts),
        "clear": run.clear,
        "mean_normalised": sum(normalised(task.metric) for task in run.tasks) / max(1, len(run.tasks)),
        "tasks": tasks,
        "quarantine": [asdict(row) for row in run.quarantine],
    }
    cleaned: dict[str, Any] = _without_nan(plain)
    return cleaned


def _task_json(task: TaskResult) -> dict[str, Any]:
    return {
        "instruction": task.instruction,
        "metric": _score_json(task.metric),
        "baselines": [
            {"kind": b.kind, "baseline": b.name, "note": b.note, **_score_json(b.score)} for b in task.baselines
        ],
        "margin": None
        if task.margin is None
        else {**asdict(task.margin), "clear": task.clear, "known": task.margin.known},
        "chance": dict(task.chance),
    }


def _score_json(score: Score) -> dict[str, Any]:
    return {**asdict(score), "details": dict(score.details), "normalised": normalised(score)}


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
