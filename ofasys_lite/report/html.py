"""One self-contained report.html: every chart, picture and sound is inside the file; who was taken for whom."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ofasys_lite.metrics.values import as_text, as_texts
from ofasys_lite.report.blocks import SampleView, sample_view
from ofasys_lite.report.charts import Chart, curve_charts, mixture_chart, needs, score_chart, speed_chart
from ofasys_lite.report.drawn import drawn
from ofasys_lite.report.results import RunResults, Said, TaskResult
from ofasys_lite.report.sample_pictures import PREDICTED, REFERENCE
from ofasys_lite.report.table import (
    clear_text,
    detail_text,
    items_text,
    margin_text,
    score_interval,
    score_value,
    unit_mark,
)
from ofasys_lite.writing import behind, write_atomic


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task ready to be laid out."""

    result: TaskResult
    curve: Chart | None
    samples: tuple[SampleView, ...]
    boxed: bool
    worst: tuple[SampleView, ...] = ()
    confusion: Confusion | None = None


def write_report(run: RunResults, path: str | os.PathLike[str]) -> Path:
    """The path of the written report; the file is replaced in one go, so a reader never sees half of it.

    Raises OfasysError where matplotlib or jinja2 is missing.
    """
    target = Path(path)
    page = render_report(run)
    write_atomic(behind(target), page)
    return target


def render_report(run: RunResults) -> str:
    """The report as HTML text."""
    jinja2 = needs("jinja2")
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    source = resources.files("ofasys_lite.report").joinpath("report.html").read_text("utf-8")
    curves = curve_charts(run)
    views = [_task_view(task, curves.get(task.task)) for task in run.tasks]
    page: str = environment.from_string(source).render(
        run=run,
        views=views,
        scores=score_chart(run.tasks) if run.tasks else None,
        mixture=mixture_chart(run),
        speed=speed_chart(run),
        drawn=drawn(run.history),
        value=score_value,
        interval=score_interval,
        margin_text=margin_text,
        detail_text=detail_text,
        mark=unit_mark,
        items=items_text,
        clear=clear_text,
        predicted=PREDICTED,
        reference=REFERENCE,
    )
    return page


def _task_view(task: TaskResult, curve: Chart | None) -> TaskView:
    samples = tuple(map(sample_view, task.samples))
    worst = tuple(map(sample_view, task.worst))
    boxed = any(block.boxed for sample in (*samples, *worst) for block in sample.inputs)
    return TaskView(task, curve, samples, boxed, worst, confusion(task.said))


_MOST_ANSWERS = 14  # a wider matrix cannot be read
_MOST_MISTAKES = 12
_OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of (reference, prediction).

    Attributes:
        answers: Names of rows and columns of the matrix; empty where there are too many.
        counts: Rows are references, columns predictions; the last column counts all other predictions.
        shares: The same as share of each row, for shading.
        mistakes: (reference, prediction, count, references of that kind), the commonest first.
    """

    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    mistakes: tuple[tuple[str, str, int, int], ...]


def confusion(said: Said | None) -> Confusion | None:
    """What was taken for what by the headline's target; None where it has no closed set or nothing was said."""
    if said is None or not said.told[0].closed or not said.ids:
        return None
    told = said.told[0]
    pairs = Counter[tuple[str, str]]()
    for prediction, reference in zip(told.predictions, told.references, strict=True):
        ours, accepted = as_text(prediction).strip(), [text.strip() for text in as_texts(reference)]
        pairs[(ours if ours in accepted else accepted[0]), ours] += 1
    seen = {reference for reference, _ in pairs}
    answers = [*(value for value in told.closed if value in seen), *sorted(seen - set(told.closed))]
    totals = Counter[str]()
    for (reference, _), count in pairs.items():
        totals[reference] += count
    wrong = sorted(((count, pair) for pair, count in pairs.items() if pair[0] != pair[1]), key=lambda w: (-w[0], w[1]))
    mistakes = tuple((*pair, count, totals[pair[0]]) for count, pair in wrong[:_MOST_MISTAKES])
    if len(answers) > _MOST_ANSWERS:
        return Confusion((), (), (), mistakes)
    counts = []
    for reference in answers:
        known = [pairs[reference, prediction] for prediction in answers]
        counts.append((*known, totals[reference] - sum(known)))
    if not any(row[-1] for row in counts):
        counts = [row[:-1] for row in counts]
    else:
        answers.append(_OTHER)
    shares = tuple(tuple(number / max(1, sum(row)) for number in row) for row in counts)
    return Confusion(tuple(answers), tuple(counts), shares, mistakes)
