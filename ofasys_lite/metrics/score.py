"""What a metric returns: sums per item that can be added up, and the scores made of them.

Legend: N items, K sums kept per item.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Value: TypeAlias = object
Row: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Statistics:
    """What one metric function counts: `sums_NK` per item and how their totals become the value.

    A metric that is a mean, a ratio of sums, an F1 or BLEU differs only in `combine`; without some items it is then
    taken from smaller totals, and no item is scored twice.

    Attributes:
        sums_NK: One row of summable counts per item.
        combine: Totals (..., K) -> values (...); must not fail on totals of zero.
        unit: `share` (0 to 1), `points` (0 to 100) or what one error is counted per, such as `errors per word`.
        higher_is_better: False for error rates.
        details: Further figures worth printing, such as counts.
    """

    sums_NK: Array
    combine: Callable[[Array], Array]
    unit: str = "share"
    higher_is_better: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)

    @staticmethod
    def mean(values_N: Sequence[float] | Array, **keywords: Any) -> Statistics:
        """Statistics of a plain mean over the items; keywords are those of the class."""
        values = np.asarray(values_N, dtype=np.float64).reshape(-1)
        return Statistics.ratio(values, np.ones_like(values), **keywords)

    @staticmethod
    def ratio(above_N: Sequence[float] | Array, below_N: Sequence[float] | Array, **keywords: Any) -> Statistics:
        """Statistics of sum(above) / sum(below); 0 where nothing is below; keywords are those of the class."""
        columns = [np.asarray(column, dtype=np.float64).reshape(-1) for column in (above_N, below_N)]
        return Statistics(np.stack(columns, axis=1), lambda sums: divide(sums[..., 0], sums[..., 1]), **keywords)

    @staticmethod
    def f1(hits_N: Sequence[float], extra_N: Sequence[float], missed_N: Sequence[float], **keywords: Any) -> Statistics:
        """Statistics of a micro F1 from true positives, false positives and false negatives of each item."""
        columns = [np.asarray(column, dtype=np.float64).reshape(-1) for column in (hits_N, extra_N, missed_N)]
        hits, extra, missed = (float(column.sum()) for column in columns)
        details = {
            "precision": hits / (hits + extra) if hits + extra else 0.0,
            "recall": hits / (hits + missed) if hits + missed else 0.0,
            **keywords.pop("details", {}),
        }
        return Statistics(
            np.stack(columns, axis=1),
            lambda sums: divide(2 * sums[..., 0], 2 * sums[..., 0] + sums[..., 1] + sums[..., 2]),
            details=details,
            **keywords,
        )


def divide(above: Array, below: Array) -> Array:
    """above / below, 0 where below is 0."""
    out = np.zeros(np.broadcast_shapes(above.shape, below.shape), dtype=np.float64)
    return np.divide(above, below, out=out, where=below > 0)


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The training split as a metric sees it that has a parameter `train`.

    It is equal to itself alone, so that a metric may keep what it made of it (`functools.lru_cache(maxsize=1)`).

    Attributes:
        references: Targets of training rows, in the form of the references that are judged.
        rows: The same rows, without media as the judged ones.
    """

    references: Sequence[Value]
    rows: Sequence[Row]


#: Reads the training rows when a metric asks for them.
TrainRows: TypeAlias = Callable[[], Training]

# A metric: (predictions, references, rows) -> Statistics, one number per item, or one number for all of them.
MetricFunction: TypeAlias = Callable[..., "Statistics | Sequence[float] | Array | float"]


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one task: the value with its 95 % interval over groups.

    Attributes:
        value: The metric on all items.
        low: Lower end of the interval; NaN where fewer than two groups make that meaningless.
        high: Upper end, likewise.
        groups: Number of groups; of crossed ones, of the way that has fewer.
        unit: `share`, `points` or `errors per ...`.
        higher_is_better: False for error rates.
        details: Further figures, such as counts, precision and recall.
        ways: Number of groups of each way; two of crossed groups.
    """

    name: str
    value: float
    low: float
    high: float
    items: int
    groups: int
    unit: str = "share"
    higher_is_better: bool = True
    details: Mapping[str, Any] = field(default_factory=dict)
    ways: tuple[int, ...] = ()

    @property
    def rank(self) -> float:
        """What orders scores of one metric, worst first; unlike `normalised` also error rates above 1."""
        if math.isnan(self.value):
            return -math.inf
        return self.value if self.higher_is_better else -self.value

    def __str__(self) -> str:
        digits = 1 if self.unit == "points" else 3
        text = f"{self.name} {self.value:.{digits}f}"
        return text if math.isnan(self.low) else f"{text} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


#: With fewer groups no interval is narrow enough to be told from chance, and none was simulated (docs/evaluation.md).
FEWEST_GROUPS = 10


@dataclass(frozen=True, slots=True)
class Margin:
    """How much better a model is than a baseline on the same items; positive is better, whatever the metric's sense.

    Attributes:
        value: Difference on all items, in the metric's unit.
        low: Lower end of the 95 % interval, the same groups left out on both sides; NaN below two groups.
        high: Upper end, likewise.
        groups: Number of groups; of crossed ones, of the way that has fewer.
    """

    value: float
    low: float
    high: float
    unit: str = "share"
    groups: int = 0

    @property
    def known(self) -> bool:
        """True if there are groups enough to say whether the margin is clear."""
        return self.groups >= FEWEST_GROUPS

    @property
    def clear(self) -> bool:
        """True if the whole interval lies above zero and there are at least ten groups."""
        return self.low > 0 and self.known


def normalised(score: Score) -> float:
    """The score in [0, 1], higher is better: points / 100, dB / 40, errors as 1 - these, cut at both ends.

    Of bits per byte the (geometric) mean probability of a byte.

    Example:
        >>> normalised(Score("wer", 0.25, 0.2, 0.3, 10, 10, "errors per word", higher_is_better=False))
        0.75
    """
    if math.isnan(score.value):
        return 0.0
    if score.unit == "bits per byte":
        return float(2.0 ** -max(0.0, score.value))
    value = score.value / {"points": 100, "dB": 40}.get(score.unit, 1)
    return min(1.0, max(0.0, value if score.higher_is_better else 1 - value))
