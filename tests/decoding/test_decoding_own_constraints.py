"""Constraints of one's own are states and moves; many of them drive no shared one out of what is kept."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from random_walks import random_walk

from ofasys_lite.decoding import automaton as automata
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.plan.constraints import Forced, Grammar, Move, OneOf, Repeat, Series, Slotted


@dataclass(frozen=True)
class Balanced(Grammar):
    """Brackets (1 opens, 2 closes), at most `deep`, then 3."""

    deep: int
    least: int = 1

    start = 0

    @property
    def most(self) -> int:  # type: ignore[override]
        return 40

    def moves(self, state: Hashable) -> Sequence[Move]:
        depth = int(str(state))
        found = [Move(((2, 3),), depth - 1, depth, 40)] if depth else [Move(((3, 4),), None)]
        return [*found, Move(((1, 2),), depth + 1, depth + 2, 40)] if depth < self.deep else found


def test_states_and_moves_decide_what_is_legal() -> None:
    automaton = compile(Slotted("a", Balanced(2)))
    assert automaton.accepts([1, 1, 2, 2, 1, 2, 3])
    assert not automaton.accepts([1, 1, 1, 2, 2, 2, 3])
    assert not automaton.accepts([1, 3])
    assert automaton.split([1, 2, 3])["a"].tolist() == [1, 2, 3]
    with pytest.raises(DataError, match="element 0: id 2 is not legal here"):
        automaton.split([2])


@pytest.mark.parametrize("seed", range(20))
def test_a_budget_leads_to_the_end_within_other_parts(seed: int) -> None:
    group = Slotted("g", Repeat((Slotted("a", Balanced(3)), Forced((9,))), (10, 11), 12, 1, 3))
    automaton = compile(Series((Forced((8,)), group, OneOf(((20,), (21, 22))))))
    budget = automaton.min_length + seed
    ids = random_walk(automaton, np.random.default_rng(seed), budget)
    assert automaton.accepts(ids)
    assert len(ids) <= budget


def test_equal_ones_share_an_automaton() -> None:
    assert compile(Balanced(5)) is compile(Balanced(5))
    assert compile(Balanced(5)) is not compile(Balanced(6))


def test_constraints_of_one_row_each_do_not_drive_out_a_shared_one() -> None:
    shared = Series((Forced((7,)), Balanced(4)))
    first = compile(shared)
    assert compile(shared) is first  # asked for again: it is shared
    for number in range(2000):
        compile(Forced((number, 1)))
    assert compile(Series((Forced((7,)), Balanced(4)))) is first
    assert len(automata._KEPT.once) <= automata._KEPT.most
    assert len(automata._KEPT.again) <= automata._KEPT.most


@dataclass(frozen=True)
class Stuck(Grammar):
    start = 0
    least: int = 1
    most: int = 1

    def moves(self, state: Hashable) -> Sequence[Move]:
        return ()


def test_a_grammar_that_cannot_be_is_told() -> None:
    with pytest.raises(ShapeError, match="Stuck has no legal id at the state 0"):
        compile(Stuck())
    with pytest.raises(ShapeError, match="writes 2 to 1 ids"):
        compile(Stuck(2))
