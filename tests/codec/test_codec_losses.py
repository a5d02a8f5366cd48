"""Losses of a codec beside the error of its pictures: their weights, what is kept of them, how training resumes."""

from __future__ import annotations

import copy
import importlib
import io
import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file
from torch import nn

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec, centred, load_codec
from ofasys_lite.codec.losses import Adversary, CodecLearner, CodecLosses, adaptive_weight
from ofasys_lite.codec.train_codec import CodecRun, Images, train_codec
from ofasys_lite.data.codec_facts import codec_hash
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_splits
from ofasys_lite.errors import CardError, CheckpointError, OfasysError

TINY = CodecConfig(size=8, factor=2, depth=2, codes=16, channels=4, width=8)
QUIET = Console(file=io.StringIO())
BOTH = CodecLosses("my_edges:edges", 0.5, gan_weight=0.3, gan_start=12)

MODULE = """
from torch import nn

def edges():
    return nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1))
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "my_edges.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_edges", raising=False)
    return path


def source() -> RowSource:
    rng = np.random.default_rng(0)
    rows = []
    for i in range(60):
        image = np.zeros((8, 8, 3), np.uint8)
        top, left = rng.integers(0, 5, 2)
        image[top : top + 3, left : left + 3] = rng.integers(80, 255, 3)
        rows.append({"id": str(i), "img": Image.fromarray(image)})
    return open_splits({"train": rows, "valid": rows[:4], "test": rows[:4]})[0]["train"]


def run(folder: Path, steps: int = 30, losses: CodecLosses = BOTH, **other: Any) -> CodecRun:
    return CodecRun(TINY, Images(source(), "img", 8), folder, steps, 16, 3e-3, losses=losses, **other)


def test_the_adaptive_weight_is_the_ratio_of_the_gradients_lengths() -> None:
    last = torch.tensor([1.0, -2.0], requires_grad=True)
    error, adversarial = 3 * last[0] + 4 * last[1], 0.6 * last[0] - 0.8 * last[1]
    assert adaptive_weight(error, adversarial, last).item() == pytest.approx(5 / (1 + 1e-4))
    # a maker whose pictures move nothing is bounded
    assert adaptive_weight(2 * error, 1e-9 * adversarial, last).item() == pytest.approx(1e4)
    weight = adaptive_weight(last.square().sum(), 7 * last.sum(), last)
    assert weight.item() == pytest.approx(np.sqrt(4 + 16) / (7 * np.sqrt(2) + 1e-4))
    assert not weight.requires_grad


def test_the_discriminator_pulls_at_the_last_layer_as_strongly_as_the_error_times_its_weight() -> None:
    torch.manual_seed(0)
    codec, adversary = ImageCodec(TINY), Adversary(8, 0.25)
    pixels = Images(source(), "img", 8).batch(range(8))
    made, error = codec.compared(codec.latents(pixels), pixels)
    pulled, told = adversary.pull(made, error, codec.last_weight)
    lengths = [torch.autograd.grad(x, codec.last_weight, retain_graph=True)[0].norm() for x in (pulled, error)]
    # up to the small number that keeps the ratio finite
    assert float(lengths[0] / lengths[1]) == pytest.approx(0.25, rel=1e-4 * told["gan_weight"])
    assert told["gan_weight"] > 0
    pulled.backward()
    assert all(parameter.grad is None for parameter in adversary.network.parameters())


def test_judging_moves_the_discriminator_alone() -> None:
    torch.manual_seed(0)
    codec, adversary = ImageCodec(TINY), Adversary(8, 1.0)
    pixels = Images(source(), "img", 8).batch(range(8))
    made, _ = codec.compared(codec.latents(pixels), pixels)
    before = {key: value.clone() for key, value in adversary.network.state_dict().items()}
    first = adversary.judge(centred(pixels), made, 1e-3, 0)
    assert all(parameter.grad is None for parameter in codec.parameters())
    assert any(not torch.equal(value, before[key]) for key, value in adversary.network.state_dict().items())
    for step in range(1, 30):
        last = adversary.judge(centred(pixels), made, 1e-3, step)
    assert last["discriminator"] < 0.7 * first["discriminator"]
    assert last["real_seen"] == 1.0
    assert last["made_seen"] == 1.0


def test_the_perceptual_loss_draws_features_nearer_than_training_without_it(tmp_path: Path) -> None:
    losses = CodecLosses("my_edges:edges", 3.0)
    network = losses.network(8)
    assert network is not None
    pixels = Images(source(), "img", 8).batch(range(60))

    def gap(codec: ImageCodec) -> float:
        with torch.no_grad():
            return float(network(centred(codec.decode(codec.encode(pixels))), centred(pixels)))

    plain = train_codec(run(tmp_path / "plain", 120, CodecLosses()), QUIET)
    both = train_codec(run(tmp_path / "both", 120, losses), QUIET)
    assert gap(both) < 0.9 * gap(plain)


@pytest.mark.parametrize("stop", [8, 17])
def test_a_resumed_training_ends_as_the_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    whole = train_codec(run(tmp_path / "whole", checkpoint_every=5), QUIET)
    real, seen = Images.batch, list[int]()

    def batch(self: Images, rows: list[int]) -> torch.Tensor:
        seen.append(1)
        if len(seen) == stop:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(Images, "batch", batch)
    with pytest.raises(KeyboardInterrupt):
        train_codec(run(tmp_path / "stopped", checkpoint_every=5), QUIET)
    monkeypatch.setattr(Images, "batch", real)
    resumed = train_codec(run(tmp_path / "stopped", checkpoint_every=5, resume=True), QUIET)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    # the discriminator and its optimizer too: they would make another end of a longer training
    one, two = (torch.load(tmp_path / name / "checkpoint.pt", weights_only=True) for name in ("whole", "stopped"))
    assert same(one["discriminator"], two["discriminator"])
    assert same(one["discriminator_optimizer"], two["discriminator_optimizer"])
    assert one["discriminator_optimizer"]["state"][0]["step"] == 18
    assert codec_hash(tmp_path / "whole") == codec_hash(tmp_path / "stopped")


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def test_the_next_updates_depend_on_the_discriminators_state() -> None:
    """A learner that takes all of the state goes on alike, one that takes the codec's part alone does not."""
    pixels = Images(source(), "img", 8).batch(range(8))

    def learner() -> CodecLearner:
        torch.manual_seed(0)
        return CodecLearner(ImageCodec(TINY).train(), CodecLosses(gan_weight=1.0))

    def go_on(one: CodecLearner) -> dict[str, torch.Tensor]:
        for step in range(4):
            torch.manual_seed(step)
            one.update(pixels, step, False, 3e-3)
        return one.codec.state_dict()

    first = learner()
    go_on(first)
    state = copy.deepcopy(first.state())
    whole, part = learner(), learner()
    whole.load(state)
    part.codec.load_state_dict(state["codec"])
    part.optimizer.load_state_dict(state["optimizer"])
    ended = go_on(first)
    assert same(go_on(whole), ended)
    assert not same(go_on(part), ended)


def test_losses_are_recorded_and_the_discriminator_is_not_in_the_codec(tmp_path: Path) -> None:
    train_codec(run(tmp_path / "c"), QUIET)
    told = json.loads((tmp_path / "c" / "codec.json").read_text())
    assert {k: v for k, v in told["losses"].items() if k != "perceptual_hash"} == {
        "perceptual": "my_edges:edges",
        "perceptual_weight": 0.5,
        "gan_weight": 0.3,
        "gan_start": 12,
    }
    network = BOTH.network(8)
    assert network is not None
    assert told["losses"]["perceptual_hash"] == network.identity()
    assert load_file(tmp_path / "c" / "model.safetensors").keys() == ImageCodec(TINY).state_dict().keys()
    assert load_codec(tmp_path / "c").config == TINY
    rows = [json.loads(line) for line in (tmp_path / "c" / "metrics.jsonl").read_text().splitlines()]
    judged = {"adversarial", "gan_weight", "discriminator", "real_seen", "made_seen"}
    assert [row["step"] for row in rows] == [20, 30]
    assert all({"error", "perceptual", "loss", "codes_used", *judged} <= row.keys() for row in rows)


def test_the_discriminator_begins_at_its_step(tmp_path: Path) -> None:
    train_codec(run(tmp_path / "c", 40, CodecLosses(gan_weight=0.5, gan_start=20)), QUIET)
    rows = [json.loads(line) for line in (tmp_path / "c" / "metrics.jsonl").read_text().splitlines()]
    assert ["discriminator" in row for row in rows] == [False, True]
    state = torch.load(tmp_path / "c" / "checkpoint.pt", weights_only=True)
    assert state["discriminator_optimizer"]["state"][0]["step"] == 20


def test_a_codec_without_them_says_nothing_of_them(tmp_path: Path) -> None:
    train_codec(run(tmp_path / "c", 2, CodecLosses()), QUIET)
    assert json.loads((tmp_path / "c" / "codec.json").read_text()).keys() == {"format", "kind", "codec"}
    state = torch.load(tmp_path / "c" / "checkpoint.pt", weights_only=True)
    assert state.keys() == {"codec", "optimizer", "step", "facts"}
    assert "losses" not in json.loads(state["facts"])
    # a line still begins with the names it knew
    assert not {"perceptual", "gan_weight"} & set(CodecConfig.__slots__)


@pytest.mark.parametrize(
    "other",
    [
        CodecLosses(),
        replace(BOTH, gan_weight=0.4),
        replace(BOTH, gan_start=13),
        replace(BOTH, perceptual_weight=0.6),
        replace(BOTH, perceptual=None),
    ],
)
def test_a_training_does_not_go_on_with_other_losses(tmp_path: Path, other: CodecLosses) -> None:
    train_codec(run(tmp_path / "c", 14), QUIET)
    with pytest.raises(CheckpointError, match=r"another run: losses was .*, now [\s\S]*same images, sizes, losses"):
        train_codec(run(tmp_path / "c", 14, other, resume=True), QUIET)


def test_a_training_does_not_go_on_with_other_weights_of_the_named_network(
    tmp_path: Path, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_codec(run(tmp_path / "c", 14), QUIET)
    monkeypatch.delitem(sys.modules, "my_edges")
    module.write_text(MODULE.replace("nn.ReLU()", "nn.ReLU(), nn.Conv2d(6, 6, 1)"))
    with pytest.raises(CheckpointError, match="perceptual_hash"):
        train_codec(run(tmp_path / "c", 14, resume=True), QUIET)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    torch.manual_seed(0)
    learner = CodecLearner(ImageCodec(TINY), CodecLosses(gan_weight=1.0))
    pixels = Images(source(), "img", 8).batch(range(8))
    adversary = learner.adversary
    assert adversary is not None
    first = adversary.network.layers[0]
    assert isinstance(first, nn.Conv2d)
    with torch.no_grad():
        first.weight[0, 0, 0, 0] = float("nan")
    before = [parameter.clone() for parameter in learner.codec.parameters()]
    with pytest.raises(OfasysError, match=r"diverged: loss nan and gradient nan of the codec at step 4[\s\S]*--lr"):
        learner.update(pixels, 3, False, 1e-3)
    assert all(torch.equal(a, b) for a, b in zip(before, learner.codec.parameters(), strict=True))
    with pytest.raises(OfasysError, match="of the discriminator at step 4"):
        adversary.judge(centred(pixels), centred(pixels), 1e-3, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"perceptual": "x", "perceptual_weight": 0.0}, r"perceptual weight is 0\.0[\s\S]*leave --perceptual out"),
        ({"perceptual": "x", "perceptual_weight": float("nan")}, "perceptual weight is nan"),
        ({"gan_weight": -0.1}, r"gan weight is -0\.1"),
        ({"gan_weight": float("inf")}, "gan weight is inf"),
        ({"gan_weight": 0.1, "gan_start": -1}, "gan start is -1"),
    ],
)
def test_wrong_weights_are_told(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        CodecLosses(**settings)


def test_what_cannot_be_is_told_before_a_folder_is_made(tmp_path: Path) -> None:
    with pytest.raises(CardError, match="the discriminator begins at step 12 of 12"):
        run(tmp_path / "c", 12)
    with pytest.raises(CardError, match="the module has no `egdes`"):
        train_codec(run(tmp_path / "c", losses=CodecLosses("my_edges:egdes")), QUIET)
    small = CodecConfig(size=4, factor=2, depth=1, codes=4, channels=4, width=4)
    images = Images(source(), "img", 4)
    with pytest.raises(CardError, match="patches of 7 pixels, the pictures have 4"):
        train_codec(CodecRun(small, images, tmp_path / "c", 4, losses=CodecLosses(gan_weight=1.0)), QUIET)
    assert not (tmp_path / "c").exists()


def test_the_benchmarks_network_gives_the_maps_of_a_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    network = importlib.import_module("judge")._fresh(10, 2)
    pixels = Images(source(), "img", 8).batch(range(3))
    maps = importlib.import_module("codec_losses").Stages(network.body)(centred(pixels))
    assert [tuple(x.shape) for x in maps] == [(3, 32, 8, 8), (3, 32, 4, 4), (3, 64, 4, 4), (3, 64, 2, 2)]
    torch.testing.assert_close(network.body[12:](maps[-1]), network(pixels))
