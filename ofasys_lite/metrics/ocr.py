"""Pictures of words read back by a bundled OCR model, the PP-OCRv4 recogniser of RapidOCR: ocr_accuracy, ocr_cer.

The word is found as the rectangle of ink and read by the recogniser alone; the detector that comes with it is not
needed for one word on plain paper. The reader answers in any script it knows; nothing tells it the word asked for.

Legend: N pictures, H x W pixels, T steps of the recogniser, V characters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import needed
from ofasys_lite.metrics.pictures import asked_texts, grey_picture
from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.texts import cer

_HEIGHT = 48  # lines of pixels the recogniser takes
_WIDTHS = (224, 320)  # columns of pixels it is given: the first that holds the strip, which is filled up or squeezed
_INK = 0.25  # of the strongest ink: what is stronger belongs to the word
_BLANK = 32  # of 255: a picture that differs less from its border is empty
_ABOVE, _BESIDE = 0.15, 0.3  # white around the word, in heights of the word
_BATCH = 32
_KEPT = 20_000  # readings kept: accuracy, character errors and margins read the same pictures


def ocr_accuracy(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of pictures whose text is read as the word asked for, case and white space at the ends aside.

    Args:
        predictions: Pictures (PIL images, uint8 arrays, or bytes or paths of image files).
        references: Words (a list holds alternatives), or pictures: then the row's `word`, `text`, `caption` or
            `label` is what was asked for.

    Raises:
        DataError: rapidocr-onnxruntime is not installed, or a row does not say its word.
    """
    words = asked_texts("ocr_accuracy", references, rows)
    read = read_words(predictions)
    right = [any(text == _plain(word) for word in given) for text, given in zip(read, words, strict=True)]
    return Statistics.mean(right, details={"blank": sum(not text for text in read)})


def ocr_cer(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Edits per character between what is read and the word asked for; arguments as of `ocr_accuracy`."""
    words = asked_texts("ocr_cer", references, rows)
    return cer(read_words(predictions), [[_plain(word) for word in given] for given in words], rows)


def read_words(pictures: Sequence[Value]) -> list[str]:
    """What is written on each picture, lower case; empty for a blank one or a value that is no picture.

    The same picture is read alike on every call of one machine, whatever stands beside it in the list.

    Raises:
        DataError: rapidocr-onnxruntime is not installed.
    """
    return _reader().read(pictures)


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _strip(grey_HW: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The word on white, 48 pixels high, from a picture of any polarity; None where there is no ink."""
    from PIL import Image

    if grey_HW.size == 0:
        return None
    border = np.concatenate([grey_HW[0], grey_HW[-1], grey_HW[:, 0], grey_HW[:, -1]])
    paper = int(np.median(border))
    ink_HW = np.clip((1 if paper >= 128 else -1) * (paper - grey_HW.astype(np.int64)), 0, 255).astype(np.uint8)
    if ink_HW.max() < _BLANK:
        return None
    dark_HW = ink_HW > _INK * ink_HW.max()
    rows, columns = np.flatnonzero(dark_HW.any(1)), np.flatnonzero(dark_HW.any(0))
    word = 255 - ink_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    above, beside = (max(1, round(share * len(word))) for share in (_ABOVE, _BESIDE))
    word = np.pad(word, ((above, above), (beside, beside)), constant_values=255)
    width = min(_WIDTHS[-1], max(1, round(word.shape[1] * _HEIGHT / word.shape[0])))
    return np.asarray(Image.fromarray(word).resize((width, _HEIGHT), Image.Resampling.BICUBIC))


class _Reader:
    """The recogniser, one thread, with what it has read."""

    def __init__(self) -> None:
        ocr = needed("rapidocr_onnxruntime", "reading pictures", "ocr")
        recogniser = ocr.RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1).text_rec
        self._session: Any = recogniser.session
        self._characters: list[str] = recogniser.postprocess_op.character
        self._known: dict[bytes, str] = {}

    def read(self, pictures: Sequence[Value]) -> list[str]:
        """Texts of the pictures; each different picture is read once."""
        greys = [grey_picture(picture) for picture in pictures]
        keys = [
            b"" if grey is None else hashlib.sha1(grey.tobytes() + str(grey.shape).encode()).digest() for grey in greys
        ]
        if len(self._known) > _KEPT:
            self._known.clear()
        fresh = {
            key: grey for key, grey in zip(keys, greys, strict=True) if grey is not None and key not in self._known
        }
        strips = {key: strip for key, grey in fresh.items() if (strip := _strip(grey)) is not None}
        found = self._recognise(list(strips.values()))
        self._known |= dict.fromkeys(fresh, "") | dict(zip(strips, found, strict=True))
        return [self._known.get(key, "") for key in keys]

    def _recognise(self, strips: Sequence[NDArray[np.uint8]]) -> list[str]:
        """The likeliest characters of each strip, repeats and blanks dropped (CTC)."""
        texts = [""] * len(strips)
        for width, narrower in zip(_WIDTHS, (0, *_WIDTHS), strict=False):
            # a strip's width depends on itself alone, so its text does not depend on its neighbours in the batch
            places = [place for place, strip in enumerate(strips) if narrower < strip.shape[1] <= width]
            for start in range(0, len(places), _BATCH):
                part = places[start : start + _BATCH]
                pixels_N3HW = np.zeros((len(part), 3, _HEIGHT, width), dtype=np.float32)
                for row, place in enumerate(part):
                    pixels_N3HW[row, :, :, : strips[place].shape[1]] = strips[place].astype(np.float32) / 127.5 - 1
                for place, ids in zip(part, self._session(pixels_N3HW)[0].argmax(2), strict=True):
                    texts[place] = self._text(ids)
        return texts

    def _text(self, ids_T: NDArray[np.int64]) -> str:
        new = np.flatnonzero((ids_T != 0) & (np.diff(ids_T, prepend=-1) != 0))
        return _plain("".join(self._characters[number] for number in ids_T[new]))


@lru_cache(maxsize=1)
def _reader() -> _Reader:
    """The reader, made once: its model takes a quarter of a second to load."""
    return _Reader()
