"""Lists: the greedy MAP of a determinantal point process, and lists without repeats."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from decoding_sessions import ToySession, toy

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.diverse import greedy_map, similarities
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.errors import CardError
from ofasys_lite.plan.constraints import OneOf, Repeat, Series, Slotted


def weight(chosen: Sequence[int], scores: Any, similar: Any, diversity: float) -> float:
    """(1 - d) sum of scores + d log det: what a set weighs."""
    _, log = np.linalg.slogdet(similar[np.ix_(chosen, chosen)])
    return float((1 - diversity) * scores[list(chosen)].sum() + diversity * log)


def plain_greedy(scores: Any, similar: Any, count: int, diversity: float) -> list[int]:
    """The same by determinants of whole sets."""
    chosen: list[int] = []
    for _ in range(count):
        left = [i for i in range(len(scores)) if i not in chosen]
        chosen.append(max(left, key=lambda i: weight([*chosen, i], scores, similar, diversity)))
    return chosen


def drawn(seed: int, count: int, width: int = 8) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(-3, 2, count), similarities(rng.normal(size=(count, width)))


@pytest.mark.parametrize("diversity", [0.1, 0.5, 0.9])
def test_it_is_the_greedy_search_over_determinants(diversity: float) -> None:
    for seed in range(8):
        scores, similar = drawn(seed, 14)
        assert greedy_map(scores, similar, 6, diversity) == plain_greedy(scores, similar, 6, diversity)


def test_pairs_of_it_are_the_best_of_all_pairs_where_greedy_is_exact() -> None:
    """The first is the best by score; the second is the best beside it of all candidates."""
    for seed in range(8):
        scores, similar = drawn(seed, 9)
        first, second = greedy_map(scores, similar, 2, 0.5)
        assert first == int(np.argmax(scores))
        pairs = [pair for pair in itertools.permutations(range(9), 2) if pair[0] == first]
        assert second == max(pairs, key=lambda pair: weight(pair, scores, similar, 0.5))[1]
        found = weight((first, second), scores, similar, 0.5)
        best = max(weight(pair, scores, similar, 0.5) for pair in itertools.combinations(range(9), 2))
        assert found <= best + 1e-9
        # of a set whose candidates are all alike in score and unlike each other it is the best of all
    assert greedy_map(np.zeros(4), np.eye(4), 4, 0.5) == [0, 1, 2, 3]


def test_without_diversity_it_is_the_order_of_scores_and_of_equals_one_is_taken() -> None:
    scores, similar = drawn(1, 10)
    assert greedy_map(scores, similar, 4, 0.0) == np.argsort(-scores)[:4].tolist()
    twice = similarities(np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    assert greedy_map([0.0, -0.1, -3.0], twice, 2, 0.6) == [0, 2]
    assert greedy_map([0.0, -0.1, -3.0], twice, 9, 0.6) == [0, 2, 1]  # no more than there are


def test_similarities_are_shares_and_a_vector_of_zeros_is_no_mistake() -> None:
    found = similarities(np.array([[1.0, 0.0], [-2.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(found, [[1, 0, 0.5], [0, 1, 0.5], [0.5, 0.5, 1]])
    assert np.linalg.eigvalsh(similarities(np.random.default_rng(0).normal(size=(30, 4)))).min() > -1e-9


IDS = OneOf(tuple((id,) for id in range(40, 52)))


@torch.no_grad()
def test_a_diverse_list_of_a_search_is_what_greedy_map_takes_of_its_beam() -> None:
    automaton = compile(IDS)
    made = toy(5, 1)

    class Session(ToySession):
        def vectors(self, ids_W: torch.Tensor) -> torch.Tensor:
            return self.model.embedding[ids_W]

    def best(diversity: float, n_best: int) -> Any:
        session = Session(made.model, made.h_BD.clone())
        (found,) = decode(session, [automaton], DecodeOptions("beam", beam=10, n_best=n_best, diversity=diversity))
        return found

    whole = best(0.0, 10).n_best
    similar = similarities(made.model.embedding[[h.ids[0] for h in whole]].numpy())
    wanted = greedy_map([h.score for h in whole], similar, 4, 0.7)
    found = best(0.7, 4)
    assert [h.ids for h in found.n_best] == [whole[i].ids for i in wanted]
    assert found.ids == whole[0].ids
    assert [h.ids for h in found.n_best] != [h.ids for h in whole[:4]]


def group(most: int) -> Any:
    parts = Series((Slotted("item", OneOf(tuple((id,) for id in range(40, 46)))),))
    return Slotted("items", Repeat((parts,), (4,), 3, most, most))


@pytest.mark.parametrize("options", [{}, {"method": "beam", "beam": 3, "n_best": 3}, {"method": "sample", "seed": 1}])
@torch.no_grad()
def test_a_list_without_repeats_names_each_once_and_repeats_only_where_nothing_else_is_left(options: Any) -> None:
    repeated = 0
    for seed in range(6):
        plain, bare = (
            decode(toy(seed, 2), [compile(group(4))] * 2, DecodeOptions(**options, no_repeat=flag))
            for flag in (False, True)
        )
        for hypothesis in (h for found in bare for h in (found, *found.n_best)):
            named = [id for id in hypothesis.ids if id >= 40]
            assert len(named) == len(set(named)) == 4
        repeated += sum(len({id for id in h.ids if id >= 40}) < 4 for h in plain)
    assert repeated  # it does something
    (all_of,) = decode(toy(0, 1), [compile(group(8))], DecodeOptions(no_repeat=True))
    named = [id for id in all_of.ids if id >= 40]
    assert len(named) == 8
    assert len(set(named[:6])) == 6


@torch.no_grad()
def test_scores_without_repeats_are_shares_of_what_is_left() -> None:
    options = DecodeOptions("beam", beam=720, n_best=720, length_penalty=0.0, no_repeat=True)
    (found,) = decode(toy(2, 1), [compile(group(3))], options)
    assert len(found.n_best) == 6 * 5 * 4
    assert sum(np.exp(h.score) for h in found.n_best) == pytest.approx(1.0, abs=1e-5)


def test_diversity_of_one_answer_is_refused() -> None:
    with pytest.raises(CardError, match="diversity of one answer"):
        DecodeOptions("beam", beam=10, diversity=0.5)
    with pytest.raises(CardError, match=r"diversity is 1\.5"):
        DecodeOptions("beam", beam=10, n_best=5, diversity=1.5)
