"""Pictures against pictures: pixel_mse.

Shapes: N pictures, H x W pixels of 3 colours.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Statistics, Value
from ofasys_lite.preprocess.image_decode import open_image, resized, turned

#: Longer sides are brought down to this many pixels.
_MOST = 256


def pixel_mse(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Mean squared difference of red, green and blue in 0 to 1, the prediction brought to the reference's size.

    A prediction that is no picture counts as 1, the largest difference there is; a reference that cannot be read is
    left out. It says how near a picture is to the one that the data holds, not how good it looks: where a prompt
    leaves much open, a grey mean of all pictures is near to each of them (baseline `mean_image`).

    Args:
        predictions: Pictures (PIL images, arrays, bytes or paths of image files).
    """
    errors = [_error(*pair) for pair in zip(predictions, references, strict=True)]
    seen = np.array([error is not None for error in errors], dtype=np.float64)
    details = {} if seen.all() else {"unreadable": int(len(seen) - seen.sum())}
    above = [error or 0.0 for error in errors]
    return Statistics.ratio(above, seen, unit="squared error", higher_is_better=False, details=details)


def _error(prediction: Value, reference: Value) -> float | None:
    """The difference of a pair; None where the reference is no picture."""
    try:
        size = shown_size(reference)
        wanted_HW3 = pixels(reference, size)
    except DataError:
        return None
    try:
        return float(np.mean((pixels(prediction, size) - wanted_HW3) ** 2))
    except DataError:
        return 1.0


def shown_size(value: Value) -> tuple[int, int]:
    """(width, height) of a picture as it is shown, its longer side at most 256 pixels; DataError if it is none."""
    image = open_image(value, None, 100.0)
    width, height = image.size if turned(image) < 5 else image.size[::-1]
    if image is not value:
        image.close()
    scale = min(1.0, _MOST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pixels(value: Value, size: tuple[int, int]) -> NDArray[np.float32]:
    """(H, W, 3) colours in 0 to 1 of a picture brought to `size` (width, height), transparency on white.

    Raises:
        DataError: It is no picture, or cannot be decoded.
    """
    image = open_image(value, None, 100.0)
    found = resized(image, size[1], size[0], turned(image), None, draft=image is not value)
    if image is not value:
        image.close()
    colours: NDArray[np.float32] = np.asarray(found, dtype=np.float32) / np.float32(255)
    return colours
