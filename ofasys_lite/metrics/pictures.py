"""Pictures as metrics take them: PIL images, uint8 arrays, bytes or paths of image files; and what they should show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.baselines.problem import image_of
from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_texts
from ofasys_lite.preprocess.image_decode import open_image, resized, turned

if TYPE_CHECKING:
    from PIL import Image


#: Where a row says what its picture shows, the first that is there.
TEXT_COLUMNS = ("word", "text", "caption", "label")


def picture_of(value: Value) -> Image.Image | None:
    """The picture in colours, transparent parts white; None where the value is no picture that can be opened."""
    from PIL import Image

    if hasattr(value, "ndim"):
        value = _pixels(value)
    record = isinstance(value, Mapping) and "bytes" in value  # as Hugging Face data sets store pictures
    image = image_of(value) if record or isinstance(value, (Image.Image, np.ndarray, bytes, str, Path)) else None
    if image is None:
        return None
    try:
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return image.convert("RGB")
    except OSError:  # truncated file
        return None


def _pixels(value: Any) -> NDArray[np.uint8] | None:
    """The array as PIL takes it: (H, W) or (H, W, 3 or 4) of uint8; None for any other."""
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[-1] == 1:
        array = array[..., 0]
    shaped = array.ndim == 2 or (array.ndim == 3 and array.shape[-1] in (3, 4))
    return array if shaped and array.dtype == np.uint8 and array.size else None


def grey_picture(value: Value) -> NDArray[np.uint8] | None:
    """The picture as grey (H, W), transparent parts white; None where the value is no picture that can be opened."""
    image = picture_of(value)
    return None if image is None else np.asarray(image.convert("L"))


def asked_texts(
    metric: str, references: Sequence[Value], rows: Sequence[Row], columns: Sequence[str] = TEXT_COLUMNS
) -> list[list[str]]:
    """The accepted texts of each item: the reference where it is text, else the first of the row's `columns`.

    Raises:
        DataError: A row has none of the columns.
    """
    found = []
    for number, (reference, row) in enumerate(zip(references, rows, strict=True)):
        texts = reference if _is_text(reference) else next((row[c] for c in columns if _is_text(row.get(c))), None)
        if texts is None:
            raise DataError(
                f"metric `{metric}`: row {number + 1} does not say what its picture shows",
                help=f"give each row {'one of the columns' if len(columns) > 1 else 'the column'} "
                f"{', '.join(columns)}; the row has: {', '.join(map(str, row)) or 'no columns'}",
            )
        found.append(as_texts(texts))
    return found


def _is_text(value: Value) -> bool:
    """Whether the value is a text or a list of texts."""
    several = isinstance(value, (list, tuple)) and bool(value) and all(isinstance(part, str) for part in value)
    return isinstance(value, str) or several


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
