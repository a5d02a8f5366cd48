"""Targets that judges learn from: pictures of a sample once more, off the same encoding."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ofasys_lite.layout.learned import Learned, Term
from ofasys_lite.layout.objectives import JUDGES
from ofasys_lite.layout.pack import Target
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.judged import VERDICTS, judged_piece


def judged_targets(
    terms: Iterable[tuple[Term, ...]], pieces: Sequence[Piece], rng: np.random.Generator
) -> list[Target]:
    """The picture of a target of a line with judges once more, now and then.

    Args:
        terms: Per slot of the target, what its verdicts count for; empty where there are none.
        pieces: What was laid out of it.
    """
    judged = [found for found in terms if found]
    coded = [piece for piece in pieces if "judge" in piece.arrays]
    targets = []
    # a slot written in one go stands alone, so that there is at most one piece
    for names, piece in zip(judged, coded, strict=False):
        shown = judged_piece(piece, rng)
        if shown is not None:
            asked = tuple(names[head] for head in VERDICTS[int(shown.arrays["judge"][0])])
            targets.append(Target((shown,), (Learned(0, JUDGES, asked),), causal=False))
    return targets
