"""Search finds what exhaustive search finds, stays legal, and does not depend on the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from decoding_grammars import BOX, CLOSE, END, GRAMMARS, SIZE, free, json
from decoding_sessions import CachedSession, ToySession, WholeSession, toy

from ofasys_lite.decoding.automaton import Automaton, compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.ranking import _top
from ofasys_lite.decoding.search import START, Hypothesis, decode
from ofasys_lite.errors import ShapeError
from ofasys_lite.model import EncoderDecoder, ModelConfig
from ofasys_lite.plan.constraints import Constraint, Forced, Free, OneOf, Range, Repeat, Series

SMALL: dict[str, Constraint] = {
    "text": Free(40, 43, 0, 4, CLOSE),
    "text with bounds": Series((Forced((50,)), Free(40, 43, 2, 4, CLOSE), Forced((51,)))),
    "set": OneOf(((20,), (21, 22, CLOSE), (21, 23, CLOSE), (24, 25, 26, CLOSE))),
    "group": Repeat((Range(100, 103), Forced(())), (30, 31), END, 1, 3),
}
AUTOMATA = [compile(GRAMMARS[name]) for name in ("free", "set", "box", "grid", "optional", "group", "json", "nothing")]


def _score(session: ToySession, automaton: Automaton, ids: Sequence[int], alpha: float) -> float:
    """Score of `ids` under sample 0, by definition."""
    h, total, chosen, fed = session.h_BD[:1], 0.0, 0, START
    for id, state in zip(ids, automaton.walk(ids), strict=False):
        h = session.model.step(h, torch.tensor([fed]), torch.tensor([automaton.position(state)]))
        legal = automaton.allowed(state)
        if legal.count > 1:
            scores = (h @ session.model.head.T)[0]
            total += float(scores[id] - scores[torch.from_numpy(legal.ids)].logsumexp(0))
            chosen += 1
        fed = id
    return total / max(1, chosen) ** alpha


def _language(automaton: Automaton) -> list[list[int]]:
    found, open_ = [], [([], automaton.start)]
    while open_:
        ids, state = open_.pop()
        if automaton.done(state):
            found.append(ids)
        open_ += [([*ids, i], automaton.step(state, i)) for i in automaton.allowed(state).ids.tolist()]
    return found


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 1.0, 2.0])
@torch.no_grad()
def test_a_wide_beam_equals_exhaustive_search(name: str, alpha: float) -> None:
    automaton = compile(SMALL[name])
    for seed in range(3):
        scored = [(_score(toy(seed, 1), automaton, ids, alpha), ids) for ids in _language(automaton)]
        scored.sort(reverse=True)
        options = DecodeOptions("beam", beam=400, n_best=3, length_penalty=alpha, exact=True)
        (found,) = decode(toy(seed, 1), [automaton], options)
        assert [list(h.ids) for h in found.n_best] == [ids for _, ids in scored[:3]]
        assert [h.score for h in found.n_best] == pytest.approx([s for s, _ in scored[:3]], abs=1e-5)


@torch.no_grad()
def test_probabilities_of_a_closed_set_add_up_to_one() -> None:
    automaton = compile(SMALL["set"])
    (found,) = decode(toy(5, 1), [automaton], DecodeOptions("beam", beam=4, n_best=4, length_penalty=0.0))
    assert len(found.n_best) == 4
    assert sum(math.exp(h.score) for h in found.n_best) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(),
        DecodeOptions("beam", beam=3, n_best=2),
        DecodeOptions("sample", top_k=20, top_p=0.9, temperature=2.0),
        DecodeOptions(no_repeat_ngram=2, max_length=9),
        DecodeOptions("beam", beam=2, min_length=4, no_repeat_ngram=1),
    ],
)
@torch.no_grad()
def test_every_hypothesis_is_legal_and_complete(options: DecodeOptions) -> None:
    for seed in range(10):
        for automaton, found in zip(AUTOMATA, decode(toy(seed, 8, sharp=0.3), AUTOMATA, options), strict=True):
            for hypothesis in (found, *found.n_best):
                assert automaton.accepts(hypothesis.ids)
                automaton.split(hypothesis.ids)


@torch.no_grad()
def test_the_closed_set_is_never_left() -> None:
    automaton = compile(GRAMMARS["set"])
    legal = {(20,), (21, 22, CLOSE), (21, 23, CLOSE), (24, CLOSE)}
    for seed in range(30):
        for options in (DecodeOptions(), DecodeOptions("beam", beam=4), DecodeOptions("sample", temperature=50.0)):
            assert {h.ids for h in decode(toy(seed, 5), [automaton] * 5, options)} <= legal


def _each(name: str) -> DecodeOptions:
    return {
        "greedy": DecodeOptions(max_length=12),
        "beam": DecodeOptions("beam", beam=3, length_penalty=0.7, no_repeat_ngram=2),
        "sample": DecodeOptions("sample", seed=7, temperature=1.5),
    }[name]


@torch.no_grad()
def test_a_batch_of_different_tasks_and_methods_equals_its_samples_one_by_one() -> None:
    methods = [_each(("greedy", "beam", "sample")[i % 3]) for i in range(8)]
    together = decode(toy(3, 8), AUTOMATA, methods)
    for number in range(8):
        session = toy(3, 8)
        session.h_BD = session.h_BD[number : number + 1]
        (alone,) = decode(session, [AUTOMATA[number]], methods[number], keys=[number])
        assert alone.ids == together[number].ids
        assert alone.score == pytest.approx(together[number].score, abs=1e-5)


@torch.no_grad()
def test_draws_depend_on_seed_and_key_only() -> None:
    automata = [compile(free(0, 5))] * 4

    def ids(seed: int, keys: list[int]) -> list[tuple[int, ...]]:
        session = toy(1, 1)
        session.h_BD = session.h_BD.repeat(4, 1)
        options = DecodeOptions("sample", seed=seed, temperature=5.0)
        return [h.ids for h in decode(session, automata, options, keys)]

    first = ids(0, [10, 11, 12, 13])
    assert ids(0, [13, 12, 11, 10]) == first[::-1]
    assert ids(1, [10, 11, 12, 13]) != first
    assert len(set(first)) == 4


@torch.no_grad()
def test_draws_follow_the_probabilities() -> None:
    automaton = compile(OneOf(((20,), (21,), (22,), (23,))))
    session = toy(2, 1, sharp=1.0)
    wanted = [math.exp(_score(session, automaton, (id,), 0.0)) for id in range(20, 24)]

    def shares(**changes: float) -> np.ndarray:
        many = toy(2, 1, sharp=1.0)
        many.h_BD = many.h_BD.repeat(4000, 1)
        found = decode(many, [automaton] * 4000, DecodeOptions("sample", **changes))
        return np.bincount([h.ids[0] - 20 for h in found], minlength=4) / 4000

    assert shares() == pytest.approx(wanted, abs=0.03)
    best = np.argsort(wanted)[::-1]
    two = shares(top_k=2)
    assert two[best[2:]].sum() == 0
    assert two[best[0]] == pytest.approx(wanted[best[0]] / (wanted[best[0]] + wanted[best[1]]), abs=0.03)
    nucleus = shares(top_p=wanted[best[0]] + 1e-4)
    assert nucleus[best[2:]].sum() == 0
    assert nucleus[best[1]] > 0
    assert shares(top_p=wanted[best[0]] - 1e-4)[best[0]] == 1.0
    assert shares(temperature=0.01)[best[0]] == 1.0


@torch.no_grad()
def test_length_limits_hold_and_still_end_legally() -> None:
    automaton = compile(GRAMMARS["json"])
    for seed in range(20):
        for method in (DecodeOptions(max_length=7), DecodeOptions("beam", beam=3, max_length=7, min_length=6)):
            (found,) = decode(toy(seed, 1), [automaton], method)
            assert automaton.accepts(found.ids)
            assert method.min_length <= len(found.ids) <= 7
    (found,) = decode(toy(0, 1), [compile(BOX)], DecodeOptions(max_length=2))
    assert len(found.ids) == 4  # a box cannot be shorter


@torch.no_grad()
def test_no_n_gram_stands_twice_in_one_free_text() -> None:
    automaton = compile(Free(40, 48, 10, 12, CLOSE))
    repeated = 0
    for seed in range(10):
        (plain,) = decode(toy(seed, 1), [automaton])
        repeated += len({plain.ids[i : i + 2] for i in range(len(plain.ids) - 1)}) < len(plain.ids) - 1
        for options in (DecodeOptions(no_repeat_ngram=2), DecodeOptions("beam", beam=3, no_repeat_ngram=2)):
            (found,) = decode(toy(seed, 1), [automaton], options)
            pairs = [found.ids[i : i + 2] for i in range(len(found.ids) - 2)]
            assert len(set(pairs)) == len(pairs)
    assert repeated


@torch.no_grad()
def test_repeated_n_grams_are_allowed_where_nothing_else_is_legal() -> None:
    automaton = compile(Free(40, 42, 8, 8, CLOSE))
    (found,) = decode(toy(0, 1), [automaton], DecodeOptions(no_repeat_ngram=1))
    assert automaton.accepts(found.ids)


@torch.no_grad()
def test_forced_ids_are_not_scored_and_ended_rows_are_dropped() -> None:
    automata = [compile(Series((Forced((50, 51)), OneOf(((20,), (21,))), Forced((52, 53)))))] * 3
    session = toy(0, 3)
    assert all(h.ids[0:2] + h.ids[3:] == (50, 51, 52, 53) for h in decode(session, automata))
    assert session.scored == 3
    assert session.fed == 9  # the two forced ids behind the choice are never fed
    assert session.whole == 0  # two ids are scored, not the vocabulary
    mixed = toy(0, 2)
    decode(mixed, [compile(OneOf(((20,), (21,)))), compile(BOX)])
    assert mixed.fed == 1 + 4


@torch.no_grad()
def test_a_target_without_choices_costs_no_step() -> None:
    session = toy(0, 2)
    found = decode(session, [compile(Forced((50, 51))), compile(Series(()))])
    assert [h.ids for h in found] == [(50, 51), ()]
    assert session.fed == 0


@torch.no_grad()
def test_wide_sets_are_scored_on_the_whole_vocabulary_and_agree_with_narrow_ones() -> None:
    automata = [compile(Free(40, 1900, 0, 5, CLOSE)), compile(GRAMMARS["box"]), compile(Free(100, 1900, 1, 5, CLOSE))]
    session = toy(4, 3, size=2000)
    found = decode(session, automata, DecodeOptions("beam", beam=2, n_best=2, length_penalty=0.5))
    assert session.whole > 0
    for number, (automaton, hypothesis) in enumerate(zip(automata, found, strict=True)):
        alone = toy(4, 3, size=2000)
        alone.h_BD = alone.h_BD[number : number + 1]
        assert hypothesis.score == pytest.approx(_score(alone, automaton, hypothesis.ids, 0.5), abs=1e-4)


@torch.no_grad()
def test_a_beam_of_one_is_greedy() -> None:
    one = DecodeOptions("beam", beam=1)
    assert [h.ids for h in decode(toy(6, 8), AUTOMATA, one)] == [h.ids for h in decode(toy(6, 8), AUTOMATA)]


@torch.no_grad()
def test_a_beam_keeps_no_more_rows_than_its_width() -> None:
    session = toy(6, 2)
    found = decode(session, [compile(free(2, 5)), compile(json())], DecodeOptions("beam", beam=3, n_best=3))
    assert session.most_rows == 6
    assert all(len(h.n_best) == 3 for h in found)
    assert all(a.score >= b.score for h in found for a, b in zip(h.n_best, h.n_best[1:], strict=False))


def test_options_of_the_wrong_number_are_refused() -> None:
    with pytest.raises(ShapeError, match="8 automata, 2 options and 8 keys"):
        decode(toy(0, 8), AUTOMATA, [DecodeOptions()] * 2)


def _network() -> tuple[EncoderDecoder, torch.Tensor, tuple[torch.Tensor, torch.Tensor, list[int]]]:
    config = ModelConfig(width=32, heads=4, ffn=64, encoder_layers=2, decoder_layers=2)
    torch.manual_seed(0)
    model = EncoderDecoder(config).eval()
    generator = torch.Generator().manual_seed(1)
    lengths = [5, 3, 7, 4, 2, 6, 3, 4]
    x_SD = torch.randn(sum(lengths), 32, generator=generator)
    positions = torch.cat([torch.arange(n).unsqueeze(1).expand(-1, 3) for n in lengths])
    return model, torch.randn(SIZE, 32, generator=generator) * 0.5, (x_SD, positions, lengths)


@pytest.mark.parametrize("name", ["greedy", "beam", "sample"])
@torch.no_grad()
def test_decoding_with_a_cache_equals_decoding_without_one(name: str) -> None:
    cached: list[Hypothesis] = decode(CachedSession(*_network()), AUTOMATA, _each(name))
    whole = decode(WholeSession(*_network()), AUTOMATA, _each(name))
    assert [h.ids for h in cached] == [h.ids for h in whole]
    assert [h.score for h in cached] == pytest.approx([h.score for h in whole], abs=1e-4)


@pytest.mark.parametrize("width", [7, 640, 2000, 5001])
def test_the_top_of_a_large_vocabulary_is_the_plain_top(width: int) -> None:
    x_RW = torch.randn(9, width, generator=torch.Generator().manual_seed(width))
    x_RW[:, : width // 3] = float("-inf")
    values, columns = _top(x_RW, 4)
    torch.testing.assert_close(values, x_RW.topk(4, dim=-1).values)
    torch.testing.assert_close(x_RW.gather(1, columns), values)


@pytest.mark.parametrize("width", [7, 640, 5001])
def test_of_equal_scores_the_first_is_the_best(width: int) -> None:
    x_RW = torch.randint(0, 3, (40, width), generator=torch.Generator().manual_seed(width)).float()
    x_RW[:, : width // 2] -= torch.arange(40).unsqueeze(1) % 4  # the best ones are not all at the beginning
    values, columns = _top(x_RW, 1)
    expected = x_RW.max(-1, keepdim=True)
    assert torch.equal(values, expected.values)
    assert torch.equal(columns, expected.indices)
