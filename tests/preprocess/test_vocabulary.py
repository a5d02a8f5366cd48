"""The vocabulary: every text survives, rows are only appended, damaged files are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ofasys_lite.errors import CheckpointError
from ofasys_lite.preprocess.vocabulary import CONTROLS, Vocabulary, train_pieces

TEXTS = ["select name from cars where year > 1974", "  two  spaces\tand a tab", *(f"row {i} of it" for i in range(300))]
PIECES = train_pieces(TEXTS, 400)
VOCABULARY = Vocabulary(PIECES, bins=10, declared=["=yes", "phone:AH"])


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_decoding_what_was_encoded_gives_the_text_back(text: str) -> None:
    assert VOCABULARY.decode(VOCABULARY.encode(text)) == text


def test_the_mark_that_sentencepiece_uses_for_spaces_survives() -> None:
    assert VOCABULARY.decode(VOCABULARY.encode("a\u2581b \u2581")) == "a\u2581b \u2581"


def test_rows_stand_in_the_stated_order() -> None:
    assert [VOCABULARY.name(i) for i in range(3)] == list(CONTROLS[:3])
    assert VOCABULARY.name(VOCABULARY.box_low) == "<bin 0>"
    assert VOCABULARY.name(VOCABULARY.declared_low) == "=yes"
    assert VOCABULARY.find("phone:AH") == len(VOCABULARY) - 1


def test_new_rows_are_appended_and_old_ones_never_move() -> None:
    grown = VOCABULARY.extended(["=no", "=yes"])
    assert len(grown) == len(VOCABULARY) + 1
    assert grown.find("=yes") == VOCABULARY.find("=yes")
    assert grown.find("=no") == len(VOCABULARY)


def test_the_pieces_depend_on_the_texts_and_not_on_their_order() -> None:
    assert train_pieces(list(reversed(TEXTS)), 400) == PIECES


def test_a_saved_vocabulary_is_loaded_equal(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    loaded = Vocabulary.load(tmp_path)
    assert loaded.hash == VOCABULARY.hash
    assert loaded.declared == VOCABULARY.declared


def test_a_folder_without_a_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"tokenizer\.model is missing"):
        Vocabulary.load(tmp_path)


def test_files_of_two_vocabularies_are_refused(tmp_path: Path) -> None:
    VOCABULARY.save(tmp_path)
    content = json.loads((tmp_path / "vocabulary.json").read_text())
    content["declared"].append("=more")
    (tmp_path / "vocabulary.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="do not belong together"):
        Vocabulary.load(tmp_path)


def test_without_any_text_the_bytes_spell_every_string() -> None:
    vocabulary = Vocabulary(train_pieces([], 300), bins=10)
    for text in ("hallo wörld\n of two  spaces", "日本語 ▁"):
        assert vocabulary.decode(vocabulary.encode(text)) == text


@pytest.mark.parametrize("texts", [["abc"] * 9, ["left", "right"], ["abcdefgh" * 40] * 99 + ["a b"]])
def test_spaces_survive_pieces_of_texts_that_have_hardly_any(texts: list[str]) -> None:
    vocabulary = Vocabulary(train_pieces(texts, 300), bins=10)
    assert vocabulary.decode(vocabulary.encode(" two  words ")) == " two  words "


def test_long_texts_are_cut_into_parts_and_not_dropped() -> None:
    long = " ".join(f"quasiword{i % 7}" for i in range(3000))
    vocabulary = Vocabulary(train_pieces([long, "x\x00quasiword1"], 400), bins=10)
    assert len(vocabulary.encode("quasiword")) < 4
