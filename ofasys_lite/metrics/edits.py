"""Error rates by edit distance, through jiwer: wer, cer, per (lower is better, above 1 with many insertions)."""

from __future__ import annotations

from collections.abc import Sequence

from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_text

__all__ = ["cer", "per", "wer"]


def wer(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Word error rate: edits per reference word, case and punctuation kept."""
    return _error_rate(predictions, references, "word")


def cer(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Character error rate: edits per reference character."""
    return _error_rate(predictions, references, "character")


def per(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Phone error rate: edits per reference phone; phones stand between spaces or in a list."""
    return _error_rate(list(map(_phones, predictions)), list(map(_phones, references)), "phone")


def _phones(value: Value) -> str:
    return " ".join(map(as_text, value)) if isinstance(value, (list, tuple)) else as_text(value)


def _error_rate(predictions: Sequence[Value], references: Sequence[Value], element: str) -> Statistics:
    """Statistics of edits per reference element; an empty reference counts every predicted element as insertion."""
    edits, lengths = [], []
    totals = {"substitutions": 0, "deletions": 0, "insertions": 0}
    for prediction, reference in zip(predictions, references, strict=True):
        substituted, deleted, inserted, length = _count(as_text(prediction), as_text(reference), element)
        edits.append(substituted + deleted + inserted)
        lengths.append(length)
        totals["substitutions"] += substituted
        totals["deletions"] += deleted
        totals["insertions"] += inserted
    return Statistics.ratio(edits, lengths, unit=f"errors per {element}", higher_is_better=False, details=totals)


def _count(prediction: str, reference: str, element: str) -> tuple[int, int, int, int]:
    """(substitutions, deletions, insertions, length of the reference) of one pair."""
    import jiwer

    characters = element == "character"
    prediction, reference = (" ".join(text.split()) for text in (prediction, reference))
    if not reference:  # jiwer refuses empty references
        return 0, 0, len(prediction) if characters else len(prediction.split()), 0
    process = jiwer.process_characters if characters else jiwer.process_words
    found = process(reference, prediction)
    return found.substitutions, found.deletions, found.insertions, found.hits + found.substitutions + found.deletions
