"""Pictures as metrics take them: PIL images, uint8 arrays, bytes or paths of image files; and what they should show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.baselines.problem import image_of
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.values import as_texts

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
