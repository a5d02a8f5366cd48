"""Positions of codes in the automaton and in search: packing, splitting, places, draws, guidance, given codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from random_walks import random_walk
from torch import Tensor

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.depth_sampling import RowChoice, RowsChoice, guided
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.errors import CardError, DataError, ShapeError
from ofasys_lite.plan.constraints import Codes, Forced, Free, Optional, Range, Repeat, Series, Slotted

GRID = tuple((0, line, column) for line in range(2) for column in range(3))
SMALL = Codes("image", 8, 2, GRID)
DEEP = Codes("image", 65_536, 8, GRID)  # 128 bits an element
TEXT = Free(100, 200, 0, 4, 5)


def line(codes: Codes = SMALL) -> Series:
    return Series((Forced((7, 8)), Slotted("a", TEXT), Slotted("img", codes), Forced((9,)), Slotted("b", TEXT)))


@given(st.data())
def test_packing_codes_and_unpacking_them_changes_nothing(data: st.DataObject) -> None:
    codes, depth = data.draw(st.integers(2, 65_536)), data.draw(st.integers(1, 16))
    chosen = data.draw(st.lists(st.integers(0, codes - 1), min_size=depth, max_size=depth))
    constraint = Codes("image", codes, depth, GRID)
    element = constraint.pack(chosen)
    assert constraint.unpack(element) == tuple(chosen)
    assert 0 <= element < codes**depth


def test_the_first_depth_is_the_highest_digit() -> None:
    assert SMALL.pack([1, 2]) == 10
    assert SMALL.unpack(63) == (7, 7)


@pytest.mark.parametrize("codes", [SMALL, DEEP], ids=["small", "deep"])
def test_text_image_and_text_split_into_what_was_joined(codes: Codes) -> None:
    rng = np.random.default_rng(0)
    picture = [[int(c) for c in rng.integers(0, codes.codes, codes.depth)] for _ in GRID]
    elements = [codes.pack(c) for c in picture]
    ids = [7, 8, 101, 102, 5, *elements, 9, 103, 5]
    automaton = compile(line(codes))
    assert automaton.accepts(ids)
    found = automaton.split(ids)
    assert found["a"].tolist() == [101, 102, 5]
    assert found["b"].tolist() == [103, 5]
    assert [list(codes.unpack(e)) for e in found["img"].tolist()] == picture


@pytest.mark.parametrize("codes", [SMALL, DEEP], ids=["small", "deep"])
def test_whatever_the_automaton_lets_through_splits_and_is_of_the_whole_grid(codes: Codes) -> None:
    automaton, rng = compile(line(codes)), np.random.default_rng(1)
    for _ in range(30):
        found = automaton.split(random_walk(automaton, rng))
        assert len(found["img"]) == len(GRID)
        assert all(0 <= c < codes.codes for e in found["img"].tolist() for c in codes.unpack(e))


def test_elements_beyond_the_codes_and_images_that_stop_early_are_refused() -> None:
    automaton = compile(Series((Slotted("img", SMALL),)))
    assert not automaton.accepts([0] * 5)
    assert not automaton.accepts([0] * 7)
    with pytest.raises(DataError, match=r"element 2: id 64 is not legal here[\s\S]*0\.\.63"):
        automaton.walk([0, 0, 64])
    with pytest.raises(DataError, match="stops after 5 ids"):
        automaton.split([0] * 5)


def test_positions_of_codes_stand_at_their_places_and_what_follows_behind_the_largest() -> None:
    automaton = compile(line())
    states = automaton.walk([7, 8, 5, *[0] * 6, 9, 5])
    places = [automaton.position(state) for state in states[:-1]]
    assert places == [
        (0, 0, 0), (1, 1, 1), (2, 2, 2),
        (3, 3, 3), (3, 3, 4), (3, 3, 5), (3, 4, 3), (3, 4, 4), (3, 4, 5),
        (6, 6, 6), (7, 7, 7),
    ]  # fmt: skip


def test_groups_of_images_and_text_split_by_element() -> None:
    element = Series((Slotted("img", SMALL), Slotted("t", TEXT)))
    automaton = compile(Series((Slotted("pages", Repeat((element,), (1,), 2, 0, 3)),)))
    ids = [1, *range(6), 101, 5, 1, *range(6, 12), 5, 2]
    pages = automaton.split(ids)["pages"]
    assert [page["img"].tolist() for _, page in pages] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]
    assert [page["t"].tolist() for _, page in pages] == [[101, 5], [5]]
    assert automaton.split([2]) == {"pages": []}


def test_an_optional_image_is_its_control_alone_or_the_whole_grid() -> None:
    automaton = compile(Series((Slotted("img", Optional(SMALL, 10, 11)), Slotted("t", TEXT))))
    assert automaton.split([11, 5])["img"].tolist() == [11]
    assert automaton.split([10, *range(6), 5])["img"].tolist() == [10, *range(6)]
    assert not automaton.accepts([10, 5])


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (Codes("i", 8, 2, ()), "0 positions of 2 codes of 8"),
        (Codes("i", 1, 2, GRID), "6 positions of 2 codes of 1"),
        (Codes("i", 8, 0, GRID), "6 positions of 0 codes of 8"),
        (Codes("i", 8, 2, GRID, given=(1,)), "1 given codes for 6 positions"),
    ],
)
def test_codes_that_contradict_themselves_are_refused(codes: Codes, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        compile(Series((Slotted("img", codes),)))


# ------------------------------------------------------------------ choices


def logits(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, 8, generator=torch.Generator().manual_seed(seed))


def test_guidance_of_one_is_the_conditional_row_and_of_two_goes_beyond_it() -> None:
    rows_RV = logits(4)
    assert torch.equal(guided(rows_RV, 1.0), rows_RV[0::2])
    torch.testing.assert_close(guided(rows_RV, 2.0), 2 * rows_RV[0::2] - rows_RV[1::2])
    assert torch.equal(guided(rows_RV, 0.0), rows_RV[1::2])


def test_each_row_is_chosen_by_its_own_settings_whatever_stands_beside_it() -> None:
    choices = [
        RowChoice(),
        RowChoice(3.0),
        RowChoice(1.0, 0.7, 3, 0.9, (0.31, 0.8)),
        RowChoice(3.0, 1.3, 0, 1.0, (0.99, 0.1)),
        RowChoice(2.0),
        RowChoice(given=(5, 6)),
        RowChoice(2.0, given=(1, 7)),
    ]
    together = RowsChoice(choices)
    rows_RV = [logits(together.count, seed) for seed in (0, 1)]
    found = [together(depth, rows_RV[depth]) for depth in (0, 1)]
    place = 0
    for number, choice in enumerate(choices):
        alone, own = RowsChoice([choice]), slice(place, place + choice.rows)
        for depth in (0, 1):
            assert torch.equal(alone(depth, rows_RV[depth][own]), found[depth][own])
            assert len(set(found[depth][own].tolist())) == 1  # both rows of a pair go on with the same code
        torch.testing.assert_close(alone.log_P[0], together.log_P[number])
        place += choice.rows
    assert [found[d][place - 2].item() for d in (0, 1)] == [1, 7]
    assert place == together.count == 11


def test_the_wrong_number_of_rows_is_refused() -> None:
    with pytest.raises(ShapeError, match="3 rows write codes, 2 are chosen for"):
        RowsChoice([RowChoice(2.0)])(0, logits(3))
    with pytest.raises(ShapeError, match="3 live rows are no pairs"):
        guided(logits(3), 2.0)


# ------------------------------------------------------------------ search over a made-up model


class Model:
    """Logits that are a function of what a row was fed, whether it is guided's second row, and the depth."""

    def __init__(self, rows: list[tuple[int, int]]) -> None:
        self.rows = [(sample, twin, (0,)) for sample, twin in rows]
        self.steps = 0

    def _noise(self, key: tuple[Any, ...], size: int) -> Tensor:
        seed = int.from_bytes(repr(key).encode(), "big") % (2**31)
        return torch.randn(size, generator=torch.Generator().manual_seed(seed))

    def advance(self, ids_B: Tensor, positions_B3: Tensor, codes: Any = None) -> Tensor:
        self.steps += 1
        said = [(int(i),) for i in ids_B]
        if codes is not None:
            for rows_R, codes_RK, places_R in codes.fed.values():
                for row, each, place in zip(rows_R.tolist(), codes_RK.tolist(), places_R.tolist(), strict=True):
                    said[row] = (*each, place)
        self.rows = [(s, t, (*h, *w)) for (s, t, h), w in zip(self.rows, said, strict=True)]
        if codes is not None:
            for name, (rows_R, choose) in codes.write.items():
                written: list[Tensor] = []
                for depth in range(2):
                    before = [tuple(int(w[i]) for w in written) for i in range(len(rows_R))]
                    keys = [(self.rows[r], before[i], depth) for i, r in enumerate(rows_R.tolist())]
                    written.append(choose(depth, torch.stack([self._noise(key, 8) for key in keys])))
                codes.written[name] = torch.stack(written, -1)
        return torch.stack([self._noise((row, "state"), 4) for row in self.rows])

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        weight = torch.randn(4, 220, generator=torch.Generator().manual_seed(9))
        found = states_BD @ weight
        return found if ids_W is None else found[:, ids_W]

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[r] for r in rows.tolist()]


def said(settings: list[tuple[Series, DecodeOptions]], keys: list[int]) -> list[tuple[tuple[int, ...], float]]:
    rows = [(key, twin) for key, (_, o) in zip(keys, settings, strict=True) for twin in range(2 if o.guided else 1)]
    found = decode(Model(rows), [compile(c) for c, _ in settings], [o for _, o in settings], keys)  # type: ignore[arg-type]
    return [(h.ids, h.score) for h in found]


def test_each_depth_draws_with_its_own_settings() -> None:
    def codes(depth: int, **settings: object) -> list[int]:
        rows = [RowChoice(draws=(i / 40, i / 40), **settings) for i in range(40)]  # type: ignore[arg-type]
        return RowsChoice(rows)(depth, logits(40)).tolist()

    both = {"temperature": (0.01, 2.0), "top_k": (0, 2), "top_p": (1.0, 0.9)}
    first, second = ({name: each[k] for name, each in both.items()} for k in (0, 1))
    assert codes(0, **both) == codes(0, **first)
    assert codes(1, **both) == codes(1, **second)
    assert codes(0, **both) != codes(1, **both)
    with pytest.raises(CardError, match="2 values for codes of more depths"):
        codes(2, **both)


TEXT_ONLY = Series((Slotted("a", TEXT),))
GIVEN = Codes("image", 8, 2, GRID, given=(3, -1, 60, -1, -1, 17))
MIXED = [
    (line(), DecodeOptions()),
    (TEXT_ONLY, DecodeOptions("beam", beam=3)),
    (line(), DecodeOptions(cfg=3.0)),
    (line(), DecodeOptions("sample", temperature=0.7, top_k=5, seed=3)),
    (TEXT_ONLY, DecodeOptions("sample", seed=1)),
    (line(), DecodeOptions("sample", cfg=2.0, top_p=0.8, seed=3)),
    (line(GIVEN), DecodeOptions("sample", cfg=2.0, seed=3)),
    (Series((Slotted("img", SMALL),)), DecodeOptions("sample", temperature=(1.0, 0.5), top_k=(9, 3), seed=3)),
]


def test_what_a_sample_says_does_not_depend_on_what_it_is_decoded_with() -> None:
    keys = list(range(20, 28))
    together = said(MIXED, keys)
    for number, (settings, key) in enumerate(zip(MIXED, keys, strict=True)):
        (alone,) = said([settings], [key])
        assert together[number][0] == alone[0]
        assert together[number][1] == pytest.approx(alone[1], abs=1e-5)
    turned = said(MIXED[::-1], keys[::-1])[::-1]
    assert [ids for ids, _ in turned] == [ids for ids, _ in together]
    # sums over rows that lie elsewhere in a batch differ in the last bits
    assert [score for _, score in turned] == pytest.approx([score for _, score in together], abs=1e-5)


def test_all_of_it_is_legal_and_pairs_spend_no_step_more() -> None:
    for (constraint, _), (ids, _) in zip(MIXED, said(MIXED, list(range(8))), strict=True):
        assert compile(constraint).accepts(ids)
    model = Model([(0, 0), (0, 1)])
    decode(model, [compile(Series((Slotted("img", SMALL),)))], DecodeOptions(cfg=2.0))  # type: ignore[arg-type]
    assert model.steps == len(GRID)


def test_seeds_and_keys_change_the_draws() -> None:
    picture = Series((Slotted("img", SMALL),))
    found = {said([(picture, DecodeOptions("sample", seed=seed))], [key])[0][0] for seed in (0, 1) for key in (0, 1)}
    assert len(found) == 4


@pytest.mark.parametrize("options", [DecodeOptions(), DecodeOptions("sample", cfg=3.0)], ids=["greedy", "guided"])
def test_given_codes_stay_and_cost_nothing(options: DecodeOptions) -> None:
    ((ids, score),) = said([(Series((Slotted("img", GIVEN),)), options)], [0])
    assert [i for i, known in zip(ids, GIVEN.given, strict=True) if known >= 0] == [3, 60, 17]
    whole = Codes("image", 8, 2, GRID, given=ids)
    assert said([(Series((Slotted("img", whole),)), options)], [0]) == [(ids, 0.0)]
    assert score < 0


def test_the_score_is_the_mean_log_probability_of_positions() -> None:
    ((ids, score),) = said([(Series((Slotted("img", SMALL),)), DecodeOptions())], [0])
    model = Model([(0, 0)])
    total, history = 0.0, (0,)
    for number, element in enumerate(ids):
        before = (*SMALL.unpack(ids[number - 1]), number - 1) if number else (1,)
        history = (*history, *before)
        codes = SMALL.unpack(element)
        for depth, code in enumerate(codes):
            noise = model._noise(((0, 0, history), codes[:depth], depth), 8)
            total += float(noise.log_softmax(-1)[code])
            assert int(noise.argmax()) == code
    assert score == pytest.approx(total / len(ids), abs=1e-5)


def test_two_adapters_in_one_batch_write_their_own_rows() -> None:
    other = Codes("film", 8, 2, GRID)
    settings = [(Series((Slotted("a", SMALL), Slotted("b", other))), DecodeOptions(cfg=c)) for c in (1.0, 2.0)]
    settings.append((Series((Slotted("b", other),)), DecodeOptions()))
    together = said(settings, [0, 1, 2])
    assert [said([s], [k])[0][0] for k, s in enumerate(settings)] == [ids for ids, _ in together]


def test_a_range_beside_codes_is_still_asked_of_the_vocabulary() -> None:
    ((ids, _),) = said([(Series((Slotted("img", SMALL), Slotted("n", Range(30, 40)))), DecodeOptions())], [0])
    assert 30 <= ids[-1] < 40
