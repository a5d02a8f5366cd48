"""Frechet distance of two sets of feature vectors, each taken as a Gaussian (arXiv 1706.08500).

Legend: N, M samples, D features, R = min(N, D) rows of a triangular factor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError, ShapeError

__all__ = ["FrechetInterval", "frechet_distance", "frechet_interval"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FrechetInterval:
    """A Frechet distance and how far another draw of the first set would lie from it.

    Attributes:
        value: The distance.
        low: Lower end of the 95 % interval, at least 0.
        high: Upper end.
    """

    value: float
    low: float
    high: float


def frechet_distance(x_ND: NDArray[Any], y_MD: NDArray[Any]) -> float:
    """|mean x - mean y|^2 + tr(A + B - 2 (A B)^(1/2)) with the covariances A of x and B of y; 0 for equal sets.

    Finite sets make it too large, small sets more so: compare values of equal N and M only, and print the distance
    of two real sets beside them.

    Args:
        x_ND: Features of one set.
        y_MD: Features of the other.

    Raises:
        ShapeError: Not two tables of one width.
        DataError: A value that is not finite, or no more samples than features.
    """
    _check(x_ND, y_MD)
    return _distance(*_gaussian(x_ND), *_gaussian(y_MD))


def frechet_interval(
    x_ND: NDArray[Any], y_MD: NDArray[Any], seed: int = 0, samples: int = 100, paired: bool = False
) -> FrechetInterval:
    """The distance with a 95 % interval from resampling x; y stays as it is, or goes with x.

    Resampled sets hold rows twice, which makes their distances too large as a whole. So their spread gives the width
    of the interval, and the value its middle.

    Args:
        x_ND: Features of the set that is judged.
        y_MD: Features of the reference.
        seed: Of the resampling.
        samples: How often x is drawn again.
        paired: Row i of y belongs to row i of x (an image and its reconstruction): both are drawn together.

    Raises:
        ShapeError: Not two tables of one width, or pairs of sets of different lengths.
        DataError: A value that is not finite, no more samples than features, or fewer than 2 `samples`.
    """
    _check(x_ND, y_MD)
    if samples < 2:
        raise DataError(f"frechet: an interval of {samples} resampled sets", help="draw at least 2, better 100")
    count = len(x_ND)
    if paired and len(y_MD) != count:
        raise ShapeError(f"frechet: pairs of {count} and {len(y_MD)} samples", help="leave `paired` out")
    reference = _gaussian(y_MD)
    value = _distance(*_gaussian(x_ND), *reference)
    generator = np.random.default_rng([seed, count])
    drawn = []
    for _ in range(samples):
        rows = generator.integers(count, size=count)
        drawn.append(_distance(*_gaussian(x_ND[rows]), *(_gaussian(y_MD[rows]) if paired else reference)))
    half = 1.96 * float(np.std(drawn, ddof=1))
    return FrechetInterval(value, max(0.0, value - half), value + half)


def _check(x_ND: NDArray[Any], y_MD: NDArray[Any]) -> None:
    for name, features in (("first", x_ND), ("second", y_MD)):
        if features.ndim != 2:
            raise ShapeError(f"frechet: the {name} set has shape {features.shape}", help="give (samples, features)")
    if x_ND.shape[1] != y_MD.shape[1]:
        raise ShapeError(
            f"frechet: {x_ND.shape[1]} features in the first set, {y_MD.shape[1]} in the second",
            help="take both from one network",
        )
    for name, features in (("first", x_ND), ("second", y_MD)):
        count, width = features.shape
        if count <= width:
            raise DataError(
                f"frechet: {count} samples of {width} features in the {name} set have no full covariance",
                help=f"give at least {width + 1} samples, or fewer features",
            )
        broken = np.flatnonzero(~np.isfinite(features).all(1))
        if len(broken):
            raise DataError(f"frechet: features of sample {int(broken[0])} of the {name} set are not finite")


def _gaussian(x_ND: NDArray[Any]) -> tuple[Array, Array]:
    """Mean (D,) and a factor R (R, D) of the covariance R^T R."""
    wide_ND: Array = np.asarray(x_ND, dtype=np.float64)
    mean_D: Array = wide_ND.mean(0)
    scaled_ND: Array = (wide_ND - mean_D) / (len(wide_ND) - 1) ** 0.5
    factor_RD: Array = np.linalg.qr(scaled_ND)[1]
    return mean_D, factor_RD


def _distance(mean_x_D: Array, factor_x_RD: Array, mean_y_D: Array, factor_y_RD: Array) -> float:
    # the eigenvalues of (A B)^(1/2) are the singular values of R_x R_y^T: no covariance is formed, nothing is squared
    # or rooted, and a covariance without full rank is as good as any
    shared = np.linalg.svd(factor_x_RD @ factor_y_RD.T, compute_uv=False).sum()
    spread = (factor_x_RD**2).sum() + (factor_y_RD**2).sum() - 2 * shared
    return max(0.0, float(((mean_x_D - mean_y_D) ** 2).sum() + spread))
