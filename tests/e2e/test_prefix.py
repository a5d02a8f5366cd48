"""A model whose decoder reads the source as a prefix: trained, decoded, and what needs an encoder is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import code_worlds
import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite import GeneralistModel
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import decode
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import NetworkSession
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Target
from ofasys_lite.plan.constraints import Free
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.run.run_folder import RunFolder

SIZES = {"encoder_layers": 0, "decoder_layers": 2, "source": "prefix"}
#: All that reads words, pictures, boxes, records and groups, and writes them from left to right; several targets.
CAUSAL = [name for name in worlds.LINES if name != "speech"]


@pytest.fixture(scope="module")
def untrained() -> tuple[Generalist, Any]:
    ready = worlds.ready([*worlds.tasks(*CAUSAL), worlds.task("hear", line="[AUDIO:wav] what is said? -> [TEXT:text]",
                          data=worlds.rows(24))])  # fmt: skip
    return worlds.generalist(ready, **SIZES, norm="rmsnorm", qkv_bias=True), ready


def test_packed_equals_one_by_one_in_losses_and_gradients_for_every_line(untrained: tuple[Generalist, Any]) -> None:
    model, ready = untrained
    with torch.no_grad():
        for name, parameter in model.network.named_parameters():
            if name.endswith("qkv.bias"):
                parameter.normal_()
    for task in ready.tasks:
        rows = [task.sources["train"].row(i) for i in range(3)]
        packed = worlds.gradients(model, task, rows, [[0, 1, 2]])
        alone = worlds.gradients(model, task, rows, [[0], [1], [2]])
        assert packed.keys() == alone.keys()
        for name, found in packed.items():
            torch.testing.assert_close(found, alone[name], rtol=1e-3, atol=1e-5, msg=f"{task.card.name} {name}")
        assert packed["body.decoder.0.attention.qkv.weight"].abs().sum() > 0


def seen(count: int, seed: int) -> list[dict[str, Any]]:
    """Rows whose picture is of the colour of the label, in several sizes."""
    found = worlds.rows(count, seed)
    for number, row in enumerate(found):
        row["img"] = np.zeros((8 + 8 * (number % 2), 16, 3), np.uint8)
        row["img"][..., worlds.LABELS.index(row["label"])] = 255
    return found


LINE = "[IMAGE:img] and [PHONE:phones] -> colour [TEXT:label,max_length=6] ;; word [TEXT:text,max_length=6]"


@pytest.fixture(scope="module")
def random() -> Generalist:
    """Weights as they are drawn, wide enough that answers differ."""
    model = worlds.generalist(worlds.ready([worlds.task("both", seen(8, 0), line=LINE)]), **SIZES)
    with torch.no_grad():
        for parameter in model.network.body.parameters():
            parameter.mul_(2.0)
    return model


@pytest.mark.slow
def test_it_learns_what_the_prefix_says_of_words_and_pictures(tmp_path: Path) -> None:
    cards, held = [worlds.task("both", seen(32, 0), line=LINE)], seen(12, 5)
    model = worlds.run(cards, tmp_path / "run", steps=60, samples_per_step=12, lr=2e-2, model=SIZES)
    found = [each for each in predict(model, [Request("both", row, row["id"]) for row in held]) if each]
    right = [(f.values["label"] == r["label"], f.values["text"] == r["text"]) for f, r in zip(found, held, strict=True)]
    assert np.mean(right, axis=0).min() > 0.7  # chance: one of three, one of six


@pytest.mark.slow
def test_pictures_as_codes_are_learned_and_drawn_behind_a_prefix_with_guidance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    line = "draw [TEXT:cap,drop=0.2] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps=3)]"
    cards = [code_worlds.task("draw", Path(), line)]
    said = {"steps": 30, "samples_per_step": 8, "log_every": 10, "lr": 5e-3, "data": code_worlds.DATA, "model": SIZES}
    model = worlds.run(cards, tmp_path / "run", **said)
    logged = [row for row in RunFolder(tmp_path / "run").history() if row.get("task") == "draw"]
    assert logged[-1]["loss"] < 0.8 * logged[0]["loss"]
    for options in (DecodeOptions(), DecodeOptions(cfg=2.0)):
        asked = [
            Request("draw", {"cap": words}, words, options=options) for words in ("a red square", "a blue disc here")
        ]
        together = [each.codes["img"] for each in predict(model, asked) if each]
        alone = [each.codes["img"] for request in asked for each in predict(model, [request]) if each]
        for one, two in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("options", [DecodeOptions(), DecodeOptions(method="beam", beam=3)])
def test_answers_do_not_depend_on_what_they_are_batched_with(random: Generalist, options: DecodeOptions) -> None:
    model = random
    requests = [
        Request(task, row, row["id"], options=options) for row in worlds.rows(7, seed=3) for task in model.tasks
    ]
    together = predict(model, requests)
    for request, found in zip(requests, together, strict=True):
        (alone,) = predict(model, [request])
        assert found is not None
        assert alone is not None
        assert found.values == alone.values
        assert found.score == pytest.approx(alone.score, abs=1e-4)


def test_what_is_written_greedily_is_what_a_whole_pass_finds_largest(random: Generalist) -> None:
    network, vocabulary = random.network.eval(), random.vocabulary
    read = [random.maker("both", None).source(row, row["id"]) for row in seen(5, 9)]
    low, high, close = vocabulary.text_low, vocabulary.text_high, vocabulary.control("close")
    automaton = compile(Free(low, high, 0, 7, close))
    with torch.inference_mode():
        batch = to_device(collate(read), torch.device("cpu"))
        session = NetworkSession(network, batch.source, network.encode(batch.source), 8)
        found = decode(session, [automaton] * len(read))
        written = [[id for id in each.ids if id != close] for each in found]
        targets = [(Target((Piece.of_ids([*ids, close]),)),) for ids in written]
        batch = to_device(
            collate([replace(e, targets=t) for e, t in zip(read, targets, strict=True)]), torch.device("cpu")
        )
        scores = network.text.scores(network.decode(batch, network.encode(batch.source)))[:, low:high]
    for each, ids in zip(scores.split(list(batch.target.lengths)), written, strict=True):
        assert ids
        assert (each[: len(ids)].argmax(-1) + low).tolist() == ids
    assert len({tuple(ids) for ids in written}) > 1


def test_it_is_saved_loaded_and_used_with_lines_of_its_own(random: Generalist, tmp_path: Path) -> None:
    random.save_pretrained(tmp_path / "export")
    model = GeneralistModel.from_pretrained(tmp_path / "export", device="cpu")
    assert model.config.source == "prefix"
    assert model("[TEXT:q] is what? -> [TEXT:a]", q="sun", max_length=5).text is not None
    for line in ("[TEXT:text] <-> [TEXT:label]", "[TEXT:q] -> [TEXT:a,decode=mask_predict]"):
        with pytest.raises(CheckpointError, match="reads its source as a prefix"):
            model(line, text="sun", label="red", q="sun")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("[TEXT:text] <-> [TEXT:label]", "`<->` compares states of an encoder"),
        (worlds.LINES["speech"], "`loss=ctc` of `wav` learns states of an encoder"),
        ("[TEXT:text] -> [AUDIO:wav,loss=frames]", "`wav` is written by a writer of its own"),
        ("[TEXT:text] -> [TEXT:label,decode=mask_predict]", "`label` is written by a writer of its own"),
    ],
)
def test_a_line_that_needs_an_encoder_is_refused_before_training(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(CardError, match=message) as found:
        worlds.run([worlds.task("t", worlds.rows(8), line=line)], tmp_path / "run", model=SIZES)
    assert "model.source=encoder" in str(found.value.help)
