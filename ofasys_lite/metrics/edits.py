"""Error rates by edit distance, through jiwer: wer, cer, per (lower is better, above 1 with many insertions).

Edits and elements are summed over all items (jiwer's and the field's convention): an empty reference adds its
insertions to the edits and nothing to the elements, and where all references are empty the rate is the number of edits.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ofasys_lite.metrics.score import Array, Row, Statistics, Value
from ofasys_lite.metrics.values import as_text, as_texts

#: Column of a row that lists all pronunciations of its word.
PRONUNCIATIONS = "pronunciations"


def wer(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Word error rate: edits per reference word, case and punctuation kept; of several texts the nearest counts."""
    return _error_rate(list(map(as_text, predictions)), list(map(as_texts, references)), "word")


def cer(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Character error rate: edits per reference character; of several texts the nearest counts."""
    return _error_rate(list(map(as_text, predictions)), list(map(as_texts, references)), "character")


def per(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Phone error rate: edits per reference phone; phones stand between spaces or in a list.

    Of several pronunciations the nearest counts: a list of texts with several phones each, or what the row lists in
    its column `pronunciations`.
    """
    pairs = zip(references, rows, strict=True)
    accepted = [_pronunciations(reference) + _listed(row) for reference, row in pairs]
    return _error_rate([_pronunciations(prediction)[0] for prediction in predictions], accepted, "phone")


def _pronunciations(value: Value) -> list[str]:
    """Pronunciations in a value, at least one, which may be empty."""
    if not isinstance(value, (list, tuple)) or not value:
        return ["" if isinstance(value, (list, tuple)) else as_text(value)]
    texts = list(map(as_text, value))
    return texts if any(len(text.split()) > 1 for text in texts) else [" ".join(texts)]


def _listed(row: Row) -> list[str]:
    found = row.get(PRONUNCIATIONS)
    if found is not None and hasattr(found, "tolist"):
        found = found.tolist()
    if isinstance(found, str) or found is None:
        return [found] if found else []
    return [text for text in map(as_text, found) if text.strip()] if isinstance(found, Sequence) else []


def _error_rate(predictions: Sequence[str], references: Sequence[Sequence[str]], element: str) -> Statistics:
    """Statistics of edits per reference element; of several references the one of the lowest rate."""
    sums_N2 = np.zeros((len(predictions), 2))
    totals = dict.fromkeys(("substitutions", "deletions", "insertions"), 0)
    for item, (prediction, accepted) in enumerate(zip(predictions, references, strict=True)):
        counts = [_count(prediction, reference, element) for reference in dict.fromkeys(accepted)]
        *edits, length = min(counts, key=lambda count: (sum(count[:3]) / max(1, count[3]), count[3]))
        sums_N2[item] = sum(edits), length
        for name, number in zip(totals, edits, strict=True):
            totals[name] += number
    return Statistics(sums_N2, _rate, unit=f"errors per {element}", higher_is_better=False, details=totals)


def _rate(sums: Array) -> Array:
    rate: Array = sums[..., 0] / np.maximum(1, sums[..., 1])
    return rate


def _count(prediction: str, reference: str, element: str) -> tuple[int, int, int, int]:
    """(substitutions, deletions, insertions, length of the reference) of one pair."""
    import jiwer

    characters = element == "character"
    prediction, reference = (" ".join(text.split()) for text in (prediction, reference))
    if not reference:
        return 0, 0, len(prediction) if characters else len(prediction.split()), 0
    process = jiwer.process_characters if characters else jiwer.process_words
    found = process(reference, prediction)
    return found.substitutions, found.deletions, found.insertions, found.hits + found.substitutions + found.deletions
