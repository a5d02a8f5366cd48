"""From a metric's name to a score with its interval, and from two sets of predictions to the margin between them.

Legend: N items.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.cards.classes import load_function
from ofasys_lite.errors import CardError, DataError, listed, nearest
from ofasys_lite.metrics import (
    boxes,
    foretelling,
    motions,
    nearest_caption,
    ocr,
    pictures,
    rankings,
    sounds,
    sql,
    structures,
    texts,
    videos,
)
from ofasys_lite.metrics.intervals import (
    Estimate,
    Groups,
    Parts,
    difference,
    from_function,
    from_sums,
    interval,
    partition,
)
from ofasys_lite.metrics.score import Margin, MetricFunction, Row, Score, Statistics, TrainRows, Value, normalised

_FUNCTIONS: tuple[MetricFunction, ...] = (
    *(boxes.detection_f1, boxes.mean_iou, nearest_caption.caption_retrieval, nearest_caption.nearest_caption),
    *(nearest_caption.nearest_label, ocr.ocr_accuracy, ocr.ocr_cer, pictures.pixel_mse, sounds.mcd, sql.sql_execution),
    *(motions.motion_error, videos.frame_mse, rankings.recall_at_1, rankings.recall_at_5, rankings.recall_at_10),
    *(rankings.mrr_at_10, rankings.ndcg_at_10, foretelling.bits_per_byte),
    *(structures.record_f1, structures.slot_f1, structures.struct_exact, structures.sudoku_solved),
    *(structures.triplet_f1, structures.grid_cells, texts.accuracy),
    *(texts.bleu, texts.cer, texts.chrf, texts.exact_match, texts.macro_f1, texts.per, texts.token_accuracy, texts.wer),
)
#: By their names, which but for one are those of the functions.
METRICS: Mapping[str, MetricFunction] = MappingProxyType(
    {"iou_at_0.5": boxes.iou_at_half, **{each.__name__: each for each in _FUNCTIONS}}
)
#: Metrics of pictures; those of no media compare texts, boxes or structures.
PICTURE_METRICS = ("caption_retrieval", "nearest_caption", "nearest_label", "ocr_accuracy", "ocr_cer", "pixel_mse")
#: Metrics of sounds.
SOUND_METRICS = ("mcd",)
#: Metrics of clips of motion.
MOTION_METRICS = ("motion_error",)
#: Metrics of clips of moving pictures.
VIDEO_METRICS = ("frame_mse",)

#: Metrics of what a model pays for the reference, the first one that of a line that reads nothing.
FORETELLING_METRICS = ("bits_per_byte",)

#: Metrics of rankings, and how many names each looks at; the first one is the headline of a line with `<->`.
RANK_METRICS: Mapping[str, int] = MappingProxyType(
    {"recall_at_1": 1, "recall_at_5": 5, "recall_at_10": 10, "mrr_at_10": 10, "ndcg_at_10": 10}
)


def metric_names() -> tuple[str, ...]:
    """Names of all built-in metrics, sorted."""
    return tuple(sorted(METRICS))


def find_metric(name: str) -> MetricFunction:
    """The function of a built-in name or of a dotted path `module.function`.

    Raises CardError for a name that is neither, with the near name.
    """
    if name in METRICS:
        return METRICS[name]
    if "." not in name or not all(part.isidentifier() for part in name.split(".")):
        near = nearest(name, METRICS)
        question = f" Did you mean `{near}`?" if near else ""
        help = f"{listed('allowed', metric_names())}, or the dotted path of a function of yours: my_metrics.my_function"
        raise CardError(f"metric `{name}` is not known.{question}", help=help)
    return load_function(name, "metric", "name a function of predictions and references")


def direction(name: str, better: str = "") -> bool | None:
    """Whether more is better, said by the card (`better`) or by the function (`higher_is_better`); None if built in.

    Raises:
        CardError: An unknown metric, one of the user's of which nobody says it, or a built-in one turned round.
    """
    function = find_metric(name)
    if name in METRICS:
        if better:
            raise CardError(f"metric `{name}` says itself which direction is better", help="leave `better` out")
        return None
    if better:
        return better == "high"
    said = getattr(function, "higher_is_better", None)
    if not isinstance(said, bool):
        raise CardError(
            f"metric `{name}` does not say whether more is better",
            help=f"write `better: high` or `better: low` beside its name in the card, or "
            f"`{name.rpartition('.')[2]}.higher_is_better = False` below the function",
        )
    return said


@dataclass(frozen=True, slots=True)
class _Items:
    """Predictions and references of one task with the ways to leave out groups, checked to be of one length."""

    predictions: Sequence[Value]
    references: Sequence[Value]
    rows: Sequence[Row]
    ways: tuple[Parts, ...]
    seed: int
    samples: int
    train: TrainRows | None

    def take(self, chosen: NDArray[np.int64]) -> tuple[list[Value], list[Value], list[Row]]:
        lists = (self.predictions, self.references, self.rows)
        predictions, references, rows = ([part[i] for i in chosen] for part in lists)
        return predictions, references, rows


@dataclass(frozen=True, slots=True)
class _Measured:
    estimate: Estimate
    unit: str
    higher_is_better: bool
    details: Mapping[str, Any]


def evaluate_metric(
    name: str,
    predictions: Sequence[Value],
    references: Sequence[Value],
    groups: Groups | None = None,
    rows: Sequence[Row] | None = None,
    seed: int = 0,
    samples: int = 1000,
    train: TrainRows | None = None,
    higher: bool | None = None,
) -> Score:
    """The metric on all items with its 95 % interval over groups (items, where `groups` is None).

    Args:
        name: A built-in metric, or the dotted path of a function.
        predictions: What the model says.
        references: What the data says.
        groups: Group of each item: rows of one group are not independent. A pair where groups cross (voice, phrase).
        rows: The rows, for metrics that look at them.
        seed: Of drawing groups again, and of dealing them to parts where there are more than `samples`.
        samples: How often groups are drawn again for a metric that is one number for all items; for all others, most
            parts that are left out in turn. 1 gives no interval.
        train: Gives the training rows to a metric that has a parameter `train`; no other makes it read them.
        higher: Whether more is better, for a function of the user's that does not say it itself.

    Raises:
        CardError: An unknown metric, or one of the user's that does not say which direction is better.
        DataError: Lists of different lengths, a metric function of the user that returns something else than numbers,
            or one that asks for training rows where there are none.
    """
    items = _items(predictions, references, groups, rows, seed, samples, train)
    measured = _measure(name, higher, items)
    low, high = interval(measured.estimate, items.ways, measured.unit, measured.higher_is_better)
    count, ways = len(items.references), _crossed(items.ways)
    direction = measured.higher_is_better
    return Score(
        name, measured.estimate.value, low, high, count, min(ways), measured.unit, direction, measured.details, ways
    )


def margin(
    name: str,
    predictions: Sequence[Value],
    baseline_predictions: Sequence[Value],
    references: Sequence[Value],
    groups: Groups | None = None,
    rows: Sequence[Row] | None = None,
    seed: int = 0,
    samples: int = 1000,
    train: TrainRows | None = None,
    higher: bool | None = None,
) -> Margin:
    """How much better the predictions are than the baseline's, paired: the same groups are left out on both sides.

    Arguments and errors are those of `evaluate_metric`.
    """
    ours = _measure(name, higher, items := _items(predictions, references, groups, rows, seed, samples, train))
    theirs = _measure(name, higher, _items(baseline_predictions, references, groups, rows, seed, samples, train))
    sides = (ours.estimate, theirs.estimate) if ours.higher_is_better else (theirs.estimate, ours.estimate)
    low, high = difference(*sides, items.ways, ours.unit, ours.higher_is_better)
    return Margin(sides[0].value - sides[1].value, low, high, ours.unit, min(_crossed(items.ways)))


def item_scores(
    name: str,
    predictions: Sequence[Value],
    references: Sequence[Value],
    rows: Sequence[Row],
    train: TrainRows | None = None,
    higher: bool | None = None,
) -> list[float] | None:
    """The score of each item alone, normalised to 0 to 1; None for a metric that is one number for all items.

    An item that the metric leaves out has 1: nothing is wrong with it. Raises what `evaluate_metric` raises.
    """
    function, said = find_metric(name), direction(name) if higher is None else higher
    result = _caller(name, function, train)(predictions, references, rows) if len(references) else []
    if isinstance(result, numbers.Real):
        return None
    statistics = result if isinstance(result, Statistics) else _per_item(name, result, len(references))
    values_N = statistics.combine(statistics.sums_NK)
    better = statistics.higher_is_better if said is None else said
    found = []
    for value, sums_K in zip(values_N, statistics.sums_NK, strict=True):
        score = Score(name, float(value), math.nan, math.nan, 1, 1, statistics.unit, better)
        found.append(normalised(score) if sums_K.any() else 1.0)
    return found


def _crossed(ways: Sequence[Parts]) -> tuple[int, ...]:
    """Number of groups of each way; the cells of crossed groups are none."""
    return tuple(parts.groups for parts in ways[:2])


def _items(
    predictions: Sequence[Value],
    references: Sequence[Value],
    groups: Groups | None,
    rows: Sequence[Row] | None,
    seed: int,
    samples: int,
    train: TrainRows | None,
) -> _Items:
    given = {"predictions": predictions, "groups": groups, "rows": rows}
    for what, values in given.items():
        if values is not None and len(values) != len(references):
            raise DataError(f"{len(values)} {what} for {len(references)} references")
    rows = [{}] * len(references) if rows is None else rows
    ways = partition(groups, len(references), seed, samples)
    return _Items(predictions, references, rows, ways, seed, samples, train)


def _measure(name: str, higher: bool | None, items: _Items) -> _Measured:
    """The value with and without each group, whichever of the three forms the metric function returns."""
    function = find_metric(name)
    said = direction(name) if higher is None else higher
    if not len(items.references):
        # nothing was measured, and 0 would be a perfect error rate
        return _Measured(Estimate(float("nan"), (np.zeros(0),)), "share", said is not False, {"note": "no items"})
    call = _caller(name, function, items.train)
    result = call(items.predictions, items.references, items.rows)
    if isinstance(result, numbers.Real):
        estimate = from_function(
            lambda chosen: float(call(*items.take(chosen))), float(result), items.ways, items.seed, items.samples
        )
        return _Measured(estimate, "share", said is not False, {})
    statistics = result if isinstance(result, Statistics) else _per_item(name, result, len(items.references))
    estimate, details = from_sums(statistics, items.ways), dict(statistics.details)
    # 0 would say that all was wrong, or right; of texts without words the packages that count them say what holds
    if not statistics.sums_NK.any() and not statistics.unit.startswith(("errors per", "points")):
        estimate = Estimate(float("nan"), estimate.ways)
        details.setdefault("note", "nothing to count in any item")
    better = statistics.higher_is_better if said is None else said
    return _Measured(estimate, statistics.unit, better, details)


def _per_item(name: str, result: object, count: int) -> Statistics:
    try:
        values_N = np.asarray(result, dtype=np.float64)
    except (TypeError, ValueError):
        values_N = np.zeros(())
    if values_N.shape != (count,):
        raise DataError(
            f"metric `{name}` returned {type(result).__name__}, not {count} numbers",
            help="return one number for all items, one number per item, or ofasys_lite.metrics.Statistics",
        )
    return Statistics.mean(values_N)


def _caller(name: str, function: MetricFunction, train: TrainRows | None) -> Callable[..., Any]:
    """`function` with three arguments: one may leave out `rows`, or ask for the training rows as `train`."""
    parameters = inspect.signature(function).parameters
    keywords: dict[str, Any] = {}
    if "train" in parameters:
        if train is None:
            raise DataError(
                f"metric `{name}` looks at training rows, and none are given",
                help="evaluate_metric(..., train=lambda: Training(references, rows))",
            )
        keywords["train"] = train()
    with_rows = "rows" in parameters or any(p.kind is p.VAR_POSITIONAL for p in parameters.values())

    def call(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Any:
        given = (predictions, references, rows) if with_rows else (predictions, references)
        return function(*given, **keywords)

    return call
