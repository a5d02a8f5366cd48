"""Numbers as the report and the terminal print them."""

from __future__ import annotations

import math

from ofasys_lite.metrics import Margin, Score


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
