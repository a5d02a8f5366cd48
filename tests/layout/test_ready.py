"""Tasks made ready: what a training split declares, over all its paraphrases."""

from __future__ import annotations

from ofasys_lite.cards import modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready

ROWS = [{"id": str(i), "word": f"word {i}", "kind": "AA B" if i % 2 else "CH"} for i in range(40)]


def _ready(line: str) -> Ready:
    card = TaskCard(name="t", instruction=line, data={"train": ROWS})
    return make_ready([card], modalities(), DataSettings(pieces=400))


def test_rows_that_only_a_paraphrase_needs_are_declared() -> None:
    spoken = _ready("say [PHONE:kind] -> [TEXT:word]").vocabulary
    both = _ready("read [TEXT:kind] -> [TEXT:word] ||| say [PHONE:kind] -> [TEXT:word]").vocabulary
    assert spoken.declared
    assert set(spoken.declared) <= set(both.declared)


def test_the_words_of_an_instruction_are_few_pieces() -> None:
    vocabulary = _ready("how is [TEXT:word] pronounced in plain English? -> [PHONE:kind]").vocabulary
    assert len(vocabulary.encode("pronounced")) == 1
