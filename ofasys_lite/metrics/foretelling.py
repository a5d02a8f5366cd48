"""How well texts are foretold: a model is asked what it pays for the reference, not what it would write itself."""

from __future__ import annotations

from collections.abc import Sequence

from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_text


def bits_per_byte(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Bits that a model pays for the references, their ends included, per byte of UTF-8: the same for all tokenizers.

    A prediction is the number of bits, -log2 of the probability of the reference (`ofasys_lite.report.foretold`).
    """
    bits = [float(str(prediction)) for prediction in predictions]
    sizes = [float(len(as_text(reference).encode("utf-8", "surrogatepass"))) for reference in references]
    return Statistics.ratio(bits, sizes, unit="bits per byte", higher_is_better=False)
