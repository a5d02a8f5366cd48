"""Metrics of texts and classes: accuracy, exact_match, token_accuracy, macro_f1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofasys_lite.metrics.score import Array, Row, Statistics, Value, divide
from ofasys_lite.metrics.values import as_text, as_texts, normalised_text

__all__ = ["accuracy", "exact_match", "macro_f1", "token_accuracy"]


def accuracy(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of predictions equal to (one of) the accepted texts, white space at the ends aside."""
    pairs = zip(predictions, references, strict=True)
    return Statistics.mean([as_text(p).strip() in [text.strip() for text in as_texts(r)] for p, r in pairs])


def exact_match(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of predictions equal to (one of) the accepted texts without regard to case, punctuation and spacing."""
    pairs = zip(predictions, references, strict=True)
    return Statistics.mean([normalised_text(p) in [normalised_text(text) for text in as_texts(r)] for p, r in pairs])


def token_accuracy(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of white-space tokens that are right at their place, of (the best of) the accepted texts.

    The longer of both texts counts.
    """
    right, all_ = [], []
    for prediction, reference in zip(predictions, references, strict=True):
        ours = as_text(prediction).split()
        found = []
        for text in as_texts(reference):
            theirs = text.split()
            found.append((sum(a == b for a, b in zip(ours, theirs, strict=False)), max(len(ours), len(theirs))))
        best = max(found, key=lambda pair: (pair[0] / max(1, pair[1]), -pair[1]))
        right.append(best[0])
        all_.append(best[1])
    return Statistics.ratio(right, all_)


def macro_f1(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Unweighted mean of each reference class's F1; predictions outside these classes are only misses.

    Of several accepted texts the class is the first, and any of them is right.
    """
    accepted = [[text.strip() for text in as_texts(reference)] for reference in references]
    theirs = [texts[0] for texts in accepted]
    numbers = {name: number for number, name in enumerate(sorted(set(theirs)))}
    sums_N3V = np.zeros((len(theirs), 3, len(numbers)))
    for item, (prediction, reference) in enumerate(zip(predictions, theirs, strict=True)):
        ours = as_text(prediction).strip()
        if ours in accepted[item]:
            sums_N3V[item, 0, numbers[reference]] = 1
            continue
        sums_N3V[item, 2, numbers[reference]] = 1
        if ours in numbers:
            sums_N3V[item, 1, numbers[ours]] = 1
    return Statistics(sums_N3V.reshape(len(theirs), -1), _mean_f1, details={"classes": len(numbers)})


def _mean_f1(sums: Array) -> Array:
    hits, extra, missed = np.split(sums, 3, axis=-1)
    present = hits + missed > 0  # a class without items here has no F1
    return divide((divide(2 * hits, 2 * hits + extra + missed) * present).sum(-1), present.sum(-1).astype(np.float64))
