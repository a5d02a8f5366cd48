"""Generated pictures judged by the nearest real one: nearest_caption, nearest_label, caption_retrieval.

A picture made for a prompt is right if the real picture nearest to it carries the prompt's caption or label: no model
takes part, so every judgement can be looked at.

Legend: N, M pictures, F features.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.pictures import asked_texts, picture_of
from ofasys_lite.metrics.score import Row, Statistics, Training, Value

_CAPTION = ("caption", "word", "text", "label")  # where a row says what its picture shows, the first that is there

_SIDE = 16  # pixels a side at which pictures are compared
_BLOCK = 256


class Gallery:
    """Real pictures with what they show; finds the nearest to a picture by colours at a small common side.

    Args:
        pictures: Real pictures (PIL images, uint8 arrays, or bytes or paths of image files), as a rule of training.
        captions: What each of them shows, a caption or a label.

    Raises:
        DataError: No pictures, another number of captions, or a picture that cannot be opened.
    """

    def __init__(self, pictures: Sequence[Value], captions: Sequence[str]) -> None:
        if not pictures or len(pictures) != len(captions):
            raise DataError(
                f"nearest_caption: {len(pictures)} real pictures with {len(captions)} captions",
                help="give at least one picture, and one caption for each",
            )
        self.captions = [_plain(caption) for caption in captions]
        features = [self._features(picture) for picture in pictures]
        broken = next((number for number, each in enumerate(features) if each is None), None)
        if broken is not None:
            raise DataError(f"nearest_caption: real picture {broken + 1} cannot be opened", help="leave it out")
        self.real_NF = np.stack([each for each in features if each is not None])

    def nearest(self, pictures: Sequence[Value]) -> list[int | None]:
        """Number of the nearest real picture, the first of equally near ones; None for what is no picture."""
        features = [self._features(picture) for picture in pictures]
        places = [place for place, each in enumerate(features) if each is not None]
        found: list[int | None] = [None] * len(features)
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            x_MF = np.stack([each for place in block if (each := features[place]) is not None])
            # whole numbers below 2^53: equal distances are equal, whatever the order of the sums
            distances_MN = (self.real_NF**2).sum(1) - 2 * x_MF @ self.real_NF.T
            for place, number in zip(block, distances_MN.argmin(1), strict=True):
                found[place] = int(number)
        return found

    def score(self, pictures: Sequence[Value], captions: Sequence[str]) -> Statistics:
        """Share of pictures whose nearest real one carries the caption asked for.

        Of real pictures of a test split it is the ceiling: what the judge grants to perfect generation.
        """
        found = self.nearest(pictures)
        right = [
            number is not None and self.captions[number] == _plain(caption)
            for number, caption in zip(found, captions, strict=True)
        ]
        return Statistics.mean(right, details={"chance": self.chance(captions), "gallery": len(self.captions)})

    def chance(self, captions: Sequence[str]) -> float:
        """What always drawing the gallery's most frequent caption would score."""
        counts = Counter(self.captions)
        most = min(counts, key=lambda caption: (-counts[caption], caption))
        return sum(_plain(caption) == most for caption in captions) / len(captions) if captions else 0.0

    def _features(self, value: Value) -> NDArray[np.float64] | None:
        from PIL import Image

        picture = picture_of(value)
        if picture is None or not all(picture.size):
            return None
        small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX)
        return np.asarray(small, dtype=np.float64).reshape(-1)


def nearest_caption(
    predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row], train: Training
) -> Statistics:
    """Share of pictures whose nearest training picture has the caption asked for.

    The ceiling is what real test pictures get (`details`), chance what the most frequent caption gets.

    Args:
        references: The real pictures of the same rows, for the ceiling.
        rows: Rows with a `caption`, `word`, `text` or `label`.

    Raises:
        DataError: No training picture can be opened, or a row has none of the columns.
    """
    return _among_training("nearest_caption", predictions, references, rows, train, _CAPTION)


def nearest_label(
    predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row], train: Training
) -> Statistics:
    """The same by the rows' `label`: the class of what is shown, not its name."""
    return _among_training("nearest_label", predictions, references, rows, train, ("label",))


def caption_retrieval(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of pictures to which the nearest of all reference pictures has the caption asked for (recall at 1).

    For captions that training does not have. Chance is small where there are many rows and large where there are few;
    with one caption in all rows nothing can be told, and the score is 0.

    Args:
        rows: Rows with a `caption`, `word`, `text` or `label`.

    Raises:
        DataError: A reference cannot be opened, or a row has none of the columns.
    """
    captions = _captions("caption_retrieval", rows, _CAPTION)
    gallery = Gallery(references, captions)
    if len(set(gallery.captions)) < 2:
        return Statistics.ratio([0] * len(captions), [0] * len(captions), details={"note": "one caption in all rows"})
    return gallery.score(predictions, captions)


def _captions(metric: str, rows: Sequence[Row], columns: Sequence[str]) -> list[str]:
    return [texts[0] for texts in asked_texts(metric, [None] * len(rows), rows, columns)]


def _among_training(
    metric: str,
    predictions: Sequence[Value],
    references: Sequence[Value],
    rows: Sequence[Row],
    train: Training,
    columns: tuple[str, ...],
) -> Statistics:
    captions, gallery = _captions(metric, rows, columns), _gallery(metric, train, columns)
    ceiling = gallery.score(references, captions)
    found = gallery.score(predictions, captions)
    share = float(ceiling.combine(ceiling.sums_NK.sum(0)))
    return replace(found, details={**found.details, "ceiling": share})


@lru_cache(maxsize=1)
def _gallery(metric: str, train: Training, columns: tuple[str, ...]) -> Gallery:
    """The training pictures that can be opened, kept while one training split is asked for."""
    captions = _captions(f"{metric} (training)", train.rows, columns)
    kept = [n for n, picture in enumerate(train.references) if picture_of(picture) is not None]
    return Gallery([train.references[n] for n in kept], [captions[n] for n in kept])


def _plain(text: str) -> str:
    return " ".join(str(text).split()).casefold()
