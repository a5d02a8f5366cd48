"""One self-contained report.html: every chart, picture and sound is inside the file."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ofasys_lite.report.blocks import SampleView, sample_view
from ofasys_lite.report.charts import Chart, curve_charts, mixture_chart, needs, score_chart, speed_chart
from ofasys_lite.report.confusion import Confusion, confusion
from ofasys_lite.report.numbers import (
    clear_text,
    detail_text,
    items_text,
    margin_text,
    score_interval,
    score_value,
    unit_mark,
)
from ofasys_lite.report.results import RunResults, TaskResult
from ofasys_lite.report.sample_pictures import PREDICTED, REFERENCE
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
