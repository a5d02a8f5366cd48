"""The judge of the image benchmarks learns classes, is the same by seed, and comes from its cache unchanged."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ofasys_lite.errors import DataError, ShapeError

PATH = Path(__file__).parents[2] / "benchmarks" / "judge.py"


@pytest.fixture(scope="module")
def judge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("judge_of_benchmarks", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _bars(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of one bright bar: lying (0) or standing (1)."""
    rng = np.random.default_rng(seed)
    images, labels = np.zeros((count, 8, 8, 3), np.uint8), rng.integers(0, 2, count)
    for image, label in zip(images, labels, strict=True):
        place = rng.integers(1, 6)
        (image if label == 0 else image.swapaxes(0, 1))[place : place + 2] = rng.integers(120, 255, 3)
    return images, labels


def test_it_learns_classes_it_sees_on_new_pictures(judge: ModuleType, tmp_path: Path) -> None:
    trained = judge.Judge.train(*_bars(192, 0), cache=tmp_path)
    images, labels = _bars(100, 1)
    assert (trained.classes(images) == labels).mean() > 0.9
    assert trained.features(images).shape == (100, judge.FEATURES)
    assert np.array_equal(trained.features(images, batch=7)[:5], trained.features(images[:5], batch=7))


def test_one_seed_gives_one_judge_whatever_was_drawn_before(judge: ModuleType, tmp_path: Path) -> None:
    images, labels = _bars(64, 0)
    first = judge.Judge.train(images, labels, 3, tmp_path / "a").features(images)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    again = judge.Judge.train(images, labels, 3, tmp_path / "b").features(images)
    assert np.array_equal(first, again)
    assert torch.equal(before, torch.get_rng_state())
    assert not np.array_equal(first, judge.Judge.train(images, labels, 4, tmp_path / "a").features(images))


def test_the_cache_gives_the_same_judge_and_never_that_of_other_labels(
    judge: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = _bars(64, 0)
    first = judge.Judge.train(images, labels, 0, tmp_path)
    monkeypatch.setattr(judge, "_fit", lambda *_: pytest.fail("trained again"))
    assert np.array_equal(judge.Judge.train(images, labels, 0, tmp_path).features(images), first.features(images))
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        judge.Judge.train(images, 1 - labels, 0, tmp_path)


def test_wrong_images_and_labels_are_refused(judge: ModuleType, tmp_path: Path) -> None:
    images, labels = _bars(64, 0)
    trained = judge.Judge(judge._fresh(2, 0), 8)
    with pytest.raises(ShapeError, match=r"give uint8 \(N, 8, 8, 3\)"):
        trained.features(np.zeros((2, 9, 9, 3), np.uint8))
    with pytest.raises(ShapeError, match="float64"):
        trained.classes(images / 255)
    with pytest.raises(ShapeError, match="64 images, labels of shape"):
        judge.Judge.train(images, labels[:60], 0, tmp_path)
    with pytest.raises(DataError, match="at least 64"):
        judge.Judge.train(images[:60], labels[:60], 0, tmp_path)
