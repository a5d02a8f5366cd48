"""How often the 95 % intervals hold the truth: simulated data whose truth is known, by groups and their correlation.

    python benchmarks/intervals.py                    # about four minutes on one core; results/intervals.json

Groups of 10 items on average; the chance of being right differs between groups (a beta distribution whose variance is
`correlation` times that of a single answer). Crossed: every voice says every phrase once; the answer is right where a
normal sum of voice, phrase and chance is below a threshold.

Legend: G groups, N items.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from common import machine, table, write_row
from numpy.typing import NDArray

from ofasys_lite.metrics.intervals import difference, from_sums, interval, partition
from ofasys_lite.metrics.score import Statistics
from ofasys_lite.metrics.texts import macro_f1

GROUPS = (10, 20, 50, 200)
CORRELATIONS = (0.0, 0.05, 0.2, 0.5)
CROSSED = ((10, 10), (10, 50), (20, 50), (36, 27))
SHARES = ((0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.1, 0.1), (0.2, 0.2))
_ITEMS = 10
_CLASSES = 4

Ints: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
#: (generator, chance of being right (N,)) -> statistics of N items
Draw: TypeAlias = Callable[[np.random.Generator, Floats], Statistics]


def chances(generator: np.random.Generator, groups: int, mean: float, correlation: float) -> Floats:
    """The chance (G,) of being right in each group."""
    if correlation == 0:
        return np.full(groups, mean)
    scale = 1 / correlation - 1
    return generator.beta(mean * scale, (1 - mean) * scale, groups)


def right(generator: np.random.Generator, chance_N: Floats) -> Statistics:
    """A mean: the share of right answers."""
    return Statistics.mean(generator.random(len(chance_N)) < chance_N)


def words(generator: np.random.Generator, chance_N: Floats) -> Statistics:
    """A ratio of sums: wrong words over words, texts of 1 to 12 words."""
    lengths_N = generator.integers(1, 13, len(chance_N))
    wrong_N = generator.binomial(lengths_N, 1 - chance_N)
    return Statistics.ratio(wrong_N, lengths_N, unit="errors per word", higher_is_better=False)


def objects(generator: np.random.Generator, chance_N: Floats) -> Statistics:
    """A micro F1: 1 to 5 objects, found by chance; as many false ones as missed ones on average."""
    there_N = generator.integers(1, 6, len(chance_N))
    found_N = generator.binomial(there_N, chance_N)
    return Statistics.f1(found_N, generator.binomial(there_N, 1 - chance_N), there_N - found_N)


def classes(generator: np.random.Generator, chance_N: Floats) -> Statistics:
    """A macro F1 over four classes."""
    truth_N = generator.integers(_CLASSES, size=len(chance_N))
    said_N = np.where(
        generator.random(len(chance_N)) < chance_N, truth_N, generator.integers(_CLASSES, size=len(truth_N))
    )
    return macro_f1(said_N.astype(str).tolist(), truth_N.astype(str).tolist(), [{}] * len(truth_N))


METRICS: dict[str, tuple[Draw, float]] = {
    "mean .5": (right, 0.5),
    "mean .8": (right, 0.8),
    "mean .95": (right, 0.95),
    "errors per word .2": (words, 0.8),
    "F1 .6": (objects, 0.6),
    "macro F1": (classes, 0.6),
}


def truth(draw: Draw, mean: float) -> float:
    """The value on very many items."""
    statistics = draw(np.random.default_rng(1), np.full(200_000, mean))
    return float(statistics.combine(statistics.sums_NK.sum(0)))


def coverage(draw: Draw, mean: float, groups: int, correlation: float, uneven: bool, runs: int, seed: int = 0) -> float:
    """Share of `runs` whose interval holds the truth."""
    generator, held = np.random.default_rng([seed, groups, round(1000 * correlation), int(uneven)]), 0
    wanted = truth(draw, mean)
    for _ in range(runs):
        sizes_G = generator.geometric(1 / _ITEMS, groups) if uneven else np.full(groups, _ITEMS)
        chance_G = chances(generator, groups, mean, correlation)
        statistics = draw(generator, np.repeat(chance_G, sizes_G))
        ways = partition(np.repeat(np.arange(groups), sizes_G).astype(str).tolist(), int(sizes_G.sum()), 0, 1000)
        low, high = interval(from_sums(statistics, ways), ways, statistics.unit, statistics.higher_is_better)
        held += low <= wanted <= high
    return held / runs


def margin_coverage(means: tuple[float, float], groups: int, correlation: float, runs: int, seed: int = 0) -> float:
    """The same of the margin between two systems that are right in the same groups, and about the same items."""
    generator, held = np.random.default_rng([seed, groups, round(1000 * correlation)]), 0
    cuts = [NormalDist().inv_cdf(mean) for mean in means]
    ways = partition(np.repeat(np.arange(groups), _ITEMS).astype(str).tolist(), groups * _ITEMS, 0, 1000)
    for _ in range(runs):
        group_G, item_N = generator.normal(size=groups), generator.normal(size=groups * _ITEMS)
        sides = []
        for cut in cuts:
            own_G, own_N = generator.normal(size=groups), generator.normal(size=groups * _ITEMS)
            shared_N = np.repeat(group_G + own_G, _ITEMS) * (correlation / 2) ** 0.5
            statistics = Statistics.mean(shared_N + (item_N + own_N) * ((1 - correlation) / 2) ** 0.5 < cut)
            sides.append(from_sums(statistics, ways))
        low, high = difference(sides[0], sides[1], ways, "share", True)
        held += low <= means[0] - means[1] <= high
    return held / runs


def crossed_coverage(
    size: tuple[int, int], parts: tuple[float, float], runs: int, seed: int = 0
) -> tuple[float, float]:
    """Share of intervals that hold the truth: with both ways, and with groups of the first way alone."""
    generator = np.random.default_rng([seed, *size, *(round(1000 * part) for part in parts)])
    mean, held = 0.8, [0, 0]
    cut = NormalDist().inv_cdf(mean)
    pairs = [(f"v{voice}", f"p{phrase}") for voice in range(size[0]) for phrase in range(size[1])]
    both = partition(pairs, len(pairs), 0, 1000)
    alone = partition([voice for voice, _ in pairs], len(pairs), 0, 1000)
    for _ in range(runs):
        voice_V, phrase_P = (generator.normal(size=count) * part**0.5 for count, part in zip(size, parts, strict=True))
        chance = generator.normal(size=size) * (1 - sum(parts)) ** 0.5
        statistics = Statistics.mean((voice_V[:, None] + phrase_P + chance).reshape(-1) < cut)
        for place, ways in enumerate((both, alone)):
            low, high = interval(from_sums(statistics, ways), ways, "share", True)
            held[place] += low <= mean <= high
    return held[0] / runs, held[1] / runs


def rows(runs: int) -> Iterator[dict[str, Any]]:
    """Every cell of the tables."""
    for uneven in (False, True):
        for name, (draw, mean) in METRICS.items():
            for groups in GROUPS:
                found = [coverage(draw, mean, groups, each, uneven, runs) for each in CORRELATIONS]
                yield {"what": name, "sizes": "uneven" if uneven else "equal", "groups": groups, "coverage": found}
    for means in ((0.6, 0.3), (0.9, 0.5), (0.2, 0.01)):
        for groups in GROUPS:
            found = [margin_coverage(means, groups, each, runs) for each in CORRELATIONS]
            yield {"what": f"margin {means[0]} - {means[1]}", "sizes": "equal", "groups": groups, "coverage": found}
    for size in CROSSED:
        both = [crossed_coverage(size, parts, runs) for parts in SHARES]
        yield {"what": "crossed, both ways", "groups": size, "coverage": [pair[0] for pair in both]}
        yield {"what": "crossed, first way alone", "groups": size, "coverage": [pair[1] for pair in both]}


def main() -> None:
    """Simulates, prints the tables and writes the row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2000, help="simulations of each cell")
    runs = parser.parse_args().runs
    found = list(rows(runs))
    by_groups = [row for row in found if "sizes" in row]
    head = ["what", "sizes", "groups", *(f"correlation {each}" for each in CORRELATIONS)]
    print(table([head, *(_cells(row, "what", "sizes", "groups") for row in by_groups)]))
    head = ["what", "groups", *(f"voices {a}, phrases {b}" for a, b in SHARES)]
    print(table([head, *(_cells(row, "what", "groups") for row in found if "sizes" not in row)]))
    row = {"runs": runs, "items_per_group": _ITEMS, "correlations": CORRELATIONS, "shares": SHARES, "rows": found}
    print(write_row("intervals", {**row, "machine": machine("numpy")}))


def _cells(row: dict[str, Any], *keys: str) -> list[str]:
    shown = [" x ".join(map(str, row[key])) if isinstance(row[key], tuple) else str(row[key]) for key in keys]
    return [*shown, *(f"{value:.3f}".lstrip("0") for value in row["coverage"])]


if __name__ == "__main__":
    main()
