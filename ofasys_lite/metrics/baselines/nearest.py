"""Baselines that answer with the target of the nearest training row, by pixels, sound, words or the last turn's words.

Legend: N training rows, M test rows, F features.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.metrics.baselines.problem import Problem, image_of, media_source
from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.values import as_text

Floats: TypeAlias = NDArray[np.float32]

_SIDE = 16  # pixels a side after downsampling
_BANDS = 24  # bands of the log spectrum, on a mel scale up to 8 kHz
_SEGMENTS = 8  # equal parts of the recording
_FRAME_SECONDS = 0.032
_BLOCK = 256


def nearest_pixels(problem: Problem) -> list[Value]:
    """Target of the training row with the nearest image (16 x 16 pixels), among those with the same texts if any."""
    return _nearest_media(problem, "image", _pixels)


def nearest_audio(problem: Problem) -> list[Value]:
    """Target of the training row with the nearest mean log spectrum (24 bands in 8 parts of the recording)."""
    return _nearest_media(problem, "audio", _spectrum)


def _nearest_media(problem: Problem, kind: str, features: Callable[[Value], Floats]) -> list[Value]:
    columns = problem.columns(kind)
    if not columns or not problem.train_rows:
        return [None] * len(problem.test_rows)
    train_NF = np.stack([features(row.get(columns[0])) for row in problem.train_rows])
    test_MF = np.stack([features(row.get(columns[0])) for row in problem.test_rows]) if problem.test_rows else train_NF
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, key in enumerate(problem.texts(problem.train_rows)):
        alike[key].append(number)
    asked: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for number, key in enumerate(problem.texts(problem.test_rows)):
        asked[key if key in alike else ()].append(number)
    values: list[Value] = [None] * len(problem.test_rows)
    for key, tests in asked.items():
        trains = np.asarray(alike[key]) if key in alike else np.arange(len(train_NF))
        for start in range(0, len(tests), _BLOCK):
            block = tests[start : start + _BLOCK]
            # Euclidean distance, without what is equal for all training rows
            far_MN = (train_NF[trains] ** 2).sum(1) - 2 * test_MF[block] @ train_NF[trains].T
            for test, train in zip(block, trains[np.argmin(far_MN, axis=1)], strict=True):
                values[test] = problem.train_rows[train].get(problem.target)
    return values


def _pixels(value: Value) -> Floats:
    """Colours (768,) in [0, 1]; grey where the image cannot be read."""
    image = image_of(value)
    if image is not None:
        try:
            small = image.convert("RGB").resize((_SIDE, _SIDE))
        except OSError:  # truncated file
            image = None
    if image is None:
        return np.full(_SIDE * _SIDE * 3, 0.5, dtype=np.float32)
    colours: Floats = np.asarray(small, dtype=np.float32).reshape(-1) / np.float32(255)
    return colours


def _spectrum(value: Value) -> Floats:
    """Log power (192,) of 24 mel-spaced bands in 8 equal parts of the recording, less its mean."""
    samples, rate = waveform(value)
    size = max(16, round(_FRAME_SECONDS * rate))
    if len(samples) < size:
        samples = np.pad(samples, (0, size - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 2] * np.hanning(size)
    power_TF = np.abs(np.fft.rfft(frames, axis=1)) ** 2
    top = 2595 * math.log10(1 + 8000 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, _BANDS + 1) / 2595) - 1)
    bins = np.clip((edges / rate * size).astype(int), 0, power_TF.shape[1] - 1)
    bands_TF = np.stack([power_TF[:, a : max(a + 1, b)].mean(1) for a, b in pairwise(bins)], axis=1)
    parts = [np.log(part.mean(0) + 1e-8) for part in np.array_split(bands_TF, _SEGMENTS) if len(part)]
    parts += [parts[-1]] * (_SEGMENTS - len(parts))
    features: Floats = np.concatenate(parts).astype(np.float32)
    features -= features.mean()
    return features


def waveform(value: Any) -> tuple[NDArray[np.float64], int]:
    """(samples, rate in Hz) of one channel; a bare array is taken at 16,000 Hz; silence if unreadable."""
    import soundfile

    if isinstance(value, dict) and "array" in value:
        value = (value["array"], value.get("sampling_rate", 16_000))
    if isinstance(value, tuple):
        samples, rate = value
    elif hasattr(value, "ndim"):
        samples, rate = value, 16_000
    else:
        try:
            samples, rate = soundfile.read(media_source(value))
        except (soundfile.LibsndfileError, TypeError, OSError):
            samples, rate = np.zeros(1), 16_000
    samples = np.asarray(samples, dtype=np.float64)
    return (samples if samples.ndim == 1 else samples.mean(axis=-1)), int(rate)


def nearest_tfidf(problem: Problem) -> list[Value]:
    """Target of the training row whose texts are nearest by cosine of TF-IDF (single words and pairs)."""
    return _nearest_text(problem, problem.questions(problem.train_rows), problem.questions(problem.test_rows))


def nearest_turn(problem: Problem) -> list[Value]:
    """Target of the training row whose last turn is nearest by TF-IDF: what nobody needs the turns before for.

    Of inputs that are lists the last element counts, all else as it is.
    """

    def last(rows: Sequence[Row]) -> list[str]:
        columns = problem.columns("text")
        values = ([row.get(name) for name in columns] for row in rows)
        return [" ".join(as_text(v[-1] if isinstance(v, list) and v else v) for v in each) for each in values]

    return _nearest_text(problem, last(problem.train_rows), last(problem.test_rows))


def _nearest_text(problem: Problem, known: Sequence[str], asked: Sequence[str]) -> list[Value]:
    index = TfIdf(known)
    found = {question: index.nearest(question) for question in sorted(set(asked))}
    targets = problem.targets()
    return [None if (number := found[question]) is None else targets[number] for question in asked]


def words(text: str) -> list[str]:
    """Words, numbers and single marks of a text, case folded.

    Example:
        >>> words("Turn on the lamp!")
        ['turn', 'on', 'the', 'lamp', '!']
    """
    return re.findall(r"\w+|[^\w\s]", text.casefold())


class TfIdf:
    """Texts by inverted index of words and word pairs, weighted (1 + log tf) x log(N / df), unit length.

    Salton and Buckley, Information Processing and Management, 1988.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        bags = [_terms(text) for text in texts]
        counts = Counter(term for bag in bags for term in bag)
        self._idf = {term: math.log(1 + len(bags) / count) for term, count in counts.items()}
        postings: dict[str, tuple[list[int], list[float]]] = {term: ([], []) for term in counts}
        for number, bag in enumerate(bags):
            for term, weight in self._weights(bag).items():
                postings[term][0].append(number)
                postings[term][1].append(weight)
        self._postings = {term: (np.asarray(a), np.asarray(b)) for term, (a, b) in postings.items()}
        self._size = len(bags)

    def nearest(self, text: str) -> int | None:
        """Number of the nearest text, the first of equals; None if there are no texts at all."""
        return int(np.argmax(self.scores(text))) if self._size else None

    def scores(self, text: str) -> NDArray[np.float64]:
        """(N,) cosine of each text with this one."""
        scores = np.zeros(self._size)
        for term, weight in self._weights(_terms(text)).items():
            numbers, weights = self._postings[term]
            scores[numbers] += weight * weights
        return scores

    def _weights(self, bag: Counter[str]) -> dict[str, float]:
        weights = {term: (1 + math.log(n)) * self._idf[term] for term, n in bag.items() if term in self._idf}
        length = math.sqrt(sum(weight**2 for weight in weights.values())) or 1.0
        return {term: weight / length for term, weight in weights.items()}


def _terms(text: str) -> Counter[str]:
    tokens = words(text)
    return Counter(tokens) + Counter(f"{a} {b}" for a, b in pairwise(tokens))
