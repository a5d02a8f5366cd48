"""How well texts are foretold: a model is asked what it pays for the reference, not what it would write itself."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_text


def bits_per_byte(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Bits that a model pays for the references, their ends included, per byte of UTF-8: the same for all tokenizers.

    A prediction is the number of bits, -log2 of the probability of the reference (`ofasys_lite.report.foretold`).
    What is no such number pays what a byte costs of which nothing is known: 8 bits.
    """
    sizes = [float(len(as_text(reference).encode("utf-8", "surrogatepass"))) for reference in references]
    bits = [_bits(prediction, 8 * size) for prediction, size in zip(predictions, sizes, strict=True)]
    return Statistics.ratio(bits, sizes, unit="bits per byte", higher_is_better=False)


def _bits(prediction: Value, unknown: float) -> float:
    try:
        found = float(str(prediction))
    except ValueError:
        return unknown
    return found if math.isfinite(found) and found >= 0 else unknown
