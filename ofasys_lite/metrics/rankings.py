"""Metrics of rankings, of which one candidate or several are right.

recall_at_1, recall_at_5, recall_at_10, mrr_at_10, ndcg_at_10.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from ofasys_lite.metrics.score import Statistics, Value

_TEN = 10


def recall_at_1(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows whose nearest candidate is a right one."""
    return _recall(1, predictions, references)


def recall_at_5(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows with a right candidate among the five nearest."""
    return _recall(5, predictions, references)


def recall_at_10(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows with a right candidate among the ten nearest."""
    return _recall(10, predictions, references)


def mrr_at_10(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Mean of 1 / the place of the first right one among the ten nearest; 0 where none is right."""
    places = (_right_places(found, right) for found, right in zip(predictions, references, strict=True))
    return Statistics.mean([1 / held[0] if held else 0.0 for held in places])


def ndcg_at_10(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Discounted gain of the ten nearest over that of the best order (Jarvelin and Kekalainen, 2002).

    A right one at place p gains 1 / log2(p + 1).
    """
    gains = []
    for found, right in zip(predictions, references, strict=True):
        best = sum(1 / math.log2(place + 1) for place in range(1, min(_TEN, len(set(_names(right)))) + 1))
        gain = sum(1 / math.log2(place + 1) for place in _right_places(found, right))
        gains.append(gain / best if best else 0.0)
    return Statistics.mean(gains)


def _right_places(found: Value, right: Value) -> list[int]:
    """Places from 1 of right candidates among the ten nearest; one that is named twice counts once."""
    wanted = set(_names(right))
    nearest = list(dict.fromkeys(_names(found)))[:_TEN]
    return [place for place, name in enumerate(nearest, 1) if name in wanted]


def _recall(most: int, predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Predictions: names of candidates, nearest first; references: names of those that are right."""
    hits = [
        bool(set(_names(found)[:most]) & set(_names(right)))
        for found, right in zip(predictions, references, strict=True)
    ]
    return Statistics.mean(hits)


def _names(value: Value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else []
