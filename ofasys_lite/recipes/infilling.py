"""Short English sentences for text infilling: commands, questions and interface strings."""

from __future__ import annotations

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.intents import read_sentences
from ofasys_lite.recipes.recipe import Built, Limits, Row, numbered, split_of
from ofasys_lite.recipes.ui_translation import read_strings

FEWEST_WORDS = 4
PER_TEMPLATE = {"train": 14, "valid": 6, "test": 8}


def build(wheels: Wheels, limits: Limits) -> Built:
    """Home Assistant's commands by template, and Django's English strings."""
    rows: dict[str, list[Row]] = {
        split: [{"group": each.template, "text": each.text, "kind": "command"} for each in sentences]
        for split, sentences in read_sentences(wheels, PER_TEMPLATE).items()
    }
    for text in sorted(read_strings(wheels, "de")):
        group = text.casefold()
        rows[split_of(group)].append({"group": group, "text": text, "kind": "interface"})
    long = {split: [row for row in part if len(row["text"].split()) >= FEWEST_WORDS] for split, part in rows.items()}
    return Built(numbered("infilling", long, limits))
