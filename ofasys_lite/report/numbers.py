"""Numbers as the report and the terminal print them."""

from __future__ import annotations

import math

from ofasys_lite.metrics import Margin, Score

__all__ = ["detail_text", "margin_text", "number_text", "score_interval", "score_value", "unit_mark"]


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


def unit_mark(score: Score) -> str:
    """An arrow that says which way is better."""
    return "↑" if score.higher_is_better else "↓"


def detail_text(detail: object) -> str:
    """A further figure: numbers with three digits, a pair of them as an interval, anything else as it is."""
    if isinstance(detail, (list, tuple)):
        return f"[{', '.join(map(detail_text, detail))}]"
    return f"{detail:.3f}" if isinstance(detail, float) else str(detail)
