"""Moving digits: clips of one handwritten digit each that moves over the canvas and comes back on the other side.

After Moving MNIST (Srivastava et al. 2015, arXiv 1502.04681), with one change: the canvas has no borders. The digit is
anywhere in every frame, whatever its direction, so that no single frame says anything of where it moves.
"""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.digits import digit_group, read_digits
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, pick, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

CANVAS, SIDE = 32, 20
FRAMES, MILLISECONDS = 6, 100
#: Pixels a frame.
SPEEDS = (2, 3, 4)
#: Direction -> (down, right) of a step.
DIRECTIONS = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}
#: What is asked of each clip, and the column that answers.
QUESTIONS = {"which digit is it?": "digit", "where does it move?": "direction"}
#: Clips of every digit image.
CLIPS = 2


def build(wheels: Wheels, limits: Limits) -> Built:
    """Two rows a clip: a question for the digit and one for the direction."""
    images, labels = read_digits(wheels)
    rows: list[Row] = []
    for place, (image, label) in enumerate(zip(images, labels, strict=True)):
        for number in range(CLIPS):
            generator = random.Random(f"moving {place} {number}")
            direction = pick(tuple(DIRECTIONS), generator)
            frames = moving(image, direction, generator)
            told = {"digit": str(label), "direction": direction}
            clip = animation(frames, "GIF" if place % 10 == 0 else "WEBP")
            for question, answer in QUESTIONS.items():
                rows.append(
                    {
                        "group": digit_group(place),
                        "clip": clip,
                        "question": question,
                        "answer": told[answer],
                        "kind": answer,
                        **told,
                        "caption": f"a {label} moves {direction}",
                    }
                )
    return Built(assemble("moving_digits", rows, limits, split_of))


def moving(image: NDArray[np.uint8], direction: str, generator: random.Random) -> NDArray[np.uint8]:
    """(FRAMES, CANVAS, CANVAS) of a digit that begins anywhere and moves at a speed that is drawn, too."""
    from PIL import Image

    canvas = np.zeros((CANVAS, CANVAS), dtype=np.uint8)
    canvas[:SIDE, :SIDE] = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    start = [int(generator.random() * CANVAS) for _ in range(2)]
    speed = pick(SPEEDS, generator)
    down, right = (speed * way for way in DIRECTIONS[direction])
    return np.stack([np.roll(canvas, (start[0] + t * down, start[1] + t * right), axis=(0, 1)) for t in range(FRAMES)])


def animation(frames: NDArray[np.uint8], form: str) -> bytes:
    """The bytes of an animated file, without loss: `WEBP`, or `GIF` with its 256 greys."""
    from PIL import Image

    images = [Image.fromarray(frame) for frame in frames]
    if form == "WEBP":
        images, options = [image.convert("RGB") for image in images], {"lossless": True, "method": 2, "quality": 20}
    else:
        options = {"optimize": False, "disposal": 1}
    file = io.BytesIO()
    images[0].save(file, form, save_all=True, append_images=images[1:], duration=MILLISECONDS, loop=0, **options)
    return file.getvalue()
