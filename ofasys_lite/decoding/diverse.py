"""A list whose members are good and unlike each other: greedy MAP of a determinantal point process.

The candidates of a search are ranked anew as in "Fast Greedy MAP Inference for Determinantal Point Process" (Chen et
al., arXiv 1709.05135), which BGN (arXiv 1904.01933) uses for bundles. A set Y weighs (1 - d) times the sum of its
scores + d times the log of the determinant of its similarities, d the `diversity`.
Shapes: N candidates, D width, K chosen.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# What of a candidate's length is not spanned by those chosen, at least: of two that are equal the log stays finite.
_LEAST = 1e-12


def similarities(vectors_ND: npt.NDArray[np.floating]) -> Floats:
    """(N, N) (1 + cosine) / 2, which is never negative; a vector of zeros is at 1/2 from all others."""
    long_N1 = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    unit_ND = vectors_ND / np.where(long_N1 > 0, long_N1, 1.0)
    found: Floats = (1 + unit_ND.astype(np.float64) @ unit_ND.T.astype(np.float64)) / 2
    np.fill_diagonal(found, 1.0)
    return found


def greedy_map(scores_N: npt.ArrayLike, similar_NN: Floats, count: int, diversity: float) -> list[int]:
    """At most `count` of the candidates, each the one that raises the weight of those before it most.

    Each step costs N times the number of those chosen, by the rows of a Cholesky factor that grows with them.

    Args:
        scores_N: Log probabilities or the like.
        similar_NN: A symmetric matrix without negative eigenvalues, ones on its diagonal.
        diversity: d, from 0 (scores alone) to 1 (similarities alone).
    """
    scores_N = np.asarray(scores_N, dtype=np.float64)
    left_N = np.diag(similar_NN).astype(np.float64)  # squared length that is not spanned by those chosen
    rows_KN = np.zeros((min(count, len(scores_N)), len(scores_N)))
    chosen: list[int] = []
    for step in range(len(rows_KN)):
        gain_N = (1 - diversity) * scores_N + diversity * np.log(np.maximum(left_N, _LEAST))
        gain_N[chosen] = -np.inf
        best = int(np.argmax(gain_N))
        chosen.append(best)
        length = np.sqrt(max(left_N[best], _LEAST))
        rows_KN[step] = (similar_NN[best] - rows_KN[:step, best] @ rows_KN[:step]) / length
        left_N = left_N - rows_KN[step] ** 2
    return chosen
