"""Picture tasks end to end: trained, logged, resumed, extended, exported, used; codes of a modality from outside."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
import tiny_worlds
import torch
from PIL import Image

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.codec_facts import codec_hash
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.run.run_folder import RunFolder

LINE = "draw [TEXT:cap,drop=0.2] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps=3)]"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def drawn(model: Generalist, task: str = "draw") -> Any:
    found = predict(model, [Request(task, {"cap": "a red square"})])[0]
    assert found is not None
    return found.codes["img"]


def state(folder: Path) -> dict[str, Any]:
    return dict(torch.load(RunFolder(folder).last, weights_only=True)["state_dict"])


def stop_after(step: int, cards: Any, folder: Path, **more: Any) -> None:
    """Runs until an interruption (Ctrl-C) behind `step`."""
    from ofasys_lite.training.callbacks import Logs

    before = Logs.on_train_batch_end

    def interrupting(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        before(self, trainer, module, *rest)
        if trainer.global_step == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Logs, "on_train_batch_end", interrupting)
        with pytest.raises(KeyboardInterrupt):
            worlds.small_run(cards, folder, **more)


def test_a_mixture_with_pictures_learns_draws_and_leaves_an_export(tmp_path: Path) -> None:
    cards = [worlds.task("draw", Path(), LINE), worlds.task("name", Path())]
    model = worlds.small_run(cards, tmp_path / "run", steps=40, samples_per_step=8, log_every=10, lr=5e-3)
    rows = [r for r in RunFolder(tmp_path / "run").history() if r.get("task") == "draw"]
    assert rows[-1]["loss"] < 0.8 * rows[0]["loss"]
    assert {r["slot"] for r in rows} == {"img"}
    found = predict(model, [Request("draw", {"cap": "a red square"})])[0]
    assert found is not None
    assert isinstance(found.value, Image.Image)
    loaded = Generalist.from_pretrained(tmp_path / "run")
    assert np.array_equal(drawn(loaded), drawn(model))


def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    line = LINE.replace("steps=3", "steps=3,order=random")
    cards = [worlds.task("draw", Path(), line), worlds.task("name", Path())]
    more: dict[str, Any] = {"samples_per_step": 6, "steps": 4, "ema": 0.9}
    whole = worlds.small_run(cards, tmp_path / "whole", **more)
    stop_after(2, cards, tmp_path / "parts", **more)
    parts = worlds.small_run(cards, tmp_path / "parts", resume=True, **more)
    assert tiny_worlds.equal(tiny_worlds.weights(whole), tiny_worlds.weights(parts))
    assert tiny_worlds.equal(state(tmp_path / "whole"), state(tmp_path / "parts"))


def test_a_run_whose_codec_has_changed_is_not_resumed(tmp_path: Path) -> None:
    worlds.codec(tmp_path / "c")
    cards = [worlds.task("draw", tmp_path / "c")]
    worlds.small_run(cards, tmp_path / "run", steps=1)
    worlds.codec(tmp_path / "c", seed=1)
    with pytest.raises(CheckpointError, match="task draw"):
        worlds.small_run(cards, tmp_path / "run", steps=2, resume=True)


def test_training_never_moves_the_codec_and_absent_drawers_get_no_update(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "c")
    # the drawing task leaves after two steps; its adapter then stands still, averages and clip included
    cards = [worlds.task("draw", folder, weight=[[0, 1], [2, 0]]), worlds.task("name", folder)]
    more: dict[str, Any] = {"samples_per_step": 4, "clip": 0.5}
    stop_after(2, cards, tmp_path / "run", steps=5, **more)
    before = state(tmp_path / "run")
    worlds.small_run(cards, tmp_path / "run", steps=5, resume=True, **more)
    after = state(tmp_path / "run")
    mine = [name for name in before if ".image:dnd-" in name]
    heads = [name for name in mine if ".codec." not in name]
    assert len(heads) >= 5
    assert all(torch.equal(before[name], after[name]) for name in mine)
    assert not torch.equal(before["network.embedding.weight"], after["network.embedding.weight"])
    fresh = worlds.coder(worlds.generalist(worlds.ready(cards))).codec.state_dict()
    kept = {name.partition(".codec.")[2]: name for name in mine if ".codec." in name}
    assert kept.keys() == fresh.keys()
    assert all(torch.equal(fresh[short], after[name]) for short, name in kept.items())


def test_averages_and_the_export_hold_the_codec_as_it_was(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "c")
    model = worlds.small_run([worlds.task("draw", folder)], tmp_path / "run", steps=3, ema=0.5)
    fresh = worlds.coder(worlds.generalist(worlds.ready([worlds.task("draw", folder)]))).codec.state_dict()
    for name, tensor in worlds.coder(model).codec.state_dict().items():
        assert torch.equal(tensor, fresh[name]), name


def test_packs_of_pictures_alone_are_logged(tmp_path: Path) -> None:
    folder = worlds.codec(tmp_path / "c")
    worlds.small_run([worlds.task("draw", folder)], tmp_path / "run", steps=2, log_every=2, samples_per_step=4)
    (row,) = (r for r in RunFolder(tmp_path / "run").history() if r.get("task") == "draw")
    assert row["tokens"] == 2 * 4 * 16
    assert row["loss"] > 1.0


def test_the_loss_of_guessing_is_told_for_the_texts_of_a_picture_task(tmp_path: Path) -> None:
    from ofasys_lite.report.chance import chance_levels
    from ofasys_lite.report.task_rows import TaskRows

    (task,) = worlds.ready([worlds.task("both", worlds.codec(tmp_path / "c"))]).tasks
    rows = TaskRows(task.plan, task.maker, task.sources["train"])
    assert {"label", "cap"} <= set(chance_levels(rows))


def test_a_second_drawing_task_is_added_to_a_trained_model(tmp_path: Path) -> None:
    one, two = worlds.codec(tmp_path / "a"), worlds.codec(tmp_path / "b", seed=1)
    first = worlds.small_run([worlds.task("draw", one)], tmp_path / "one", steps=2)
    kept = {n: t.clone() for n, t in worlds.coder(first).codec.state_dict().items()}
    cards = [worlds.task("both", one), worlds.task("twice", two)]
    grown = worlds.small_run(cards, tmp_path / "two", steps=2, start=first)
    drawers = [n for n in grown.network.adapters if n.startswith("image:dnd-")]
    assert len(drawers) == 2
    shared = worlds.coder(first)
    name = next(n for n, a in first.network.adapters.items() if a is shared)
    assert all(torch.equal(kept[n], t) for n, t in grown.network.coder(name).codec.state_dict().items())  # type: ignore[union-attr]
    fresh = worlds.coder(worlds.generalist(worlds.ready([worlds.task("twice", two)]))).codec.state_dict()
    (other,) = set(drawers) - {name}
    assert all(torch.equal(fresh[n], t) for n, t in grown.network.coder(other).codec.state_dict().items())  # type: ignore[union-attr]
    for task in ("draw", "both", "twice"):
        assert drawn(grown, task).shape == (16, 2)


def test_the_command_writes_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from ofasys_lite.commands import app

    monkeypatch.chdir(tmp_path)
    worlds.small_run([worlds.task("draw", worlds.codec(tmp_path / "c"))], tmp_path / "run", steps=1)
    assert app.main(["predict", "run/export", "draw", "cap=a red square", "--out", "red.png"]) == 0
    with Image.open("red.png") as picture:
        assert picture.size == (8, 8)
    capsys.readouterr()
    assert app.main(["predict", "run/export", "draw", "cap=a red square", "--json"]) == 1
    assert "write --out" in capsys.readouterr().err
    assert app.main(["predict", "run/export", "draw", "cap=a red square", "--json", "--out", "again.png"]) == 0
    assert json.loads(capsys.readouterr().out)["img"] == "again.png"


# ------------------------------------------------------------------ codes of a modality from outside

CARD = """
name: TONE
preprocess: {default: tone_parts.TonePreprocess}
adapter: {default: tone_parts.ToneAdapter}
codecs:
  steps: {preprocess: tone_parts.TonePreprocess, adapter: tone_parts.ToneAdapter}
reads: never
writes: now
attributes:
  loud: {type: flag, side: target, help: "twice as loud"}
settings: {}
"""

MODULE = '''
"""TONE: a vector of four numbers in -1 to 1 as four positions of two codes: coarse and fine steps."""

import hashlib

import numpy as np
import torch

from ofasys_lite.adapters.codes import CodesAdapter
from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Codes
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions


class TonePreprocess(Preprocess):
    def encode(self, value, options, known):
        array = np.asarray(value, dtype=np.float32)
        if array.shape != (4,):
            raise DataError(f"a tone has four numbers, this has shape {array.shape}")
        key = np.frombuffer(hashlib.blake2b(array.tobytes(), digest_size=8).digest(), dtype=np.int64)
        none = {"order": np.zeros(0, dtype=np.int64), "hidden": np.zeros(0, dtype=np.bool_)}
        arrays = {"tone": array[None], "key": key.copy(), **none}
        return Piece(self.context.adapter, line_positions(4), arrays)

    def constraint(self, options, known):
        facts = dict(option(options, "codec").keyed)
        places = tuple((i, i, i) for i in range(4))
        return Codes(self.context.adapter, facts["codes"], facts["depth"], places)

    def decode(self, ids, options, known):
        return [round(float(v), 3) for v in ids * (2 if option(options, "loud") else 1)]

    def rows_of(self, size, options):
        return 4


class ToneAdapter(CodesAdapter):
    def __init__(self, settings, shared):
        facts = settings["codec"]
        super().__init__(settings, shared, facts["codes"], facts["depth"], 4)
        self.register_buffer("scale", torch.zeros(()))

    def fill(self, tensors):
        self.scale.copy_(tensors["scale"])

    def latents(self, part, chosen=None):
        tone = part.arrays["tone"]
        return (tone if chosen is None else tone[chosen]).unsqueeze(-1)

    def quantize(self, latents_NLC):
        level = ((latents_NLC[..., 0] / self.scale + 1) / 2 * 63).round().long().clamp(0, 63)
        return torch.stack([level // 8, level % 8], -1)

    def render(self, codes_NLK):
        return ((codes_NLK[..., 0] * 8 + codes_NLK[..., 1]).float() / 63 * 2 - 1) * self.scale
'''

TONES = {"low": [-0.5, -0.25, -0.5, 0.0], "high": [0.75, 0.5, 0.75, 1.0], "flat": [0.0, 0.0, 0.0, 0.0]}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card, the module, the codec."""
    from safetensors.torch import save_file

    folder = tmp_path / "mine"
    (folder / "modalities").mkdir(parents=True)
    (folder / "modalities" / "tone.yaml").write_text(CARD)
    (folder / "tone_parts.py").write_text(MODULE)
    codec = folder / "codec"
    codec.mkdir()
    save_file({"scale": torch.tensor(1.0)}, codec / "model.safetensors")
    content = {"format": 1, "kind": "tone", "codec": {"codes": 8, "depth": 2}}
    (codec / "codec.json").write_text(json.dumps(content))
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("tone_parts", None)


def tones(folder: Path, said: str) -> Any:
    rows = [{"id": str(n), "name": name, "tone": TONES[name]} for n, name in enumerate([*TONES] * 8)]
    line = f"play [TEXT:name,drop=0.1] -> [TONE:tone,{said}]"
    return load_task_card({"instruction": line, "data": {"train": rows, "valid": rows, "test": rows}}, name="play")


def test_codes_of_a_modality_from_outside_learn_and_decode_beside_pictures(outside: Path, tmp_path: Path) -> None:
    cards = modalities([outside])
    card = tones(outside, f"codec=steps({outside / 'codec'},depth=2)")
    codec = worlds.codec(tmp_path / "c")
    held = [card, worlds.task("draw", codec), worlds.task("name", codec)]
    more: dict[str, Any] = {"steps": 60, "samples_per_step": 15, "lr": 1e-2, "log_every": 10, "modalities": cards}
    model = worlds.small_run(held, tmp_path / "run", **more)
    losses = [r["loss"] for r in RunFolder(tmp_path / "run").history() if r.get("task") == "play"]
    assert losses[-1] < 0.3 * losses[0]
    names = {n.split("-")[0] for n in model.network.adapters}
    assert names == {"tone:steps", "image:dnd", "image", "text"}

    def played(by: Generalist) -> list[Any]:
        asked = [Request("play", {"name": name}, name) for name in TONES]
        return [p.values["tone"] for p in predict(by, [*asked, Request("draw", {"cap": "a red square"})])[:3] if p]

    found = played(model)
    for name, values in zip(TONES, found, strict=True):
        assert values == pytest.approx(TONES[name], abs=0.02)
    assert played(Generalist.from_pretrained(tmp_path / "run")) == found
    hashes = {s.settings.get("codec", {}).get("hash") for s in model.network.specs.values()}
    assert codec_hash(outside / "codec") in hashes


def test_a_codec_of_another_modality_is_refused(outside: Path, tmp_path: Path) -> None:
    card = tones(outside, f"codec=steps({worlds.codec(tmp_path / 'c')})")
    with pytest.raises(CardError, match=r"slot \[TONE:tone\]: .* is a codec of image, not of tone"):
        worlds.small_run([card], tmp_path / "run", modalities=modalities([outside]))


def test_a_codec_of_a_modality_from_outside_is_named_not_trained(outside: Path, tmp_path: Path) -> None:
    with pytest.raises(CardError) as caught:
        worlds.small_run([tones(outside, "loud")], tmp_path / "run", modalities=modalities([outside]))
    assert caught.value.message == ("task play, slot [TONE:tone]: only codecs of images are trained before a run")
    assert caught.value.help == "train one before, and name its folder: codec=steps(codecs/mine)"
