"""What may be written depends on the row, in a modality from a folder outside the package: every output is legal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_worlds as worlds
from users_folder import users_folder

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request

CARD = """
name: WORDS
preprocess: word_parts.WordsPreprocess
adapter: ofasys_lite.adapters.text.TextAdapter
reads: now
writes: now
metric: accuracy
attributes:
  among: {type: str, side: target, help: "column whose words alone may be written"}
"""

MODULE = '''
"""WORDS: one to three words, each of them out of a column of its row."""

from dataclasses import dataclass

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Grammar, Move
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess.base import Piece, Preprocess
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS


@dataclass(frozen=True)
class Words(Grammar):
    """One to three of `words`, each closed by its last id, then `end`. A state: how many are written, ids since."""

    words: tuple[tuple[int, ...], ...]
    end: int

    start = (0, ())
    least = 2

    @property
    def most(self):
        return 3 * max(map(len, self.words)) + 1

    def moves(self, state):
        count, begun = state
        found = [Move(((self.end, self.end + 1),), None)] if count and not begun else []
        if count == 3:
            return found
        rests = [word[len(begun):] for word in self.words if word[: len(begun)] == begun]
        for id in sorted({rest[0] for rest in rests}):
            left = [len(rest) - 1 for rest in rests if rest[0] == id]
            to = (count + 1, ()) if left == [0] else (count, (*begun, id))
            found.append(Move(((id, id + 1),), to, min(left) + 1, self.most))
        return found


class WordsPreprocess(Preprocess):
    text = True

    def _ids(self, word):
        return (*self.vocabulary.encode(word), CONTROL_IDS["close"])

    def encode(self, value, options, known):
        ids = [id for word in str(value).split() for id in self._ids(word)]
        return Piece.of_ids([*ids, *([CONTROL_IDS["end"]] if known.side == "target" else [])])

    def constraint(self, options, known):
        column = option(options, "among")
        words = str(known.row.get(column, "")).split()
        if not words:
            raise DataError(f"column `{column}` has no words to choose from")
        return Words(tuple(sorted({self._ids(word) for word in words})), CONTROL_IDS["end"])

    def decode(self, ids, options, known):
        close, end = CONTROL_IDS["close"], CONTROL_IDS["end"]
        words = [[]]
        for id in ids:
            if id == close:
                words.append([])
            elif id != end:
                words[-1].append(int(id))
        return " ".join(self.vocabulary.decode(word) for word in words if word)
'''
#: Words that begin alike: the automaton has to tell them apart late.
POOL = ("lamp", "lamps", "lamplight", "cup", "cupboard", "sun", "sunday", "sea", "season", "tree", "ä", "漢字")
LINE = "choose: [TEXT:words] -> [WORDS:answer,among=words]"


def drawn(count: int, seed: int) -> list[dict[str, str]]:
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        words = [str(word) for word in rng.permutation(POOL)[: int(rng.integers(1, 6))]]
        rows.append({"id": str(number), "words": " ".join(words), "answer": " ".join(words[:2])})
    return rows


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card and the module."""
    with users_folder(tmp_path, monkeypatch, "words", CARD, "word_parts", MODULE) as folder:
        yield folder


def test_only_words_of_its_own_row_are_written(outside: Path, tmp_path: Path) -> None:
    card = load_task_card({"instruction": LINE, "data": {"train": drawn(48, 0), "valid": drawn(8, 1)}}, name="choose")
    cards = [card, worlds.task("spell")]
    model = worlds.run(cards, tmp_path / "run", modalities=modalities([outside]), steps=6)
    rows = drawn(60, 2)
    for trained in (model, Generalist.from_pretrained(tmp_path / "run")):
        for options in (
            DecodeOptions(),
            DecodeOptions("beam", beam=3, n_best=3),
            DecodeOptions("sample", temperature=5.0),
            DecodeOptions("sample", max_length=4),
        ):
            asked = [Request("choose", {"words": row["words"]}, row["id"], options) for row in rows]
            for row, prediction in zip(rows, predict(trained, asked), strict=True):
                assert prediction is not None
                for each in (prediction, *prediction.n_best):
                    written = each.values["answer"].split()
                    assert 1 <= len(written) <= 3
                    assert set(written) <= set(row["words"].split())


def test_a_row_that_lacks_what_its_constraint_reads_is_named(outside: Path, tmp_path: Path) -> None:
    card = load_task_card({"instruction": LINE, "data": {"train": drawn(24, 0)}}, name="choose")
    model = worlds.run([card], tmp_path / "run", modalities=modalities([outside]), steps=1)
    with pytest.raises(DataError, match="task choose, id 7: column `words` has no words to choose from"):
        predict(model, [Request("choose", {"words": " "}, "7")])
    told: dict[int, str] = {}
    found = predict(
        model,
        [Request("choose", {"words": " "}), Request("choose", {"words": "sun"})],
        reasons=told,
        skip_unreadable=True,
    )
    assert found[0] is None
    assert list(told) == [0]
    assert found[1] is not None
    assert set(found[1].values["answer"].split()) == {"sun"}
