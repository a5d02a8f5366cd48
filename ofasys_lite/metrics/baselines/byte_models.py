"""Baselines that foretell texts byte by byte, from those before: their values are bits, as `bits_per_byte` judges them.

Interpolated by Witten and Bell's estimate (IEEE Transactions on Information Theory, 1991): what follows a context
seldom or variously is taken from the shorter one; behind none all bytes are alike.
"""

from __future__ import annotations

import math
from collections import defaultdict

from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.score import Value
from ofasys_lite.metrics.values import as_text

_END = 256
#: Bytes of training texts that are counted, at most.
_MOST = 2_000_000


def byte_unigram(problem: Problem) -> list[Value]:
    """Bits by how often each byte occurs."""
    return _bits(problem, 1)


def byte_trigram(problem: Problem) -> list[Value]:
    """Bits by the two bytes before."""
    return _bits(problem, 3)


def byte_fivegram(problem: Problem) -> list[Value]:
    """Bits by the four bytes before."""
    return _bits(problem, 5)


def _bits(problem: Problem, order: int) -> list[Value]:
    counts: dict[bytes, dict[int, int]] = defaultdict(dict)
    used = 0
    for target in problem.targets():
        if used > _MOST:
            break
        for context, byte in _contexts(as_text(target), order):
            for length in range(len(context) + 1):
                often = counts[context[len(context) - length :]]
                often[byte] = often.get(byte, 0) + 1
            used += 1
    found: list[Value] = []
    for row in problem.test_rows:
        paid = 0.0
        for context, byte in _contexts(as_text(row.get(problem.target)), order):
            share = 1 / 257
            for length in range(len(context) + 1):
                seen = counts.get(context[len(context) - length :])
                if seen is None:
                    break
                total, kinds = sum(seen.values()), len(seen)
                share = (seen.get(byte, 0) + kinds * share) / (total + kinds)
            paid -= math.log2(share)
        found.append(paid)
    return found


def _contexts(text: str, order: int) -> list[tuple[bytes, int]]:
    """(bytes before, byte) of each place of a text, its end among them."""
    data = text.encode("utf-8", "surrogatepass")
    return [(data[max(0, i - order + 1) : i], byte) for i, byte in enumerate([*data, _END])]
