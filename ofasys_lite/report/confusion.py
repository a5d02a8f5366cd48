"""What a model takes for what, in a closed set: a matrix of few answers, the commonest mistakes of many."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ofasys_lite.metrics.values import as_text, as_texts
from ofasys_lite.report.results import Said

_MOST_ANSWERS = 14  # a wider matrix cannot be read
_MOST_MISTAKES = 12
_OTHER = "(other)"


@dataclass(frozen=True, slots=True)
class Confusion:
    """Counts of (reference, prediction).

    Attributes:
        answers: Names of rows and columns of the matrix; empty where there are too many.
        counts: Rows are references, columns predictions; the last column counts all other predictions.
        shares: The same as share of each row, for shading.
        mistakes: (reference, prediction, count, references of that kind), the commonest first.
    """

    answers: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    shares: tuple[tuple[float, ...], ...]
    mistakes: tuple[tuple[str, str, int, int], ...]


def confusion(said: Said | None) -> Confusion | None:
    """What was taken for what by the headline's target; None where it has no closed set or nothing was said."""
    if said is None or not said.told[0].closed or not said.ids:
        return None
    told = said.told[0]
    pairs = Counter[tuple[str, str]]()
    for prediction, reference in zip(told.predictions, told.references, strict=True):
        ours, accepted = as_text(prediction).strip(), [text.strip() for text in as_texts(reference)]
        pairs[(ours if ours in accepted else accepted[0]), ours] += 1
    seen = {reference for reference, _ in pairs}
    answers = [*(value for value in told.closed if value in seen), *sorted(seen - set(told.closed))]
    totals = Counter[str]()
    for (reference, _), count in pairs.items():
        totals[reference] += count
    wrong = sorted(((count, pair) for pair, count in pairs.items() if pair[0] != pair[1]), key=lambda w: (-w[0], w[1]))
    mistakes = tuple((*pair, count, totals[pair[0]]) for count, pair in wrong[:_MOST_MISTAKES])
    if len(answers) > _MOST_ANSWERS:
        return Confusion((), (), (), mistakes)
    counts = []
    for reference in answers:
        known = [pairs[reference, prediction] for prediction in answers]
        counts.append((*known, totals[reference] - sum(known)))
    if not any(row[-1] for row in counts):
        counts = [row[:-1] for row in counts]
    else:
        answers.append(_OTHER)
    shares = tuple(tuple(number / max(1, sum(row)) for number in row) for row in counts)
    return Confusion(tuple(answers), tuple(counts), shares, mistakes)
