"""The recipes by name."""

from __future__ import annotations

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.recipes import (
    digits,
    easy_vqa,
    emoji,
    g2p,
    infilling,
    intents,
    scenes,
    speech,
    sudoku,
    text_to_sql,
    translation,
    ui_translation,
    written_words,
)
from ofasys_lite.recipes.recipe import Recipe, RecipeInfo

_RECIPES = (
    digits.RECIPE,
    easy_vqa.VQA,
    easy_vqa.ENTAILMENT,
    easy_vqa.CAPTION,
    emoji.RECIPE,
    scenes.GROUNDING,
    scenes.DETECTION,
    g2p.RECIPE,
    intents.RECIPE,
    translation.RECIPE,
    ui_translation.RECIPE,
    text_to_sql.RECIPE,
    infilling.RECIPE,
    speech.RECIPE,
    sudoku.RECIPE,
    written_words.RECIPE,
)


def recipe_names() -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(recipe.info.name for recipe in _RECIPES)


def get(name: str) -> Recipe:
    """The recipe of that name; DataError with the nearest name if there is none."""
    for recipe in _RECIPES:
        if recipe.info.name == name:
            return recipe
    raise DataError(f"unknown recipe `{name}`", help=did_you_mean(name, recipe_names(), "recipes"))


def describe(name: str) -> RecipeInfo:
    """What the recipe of that name makes; DataError with the nearest name if there is none."""
    return get(name).info
