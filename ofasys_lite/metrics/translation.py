"""Corpus metrics of free text by sacrebleu: bleu and chrf, kept as sums per sentence.

Papineni et al., ACL 2002; Popovic, WMT 2015; signatures and defaults of sacrebleu (Post, WMT 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ofasys_lite.metrics.score import Array, Row, Statistics, Value, divide
from ofasys_lite.metrics.values import as_text, as_texts

__all__ = ["bleu", "chrf"]

_ORDER = 4  # BLEU: n-grams of 1 to 4 words
_CHARACTERS = 6  # chrF2: n-grams of 1 to 6 characters, recall counts double
_BETA = 2


def bleu(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Corpus BLEU in points: sacrebleu's default (13a tokens, exponential smoothing)."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)
    sums_NK = np.zeros((len(predictions), 2 * _ORDER + 2))
    for item, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        score = scorer.sentence_score(as_text(prediction), as_texts(reference))
        sums_NK[item] = [*score.counts, *score.totals, score.sys_len, score.ref_len]
    return Statistics(sums_NK, _bleu, unit="points")


def _bleu(sums: Array) -> Array:
    from sacrebleu.metrics.bleu import BLEU

    flat_BK = np.rint(sums.reshape(-1, 2 * _ORDER + 2)).astype(np.int64).tolist()
    values = [
        BLEU.compute_bleu(row[:_ORDER], row[_ORDER:-2], row[-2], row[-1], smooth_method="exp").score for row in flat_BK
    ]
    return np.asarray(values, dtype=np.float64).reshape(sums.shape[:-1])


def chrf(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Corpus chrF2 in points: sacrebleu's default; of several references the one with the best score counts."""
    from sacrebleu.metrics.helpers import extract_all_char_ngrams

    sums_NK = np.zeros((len(predictions), 3 * _CHARACTERS))
    for item, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        ours = extract_all_char_ngrams(as_text(prediction).rstrip(), _CHARACTERS, False)
        counts = np.asarray(
            [_matches(ours, extract_all_char_ngrams(text.rstrip(), _CHARACTERS, False)) for text in as_texts(reference)]
        )
        sums_NK[item] = counts[int(np.argmax(_chrf(counts)))]
    return Statistics(sums_NK, _chrf, unit="points")


def _matches(ours: Sequence[Counter[str]], theirs: Sequence[Counter[str]]) -> list[float]:
    """(ours, theirs, common) counts of every order; ours count nothing where the reference has no such n-gram."""
    counts: list[float] = []
    for mine, other in zip(ours, theirs, strict=True):
        common = sum(min(count, other[gram]) for gram, count in mine.items() if gram in other)
        counts += [sum(mine.values()) if other else 0, sum(other.values()), common]
    return counts


def _chrf(sums: Array) -> Array:
    """Mean precision and recall over the orders both sides have, then F2 (sacrebleu's effective order)."""
    ours, theirs, common = (sums[..., part::3] for part in range(3))
    used = (ours > 0) & (theirs > 0)
    orders = used.sum(-1).astype(np.float64)
    precision = divide((divide(common, ours) * used).sum(-1), orders)
    recall = divide((divide(common, theirs) * used).sum(-1), orders)
    return 100 * divide((1 + _BETA**2) * precision * recall, _BETA**2 * precision + recall)
