"""Packs with codes: which rows are fed what, which are learned, where they stand, what they count for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_worlds import labels, learned, token_rows

from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import Learned, LossRows, Objective, Term
from ofasys_lite.layout.objectives import CODES, TOKENS
from ofasys_lite.layout.pack import Batch, Example, Part, Side, Target
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.image import grid_positions

TERM = Term("t", "a", "token", 1.0)
PICTURE = Term("t", "img", "position", 0.5)


Item = tuple[Piece, Objective | None, Term]


def text(*ids: int) -> Item:
    return Piece.of_ids(ids), TOKENS, TERM


def words(*ids: int) -> Item:
    return Piece.of_ids(ids), None, TERM


def picture(key: int, side: int = 2, adapter: str = "image:dnd-1", **more: Any) -> Item:
    arrays = {
        "pixels": np.full((1, 4, 4, 3), key, dtype=np.uint8),
        "key": np.array([key]),
        "order": np.zeros(0, dtype=np.int64),
        "hidden": np.zeros(0, dtype=np.bool_),
    }
    return Piece(adapter, grid_positions(side, side), arrays, **more), CODES, PICTURE


def target(items: list[Item], causal: bool) -> Target:
    found = [Learned(i, objective, (term,)) for i, (_, objective, term) in enumerate(items) if objective is not None]
    return Target(tuple(piece for piece, *_ in items), tuple(found), causal)


def codes_of(batch: Batch) -> tuple[LossRows, ...]:
    return learned(batch, "depth_cross_entropy")


def sample(*targets: list[Item], causal: bool = True, id: str = "0") -> Example:
    made = tuple(target(items, causal) for items in targets)
    return Example("t", id, (Side((Piece.of_ids([9]),)),), made)


def part(batch: Batch, adapter: str = "image:dnd-1") -> Part:
    (found,) = (p for p in batch.target.parts if p.adapter == adapter)
    return found


def test_an_image_alone_has_a_row_a_position_and_its_last_one_is_never_fed_back() -> None:
    batch = collate([sample([picture(1)])])
    assert batch.target.lengths == (4,)
    assert batch.target.positions_S3.tolist() == [[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]]
    assert part(batch, "text").rows_P.tolist() == [0]
    assert part(batch).rows_P.tolist() == [1, 2, 3]
    assert part(batch).counts == (3,)
    (codes,) = codes_of(batch)
    assert codes.adapter == "image:dnd-1"
    assert codes.rows_R.tolist() == [0, 1, 2, 3]
    assert codes.arrays["picked"].tolist() == [0, 1, 2, 3]
    assert learned(batch) == ()
    assert batch.terms == (PICTURE,)
    assert batch.terms_U.tolist() == batch.samples_U.tolist() == [0] * 4


def test_an_image_of_one_position_is_learned_from_what_stands_before_it() -> None:
    batch = collate([sample([picture(1, side=1)], id="a"), sample([text(5), picture(2, side=1)], id="b")])
    assert batch.target.lengths == (1, 2)
    assert part(batch).counts == (0, 0)
    assert part(batch).arrays["key"].tolist() == [1, 2]
    assert codes_of(batch)[0].rows_R.tolist() == [0, 2]
    assert part(batch, "text").rows_P.tolist() == [0, 1, 2]


def test_between_texts_positions_go_on_behind_the_largest_of_the_image() -> None:
    batch = collate([sample([words(3, 4), picture(1), text(5, 6)])])
    assert batch.target.positions_S3.tolist() == [
        [0, 0, 0], [1, 1, 1],
        [2, 2, 2], [2, 2, 3], [2, 3, 2], [2, 3, 3],
        [4, 4, 4], [5, 5, 5],
    ]  # fmt: skip
    assert part(batch, "text").rows_P.tolist() == [0, 1, 2, 7]
    assert part(batch).rows_P.tolist() == [3, 4, 5, 6]
    assert codes_of(batch)[0].rows_R.tolist() == [2, 3, 4, 5]
    assert token_rows(batch).tolist() == [6, 7]
    assert labels(batch).tolist() == [5, 6]


def test_terms_and_samples_list_token_rows_first_then_codes() -> None:
    batch = collate(
        [sample([text(5), picture(1), text(6)], id="a"), sample([text(7)], id="b"), sample([picture(2)], id="c")]
    )
    assert batch.terms == (TERM, PICTURE)
    assert labels(batch).tolist() == [5, 6, 7]
    assert batch.terms_U.tolist() == [0] * 3 + [1] * 8
    assert batch.samples_U.tolist() == [0, 0, 1] + [0] * 4 + [2] * 4
    assert codes_of(batch)[0].rows_R.tolist() == [1, 2, 3, 4, 7, 8, 9, 10]


def test_two_adapters_of_a_pack_stand_by_name_and_keep_their_own_rows() -> None:
    batch = collate([sample([picture(1, adapter="image:dnd-2")], id="a"), sample([picture(2), text(5)], id="b")])
    assert [c.adapter for c in codes_of(batch)] == ["image:dnd-1", "image:dnd-2"]
    assert [c.rows_R.tolist() for c in codes_of(batch)] == [[4, 5, 6, 7], [0, 1, 2, 3]]
    assert batch.samples_U.tolist() == [1] + [1] * 4 + [0] * 4


def test_positions_that_a_piece_does_not_learn_are_left_out() -> None:
    learn = np.array([True, False, False, True])
    batch = collate([sample([picture(1)]), sample([picture(2, learn_P=learn)])])
    assert codes_of(batch)[0].rows_R.tolist() == [0, 1, 2, 3, 4, 7]
    assert codes_of(batch)[0].arrays["picked"].tolist() == [0, 1, 2, 3, 4, 7]
    assert batch.samples_U.tolist() == [0] * 4 + [1] * 2
    assert part(batch).rows_P.tolist() == [1, 2, 3, 5, 6, 7]


def test_several_targets_of_one_encoding_each_have_their_image() -> None:
    batch = collate([sample([picture(1)], [text(5), picture(2)])])
    assert batch.target.lengths == (4, 5)
    assert batch.cross == ((9, 1),)
    assert codes_of(batch)[0].rows_R.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    assert part(batch).arrays["key"].tolist() == [1, 2]
    assert part(batch).rows_P.tolist() == [1, 2, 3, 6, 7, 8]


def test_rows_that_see_each_other_stand_for_their_own_element_behind_the_causal_ones() -> None:
    together = sample([picture(1)], causal=False, id="a")
    batch = collate([together, sample([text(5), picture(2)], id="b")])
    assert batch.samples == (("t", "b"), ("t", "a"))
    assert batch.causal_rows == 5
    assert batch.target.lengths == (5, 4)
    assert part(batch).rows_P.tolist() == [2, 3, 4, 5, 6, 7, 8]
    assert part(batch).counts == (3, 4)
    assert codes_of(batch)[0].rows_R.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("count", [2, 3])
def test_a_pack_is_its_samples_one_by_one(count: int) -> None:
    found = [sample([text(*range(4, 5 + n)), picture(n)] + [text(7)] * (n % 2), id=str(n)) for n in range(count)]
    pack, alone = collate(found), [collate([each]) for each in found]
    starts = np.cumsum([0, *(sum(b.target.lengths) for b in alone)])
    rows = [codes_of(b)[0].rows_R + start for b, start in zip(alone, starts, strict=False)]
    assert np.array_equal(codes_of(pack)[0].rows_R, np.concatenate(rows))
    fed = [part(b).rows_P + start for b, start in zip(alone, starts, strict=False)]
    assert np.array_equal(part(pack).rows_P, np.concatenate(fed))
    assert part(pack).arrays["key"].tolist() == list(range(count))
