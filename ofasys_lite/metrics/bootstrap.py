"""Bootstrap over groups: which groups a sample holds, and percentiles of what they give.

Legend: N items, K sums kept per item, B bootstrap samples, G groups.
Efron and Tibshirani, An Introduction to the Bootstrap, 1993: percentile interval, groups as the unit of resampling.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.metrics.score import Array, Statistics

__all__ = ["group_numbers", "interval", "resample_function", "resample_statistics"]

_CELLS = 4_000_000  # numbers in one block of weights: 32 MB


def group_numbers(groups: Sequence[str] | None, items: int) -> NDArray[np.int64]:
    """Group number of each item, (N,) from 0; each item is its own group where `groups` is None."""
    if groups is None:
        return np.arange(items, dtype=np.int64)
    numbers: dict[str, int] = {}
    return np.fromiter((numbers.setdefault(str(group), len(numbers)) for group in groups), np.int64, items)


def resample_statistics(statistics: Statistics, groups_N: NDArray[np.int64], seed: int, samples: int) -> Array:
    """Values (B,) of the metric on resampled groups; the same seed draws the same groups for every metric."""
    count = int(groups_N.max()) + 1
    sums_GK = np.zeros((count, statistics.sums_NK.shape[1]))
    np.add.at(sums_GK, groups_N, statistics.sums_NK)
    return np.concatenate([statistics.combine(weights @ sums_GK) for weights in _weights(count, seed, samples)])


def resample_function(
    function: Callable[[NDArray[np.int64]], float], groups_N: NDArray[np.int64], seed: int, samples: int
) -> Array:
    """Values (B,) of a function of item numbers on resampled groups: for metrics that have no sums to add up."""
    count = int(groups_N.max()) + 1
    values = [
        function(np.repeat(np.arange(len(groups_N)), weights[groups_N].astype(np.int64)))
        for block in _weights(count, seed, samples)
        for weights in block
    ]
    return np.asarray(values, dtype=np.float64)


def interval(values_B: Array, groups: int) -> tuple[float, float]:
    """(2.5 %, 97.5 %) percentiles; NaN for fewer than two groups, whose spread is unknown."""
    if groups < 2:
        return float("nan"), float("nan")
    low, high = np.nanpercentile(values_B, [2.5, 97.5])
    return float(low), float(high)


def _weights(groups: int, seed: int, samples: int) -> Iterator[Array]:
    """Blocks of (B, G): how often each bootstrap sample holds each group."""
    generator = np.random.default_rng([seed, groups])
    block = max(1, _CELLS // groups)
    for start in range(0, samples, block):
        drawn = generator.integers(groups, size=(min(block, samples - start), groups))
        yield np.stack([np.bincount(row, minlength=groups) for row in drawn]).astype(np.float64)
