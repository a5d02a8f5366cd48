"""TEXT: spelling out, masking, closed sets."""

from __future__ import annotations

import numpy as np
import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import READ, Context, RowContext
from ofasys_lite.preprocess.closed import closed_ids
from ofasys_lite.preprocess.text import TextPreprocess, mask_ids
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, Vocabulary, train_pieces

VOCABULARY = Vocabulary(train_pieces(["the cat sat on the mat", *(f"the cat {i}" for i in range(200))], 300))
TEXT = TextPreprocess(Context({}, VOCABULARY))


def test_spelled_text_has_a_token_a_character_and_reads_back() -> None:
    ids = TEXT.encode("the cat", (("spelled", True),), READ).arrays["ids"]
    assert len(ids) == 7
    assert VOCABULARY.decode(ids) == "the cat"
    assert len(TEXT.encode("the cat", (), READ).arrays["ids"]) < 7


def test_a_written_text_ends_with_close_and_a_read_one_does_not() -> None:
    close = CONTROL_IDS["close"]
    assert TEXT.encode("cat", (), RowContext("target")).arrays["ids"][-1] == close
    assert close not in TEXT.encode("cat", (), READ).arrays["ids"]


def test_a_list_is_no_text() -> None:
    with pytest.raises(DataError, match="TEXT reads text or a number; found a list"):
        TEXT.encode(["a"], (), READ)


@pytest.mark.parametrize(("style", "length"), [("token", 20), ("mass", 20), ("bart", None)])
def test_about_the_stated_share_is_masked(style: str, length: int | None) -> None:
    ids = list(range(100, 120))
    masked = mask_ids(ids, 0.3, style, 7, np.random.default_rng(0))
    assert 7 in masked
    kept = [i for i in masked if i != 7]
    assert len(kept) == 14
    assert kept == sorted(kept)
    assert length is None or len(masked) == length


def test_a_written_text_keeps_to_the_lengths_of_its_slot() -> None:
    constraint = TEXT.constraint((("min_length", 3), ("max_length", 7)), RowContext("target"))
    assert isinstance(constraint, Free)
    assert (constraint.least, constraint.most) == (3, 7)


def test_a_value_outside_a_closed_set_has_no_ids_and_is_told_with_the_near_one() -> None:
    assert closed_ids(VOCABULARY, "yes", ("yes", "no"))
    with pytest.raises(DataError, match="`yess` is not in the closed set") as told:
        closed_ids(VOCABULARY, "yess", ("yes", "no"))
    assert "yes" in str(told.value.help)
