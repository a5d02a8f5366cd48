"""What an automaton allows, where elements stand, how finished output splits."""

from __future__ import annotations

import itertools
import json as text_json

import numpy as np
import pytest
from decoding_grammars import (
    ABSENT,
    BOX,
    CLOSE,
    DIGITS,
    END,
    GRAMMARS,
    NEXT,
    PRESENT,
    SIZE,
    free,
    generator,
    grid,
    json,
)
from random_walks import random_walk

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.plan.constraints import Constraint, Forced, OneOf, Optional, Placed, Repeat, Series, Slotted


@pytest.mark.parametrize("name", GRAMMARS)
def test_random_walks_are_legal_and_split(name: str) -> None:
    automaton = compile(GRAMMARS[name])
    for seed in range(60):
        ids = random_walk(automaton, generator(seed))
        assert automaton.accepts(ids)
        assert automaton.min_length <= len(ids) <= automaton.max_length
        automaton.split(ids)


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_length_budget_always_ends_in_a_legal_sequence_within_it(name: str) -> None:
    automaton = compile(GRAMMARS[name])
    for seed, extra in itertools.product(range(10), (0, 1, 2, 5)):
        budget = automaton.min_length + extra
        ids = random_walk(automaton, generator(seed), budget)
        assert automaton.accepts(ids)
        assert len(ids) <= budget


@pytest.mark.parametrize("name", GRAMMARS)
def test_a_budget_below_the_shortest_output_gives_a_shortest_one(name: str) -> None:
    automaton = compile(GRAMMARS[name])
    ids = random_walk(automaton, generator(3), 0)
    assert automaton.accepts(ids)
    assert len(ids) == automaton.min_length


@pytest.mark.parametrize("name", GRAMMARS)
def test_shortest_and_longest_count_what_is_left(name: str) -> None:
    automaton = compile(GRAMMARS[name])
    for seed in range(20):
        ids = random_walk(automaton, generator(seed))
        for place, state in enumerate(automaton.walk(ids)):
            left = len(ids) - place
            assert automaton.shortest(state) <= left <= automaton.longest(state)
            assert automaton.done(state) == (left == 0)


def _all(constraint: Constraint) -> list[list[int]]:
    automaton = compile(constraint)
    found, open_ = [], [([], automaton.start)]
    while open_:
        ids, state = open_.pop()
        if automaton.done(state):
            found.append(ids)
        for id in automaton.allowed(state).ids.tolist():
            open_.append(([*ids, id], automaton.step(state, id)))
    return found


def test_the_shortest_and_longest_of_small_grammars_are_those_of_their_whole_language() -> None:
    small = Series((OneOf(((20,), (21, 22, CLOSE))), Repeat((Forced((50,)), BOX.parts[0]), (30, 31), END, 1, 2)))
    lengths = [len(ids) for ids in _all(small)]
    automaton = compile(small)
    assert (min(lengths), max(lengths)) == (automaton.min_length, automaton.max_length)
    assert automaton.longest(automaton.start) == max(lengths)


def test_a_minimal_length_is_kept_where_the_line_allows_it() -> None:
    automaton = compile(free(0, 6))
    state = automaton.start
    assert CLOSE not in automaton.within(state, 3, 7)
    assert CLOSE in automaton.within(state, 1, 7)
    assert automaton.within(state, 50, 7).count == 40
    assert automaton.within(state, 0, 1).single == CLOSE


def test_equal_states_share_one_set_of_legal_ids_and_one_mask() -> None:
    automaton = compile(free(0, 9))
    first, second = automaton.walk([41, 42])[1:]
    assert automaton.allowed(first) is automaton.allowed(second)
    mask = automaton.allowed(first).mask(SIZE)
    assert mask is automaton.allowed(second).mask(SIZE)
    assert np.flatnonzero(mask).tolist() == automaton.allowed(first).ids.tolist() == [CLOSE, *range(40, 80)]
    assert automaton.step(automaton.start, 41) == automaton.step(automaton.start, 79)


def test_free_text_closes_only_between_its_bounds() -> None:
    automaton = compile(free(2, 3))
    assert not automaton.accepts([40, CLOSE])
    assert automaton.accepts([40, 41, CLOSE])
    assert automaton.accepts([40, 41, 42, CLOSE])
    assert not automaton.accepts([40, 41, 42, 43, CLOSE])


def test_forced_ids_leave_no_choice() -> None:
    automaton = compile(Series((Forced((50,)), Slotted("a", OneOf(((20,), (21,)))), Forced((51, 52)))))
    states = automaton.walk([50, 21, 51, 52])
    assert [automaton.choices(s) for s in states] == [False, True, False, False, False]
    assert automaton.allowed(states[0]).single == 50
    assert automaton.forced(states[0]) is None
    assert automaton.forced(states[2]) == (51, 52)
    assert automaton.forced(states[4]) == ()


def test_elements_of_a_grid_stand_at_their_cells_and_the_rest_behind_the_largest_of_them() -> None:
    automaton = compile(GRAMMARS["grid"])
    ids = [50, 90, 91, 92, 90, 91, 92, 51]
    at = [automaton.position(s) for s in automaton.walk(ids)]
    cells = [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 2, 1), (1, 2, 2), (1, 2, 3)]
    assert at == [(0, 0, 0), *cells, (4, 4, 4), (5, 5, 5)]


def test_slots_of_groups_split_into_one_dict_per_element() -> None:
    ids = [50, 51, 30, 100, 101, 102, 103, 21, 22, CLOSE, 31, 60, CLOSE, 30, 109, 109, 109, 109, 20, END, 70, CLOSE]
    split = compile(GRAMMARS["group"]).split(ids)
    assert list(split) == ["objects", "b"]
    assert split["b"].tolist() == [70, CLOSE]
    assert [a for a, _ in split["objects"]] == [0, 1, 0]
    plain = [{k: v.tolist() for k, v in element.items()} for _, element in split["objects"]]
    assert plain == [
        {"objects.box": [100, 101, 102, 103], "objects.label": [21, 22, CLOSE]},
        {"objects.t": [60, CLOSE]},
        {"objects.box": [109] * 4, "objects.label": [20]},
    ]


def test_groups_in_groups_split_into_nested_lists() -> None:
    inner = [31, CLOSE, END]
    ids = [NEXT, CLOSE, *inner, 20, NEXT, 44, CLOSE, 31, 45, CLOSE, 31, CLOSE, END, 24, CLOSE, END]
    split = compile(GRAMMARS["nested"]).split(ids)
    (first, second) = (element for _, element in split["g"])
    assert [a for a, _ in first["objects"]] == [1]
    assert [element["objects.t"].tolist() for _, element in second["objects"]] == [[45, CLOSE], [CLOSE]]
    assert second["g.x"].tolist() == [44, CLOSE]
    assert second["g.y"].tolist() == [24, CLOSE]


def test_an_empty_group_splits_into_an_empty_list() -> None:
    assert compile(GRAMMARS["nested"]).split([END]) == {"g": []}


def test_the_word_absent_belongs_to_the_optional_slot() -> None:
    automaton = compile(GRAMMARS["optional"])
    assert automaton.split([ABSENT, 100, 100, 100, 100])["a"].tolist() == [ABSENT]
    assert automaton.split([PRESENT, 41, CLOSE, 100, 100, 100, 100])["a"].tolist() == [PRESENT, 41, CLOSE]


def test_an_illegal_id_is_refused_with_its_place_and_what_is_legal() -> None:
    automaton = compile(GRAMMARS["box"])
    with pytest.raises(DataError, match=r"element 1: id 7 is not legal here\n  help: legal: Allowed\(100..109\)"):
        automaton.walk([100, 7])
    with pytest.raises(DataError, match="behind the end"):
        automaton.walk([100] * 5)
    with pytest.raises(DataError, match="stops after 2 ids and before its end"):
        automaton.split([100, 101])


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (OneOf(((20,), (20, 21))), "beginning of another"),
        (OneOf(((20, 21), (20,))), "beginning of another"),
        (OneOf(()), "at least one value"),
        (OneOf(((),)), "at least one value"),
        (free(3, 2), "free text of 3 to 2 ids"),
        (Placed(free(), ((0, 0, 0),)), "1 positions for a part of 1 to 6 ids"),
        (Repeat((BOX,), (END,), END, 0, 1), "openers"),
        (Optional(BOX, 5, 5), "share the id 5"),
        (Series((Repeat((Slotted("a", BOX),), (NEXT,), END, 0, 1),)), "has no name"),
        (json(0), "JSON of at most 0 ids"),
    ],
)
def test_a_constraint_that_contradicts_itself_is_refused(constraint: Constraint, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        compile(constraint)


def test_values_written_alike_are_one_path() -> None:
    assert compile(OneOf(((20,), (20,)))).forced(compile(OneOf(((20,),))).start) == (20,)


def test_a_set_of_thousands_of_values_is_one_arc() -> None:
    automaton = compile(OneOf(tuple((i,) for i in range(1000, 9000))))
    assert automaton.allowed(automaton.start).ranges == ((1000, 9000),)
    assert len(automaton.start.node.arcs) == 1


def _spell(ids: list[int]) -> str:
    """JSON text of a number's ids."""
    names = {id: c for c, id in DIGITS.items()}
    return "".join(names[i] for i in ids)


def test_numbers_follow_the_grammar_of_json() -> None:
    automaton = compile(json())

    def ids(text: str) -> list[int]:
        return [14, *(DIGITS[c] for c in text), CLOSE]

    for good in ("0", "-0", "12", "0.5", "-1.25e+10", "3E7", "1e-07"):
        assert automaton.accepts(ids(good)), good
        text_json.loads(good)
    for bad in ("", "-", "01", "+1", ".5", "1.", "1e", "1e+", "1.e5", "--1"):
        assert not automaton.accepts(ids(bad)), bad


def test_every_way_a_number_can_end_is_json() -> None:
    automaton = compile(json(12))
    for seed in range(300):
        ids = random_walk(automaton, generator(seed))
        if ids[0] == 14:
            text_json.loads(_spell(ids[1:-1]))


def test_nesting_stops_at_the_depth() -> None:
    automaton = compile(json(40, depth=2))
    state = automaton.walk([11, 11])[-1]
    assert 11 not in automaton.allowed(state)
    assert 13 in automaton.allowed(state)


def test_near_its_limit_json_does_what_closes_soonest() -> None:
    automaton = compile(json(5, depth=3))
    state = automaton.walk([10, 12])[-1]  # a record and a key: close, a value of one id and the end must still fit
    assert automaton.allowed(state).single == CLOSE
    assert automaton.accepts([10, 12, CLOSE, 17, END])


def test_a_grid_needs_no_closing_token() -> None:
    assert compile(grid(2, 2)).max_length == compile(grid(2, 2)).min_length == 4
