"""Intervals hold the truth as often as they say, from ten groups on; docs/evaluation.md has the whole table."""

from __future__ import annotations

import importlib
import json
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.metrics import FEWEST_GROUPS, Margin, evaluate_metric, margin
from ofasys_lite.metrics.intervals import from_function, from_sums, interval, partition, student
from ofasys_lite.metrics.score import Statistics
from ofasys_lite.metrics.texts import bleu, macro_f1

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("intervals")


@pytest.mark.parametrize(
    ("what", "groups", "correlation"), [("mean .8", 10, 0.2), ("errors per word .2", 10, 0.05), ("F1 .6", 24, 0.5)]
)
def test_intervals_of_few_correlated_groups_hold_the_truth_as_often_as_they_say(
    simulation: ModuleType, what: str, groups: int, correlation: float
) -> None:
    # 400 simulations: .95 within 2.5 standard errors of .011
    assert simulation.coverage(*simulation.METRICS[what], groups, correlation, False, 400) == pytest.approx(
        0.95, abs=0.03
    )


def test_margins_of_few_groups_hold_the_truth_as_often_as_they_say(simulation: ModuleType) -> None:
    assert simulation.margin_coverage((0.9, 0.5), 10, 0.2, 400) == pytest.approx(0.95, abs=0.03)


def test_crossed_groups_need_both_ways(simulation: ModuleType) -> None:
    both, one_way = simulation.crossed_coverage((20, 20), (0.05, 0.2), 250)
    assert both > 0.92
    assert one_way < 0.85  # what groups of voices alone say where the phrases are few


def test_the_committed_table_is_within_its_bounds() -> None:
    rows = json.loads((BENCHMARKS / "results" / "intervals.json").read_text(encoding="utf-8"))["rows"]
    usual = [
        value for row in rows if row.get("sizes") == "equal" and row["what"] != "mean .95" for value in row["coverage"]
    ]
    assert len(usual) >= 100
    assert np.mean([0.93 <= value <= 0.97 for value in usual]) > 0.95
    assert 0.91 < min(usual) <= max(usual) < 0.99


def test_the_interval_of_a_mean_of_groups_is_that_of_students_t() -> None:
    values = np.asarray([3.0, 5.0, 4.0, 8.0, 1.0, 6.0])
    statistics = Statistics.mean(values, unit="seconds")
    ways = partition(None, 6, 0, 1000)
    half = 2.570582 * values.std(ddof=1) / math.sqrt(6)
    assert interval(from_sums(statistics, ways), ways, "seconds", True) == pytest.approx((4.5 - half, 4.5 + half))


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2.5, 3.57465), (9, 2.26216), (99, 1.98422), (5000, 1.96044)]
)
def test_quantiles_of_students_t(freedom: float, quantile: float) -> None:
    assert student(float(freedom)) == pytest.approx(quantile, rel=1e-4)


def test_a_score_without_a_single_miss_is_not_certain() -> None:
    score = evaluate_metric("accuracy", ["a"] * 20, ["a"] * 20)
    assert (score.value, score.high) == (1.0, 1.0)
    assert score.low == pytest.approx(0.025 ** (1 / 20))
    assert evaluate_metric("accuracy", ["b"] * 20, ["a"] * 20).high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert evaluate_metric("wer", ["a"] * 20, ["a"] * 20).high > 0.1


def test_ends_stay_within_what_the_metric_can_be() -> None:
    score = evaluate_metric("accuracy", ["a"] * 11 + ["b"], ["a"] * 12)
    assert 0 < score.low < score.value < score.high < 1
    errors = evaluate_metric("wer", ["a b", "a b", "a c"], ["a b"] * 3)
    assert 0 < errors.low < errors.value < errors.high


def test_uneven_groups_count_as_fewer() -> None:
    predictions = ["b" if i % 4 == 0 or i > 116 else "a" for i in range(120)]
    even = evaluate_metric("accuracy", predictions, ["a"] * 120, [str(i % 12) for i in range(120)])
    one_large = evaluate_metric("accuracy", predictions, ["a"] * 120, [str(max(0, i - 108)) for i in range(120)])
    assert even.groups == one_large.groups == 12
    assert one_large.high - one_large.low > 1.5 * (even.high - even.low)


def test_below_ten_groups_nothing_is_clear() -> None:
    references = ["x" if i % 3 else "y" for i in range(200)]
    found = margin("accuracy", references, ["x"] * 200, references, [str(i // 40) for i in range(200)])
    assert (found.groups, found.known, found.clear) == (5, False, False)
    assert found.low > 0
    enough = margin("accuracy", references, ["x"] * 200, references, [str(i // 20) for i in range(200)])
    assert (enough.groups, enough.known, enough.clear) == (FEWEST_GROUPS, True, True)
    assert not Margin(1.0, 0.5, 1.5).clear  # nobody said of how many groups


def test_crossed_groups_are_pairs_and_the_fewer_ones_count() -> None:
    pairs = [(f"v{i}", f"p{j}") for i in range(12) for j in range(7)]
    generator = np.random.default_rng(0)
    predictions = ["a" if right else "b" for right in generator.random(len(pairs)) < 0.7]
    score = evaluate_metric("accuracy", predictions, ["a"] * len(pairs), pairs)
    assert (score.groups, score.ways) == (7, (12, 7))
    with pytest.raises(DataError, match="give each item one name, or two"):
        evaluate_metric("accuracy", ["a", "a"], ["a", "a"], ["g", ("v", "p")])
    with pytest.raises(DataError, match="groups of 3 names"):
        evaluate_metric("accuracy", ["a"], ["a"], [("a", "b", "c")])


def test_a_way_of_one_group_has_no_interval() -> None:
    score = evaluate_metric("accuracy", ["a", "b"] * 10, ["a"] * 20, [("one voice", str(i)) for i in range(20)])
    assert score.groups == 1
    assert math.isnan(score.low)


def test_sums_left_out_give_what_scoring_the_rest_anew_gives() -> None:
    generator = np.random.default_rng(3)
    texts = [" ".join(generator.choice(list("abcdefgh"), 9)) for _ in range(24)]
    answers = [text if i % 3 else text[::-1] for i, text in enumerate(texts)]
    ways = partition([str(i // 2) for i in range(24)], 24, 0, 1000)
    for metric in (bleu, macro_f1):
        estimate = from_sums(metric(answers, texts, [{}] * 24), ways)
        for group in (0, 5, 11):
            kept = [i for i in range(24) if i // 2 != group]
            again = metric([answers[i] for i in kept], [texts[i] for i in kept], [{}] * 22)
            rest = float(again.combine(again.sums_NK.sum(0)))
            assert estimate.value + estimate.ways[0][group] / math.sqrt(11 / 12) == pytest.approx(rest, abs=0.02 * rest)


def test_a_function_that_is_not_smooth_gets_a_fair_interval() -> None:
    generator, held = np.random.default_rng(0), 0
    ways = partition(None, 21, 0, 1000)
    for _ in range(100):
        values = generator.normal(size=21)
        estimate = from_function(lambda i, v=values: float(np.median(v[i])), float(np.median(values)), ways, 0, 60)
        low, high = interval(estimate, ways, "", True)
        held += low <= 0 <= high
    assert held > 88  # leaving out one item at a time holds in 75


def test_more_groups_than_parts_are_dealt_to_parts() -> None:
    predictions = ["a" if i % 4 else "b" for i in range(3000)]
    whole = evaluate_metric("accuracy", predictions, ["a"] * 3000, samples=3000)
    dealt = evaluate_metric("accuracy", predictions, ["a"] * 3000, samples=300)
    assert dealt.groups == whole.groups == 3000
    assert dealt.high - dealt.low == pytest.approx(whole.high - whole.low, rel=0.2)
    assert math.isnan(evaluate_metric("accuracy", predictions, ["a"] * 3000, samples=1).low)
