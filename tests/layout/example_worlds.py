"""What the tests of examples and packs share: makers of one line over a few rows, with a small vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.layout.pack import Example, Target
from ofasys_lite.layout.ready import DataSettings, make_ready

CARDS = modalities()
WORDS = "the cat sat on a mat with seven other animals and one yellow dog yes no left right"
SETTINGS = DataSettings(pieces=340, bins=50)


def maker_of(line: str, rows: Sequence[Mapping[str, Any]], **card: Any) -> ExampleMaker:
    """The maker of a line's examples, ready as for training on `rows`."""
    data = {split: list(rows) for split in ("train", "valid", "test")}
    words = {"instruction": "[TEXT:w] -> [TEXT:x]", "data": {s: [{"w": WORDS, "x": WORDS}] for s in data}}
    cards = [load_task_card({"instruction": line, "data": data, **card}, name="t"), load_task_card(words, name="words")]
    return make_ready(cards, CARDS, SETTINGS).tasks[0].maker


def picture(width: int = 49, height: int = 49) -> np.ndarray[Any, Any]:
    """An image whose boxes at whole pixels stand exactly on the 50 bins, if it is 49 pixels wide and high."""
    return np.full((height, width, 3), 128, dtype=np.uint8)


def ids_of(target: Target) -> list[int]:
    """All ids of a target, in order."""
    return [int(i) for piece in target.pieces for i in piece.arrays["ids"]]


def learned_of(target: Target) -> list[int]:
    """The ids that carry loss."""
    learned = {item.piece for item in target.learned}
    return [int(i) for n, p in enumerate(target.pieces) if n in learned for i in p.arrays["ids"]]


def written(maker: ExampleMaker, example: Example, row: Mapping[str, Any]) -> dict[str, Any]:
    """What the targets of an example spell once the automaton has split them into columns."""
    found: dict[str, Any] = {}
    for number, target in enumerate(example.targets):
        automaton = compile(maker.constraint(number, row))
        found.update(maker.values(number, automaton.split(ids_of(target)), row))
    return found
