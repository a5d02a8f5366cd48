"""IMAGE as a network of another house saw it: pixels of -1 to 1 brought to the mean and deviation it was trained with.

Shapes: N images, h, w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.errors import CardError

#: Mean and deviation where nobody says them: what pixels of -1 to 1 have.
HALF = (0.5, 0.5, 0.5)


class PixelScale(nn.Module):
    """(N, 3, h, w) in -1 to 1 -> the same normalised by the mean and deviation of red, green and blue, in 0 to 1."""

    scale: Tensor
    shift: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        scale = torch.tensor([0.5 / float(each) for each in deviation])
        shift = torch.tensor([(0.5 - float(m)) / float(d) for m, d in zip(mean, deviation, strict=True)])
        self.register_buffer("scale", scale[:, None, None], persistent=False)
        self.register_buffer("shift", shift[:, None, None], persistent=False)

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> PixelScale:
        """By the settings `pixel_mean` and `pixel_deviation`, three numbers each; null: 0.5.

        Raises:
            CardError: Not three numbers, or a deviation that is not above 0.
        """
        found = []
        for key, low in (("pixel_mean", -1e9), ("pixel_deviation", 0.0)):
            value = settings.get(key) or HALF
            numbers = [x for x in value if isinstance(x, (int, float)) and not isinstance(x, bool) and x > low]
            if len(numbers) != 3 or len(value) != 3:
                help = "three numbers of red, green and blue, where black is 0 and white is 1, as [0.5, 0.5, 0.5]"
                raise CardError(f"setting `{key}` of IMAGE is {value!r}", help=help)
            found.append(numbers)
        return cls(*found)

    def rows(self, x_X3: Tensor) -> Tensor:
        """(X, 3) in -1 to 1, a pixel a row, normalised."""
        return x_X3 * self.scale[:, 0, 0] + self.shift[:, 0, 0]

    def grey(self) -> Tensor:
        """(3,): what the middle between black and white is."""
        return self.shift[:, 0, 0]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """The images, normalised."""
        return x_NCHW * self.scale + self.shift
