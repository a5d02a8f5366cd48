"""Tasks that are drawn in whole blocks: shares stay exact, steps keep their size, nothing is iterated."""

from __future__ import annotations

import pickle
from collections import Counter, defaultdict
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import CardError


def drawn(mixture: Mixture, steps: int) -> list[Counter[int]]:
    """Samples of every task in each step; checks that ordinals run without gaps and counts agree."""
    found, ordinals, total = [], defaultdict[int, list[int]](list), Counter[int]()
    for step in range(steps):
        draws = mixture.draw(step)
        assert len(draws) == mixture.samples_per_step
        found.append(Counter(draw.task for draw in draws))
        total += found[-1]
        for draw in draws:
            ordinals[draw.task].append(draw.ordinal)
            task = mixture.tasks[draw.task]
            assert draw.epoch == draw.ordinal // task.size
        assert tuple(total[task] for task in range(len(mixture.tasks))) == mixture.counts(step + 1)
    for seen in ordinals.values():
        assert sorted(seen) == list(range(len(seen)))
    return found


@given(st.integers(2, 12), st.lists(st.integers(1, 9), min_size=1, max_size=3), st.integers(1, 9), st.integers(0, 30))
@settings(max_examples=40, deadline=None)
def test_shares_are_exact_and_blocks_are_whole(block: int, others: list[int], weight: int, more: int) -> None:
    tasks = [MixtureTask("pairs", 50, weight, None, block)]
    tasks += [MixtureTask(f"t{number}", 7, each) for number, each in enumerate(others)]
    samples = 2 * block + more
    try:
        mixture = Mixture(tasks, 3, samples)
    except CardError:
        return  # more is asked of blocks than a step can hold: below
    steps = drawn(mixture, 40)
    assert all(step[0] % block == 0 or step[0] % (samples // (samples // block)) == 0 for step in steps)
    total = weight + sum(others)
    share = Fraction(weight, total)
    assert mixture.shares(0)[0] == pytest.approx(float(share))
    size = max(step[0] for step in steps)
    assert abs(sum(step[0] for step in steps) - float(share * 40 * samples)) <= 2 * size
    round_ = total * block * (samples // (samples // block))  # places are dealt in rounds of that many, or parts of it
    assert mixture.counts(round_)[0] == share * round_ * samples


def test_two_tasks_with_blocks_beside_one_without_and_one_that_ends() -> None:
    tasks = [
        MixtureTask("pairs", 100, 1.0, None, 8),
        MixtureTask("plain", 50, 2.0),
        MixtureTask("short", 70, 1.0, 3),
        MixtureTask("other", 64, [[0, 1.0], [20, 0.5]], 2, 4),  # type: ignore[arg-type]
    ]
    mixture = Mixture(tasks, 3, 20)
    steps = drawn(mixture, 120)
    assert all(step[0] % 8 == 0 for step in steps)
    last = mixture.counts(10**6)
    # at most so many passes, and less than a step below
    assert 210 - 20 < last[2] <= 210
    assert 128 - 20 < last[3] <= 128
    assert last[1] == pytest.approx(2 * last[0], rel=1e-3)
    assert any("a block of 8 samples about every" in note for note in mixture.notes())
    assert any("task short: its epochs (3) end in step" in note for note in mixture.notes())


def test_a_step_far_away_needs_none_before_it_and_a_copy_draws_alike() -> None:
    mixture = Mixture([MixtureTask("pairs", 100, 1.0, None, 32), MixtureTask("plain", 9, 3.0)], 0, 64)
    copy = pickle.loads(pickle.dumps(mixture))
    assert copy.draw(10**9) == mixture.draw(10**9)
    before = mixture.counts(10**9)
    assert {d.ordinal for d in mixture.draw(10**9) if d.task == 0} <= set(range(before[0], before[0] + 64))


def test_alone_a_task_takes_blocks_as_large_as_the_step_allows() -> None:
    mixture = Mixture([MixtureTask("pairs", 100, 1.0, None, 32)], 0, 48)
    assert [step[0] for step in drawn(mixture, 5)] == [48] * 5
    ends = Mixture([MixtureTask("pairs", 100, 1.0, 2, 32)], 0, 48)
    assert ends.steps == 4


def test_tasks_without_blocks_are_drawn_as_ever_and_blocks_are_in_the_fingerprint() -> None:
    plain = [MixtureTask("a", 10), MixtureTask("b", 20)]
    assert repr(plain[0]).endswith("block=1)")
    with_block = [MixtureTask("a", 10, 1.0, None, 4), MixtureTask("b", 20)]
    assert Mixture(plain, 0, 8).fingerprint != Mixture(with_block, 0, 8).fingerprint


@pytest.mark.parametrize(
    ("tasks", "samples", "message", "help"),
    [
        ([("a", 5, 1.0, None, 8)], 20, "task a has 5 rows to train on, fewer than its block of 8", "clip(block=5)"),
        ([("a", 50, 1.0, None, 32)], 20, "blocks of 32, and a step has 20 samples", "trainer.samples_per_step=32"),
        ([("a", 50, 1.0, None, 8), ("b", 50, 0.01)], 21, "can be drawn in blocks of", "trainer.samples_per_step="),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tasks: list[Any], samples: int, message: str, help: str) -> None:
    with pytest.raises(CardError) as caught:
        Mixture([MixtureTask(*each) for each in tasks], 0, samples)
    assert message in caught.value.message
    assert help in str(caught.value.help)
