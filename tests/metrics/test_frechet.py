"""The Frechet distance equals closed forms, is symmetric, and refuses what it cannot measure."""

import numpy as np
import pytest
from frechet import frechet_distance, frechet_interval

from ofasys_lite.errors import DataError, ShapeError


def _exact(mean_D: np.ndarray, deviation_D: np.ndarray, pairs: int = 40) -> np.ndarray:
    """Samples whose mean and diagonal covariance are exactly the given ones: pairs on the axes."""
    width = len(mean_D)
    axes_ND = np.concatenate([np.eye(width), -np.eye(width)] * pairs)
    scale = np.sqrt((len(axes_ND) - 1) / (2 * pairs))
    return mean_D + axes_ND * deviation_D * scale


def _any(seed: int, count: int = 200, width: int = 8) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) @ rng.normal(size=(width, width)) + rng.normal(size=width)


def test_diagonal_gaussians_are_apart_by_the_squared_gaps_of_means_and_deviations() -> None:
    rng = np.random.default_rng(0)
    means, deviations = rng.normal(size=(2, 6)), rng.uniform(0.1, 3, (2, 6))
    got = frechet_distance(_exact(means[0], deviations[0]), _exact(means[1], deviations[1], 55))
    assert got == pytest.approx(((means[0] - means[1]) ** 2).sum() + ((deviations[0] - deviations[1]) ** 2).sum())


def test_covariances_that_do_not_commute_give_the_trace_of_the_matrix_root() -> None:
    x, y = _any(1), _any(2, 300)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    values, vectors = np.linalg.eigh(a)
    root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b @ root)).sum()
    want = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(want, rel=1e-9)


def test_equal_sets_are_at_zero_in_any_order_and_far_from_the_origin() -> None:
    x = _any(3) + 1e4
    assert frechet_distance(x, x[::-1]) == pytest.approx(0, abs=1e-7)


def test_it_is_symmetric_and_blind_to_rotations() -> None:
    x, y = _any(4), _any(5)
    turn = np.linalg.qr(np.random.default_rng(6).normal(size=(8, 8)))[0]
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(y, x))
    assert frechet_distance(x, y) == pytest.approx(frechet_distance(x @ turn, y @ turn))


def test_features_that_never_vary_or_repeat_each_other_do_no_harm() -> None:
    x, y = _any(7), _any(8)
    wider = [np.concatenate([z, np.zeros((200, 3)), z[:, :1]], axis=1) for z in (x, y)]
    assert np.isfinite(frechet_distance(wider[0], wider[1]))
    padded = [np.concatenate([z, np.zeros((200, 3))], axis=1) for z in (x, y)]
    assert frechet_distance(padded[0], padded[1]) == pytest.approx(frechet_distance(x, y))


def test_float32_features_are_summed_in_float64() -> None:
    x, y = _any(9), _any(10)
    assert frechet_distance(x.astype(np.float32), y.astype(np.float32)) == pytest.approx(
        frechet_distance(x, y), rel=1e-5
    )


def test_the_interval_holds_the_value_and_shrinks_with_more_samples() -> None:
    small, large, reference = _any(11, 60), _any(11, 6000), _any(12)
    few, many = frechet_interval(small, reference), frechet_interval(large, reference)
    assert few.low < few.value == frechet_distance(small, reference) < few.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    assert frechet_interval(small, reference) == few


@pytest.mark.parametrize(
    ("x", "y", "error", "told"),
    [
        (np.zeros((8, 8)), np.zeros((20, 8)), DataError, "8 samples of 8 features in the first set .* at least 9"),
        (np.zeros((20, 8)), np.zeros((1, 8)), DataError, "in the second set"),
        (np.zeros((20, 8)), np.zeros((20, 9)), ShapeError, "8 features in the first set, 9 in the second"),
        (np.zeros(20), np.zeros((20, 9)), ShapeError, r"the first set has shape \(20,\)"),
    ],
)
def test_what_cannot_be_measured_is_refused(x: np.ndarray, y: np.ndarray, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=f"(?s){told}"):
        frechet_distance(x, y)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named_by_its_sample(value: float) -> None:
    x = _any(13)
    x[17, 2] = value
    with pytest.raises(DataError, match="sample 17 of the second set"):
        frechet_distance(_any(14), x)


def test_an_interval_of_one_resampled_set_is_refused() -> None:
    with pytest.raises(DataError, match="at least 2"):
        frechet_interval(_any(15), _any(16), samples=1)


def test_pairs_drawn_together_tell_a_small_change_far_more_sharply() -> None:
    real = _any(17, 300)
    rebuilt = real + 0.05 * np.random.default_rng(18).normal(size=real.shape)
    alone, together = frechet_interval(rebuilt, real), frechet_interval(rebuilt, real, paired=True)
    assert together.value == alone.value
    assert together.high - together.low < 0.1 * (alone.high - alone.low)
    with pytest.raises(ShapeError, match="300 and 299"):
        frechet_interval(rebuilt, real[:-1], paired=True)
