"""Digits described in words: `a bold very slanted seven`, measured on the real pictures.

A caption of several words for every picture of the card `digits`, so that drawing from text can be measured on real
pictures. The stroke is the darkness of a picture over the length of its outline (`thin`, `plain`, `bold`), the lean the
slope of its second moments (`upright`, `slanted`, `very slanted`); both are cut at the thirds of the training split,
so that nothing of the test split is in a caption but its own picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEANS", "STROKES", "Describer"]

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STROKES = ("thin", "plain", "bold")
LEANS = ("upright", "slanted", "very slanted")


@dataclass(frozen=True, slots=True)
class Describer:
    """Cuts between the words, from training pictures.

    Attributes:
        strokes: Two rising widths of a stroke, in pixels.
        leans: Two rising slopes, sideways over upwards.
    """

    strokes: tuple[float, float]
    leans: tuple[float, float]

    @classmethod
    def of(cls, images_NHWC: NDArray[np.uint8]) -> Describer:
        """Cuts at the thirds of these pictures (light digits on a dark ground, or dark ones on a light ground)."""
        width_N, lean_N = _measure(images_NHWC)
        thirds = [tuple(float(x) for x in np.quantile(values, [1 / 3, 2 / 3])) for values in (width_N, lean_N)]
        return cls(*thirds)  # type: ignore[arg-type]

    def words(self, images_NHWC: NDArray[np.uint8]) -> list[tuple[str, str]]:
        """(stroke, lean) of each picture."""
        width_N, lean_N = _measure(images_NHWC)
        strokes, leans = np.searchsorted(self.strokes, width_N), np.searchsorted(self.leans, lean_N)
        return [(STROKES[a], LEANS[b]) for a, b in zip(strokes, leans, strict=True)]

    def captions(self, images_NHWC: NDArray[np.uint8], digits: NDArray[np.int64]) -> list[str]:
        """`a bold very slanted seven` for each picture of a digit."""
        said = zip(self.words(images_NHWC), digits, strict=True)
        return [f"a {stroke} {lean} {DIGITS[digit]}" for (stroke, lean), digit in said]

    def agreement(self, images_NHWC: NDArray[np.uint8], captions: Sequence[str]) -> dict[str, float]:
        """Shares of pictures whose `stroke` and `lean` are those of their captions."""
        pairs = list(zip(self.words(images_NHWC), captions, strict=True))
        stroke = [said.startswith(f"a {stroke} ") for (stroke, _), said in pairs]
        lean = [said.split(" ", 2)[2].rpartition(" ")[0] == lean for (_, lean), said in pairs]
        return {"stroke": float(np.mean(stroke)), "lean": float(np.mean(lean))}

    def by_digit(
        self,
        train_NHWC: NDArray[np.uint8],
        train_N: NDArray[np.int64],
        test_MHWC: NDArray[np.uint8],
        test_M: NDArray[np.int64],
    ) -> dict[str, float]:
        """The `agreement` of test pictures with the words that are most frequent for their digit in training."""
        found = {}
        for name, place, choices in (("stroke", 0, STROKES), ("lean", 1, LEANS)):
            said, want = ([pair[place] for pair in self.words(images)] for images in (train_NHWC, test_MHWC))
            usual = {
                digit: max(choices, key=[w for w, n in zip(said, train_N, strict=True) if n == digit].count)
                for digit in np.unique(train_N)
            }
            found[name] = float(np.mean([usual[n] == word for n, word in zip(test_M, want, strict=True)]))
        return found


def _measure(images_NHWC: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N,) widths of the stroke in pixels, (N,) slopes of each picture."""
    ink_NHW = images_NHWC.mean(-1) / 255
    corners = np.stack([ink_NHW[:, y, x] for y in (0, -1) for x in (0, -1)])
    ink_NHW = np.where(np.median(corners, 0)[:, None, None] > 0.5, 1 - ink_NHW, ink_NHW)
    area_N = ink_NHW.sum((1, 2)) + 1e-9
    down, right = np.gradient(ink_NHW, axis=(1, 2))
    outline_N = np.hypot(down, right).sum((1, 2)) + 1e-9
    y, x = np.mgrid[: ink_NHW.shape[1], : ink_NHW.shape[2]]
    y_N, x_N = ((ink_NHW * each).sum((1, 2)) / area_N for each in (y, x))
    high_NHW, wide_NHW = y_N[:, None, None] - y, x - x_N[:, None, None]
    lean_N = (ink_NHW * high_NHW * wide_NHW).sum((1, 2)) / ((ink_NHW * high_NHW**2).sum((1, 2)) + 1e-9)
    return 2 * area_N / outline_N, lean_N
