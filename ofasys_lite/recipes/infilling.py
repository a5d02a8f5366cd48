"""Short English sentences for text infilling: commands, questions and interface strings."""

from __future__ import annotations

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.intents import HOME_ASSISTANT, read_sentences
from ofasys_lite.recipes.recipe import Built, Column, Limits, Recipe, RecipeInfo, Row, assemble, split_of
from ofasys_lite.recipes.ui_translation import DJANGO, read_strings

FEWEST_WORDS = 4
PER_TEMPLATE = {"train": 14, "valid": 6, "test": 8}


def build(wheels: Wheels, limits: Limits) -> Built:
    """Home Assistant's commands by template, and Django's English strings."""
    splits: dict[str, list[Row]] = {}
    interface = sorted(text for text in read_strings(wheels, "de") if len(text.split()) >= FEWEST_WORDS)
    for split, sentences in read_sentences(wheels, PER_TEMPLATE).items():
        rows: list[Row] = [
            {"group": each.template, "text": each.text, "kind": "command"}
            for each in sentences
            if len(each.text.split()) >= FEWEST_WORDS
        ]
        rows += [
            {"group": text.casefold(), "text": text, "kind": "interface"}
            for text in interface
            if split_of(text.casefold()) == split
        ]
        fixed = dict.fromkeys((row["group"] for row in rows), split)
        splits[split] = assemble("infilling", rows, limits, fixed.__getitem__)[split]
    return Built(splits)


RECIPE = Recipe(
    RecipeInfo(
        name="infilling",
        title="text infilling: short English commands and interface strings of at least four words",
        sources=(HOME_ASSISTANT, DJANGO),
        licence="Apache-2.0 and BSD-3-Clause",
        columns=(Column("text", "text", "one line"), Column("kind", "text", "command or interface")),
        group="the template of a command, the string itself",
        limits=Limits(train=12_000),
        counts={"train": 8904, "valid": 456, "test": 661},
        size_mb=0.2,
        generated="commands are expanded from the source's templates",
        note="split by template and by string; no command of valid or test is one of training but for its values",
        version=2,
    ),
    build,
)
