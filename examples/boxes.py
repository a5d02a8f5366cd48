"""Rows from a data set class of one's own, a line that writes a box, and the box drawn on the picture.

About a minute on one CPU core: python examples/boxes.py
"""

import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from ofasys_lite import GeneralistModel, Task, fit

LINE = '[IMAGE:img] which region does the text " [TEXT:cap] " describe? -> [BOX:box]'
COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 200)}


class Squares:
    """Pictures of three coloured squares; any class with a length and rows by number will do (a torch Dataset too)."""

    def __len__(self) -> int:
        return 2000

    def __getitem__(self, i: int) -> dict[str, Any]:
        rng = random.Random(i)
        picture = Image.new("RGB", (32, 32), "white")
        boxes = {}
        for place, name in enumerate(rng.sample(list(COLOURS), 3)):
            x, y = rng.randint(0, 6) + 10 * place, rng.randint(0, 24)
            boxes[name] = [x, y, x + 6, y + 6]
            ImageDraw.Draw(picture).rectangle([x, y, x + 5, y + 5], fill=COLOURS[name])
        asked = rng.choice(list(COLOURS))
        return {"img": picture, "cap": asked, "box": boxes[asked]}


def main(steps: int = 600, folder: Path = Path("runs/boxes")) -> Path:
    """The picture with the box that the model finds."""
    model = GeneralistModel("tiny", width=64)
    fit(model, Task("find", LINE, data=Squares()), steps=steps, folder=folder, samples_per_step=32, workers=0,
        lr=3e-3, pieces=300, bins=33)  # fmt: skip
    row = Squares()[5000]
    found = model("find", img=row["img"], cap=row["cap"])
    print(f"{row['cap']} is at {row['box']}; the model says {[round(v, 1) for v in found.value]}")
    return found.save_box(folder / "found.png")


if __name__ == "__main__":
    print(main())
