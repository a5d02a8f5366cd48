"""Modalities that share classes keep their own settings and adapters; what nothing learns is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tiny_worlds import labels

from ofasys_lite.adapters.text import TextAdapter
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CardError, OfasysError, ShapeError
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import Learned, Term
from ofasys_lite.layout.objectives import TOKENS
from ofasys_lite.layout.pack import Example, Side, Target
from ofasys_lite.layout.ready import DataSettings, adapters_of, make_ready
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.language import TEXT_ADAPTER
from ofasys_lite.preprocess.base import Piece, line_positions

CARDS = modalities()
DEPTH = replace(CARDS["IMAGE"], name="DEPTH", aliases=(), settings={**CARDS["IMAGE"].settings, "patch": 8})
PIXELS = np.zeros((32, 32, 3), dtype=np.uint8)


def planned(line: str, **cards: ModalityCard) -> Any:
    return build_plan(load_task_card({"instruction": line}, name="t"), {**CARDS, **cards})


@pytest.mark.parametrize("line", ["[IMAGE:a] [DEPTH:b] -> [TEXT:c]", "[DEPTH:b] [IMAGE:a] -> [TEXT:c]"])
def test_two_modalities_of_the_same_classes_have_adapters_and_settings_of_their_own(line: str) -> None:
    rows = [{"a": PIXELS, "b": PIXELS, "c": "x"}] * 3
    card = load_task_card({"instruction": line, "data": {"train": rows}}, name="t")
    ready = make_ready([card], {**CARDS, "DEPTH": DEPTH}, DataSettings(pieces=300))
    example = ready.tasks[0].maker.example(rows[0], "0", None, True)
    assert {piece.adapter: piece.count for piece in example.sources[0].pieces} == {"image": 16, "depth": 4}
    assert {name: settings["patch"] for name, (_, settings) in ready.adapters.items() if name != "text"} == {
        "image": 4,
        "depth": 8,
    }


@pytest.mark.parametrize(
    "line",
    ["[PHONE:p] [TEXT:q,preprocess=text_phone] -> [TEXT:c]", "[TEXT:q,preprocess=text_phone] [PHONE:p] -> [TEXT:c]"],
)
def test_a_preprocess_lent_to_another_modality_reads_by_that_modalitys_settings(line: str) -> None:
    rows = [{"p": "AH " * 400, "q": "AH " * 400, "c": "x"}] * 3
    card = load_task_card({"instruction": line, "data": {"train": rows}}, name="t")
    own = {"PHONE": {"max_length": 256}, "TEXT": {"max_length": 300}}
    maker = make_ready([card], CARDS, DataSettings(pieces=300, modalities=own)).tasks[0].maker
    counts = [piece.count for piece in maker.example(rows[0], "0", None, True).sources[0].pieces]
    assert counts == ([256, 300] if line.startswith("[PHONE") else [300, 256])


def test_two_classes_of_one_name_cannot_be_one_adapter() -> None:
    card = replace(CARDS["IMAGE"], adapter={**CARDS["IMAGE"].adapter, "a": "mine.Thing", "b": "other.Thing"})
    plan = planned("[IMAGE:x,adapter=a] [IMAGE:y,adapter=b] -> [TEXT:c]", IMAGE=card)
    with pytest.raises(CardError, match="would both be the adapter `image:thing`"):
        adapters_of([plan], {**CARDS, "IMAGE": card}, DataSettings())


def test_the_adapter_of_token_ids_is_found_by_its_path() -> None:
    assert f"{TextAdapter.__module__}.{TextAdapter.__qualname__}" == TEXT_ADAPTER


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[TEXT:q] -> [SENSOR:x]", "nothing learns to write SENSOR: its adapter my.Adapter has no objective"),
        ("[SENSOR:x,loss=foo(q)] -> [TEXT:q]", "no objective `foo` is built"),
        ("[SENSOR:x,loss=cross_entropy] -> [TEXT:q]", "`loss=cross_entropy` is an objective of a target slot"),
        ("[TEXT:q,loss=mlm(raito=0.1)] ->", "objective mlm has no `raito`"),
        ("[TEXT:q,loss=mlm(0.1)] ->", "`mlm` takes its arguments by name"),
    ],
)
def test_what_nothing_learns_is_refused_when_it_is_planned(line: str, message: str) -> None:
    sensor = replace(
        CARDS["IMAGE"],
        name="SENSOR",
        aliases=(),
        adapter={"default": "my.Adapter"},
        codecs={},
        losses={"foo": "now", "cross_entropy": "now"},
    )
    with pytest.raises(OfasysError, match=message.replace("(", r"\(").replace(")", r"\)")):
        planned(line, SENSOR=sensor)


def test_an_objective_that_a_card_names_and_nobody_has_is_refused() -> None:
    text = replace(CARDS["TEXT"], losses={"mlm": "now"}, objectives={})
    with pytest.raises(OfasysError, match="no objective `mlm` is built"):
        planned("[TEXT:q,loss=mlm(ratio=0.15)] -> [TEXT:q]", TEXT=text)


@pytest.mark.parametrize("adapter", ["text", "mine"])
@pytest.mark.parametrize("causal", [True, False])
def test_a_learned_piece_without_an_objective_ends_in_an_error_and_not_in_silence(adapter: str, causal: bool) -> None:
    arrays = {"ids": np.array([40, 41])}
    piece = Piece(adapter, line_positions(2), arrays)
    target = Target((piece,), (Learned(0, TOKENS, (Term("t", "x", "token", 1.0),)),), causal)
    example = Example("t", "0", (Side((Piece.of_ids([3]),)),), (target,))
    if adapter == "text" and causal:
        assert len(labels(collate([example]))) == 2
        return
    with pytest.raises(ShapeError, match=f"a piece of adapter `{adapter}` is to be learned"):
        collate([example])


def test_a_learned_piece_without_ids_is_told_by_its_adapter() -> None:
    piece = Piece("mine", line_positions(2), {"frames": np.zeros((2, 3))})
    target = Target((piece,), (Learned(0, TOKENS, (Term("t", "x", "frame", 1.0),)),))
    with pytest.raises(ShapeError, match="a piece of adapter `mine` is to be learned one element after another"):
        collate([Example("t", "0", (Side((Piece.of_ids([3]),)),), (target,))])
