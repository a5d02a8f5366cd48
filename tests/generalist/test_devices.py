"""One rule for where a model computes; all that loads or trains one follows it. `meta` stands for a device not here."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import code_worlds
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite import GeneralistModel
from ofasys_lite.codec.image_codec import load_codec
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.model import pick_device

#: Modules that pick a device.
PICKING = ("generalist.export", "codec.image_codec", "codec.train_codec", "training.fit")
META = torch.device("meta")


class Reached(Exception):
    """What is asked stands on the device; computing there would say nothing."""


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is a device that is not the CPU."""

    def pick(wanted: Any = "auto") -> torch.device:
        return META if wanted == "auto" else pick_device(wanted)

    for name in PICKING:
        monkeypatch.setattr(importlib.import_module(f"ofasys_lite.{name}"), "pick_device", pick)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a line."""
    folder = tmp_path_factory.mktemp("devices") / "run"
    worlds.run(worlds.tasks("spell"), folder, steps=1)
    return folder


def reaching(module: Any, name: str, monkeypatch: pytest.MonkeyPatch, of: Callable[..., torch.device]) -> None:
    """Has `module.name` raise Reached where what `of` says of its arguments is the device."""

    def stop(*given: Any, **more: Any) -> Any:
        assert of(*given, **more) == META
        raise Reached

    monkeypatch.setattr(module, name, stop)


def test_auto_is_cuda_where_there_is_some_and_the_cpu_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device() == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device() == pick_device("gpu") == torch.device("cuda")
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(CheckpointError, match="no device cuda:2"):
        pick_device("cuda:2")


@pytest.mark.parametrize(("name", "what"), [("cuda", "no CUDA device here"), ("cdua", "no device `cdua`")])
def test_a_device_that_is_not_here_is_told(run: Path, name: str, what: str) -> None:
    for load in (Generalist.from_pretrained, GeneralistModel.from_pretrained):
        with pytest.raises(CheckpointError, match=what):
            load(run, device=name)


def test_a_model_is_loaded_to_its_device_with_all_its_tensors(run: Path, elsewhere: None) -> None:
    model = Generalist.from_pretrained(run)
    held = [*model.network.parameters(), *model.network.buffers()]
    assert {tensor.device for tensor in held} == {META} == {model.device}
    assert GeneralistModel.from_pretrained(run).generalist.device == META
    assert Generalist.from_pretrained(run, "cpu").device == torch.device("cpu")


def test_evaluate_and_predict_compute_where_auto_says(
    run: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ofasys_lite.generalist.predicting as predicting
    import ofasys_lite.report.evaluate_model as evaluating
    from ofasys_lite import evaluate
    from ofasys_lite.commands.evaluate import EvaluateOptions, evaluate_run
    from ofasys_lite.commands.predict import main

    reaching(evaluating, "evaluate", monkeypatch, lambda model, *_, **__: model.device)
    for asked in (lambda: evaluate_run(run), lambda: evaluate(run), lambda: evaluate(str(run), device="auto")):
        with pytest.raises(Reached):
            asked()
    with pytest.raises(AssertionError):
        evaluate_run(run, EvaluateOptions(device="cpu"))
    reaching(predicting, "predict", monkeypatch, lambda model, *_: model.device)
    with pytest.raises(Reached):
        main([str(run), "spell", "phones=S AH N"])


def test_batches_go_where_the_weights_are(run: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ofasys_lite.generalist.predicting as predicting
    from ofasys_lite.generalist.network import Network
    from ofasys_lite.generalist.predicting import predict
    from ofasys_lite.generalist.prediction import Request
    from ofasys_lite.report.evaluate_model import open_split
    from ofasys_lite.report.validation import losses

    model = Generalist.from_pretrained(run)
    held = worlds.task("spell").data
    rows = open_split(model, "spell", "test", data=held).rows
    # there is no autocast of `meta`, so what is asked of the batch is looked at
    reaching(predicting, "to_device", monkeypatch, lambda batch, device: device)
    with pytest.raises(Reached):
        predict(model, [Request("spell", {"phones": "S AH N"})])
    reaching(Network, "forward", monkeypatch, lambda network, batch, *_: batch.losses[0].rows_R.device)
    with pytest.raises(Reached):
        losses(model, rows, (0, 1))


def test_a_trained_model_stays_where_it_was_trained(tmp_path: Path, elsewhere: None) -> None:
    more: dict[str, Any] = {"steps": 1, "precision": "fp32"}
    assert worlds.run(worlds.tasks("spell"), tmp_path / "cpu", **more).device == torch.device("cpu")
    assert worlds.run(worlds.tasks("spell"), tmp_path / "auto", accelerator="auto", **more).device == META


def test_a_codec_is_trained_and_used_on_its_device(
    tmp_path: Path, elsewhere: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ofasys_lite.codec.train_codec as training
    from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec
    from ofasys_lite.codec.losses import CodecLearner, CodecLosses
    from ofasys_lite.data.readers.memory import ListSource

    images = training.Images(ListSource(code_worlds.rows(4)), "img", 16)
    config = CodecConfig(**{**code_worlds.SIZES, "size": 16})

    def where(learner: CodecLearner, pixels: torch.Tensor, *_: Any) -> torch.device:
        assert learner.adversary is not None
        weights = [*learner.codec.parameters(), *learner.codec.buffers(), *learner.adversary.network.parameters()]
        (device,) = {tensor.device for tensor in (pixels, *weights)}
        return device

    reaching(CodecLearner, "update", monkeypatch, where)
    losses = CodecLosses(gan_weight=0.1, gan_start=2)
    with pytest.raises(Reached):
        training.train_codec(training.CodecRun(config, images, tmp_path / "c", steps=4, batch=2, losses=losses))
    place = code_worlds.codec(tmp_path / "d")
    assert load_codec(place, "auto").device == META
    assert load_codec(place).device == torch.device("cpu")
    reaching(ImageCodec, "encode", monkeypatch, lambda codec, pixels: pixels.device)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    with pytest.raises(Reached):
        training.cached_codes(place, images.source, "img")
