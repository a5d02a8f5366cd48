"""Metrics of texts and classes: accuracy, exact_match, token_accuracy, macro_f1, wer, cer, per, bleu, chrf.

Papineni et al., ACL 2002; Popovic, WMT 2015; signatures and defaults of sacrebleu (Post, WMT 2018).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ofasys_lite.metrics.score import Array, Row, Statistics, Value, divide
from ofasys_lite.metrics.values import as_text, as_texts, normalised_text


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
    return Statistics(
        sums_N2,
        lambda sums: sums[..., 0] / np.maximum(1, sums[..., 1]),
        unit=f"errors per {element}",
        higher_is_better=False,
        details=totals,
    )


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
