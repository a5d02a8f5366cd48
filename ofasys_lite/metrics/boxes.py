"""Metrics of boxes and detections: iou_at_0.5, mean_iou, detection_f1. Boxes are [x0, y0, x1, y1] in pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_box, as_objects


def iou(first: Value, second: Value) -> float:
    """Intersection over union of two boxes; 0 where either is none.

    Example:
        >>> iou([0, 0, 2, 2], [1, 0, 3, 2])
        0.3333333333333333
    """
    a, b = as_box(first), as_box(second)
    if a is None or b is None:
        return 0.0
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def mean_iou(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Mean intersection over union of predicted and reference box; rows where neither side has one are left out."""
    return _boxes(predictions, references, iou)


def iou_at_half(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of boxes whose intersection over union with the reference is at least 0.5 ("acc@0.5").

    Rows where neither side has a box are left out; a box where there is none is wrong.
    """
    return _boxes(predictions, references, lambda ours, theirs: float(iou(ours, theirs) >= 0.5))


def _boxes(
    predictions: Sequence[Value], references: Sequence[Value], value: Callable[[Value, Value], float]
) -> Statistics:
    pairs = list(zip(predictions, references, strict=True))
    counted = [as_box(reference) is not None or as_box(prediction) is not None for prediction, reference in pairs]
    values = [value(*pair) for pair in pairs]
    details = {"without_box": len(counted) - sum(counted), **_malformed(predictions, references)}
    return Statistics.ratio(values, counted, details=details)


def _malformed(predictions: Sequence[Value], references: Sequence[Value]) -> dict[str, int]:
    """How many answers hold no box where there is one (a text that is none); nothing where all do."""
    pairs = zip(predictions, references, strict=True)
    count = sum(as_box(reference) is not None and as_box(prediction) is None for prediction, reference in pairs)
    return {"answers_without_box": count} if count else {}


def detection_f1(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Micro F1 over objects: pairs of equal label and IoU at least 0.5, matched greedily from the best overlap."""
    hits, extra, missed, malformed = [], [], [], 0
    for prediction, reference in zip(predictions, references, strict=True):
        ours, theirs = as_objects(prediction), as_objects(reference)
        pairs = sorted(
            (
                (-overlap, i, j)
                for i, (box, label) in enumerate(ours)
                for j, (other, name) in enumerate(theirs)
                if label == name and (overlap := iou(box, other)) >= 0.5
            ),
        )
        used_ours: set[int] = set()
        used_theirs: set[int] = set()
        for _, i, j in pairs:
            if i not in used_ours and j not in used_theirs:
                used_ours.add(i)
                used_theirs.add(j)
        hits.append(len(used_ours))
        extra.append(len(ours) - len(used_ours))
        missed.append(len(theirs) - len(used_theirs))
        malformed += sum(box is None for box, _ in ours)
    return Statistics.f1(hits, extra, missed, details={"answers_without_box": malformed} if malformed else {})
