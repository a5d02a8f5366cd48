"""Pictures that judges learn from: a further target off the same encoding, whole, with real codes or with wrong ones.

UFC-BERT (arXiv 2105.14211) learns two judges beside the codes: relevance (does the picture belong to its source?) and
fidelity (are its codes real, or filled in by a model?). Shapes: L positions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from ofasys_lite.preprocess.base import Piece

#: What stands at the hidden positions: the picture's codes, those of another picture, or what the model fills in.
REAL: Final = 0
OTHER: Final = 1
OWN: Final = 2
#: Heads that learn from each kind: 0 relevance, 1 fidelity. Whether a filling belongs to its source nobody knows.
VERDICTS: Final = {REAL: (0, 1), OTHER: (0,), OWN: (1,)}
#: Share of the samples that get a judged picture.
SHARE: Final = 0.25


def judged_piece(piece: Piece, rng: np.random.Generator) -> Piece | None:
    """The judged picture that stands beside `piece`, or None for three samples of four.

    Its positions are shown, none is learned. Those that `piece` hides are the ones that wrong codes may take.

    Args:
        piece: A picture whose codes are learned together; with an array `judge` where its line has judges.
        rng: Draws whether, and which kind; after all other draws of the sample, so that what it writes is the same
            with judges and without.
    """
    if "judge" not in piece.arrays or rng.random() >= SHARE:
        return None
    kind = np.array([rng.integers(len(VERDICTS))], dtype=np.int64)
    hidden_L = np.zeros(piece.count, dtype=np.bool_)
    return replace(piece, arrays={**piece.arrays, "judge": kind}, learn_P=hidden_L)
