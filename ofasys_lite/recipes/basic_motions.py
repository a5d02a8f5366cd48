"""BasicMotions: 80 recordings of a smart watch in four activities, as the aeon wheel ships them."""

from __future__ import annotations

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, digest, numbered

MEMBER = "aeon/datasets/data/BasicMotions/BasicMotions_{}.ts"
#: Recordings of each activity that are taken out of the training part for validation.
VALID = 2


def read_ts(text: str) -> list[tuple[list[list[float]], str]]:
    """(frames (T, C), class) of each recording of a .ts file: channels separated by colons, the class behind them.

    Raises:
        DataError: Channels of different lengths.
    """
    found = []
    for line in text.splitlines():
        if not line.strip() or line.lstrip()[0] in "#@":
            continue
        *channels, label = line.strip().split(":")
        numbers = [[float(cell) for cell in channel.split(",")] for channel in channels]
        if len(set(map(len, numbers))) != 1:
            raise DataError("a recording has channels of different lengths")
        found.append((np.array(numbers).T.tolist(), label.strip().lower()))
    return found


def build(wheels: Wheels, limits: Limits) -> Built:
    """A row a recording; the official test part is kept."""
    parts: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    for part, split in (("TRAIN", "train"), ("TEST", "test")):
        text = wheels.read("aeon", MEMBER.format(part)).decode()
        for number, (frames, label) in enumerate(read_ts(text)):
            parts[split].append({"group": f"{split}-{number:02d}", "clip": frames, "label": label})
    for label in sorted({row["label"] for row in parts["train"]}):
        own = [row for row in parts["train"] if row["label"] == label]
        for row in sorted(own, key=lambda row: digest(f"valid {row['group']}"))[:VALID]:
            parts["train"].remove(row)
            parts["valid"].append(row)
    return Built(numbered("basic_motions", parts, limits))
