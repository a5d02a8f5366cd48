"""The table at the end of a sweep: every job's headline metrics, the best marked, the seeds of a setting together."""

from __future__ import annotations

import json
import math
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.metrics import Score, normalised
from ofasys_lite.plan.narrow import folded, keep_words
from ofasys_lite.report.table import number_text, score_interval, score_value, unit_mark

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_SEED = "seed"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a sweep.

    Attributes:
        values: What was overridden: key -> value as text.
        lack: Why it has no scores; of an evaluated run, which tasks have none.
        scores: Task -> headline metric.
        rows: Task -> where its test rows come from: scores on other rows are not held against each other.
        home: The sweep's folder by the name of this run.
        split: Whose rows were judged.
    """

    number: int
    run: Path
    values: Mapping[str, str]
    lack: str = ""
    scores: Mapping[str, Score] = field(default_factory=dict)
    rows: Mapping[str, str] = field(default_factory=dict)
    home: Path = Path("runs")
    split: str = "test"


@dataclass(frozen=True, slots=True)
class _Row:
    """One job, or all seeds of one setting: `scores` are their means then, `spread` the standard deviations."""

    head: str
    values: Mapping[str, str]
    scores: Mapping[str, Score]
    rows: Mapping[str, str]
    lack: str = ""
    spread: Mapping[str, tuple[int, float]] = field(default_factory=dict)


def print_sweep(jobs: Sequence[Job], console: Console) -> None:
    """Prints one line per task of each job, then the means over seeds."""
    from rich.table import Table
    from rich.text import Text

    changed = {key for job in jobs for key in job.values if len({each.values.get(key) for each in jobs}) > 1}
    changed = changed or set(jobs[0].values)
    table = Table(title=f"sweep {sweep_folder(jobs)}", header_style="bold", pad_edge=False)
    table.add_column("job", no_wrap=True)
    for title in ("values", "task", "score"):
        table.add_column(title, overflow="fold")
    groups = [(rows, _best(rows)) for rows in (_rows(jobs), _over_seeds(jobs))]
    for rows, best in groups:
        for i, row in enumerate(rows):
            head = Text(row.head + (" *" if (i, "") in best else ""))
            values = Text("\n".join(_pair(*pair) for pair in row.values.items() if pair[0] in changed))
            for task in row.scores:
                table.add_row(head, values, Text(folded(task)), _score(row, task, (i, task) in best))
                head = values = Text()
            if row.lack:
                table.add_row(
                    head,
                    values,
                    Text("–", "dim"),
                    Text(" ".join(folded(word, 18) for word in row.lack.split()), "yellow"),
                )
        table.add_section()
    keep_words(table, console)
    console.print(table)
    if any(best for _, best in groups):
        split = " and ".join(dict.fromkeys(job.split for job in jobs if job.scores))
        told = f"*: best; of several tasks by the mean of normalised scores. Chosen on these {split} rows, it flatters."
        console.print(told, highlight=False)
    if jobs[-1].lack.startswith("stopped"):
        console.print("What was to follow did not begin.", highlight=False)
    if groups[1][0]:
        console.print("±: standard deviation over seeds.", highlight=False)


def _pair(key: str, value: str) -> str:
    """`key=value`; a long line of words stands below its key."""
    return f"{key}=\n{value}" if " " in value and len(key) + len(value) > 30 else f"{key}={value}"


def sweep_folder(jobs: Sequence[Job]) -> Path:
    """The folder of a sweep: the runs' own, or where they have several (`name=a,b`), the one above."""
    return Path(os.path.commonpath([job.home for job in jobs]))


def sweep_json(jobs: Sequence[Job]) -> dict[str, Any]:
    """The same as plain data that json.dump writes; NaN becomes None."""
    found: dict[str, Any] = {}
    for name, rows in (("jobs", _rows(jobs)), ("over_seeds", _over_seeds(jobs))):
        best = _best(rows)
        found[name] = [_json(row, i, best) for i, row in enumerate(rows)]
    for job, told in zip(jobs, found["jobs"], strict=True):
        told["run"] = str(job.run)
    return found


def _rows(jobs: Sequence[Job]) -> list[_Row]:
    return [_Row(str(job.number), job.values, job.scores, job.rows, job.lack) for job in jobs]


def _over_seeds(jobs: Sequence[Job]) -> list[_Row]:
    """One row for all evaluated jobs that differ in nothing but the seed, where there are several."""
    settings: dict[str, list[Job]] = {}
    for job in jobs:
        rest = {key: value for key, value in job.values.items() if key != _SEED}
        settings.setdefault(json.dumps(rest, sort_keys=True), []).append(job)
    found: list[_Row] = []
    for group in settings.values():
        seeds = dict.fromkeys(job.values.get(_SEED, "") for job in group)
        if len(seeds) < 2:
            continue
        means: dict[str, Score] = {}
        spread: dict[str, tuple[int, float]] = {}
        for task in dict.fromkeys(task for job in group for task in job.scores):
            scores = [job.scores[task] for job in group if task in job.scores]
            values = [score.value for score in scores if not math.isnan(score.value)]
            if len(values) > 1:
                means[task] = replace(scores[0], value=statistics.mean(values), low=math.nan, high=math.nan)
                spread[task] = (len(values), statistics.stdev(values))
        rows = next((job.rows for job in group if job.rows), {})
        lack = "" if means else "fewer than two seeds were evaluated"
        found.append(_Row("mean", {**group[0].values, _SEED: ", ".join(seeds)}, means, rows, lack, spread))
    return found


def _best(rows: Sequence[_Row]) -> set[tuple[int, str]]:
    """(row, task) of the best scores, and (row, "") of the best row: over several tasks by normalised scores."""

    def kind(row: _Row, task: str) -> tuple[Any, ...]:
        score = row.scores[task]
        return task, score.name, score.unit, score.items, row.rows.get(task)

    best: set[tuple[int, str]] = set()
    for task in {task for row in rows for task in row.scores}:
        held = {i: row for i, row in enumerate(rows) if task in row.scores}
        if len(held) > 1 and len({kind(row, task) for row in held.values()}) == 1:
            top = max(row.scores[task].rank for row in held.values())
            best |= {(i, task) for i, row in held.items() if row.scores[task].rank == top > -math.inf}
    held = {i: row for i, row in enumerate(rows) if row.scores}
    if len(held) < 2 or len({frozenset(kind(row, task) for task in row.scores) for row in held.values()}) > 1:
        return best
    if all(len(row.scores) == 1 for row in held.values()):
        return best | {(i, "") for i, _ in best}
    means = {i: statistics.mean(map(normalised, row.scores.values())) for i, row in held.items()}
    return best | {(i, "") for i, mean in means.items() if mean == max(means.values())}


def _json(row: _Row, number: int, best: set[tuple[int, str]]) -> dict[str, Any]:
    scores: dict[str, Any] = {}
    for task, score in row.scores.items():
        told = {key: None if value != value else value for key, value in asdict(score).items() if key != "details"}
        if task in row.spread:
            told |= dict(zip(("seeds", "deviation"), row.spread[task], strict=True))
        scores[task] = {**told, "best": (number, task) in best}
    return {"job": row.head, "values": row.values, "best": (number, "") in best, "lack": row.lack, "scores": scores}


def _score(row: _Row, task: str, best: bool) -> Text:
    from rich.text import Text

    score = row.scores[task]
    more = score_interval(score)
    if task in row.spread:
        seeds, deviation = row.spread[task]
        more = f"± {number_text(deviation, score.unit)}, {seeds} seeds"
    value = (score_value(score) + (" *" if best else ""), "bold")
    return Text.assemble(f"{score.name} {unit_mark(score)} ", value, "\n" if more else "", (more, "dim"))
