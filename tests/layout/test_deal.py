from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.errors import DataError
from ofasys_lite.layout.loader import deal

LENGTHS = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 40)), min_size=1, max_size=40)


def packs_of(lengths: list[tuple[int, int]], ranks: int, budgets: tuple[int, int] = (64, 32)) -> list[list[list[int]]]:
    return deal(lengths, ranks, budgets)


@given(LENGTHS, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_every_sample_is_dealt_once_and_every_rank_has_the_same_number_of_packs(
    lengths: list[tuple[int, int]], ranks: int
) -> None:
    dealt = packs_of(lengths, ranks)
    assert len(dealt) == ranks
    assert len({len(packs) for packs in dealt}) == 1
    assert sorted(at for packs in dealt for pack in packs for at in pack) == list(range(len(lengths)))


@given(LENGTHS, st.integers(1, 5))
@settings(max_examples=100, deadline=None)
def test_a_pack_stays_within_both_budgets_or_holds_one_sample(lengths: list[tuple[int, int]], ranks: int) -> None:
    for packs in packs_of(lengths, ranks):
        for pack in packs:
            source, target = sum(lengths[at][0] for at in pack), sum(lengths[at][1] for at in pack)
            assert len(pack) <= 1 or (source <= 64 and target <= 32)


@given(LENGTHS, st.integers(1, 4))
@settings(max_examples=50, deadline=None)
def test_shares_differ_by_no_more_than_the_longest_sample(lengths: list[tuple[int, int]], ranks: int) -> None:
    costs = [max(source / 64, target / 32) for source, target in lengths]
    loads = [sum(costs[at] for pack in packs for at in pack) for packs in packs_of(lengths, ranks)]
    assert max(loads) - min(loads) <= max(costs) + 1e-9


def test_one_and_two_ranks_hold_the_same_samples() -> None:
    lengths = [(n % 30 + 1, n % 7 + 1) for n in range(50)]
    one, two = packs_of(lengths, 1), packs_of(lengths, 2)
    assert {at for packs in one for pack in packs for at in pack} == {
        at for packs in two for pack in packs for at in pack
    }


def test_packs_are_filled_well() -> None:
    lengths = [(n * 37 % 60 + 1, 1) for n in range(200)]
    packs = packs_of(lengths, 1, (256, 4096))[0]
    least = -(-sum(source for source, _ in lengths) // 256)
    assert len(packs) <= least + 1


def test_more_ranks_than_samples_leave_empty_packs() -> None:
    assert packs_of([(5, 5)], 3) == [[[0]], [[]], [[]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([(3, 1)], 0, (8, 8)), "ranks is 0"),
        (([(3, 1)], 1, (0, 8)), "source budget is 0"),
        (([(3, 1)], 1, (8, -1)), "target budget is -1"),
    ],
)
def test_a_deal_that_makes_no_sense_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(DataError, match=message):
        deal(*arguments)
