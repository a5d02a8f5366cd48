"""Metrics of rankings, of which one candidate or several are right: recall_at_1, recall_at_5, recall_at_10."""

from __future__ import annotations

from collections.abc import Sequence

from ofasys_lite.metrics.score import Statistics, Value


def recall_at_1(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows whose nearest candidate is a right one."""
    return _recall(1, predictions, references)


def recall_at_5(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows with a right candidate among the five nearest."""
    return _recall(5, predictions, references)


def recall_at_10(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Share of rows with a right candidate among the ten nearest."""
    return _recall(10, predictions, references)


def _recall(most: int, predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Predictions: names of candidates, nearest first; references: names of those that are right."""
    hits = [
        bool(set(_names(found)[:most]) & set(_names(right)))
        for found, right in zip(predictions, references, strict=True)
    ]
    return Statistics.mean(hits)


def _names(value: Value) -> list[str]:
    return [str(each) for each in value] if isinstance(value, (list, tuple)) else []
