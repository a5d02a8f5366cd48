from __future__ import annotations

import itertools
import pickle
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.data.allotment import Allotment, whole_weights
from ofasys_lite.data.mixture import MAX_STAIRS, Mixture, MixtureTask, Schedule, stairs
from ofasys_lite.data.permutation import key_of, permute, permute_many, sample_rng, sides
from ofasys_lite.errors import CardError


def whole(size: int, key: int) -> list[int]:
    places = np.arange(size)
    a, b = sides(size)
    ones = np.ones(size, np.int64)
    return permute_many(places, ones * size, ones * a, ones * b, np.full(size, key, np.uint64)).tolist()


@given(st.integers(1, 3000), st.integers(0, 2**64 - 1))
@settings(max_examples=80, deadline=None)
def test_a_permutation_holds_every_element_once(size: int, key: int) -> None:
    assert sorted(whole(size, key)) == list(range(size))


@given(st.integers(1, 10**15), st.integers(0, 2**64 - 1), st.data())
@settings(max_examples=50, deadline=None)
def test_one_place_of_a_huge_permutation_is_in_range_and_repeatable(size: int, key: int, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, size - 1))
    element = permute(place, size, key)
    assert 0 <= element < size
    assert element == permute(place, size, key)


@pytest.mark.parametrize("size", [2, 3, 5, 10, 23])
def test_over_many_keys_every_element_stands_at_every_place_alike(size: int) -> None:
    rounds = 60 * size
    seen = np.zeros((size, size))
    for key in range(rounds):
        seen[np.arange(size), whole(size, key_of("test", key))] += 1
    chi2 = ((seen - 60) ** 2 / 60).sum()
    degrees = (size - 1) ** 2
    assert abs(chi2 - degrees) < 5 * np.sqrt(2 * degrees) + 5


def test_neighbours_do_not_stay_neighbours() -> None:
    order = np.array(whole(10_000, key_of("x")))
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(10_000))[0, 1]) < 0.05


def test_keys_tell_kinds_and_borders_of_their_parts_apart() -> None:
    assert len({key_of(1), key_of("1"), key_of("a", "b"), key_of("ab"), key_of("a", "b", "")}) == 5


def test_the_generator_of_a_sample_depends_on_its_four_names_alone() -> None:
    one = sample_rng(1, "vqa", "17", 0).random(4)
    assert (one == sample_rng(1, "vqa", "17", 0).random(4)).all()
    others = [sample_rng(2, "vqa", "17", 0), sample_rng(1, "asr", "17", 0), sample_rng(1, "vqa", "18", 0)]
    assert all((one != other.random(4)).any() for other in [*others, sample_rng(1, "vqa", "17", 1)])


WEIGHTS = st.lists(st.floats(0.01, 100, allow_nan=False), min_size=1, max_size=12)


@given(WEIGHTS, st.integers(1, 40), st.integers(0, 300), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_counts_after_any_step_stay_within_two_samples_of_the_share(
    weights: list[float], samples: int, step: int, seed: int
) -> None:
    mixture = Mixture([MixtureTask(f"t{n}", 50 + n, w) for n, w in enumerate(weights)], seed, samples)
    counts = mixture.counts(step)
    assert sum(counts) == step * samples
    for count, share in zip(counts, mixture.shares(step), strict=True):
        assert abs(count - share * step * samples) < 2
    drawn = Counter(draw.task for draw in mixture.draw(step))
    after = mixture.counts(step + 1)
    assert [drawn[n] for n in range(len(weights))] == [b - a for a, b in zip(counts, after, strict=True)]


@given(st.lists(st.integers(1, 9), min_size=2, max_size=6), st.integers(0, 5))
@settings(max_examples=40, deadline=None)
def test_a_round_holds_exactly_the_weights(weights: list[int], rounds: int) -> None:
    mixture = Mixture([MixtureTask(f"t{n}", 50, w) for n, w in enumerate(weights)], 0, 1)
    assert mixture.counts(sum(weights) * rounds) == tuple(w * rounds for w in weights)


def test_every_epoch_holds_every_row_once_and_in_another_order() -> None:
    mixture = Mixture([MixtureTask("a", 23, 2), MixtureTask("b", 7, 1.3)], 5, 10)
    rows: dict[tuple[int, int], list[int]] = {}
    for step in range(60):
        for draw in mixture.draw(step):
            rows.setdefault((draw.task, draw.epoch), []).append(draw.index)
    full = {key: order for key, order in rows.items() if key[1] < 10}
    for (task, _), order in full.items():
        assert sorted(order) == list(range(mixture.tasks[task].size))
    assert rows[0, 0] != rows[0, 1]


def test_the_order_of_draws_is_pinned_for_it_is_what_runs_are_resumed_by() -> None:
    # change these numbers only with a version of the run's files: otherwise an upgrade reorders every resumed run
    mixture = Mixture([MixtureTask("vqa", 1000, 2), MixtureTask("asr", 7, 1)], seed=5, samples_per_step=6)

    def drawn(step: int) -> list[tuple[int, int, int, int]]:
        return [(d.task, d.epoch, d.index, d.ordinal) for d in mixture.draw(step)]

    assert drawn(0) == [(0, 0, 847, 0), (1, 0, 1, 0), (0, 0, 687, 1), (0, 0, 413, 2), (1, 0, 3, 1), (0, 0, 788, 3)]
    assert drawn(10**6)[:2] == [(0, 4000, 979, 4000000), (1, 285714, 3, 2000000)]
    assert [mixture.spare(0, 0, attempt, 3) for attempt in (1, 2, 3)] == [317, 124, 795]
    assert sample_rng(1, "vqa", "17", 0).integers(0, 10**6, 4).tolist() == [301607, 901195, 544975, 88117]


def test_the_fingerprint_is_that_of_earlier_versions() -> None:
    mixture = Mixture([MixtureTask("vqa", 1000, 2), MixtureTask("asr", 7, 1, epochs=3)], seed=5, samples_per_step=6)
    assert mixture.fingerprint == "46a031a92c137ce19de32c90038ec8cd"


def test_ordinals_run_without_gaps_through_the_steps() -> None:
    mixture = Mixture([MixtureTask("a", 9, 3), MixtureTask("b", 5, 1), MixtureTask("c", 8, 2)], 0, 8)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(50):
        for draw in mixture.draw(step):
            seen[draw.task].append(draw.ordinal)
    assert all(found == list(range(len(found))) for found in seen.values())


def test_a_step_far_away_is_drawn_without_those_before_it() -> None:
    tasks = [MixtureTask("a", 10**9, 1), MixtureTask("b", 12, Schedule.parse([[0, 1], [1000, 3]]))]
    draws = Mixture(tasks, 3, 32).draw(10**12)
    assert sum(draw.task for draw in draws) == 24
    assert draws == Mixture(tasks, 3, 32).draw(10**12)


def test_tasks_are_interleaved_within_a_step() -> None:
    mixture = Mixture([MixtureTask("a", 100), MixtureTask("b", 100)], 0, 8)
    assert [draw.task for draw in mixture.draw(0)] in ([0, 1] * 4, [1, 0] * 4)


def test_a_light_task_comes_every_few_steps_and_the_notes_say_so() -> None:
    mixture = Mixture([MixtureTask("big", 100, 1), MixtureTask("rare", 100, 0.01)], 0, 8)
    steps = [step for step in range(200) for draw in mixture.draw(step) if draw.task == 1]
    gaps = set(np.diff(steps).tolist())
    assert gaps <= {12, 13}
    assert mixture.notes() == ("task rare: one sample about every 12.6 steps",)


def test_another_task_does_not_change_the_order_of_the_first() -> None:
    def order(tasks: list[MixtureTask]) -> list[int]:
        draws = [draw for step in range(20) for draw in Mixture(tasks, 1, 6).draw(step)]
        return [draw.index for draw in draws if tasks[draw.task].name == "a"][:40]

    alone = order([MixtureTask("a", 31)])
    assert alone == order([MixtureTask("b", 9), MixtureTask("a", 31)])


def test_the_seed_changes_the_order_and_the_fingerprint() -> None:
    one, two = (Mixture([MixtureTask("a", 100)], seed, 50) for seed in (0, 1))
    assert one.draw(0) != two.draw(0)
    assert one.fingerprint != two.fingerprint


@given(st.integers(1, 30), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_a_task_with_epochs_stops_there_and_the_others_take_its_share(size: int, epochs: int) -> None:
    tasks = [MixtureTask("few", size, 1, epochs=epochs), MixtureTask("all", 40, 1)]
    mixture = Mixture(tasks, 0, 8)
    steps = size * epochs // 4 + 12
    drawn = Counter(draw.task for step in range(steps) for draw in mixture.draw(step))
    assert drawn[0] == size * epochs
    assert sum(drawn.values()) == 8 * steps
    assert "its share goes to the other tasks" in " ".join(mixture.notes())


def test_when_all_epochs_are_used_the_mixture_ends_and_says_when() -> None:
    mixture = Mixture([MixtureTask("a", 10, 1, epochs=1), MixtureTask("b", 6, 1, epochs=2)], 0, 4)
    assert mixture.steps == 5
    drawn = Counter((d.task, d.index) for step in range(5) for d in mixture.draw(step))
    assert sum(drawn.values()) == 20
    with pytest.raises(CardError, match="every task has used its epochs after step 5; step 5 has no samples left"):
        mixture.draw(5)


def test_a_schedule_moves_the_share_and_keeps_the_integral() -> None:
    ramp = Schedule.parse([[0, 0], [100, 1]])
    mixture = Mixture([MixtureTask("a", 50, ramp), MixtureTask("b", 50, 1)], 0, 16)
    ideal = sum(16 * Fraction(s, 100) / (1 + Fraction(s, 100)) for s in range(100))
    assert abs(mixture.counts(100)[0] - ideal) < 3
    assert mixture.shares(0) == (0.0, 1.0)
    assert mixture.shares(50)[0] == pytest.approx(1 / 3)
    assert mixture.shares(10**6) == (0.5, 0.5)
    assert not any(draw.task == 0 for draw in mixture.draw(0))


def test_two_points_at_one_step_are_a_jump() -> None:
    schedule = Schedule.parse([[0, 1], [10, 1], [10, 0]])
    assert [schedule.at(step) for step in (0, 9, 10, 99)] == [1, 1, 0, 0]
    mixture = Mixture([MixtureTask("a", 50, schedule), MixtureTask("b", 50, 1)], 0, 4)
    assert mixture.counts(10) == (20, 20)
    assert mixture.counts(50) == (20, 180)


def test_many_ramps_stay_within_the_stated_number_of_stairs() -> None:
    schedules = [Schedule.parse([[n, 1], [10**6 + n, 2]]) for n in range(20)]
    assert len(stairs(schedules)) <= MAX_STAIRS + 2 * 20


def test_weights_of_many_digits_become_whole_numbers_and_none_vanishes() -> None:
    mixture = Mixture([MixtureTask("a", 5, 0.3), MixtureTask("b", 5, 0.7)], 0, 10)
    assert mixture.counts(3) == (9, 21)
    assert whole_weights([30, 70, 0]) == [3, 7, 0]
    large = whole_weights([1, 10**30, 0])
    assert sum(large) < 2**30
    assert large[0] == 1
    assert large[2] == 0


def test_a_spare_row_is_the_same_everywhere_and_another_for_each_attempt() -> None:
    mixture = Mixture([MixtureTask("a", 2_000)], 0, 4)
    spares = [mixture.spare(0, 0, attempt, 17) for attempt in range(1, 20)]
    assert len(set(spares)) == 19
    assert spares == [pickle.loads(pickle.dumps(mixture)).spare(0, 0, attempt, 17) for attempt in range(1, 20)]
    assert sorted(mixture.spare(0, 3, 1, index) for index in range(2_000)) == list(range(2_000))


def test_a_mixture_travels_to_workers() -> None:
    mixture = Mixture([MixtureTask("a", 10, Schedule.parse([[0, 1], [9, 2]])), MixtureTask("b", 4, epochs=3)], 0, 4)
    copy = pickle.loads(pickle.dumps(mixture))
    assert copy.draw(7) == mixture.draw(7)
    assert copy.fingerprint == mixture.fingerprint


def test_counts_of_an_allotment_grow_by_one_unit_at_a_time() -> None:
    allotment = Allotment([1, 2, 3])
    allotment.add_piece(0, [1, 2, 3])
    allotment.add_piece(7, [5, 0, 1])
    counts = [allotment.counts(units) for units in range(60)]
    steps = [[b - a for a, b in zip(one, two, strict=True)] for one, two in itertools.pairwise(counts)]
    assert all(sorted(step) == [0, 0, 1] for step in steps)


BAD = [
    ([], 4, "a mixture needs at least one task"),
    ([("a", 3, 1), ("a", 3, 1)], 4, "task a is in the mixture twice"),
    ([("a", 3, 1)], 0, "0 samples per step"),
    ([("a", 3, 0)], 4, "every task has weight 0 at step 0"),
    ([("a", 3, -1)], 4, r"task a: weight is -1; a weight is 0 or more"),
    ([("a", 3, "much")], 4, r"task a: weight is 'much'; a weight is a number"),
    ([("a", 3, True)], 4, r"task a: weight is True; a weight is a number"),
    ([("a", 3, [])], 4, r"task a: weight is an empty list"),
    ([("a", 3, [[0, 1], 5])], 4, r"task a: weight: point 2 is 5, not a pair \[step, weight\]"),
    ([("a", 3, [[0.5, 1]])], 4, r"task a: weight: point 1 has step 0.5; a step is a whole number"),
    ([("a", 3, [[9, 1], [3, 1]])], 4, r"task a: weight: step 3 comes after step 9"),
    ([("a", 3, [[0, float("inf")]])], 4, r"task a: weight: point 1 is inf; a weight is 0 or more"),
    ([("a", 3, [[0, 1], [5, 1], [5, 0]])], 4, "every task has weight 0 at step 5"),
]


@pytest.mark.parametrize(("tasks", "samples", "message"), BAD)
def test_a_mixture_that_makes_no_sense_is_refused(tasks: list[tuple], samples: int, message: str) -> None:
    with pytest.raises(CardError, match=message):
        Mixture([MixtureTask(*task) for task in tasks], 0, samples)


@pytest.mark.parametrize(("change", "message"), [({"size": 0}, "has no rows"), ({"epochs": 0}, "epochs is 0")])
def test_a_task_that_cannot_be_drawn_is_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(CardError, match=message):
        MixtureTask(**({"name": "a", "size": 5} | change))


def test_a_negative_step_is_refused() -> None:
    with pytest.raises(CardError, match="step -1 is before the first step"):
        Mixture([MixtureTask("a", 5)], 0, 1).draw(-1)
