"""A codec learns pictures, goes on where it was stopped, and its codes are kept by content."""

from __future__ import annotations

import io
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, load_codec, save_codec
from ofasys_lite.codec.train_codec import CodecRun, Images, cached_codes, depth_errors, train_codec
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_splits
from ofasys_lite.errors import CardError, CheckpointError, DataError, ShapeError
from ofasys_lite.signals import Interrupted

TINY = CodecConfig(size=8, factor=2, depth=2, codes=16, channels=4, width=8)
QUIET = Console(file=io.StringIO())


def _source(broken: int = 0) -> RowSource:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        image = np.zeros((8, 8, 3), np.uint8)
        top, left = rng.integers(0, 5, 2)
        image[top : top + 3, left : left + 3] = rng.integers(80, 255, 3)
        rows.append({"id": str(i), "img": Image.fromarray(image) if i >= broken else b"no image"})
    sources, _ = open_splits({"train": rows, "valid": rows[:4], "test": rows[:4]})
    return sources["train"]


def _run(folder: Path, steps: int = 120, **other: object) -> CodecRun:
    return CodecRun(TINY, Images(_source(), "img", 8), folder, steps, 16, 3e-3, **other)  # type: ignore[arg-type]


def test_a_codec_learns_and_depth_two_is_better_than_one(tmp_path: Path) -> None:
    run = _run(tmp_path / "a")
    torch.manual_seed(0)
    before = depth_errors(ImageCodec(TINY).eval(), run.images, range(60))
    after = depth_errors(train_codec(run, QUIET), run.images, range(60))
    assert after[1] < 0.5 * before[1]
    assert after[1] < after[0]
    assert (tmp_path / "a" / "metrics.jsonl").read_text().count("\n") == 6


def test_a_resumed_training_ends_as_the_undisturbed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_codec(_run(tmp_path / "whole", 30), QUIET)
    stopped = _run(tmp_path / "stopped", 30, checkpoint_every=10)
    real, seen = Images.batch, []

    def batch(self: Images, rows: list[int]) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 17:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(Images, "batch", batch)
    with pytest.raises(KeyboardInterrupt):
        train_codec(stopped, QUIET)
    monkeypatch.setattr(Images, "batch", real)
    resumed = train_codec(_run(tmp_path / "stopped", 30, checkpoint_every=10, resume=True), QUIET)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_signal_keeps_what_a_codec_has_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_codec(_run(tmp_path / "whole", 30), QUIET)
    real, seen = Images.batch, []

    def batch(self: Images, rows: list[int]) -> torch.Tensor:
        seen.append(1)
        if len(seen) == 17:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(self, rows)

    monkeypatch.setattr(Images, "batch", batch)
    with pytest.raises(Interrupted):
        train_codec(_run(tmp_path / "stopped", 30), QUIET)
    assert torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)["step"] >= 17
    resumed = train_codec(_run(tmp_path / "stopped", 30, resume=True), QUIET)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_saved_codec_gives_the_same_codes(tmp_path: Path) -> None:
    torch.manual_seed(1)
    codec = ImageCodec(TINY)
    images = Images(_source(), "img", 8).batch(range(5))
    again = load_codec(save_codec(codec, tmp_path / "c"))
    assert torch.equal(again.encode(images), codec.encode(images))
    assert again.decode(codec.encode(images)).shape == images.shape


def test_codes_are_kept_by_codec_and_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    codec = ImageCodec(TINY)
    save_codec(codec, tmp_path / "c")
    path = cached_codes(tmp_path / "c", _source(broken=2), "img")
    with np.load(path) as found:
        assert found["rows"].tolist() == list(range(2, 60))
        want = codec.encode(Images(_source(), "img", 8).batch(range(2, 60)))
        assert np.array_equal(found["codes"], want.numpy())
    assert cached_codes(tmp_path / "c", _source(broken=2), "img") == path
    assert cached_codes(tmp_path / "c", _source(), "img") != path
    save_codec(ImageCodec(TINY), tmp_path / "c")
    assert cached_codes(tmp_path / "c", _source(broken=2), "img") != path


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CardError, match=r"not divisible by factor 8[\s\S]*size=32"):
        CodecConfig(size=30, factor=8)
    with pytest.raises(CardError, match="power of two"):
        CodecConfig(factor=3)
    with pytest.raises(CardError, match="did you mean `depth`"):
        CodecConfig.from_dict({"deph": 2})
    with pytest.raises(CheckpointError, match="no codec in"):
        load_codec(tmp_path)
    with pytest.raises(ShapeError, match="8 x 8 pixels got"):
        ImageCodec(TINY).encode(torch.zeros(1, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(ShapeError, match=r"give \(images, 16, 2\)"):
        ImageCodec(TINY).decode(torch.zeros(1, 16, 3, dtype=torch.long))
    with pytest.raises(DataError, match="no column `image`"):
        Images(_source(), "image", 8)
    with pytest.raises(DataError, match="5 of 60 images cannot be read"):
        train_codec(CodecRun(TINY, Images(_source(broken=5), "img", 8), tmp_path / "q"), QUIET)
    assert (tmp_path / "q" / "quarantine.jsonl").read_text().count("\n") == 5
    with pytest.raises(CheckpointError, match="nothing to resume"):
        train_codec(_run(tmp_path / "none", resume=True), QUIET)
    train_codec(_run(tmp_path / "t", 2), QUIET)
    with pytest.raises(CheckpointError, match="already holds a codec"):
        train_codec(_run(tmp_path / "t", 2), QUIET)
    with pytest.raises(CheckpointError, match="of another run"):
        train_codec(_run(tmp_path / "t", 3, resume=True), QUIET)
