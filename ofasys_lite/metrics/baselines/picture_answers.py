"""Baselines that answer with a picture: mean_image, mean_fill, random_image, common_image.

Shapes: N training pictures, H x W pixels of 3 colours.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.source import spread
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.metrics.baselines.problem import Problem, image_of
from ofasys_lite.metrics.pictures import pixels, shown_size
from ofasys_lite.metrics.score import Value

if TYPE_CHECKING:
    from PIL import Image

_MOST = 2000  # training pictures that a mean is taken of, evenly spread


def mean_image(problem: Problem) -> list[Value]:
    """The mean of the training pictures in their commonest size, for every row."""
    mean = _mean(problem)
    return [mean] * len(problem.test_rows)


def mean_fill(problem: Problem) -> list[Value]:
    """The row's own picture with its hidden cells filled from the mean of the training pictures.

    Raises:
        CardError: The row has no picture with hidden cells (`mask_ratio`), which are transparent.
    """
    from PIL import Image

    columns = problem.columns("image")
    given = [image_of(row.get(columns[0])) if columns else None for row in problem.test_rows]
    if problem.train_rows and not any(image is not None and image.mode == "RGBA" for image in given):
        raise CardError("baseline `mean_fill` fills hidden cells, and no input has any", help="mean_image")
    mean = _mean(problem)
    found: list[Value] = []
    for image in given:
        if mean is None or image is None:
            found.append(mean)
        else:
            ground = mean.resize(image.size, Image.Resampling.BICUBIC).convert("RGBA")
            found.append(Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB"))
    return found


def common_image(problem: Problem) -> list[Value]:
    """One training picture for every row, the first of those that the most frequent training text asks for."""
    targets, asked = problem.targets(), problem.questions(problem.train_rows)
    if not targets:
        return [None] * len(problem.test_rows)
    counts = Counter(asked)
    return [targets[asked.index(max(counts, key=lambda text: (counts[text], text)))]] * len(problem.test_rows)


def _mean(problem: Problem) -> Image.Image | None:
    """The mean training picture; None if none can be read."""
    from PIL import Image

    targets = problem.targets()
    chosen = [targets[i] for i in spread(len(targets), _MOST)]
    sizes: Counter[tuple[int, int]] = Counter()
    for value in chosen:
        try:
            sizes[shown_size(value)] += 1
        except DataError:
            continue
    if not sizes:
        return None
    size = min(sizes, key=lambda size: (-sizes[size], size))
    total, count = np.zeros((size[1], size[0], 3), dtype=np.float64), 0
    for value in chosen:
        try:
            total += pixels(value, size)
            count += 1
        except DataError:
            continue
    mean: NDArray[np.uint8] = np.rint(total / max(1, count) * 255).astype(np.uint8)
    return Image.fromarray(mean) if count else None
