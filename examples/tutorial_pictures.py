"""Writes the pictures of docs/tutorial.md: one coloured square in each, and two files that name them.

    python examples/tutorial_pictures.py [FOLDER] [PICTURES]

Makes pics/p000.png ..., pics/labels.csv (columns `file` and `colour`) and scenes.jsonl (`picture`, `what` and `where`,
the square as x0, y0, x1, y1 in pixels). Every run makes the same pictures.
"""

from __future__ import annotations

import csv
import json
import random
import sys
from pathlib import Path

from PIL import Image, ImageDraw

COLOURS = {"red": (200, 40, 40), "green": (40, 160, 60), "blue": (40, 80, 200)}
SIDE = 64


def square(place: int) -> tuple[Image.Image, str, list[int]]:
    """A picture with a square somewhere, the square's colour and its box."""
    draw = random.Random(place)
    colour = list(COLOURS)[place % len(COLOURS)]
    width = draw.randint(16, 28)
    x, y = draw.randint(0, SIDE - width), draw.randint(0, SIDE - width)
    picture = Image.new("RGB", (SIDE, SIDE), "white")
    ImageDraw.Draw(picture).rectangle([x, y, x + width - 1, y + width - 1], fill=COLOURS[colour])
    return picture, colour, [x, y, x + width, y + width]


def main(folder: str = ".", count: str = "80") -> None:
    """Writes the pictures and both files, and says so."""
    pictures = Path(folder) / "pics"
    pictures.mkdir(parents=True, exist_ok=True)
    labels, scenes = [], []
    for place in range(int(count)):
        picture, colour, box = square(place)
        name = f"p{place:03}.png"
        picture.save(pictures / name)
        labels.append((name, colour))
        scenes.append({"picture": f"pics/{name}", "what": f"the {colour} square", "where": box})
    with (pictures / "labels.csv").open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("file", "colour"), *labels])
    lines = "".join(json.dumps(scene) + "\n" for scene in scenes)
    (Path(folder) / "scenes.jsonl").write_text(lines, encoding="utf-8")
    print(f"pics/labels.csv and scenes.jsonl: {count} pictures")


if __name__ == "__main__":
    main(*sys.argv[1:])
