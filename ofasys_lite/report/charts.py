"""Charts of a run as SVG data URIs, each drawn once for light and once for dark pages."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np

from ofasys_lite.errors import OfasysError, needed
from ofasys_lite.metrics import normalised
from ofasys_lite.report.results import Baseline, RunResults, TaskResult
from ofasys_lite.report.sample_pictures import uri

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Points: TypeAlias = list[tuple[float, float]]
_MOST_POINTS = 160


@dataclass(frozen=True, slots=True)
class Palette:
    """Colours of one theme."""

    ink: str
    faint: str
    model: str
    trivial: str
    reference: str
    slots: tuple[str, ...]


LIGHT = Palette("#24292f", "#d0d7de", "#0b62d6", "#b35900", "#8250df", ("#0b62d6", "#1a7f37", "#8250df", "#bf3989"))
DARK = Palette("#d9e0e8", "#3a424d", "#62a8ff", "#f0a04b", "#c297ff", ("#62a8ff", "#56d364", "#c297ff", "#ff7bc5"))


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart in both themes, as SVG data URIs, with its description for readers who do not see it."""

    light: str
    dark: str
    title: str


def _chart(title: str, width: float, height: float, draw: Callable[[Axes, Palette], None]) -> Chart:
    """The chart that `draw` puts into fresh axes of `width` x `height` inches."""
    light, dark = (_render(width, height, draw, palette) for palette in (LIGHT, DARK))
    return Chart(light, dark, title)


def _render(width: float, height: float, draw: Callable[[Axes, Palette], None], palette: Palette) -> str:
    matplotlib = needs("matplotlib")
    figure_module = needs("matplotlib.figure")
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "ofasys_lite",
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": palette.ink,
        "axes.labelcolor": palette.ink,
        "axes.edgecolor": palette.faint,
        "xtick.color": palette.ink,
        "ytick.color": palette.ink,
        "grid.color": palette.faint,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with matplotlib.rc_context(settings):
        figure: Figure = figure_module.Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots(), palette)
        file = io.BytesIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return uri(file.getvalue(), "image/svg+xml")


def score_chart(tasks: Sequence[TaskResult]) -> Chart:
    """Each task's normalised score with its interval, beside its baselines."""

    def draw(axes: Axes, palette: Palette) -> None:
        for place, task in enumerate(tasks):
            for baseline in task.baselines:
                axes.plot(normalised(baseline.score), place, **_marker(baseline, palette))
            low, high = _range(task)
            axes.plot([low, high], [place, place], color=palette.model, linewidth=2.5, solid_capstyle="round")
            axes.plot(normalised(task.metric), place, "o", color=palette.model, markersize=7)
        axes.set_yticks(range(len(tasks)), [task.task for task in tasks])
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.set_xlim(-0.02, 1.02)
        axes.grid(axis="x", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        axes.set_xlabel("normalised score (error rates as 1 − rate, points / 100)")

    return _chart("Scores against baselines", 5.4, 0.8 + 0.31 * max(1, len(tasks)), draw)


def _marker(baseline: Baseline, palette: Palette) -> dict[str, Any]:
    if baseline.kind == "trivial":
        return {"marker": "|", "color": palette.trivial, "markersize": 11, "markeredgewidth": 2.2}
    return {"marker": "D", "color": "none", "markeredgecolor": palette.reference, "markersize": 5.5}


def _range(task: TaskResult) -> tuple[float, float]:
    """The interval's ends as normalised scores; the value itself where there is none."""
    ends = [replace(task.metric, value=end) for end in (task.metric.low, task.metric.high) if end == end]
    values = [normalised(end) for end in ends] or [normalised(task.metric)]
    return min(values), max(values)


def curve_charts(run: RunResults) -> dict[str, Chart]:
    """Per task: training loss of every slot against its chance level, and validation scores, over time."""
    losses: dict[str, dict[str, Points]] = defaultdict(lambda: defaultdict(list))
    chances: dict[str, dict[str, float]] = defaultdict(dict, {t.task: dict(t.chance) for t in run.tasks})
    scores: dict[str, Points] = defaultdict(list)
    over, unit, scale = _clock(run.history)
    for row in run.history:
        task = str(row.get("task", ""))
        if row.get("kind") == "train" and row.get("loss") is not None:
            slot = str(row.get("slot", ""))
            losses[task][slot].append((row[over] / scale, float(row["loss"])))
            if row.get("chance") is not None:
                chances[task][slot] = float(row["chance"])
        elif row.get("kind") == "valid" and task and row.get("value") is not None:
            scores[task].append((row[over] / scale, float(row["value"])))
    return {
        task: _curve(task, losses.get(task, {}), chances.get(task, {}), scores.get(task, []), unit)
        for task in dict.fromkeys([*losses, *scores])
    }


def _curve(task: str, losses: Mapping[str, Points], chances: Mapping[str, float], scores: Points, unit: str) -> Chart:
    def draw(axes: Axes, palette: Palette) -> None:
        for number, (slot, points) in enumerate(losses.items()):
            colour = palette.slots[number % len(palette.slots)]
            x, y = _thinned(points)
            axes.plot(x, y, color=colour, linewidth=1.3, label=slot)
            if slot in chances:
                axes.axhline(chances[slot], color=colour, linewidth=1, linestyle=(0, (4, 3)), alpha=0.8)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(unit)
        axes.set_ylabel("loss")
        axes.grid(linewidth=0.4)
        if len(losses) > 1:
            columns = _legend_columns(losses)
            axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=columns, borderpad=0)
        if scores:
            right = axes.twinx()
            right.plot(*zip(*scores, strict=True), "o-", color=palette.trivial, markersize=3.5, linewidth=1)
            right.set_ylim(0, 1.04)
            right.set_ylabel("validation score", color=palette.trivial)
            right.tick_params(axis="y", colors=palette.trivial)

    return _chart(f"{task}: loss and validation score", 3.6, 2.2, draw)


def _legend_columns(names: Iterable[str]) -> int:
    """How many of these names, 1 to 3, stand side by side above a chart of 3.6 inches without being cut off."""
    widest = 0.55 + 0.07 * max(map(len, names))  # inches: line, gaps and letters of 8 points
    return max(1, min(3, int(3.0 / widest)))


def mixture_chart(run: RunResults) -> Chart | None:
    """Each task's share of samples and of useful tokens in training; None without such rows."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    seen: set[tuple[Any, str]] = set()
    for row in run.history:
        if row.get("kind") == "train" and row.get("task"):
            task = str(row["task"])
            counts[task][1] += row.get("tokens") or 0
            if (row.get("step"), task) not in seen:  # several slots of a task share its samples
                seen.add((row.get("step"), task))
                counts[task][0] += row.get("samples") or 0
    totals = [sum(pair[i] for pair in counts.values()) for i in range(2)]
    series = [(name, i) for i, name in enumerate(("samples", "tokens")) if totals[i]]
    if not series:
        return None

    def draw(axes: Axes, palette: Palette) -> None:
        tasks = list(counts)
        thickness = 0.8 / len(series)
        for place, (name, i) in enumerate(series):
            offsets = np.arange(len(tasks)) + (place - (len(series) - 1) / 2) * thickness
            shares = [100 * counts[task][i] / totals[i] for task in tasks]
            axes.barh(offsets, shares, thickness * 0.9, color=(palette.model, palette.trivial)[i], label=name)
        axes.set_yticks(range(len(tasks)), tasks)
        axes.set_ylim(len(tasks) - 0.5, -0.5)
        axes.tick_params(length=0)
        axes.set_xlabel("share of the mixture, %")
        axes.legend(frameon=False, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)

    return _chart("Shares of the mixture", 5.4, 0.8 + 0.31 * len(counts), draw)


def speed_chart(run: RunResults) -> Chart | None:
    """Useful tokens per second over the run; None without such rows."""
    over, unit, scale = _clock(run.history)
    rows = [row for row in run.history if row.get("tokens_per_second") is not None]
    if len(rows) < 2:
        return None
    x, y = _thinned([(row[over] / scale, float(row["tokens_per_second"])) for row in rows])

    def draw(axes: Axes, palette: Palette) -> None:
        axes.plot(x, y, color=palette.model, linewidth=1.3)
        axes.set_ylim(bottom=0)
        axes.set_xlabel(unit)
        axes.set_ylabel("useful tokens / s")
        axes.grid(linewidth=0.4)

    return _chart("Speed", 5.4, 2.2, draw)


def _clock(history: Iterable[Mapping[str, Any]]) -> tuple[str, str, float]:
    """(key, axis label, divisor) of the time axis: minutes where every row says its time, else steps."""
    timed = all(row.get("time") is not None for row in history)
    return ("time", "minutes", 60.0) if timed else ("step", "step", 1.0)


def _thinned(points: Points) -> tuple[list[float], list[float]]:
    """(x, y) of at most 160 points, each the mean of its neighbours."""
    parts = np.array_split(np.asarray(points, dtype=np.float64), min(len(points), _MOST_POINTS))
    means = [part.mean(0) for part in parts]
    return [float(mean[0]) for mean in means], [float(mean[1]) for mean in means]


def needs(module: str) -> ModuleType:
    """The imported module; raises OfasysError with the command to install it."""
    return cast(ModuleType, needed(module, "the report", "report", kind=OfasysError))
