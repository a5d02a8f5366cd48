"""Objectives of the encoder: tokens (`mlm`), pictures and sound (`mae`) of which a part is hidden, on all lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.errors import CardError, DataError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.hidden import MaskedCells, MaskedFrames, MaskedTokens
from ofasys_lite.layout.ready import make_ready
from ofasys_lite.preprocess.base import Piece, line_positions
from ofasys_lite.preprocess.vocabulary import CONTROLS
from ofasys_lite.report import evaluate_model
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.accounting import RunTerms, unit_weights

MASK = CONTROLS.index("<mask>")
ALONE = "[IMAGE:img,loss=mae(ratio=0.5)] [TEXT:cap,loss=mlm(ratio=0.3)] ->"
BESIDE = "[AUDIO:wav,loss=mae(ratio=0.4,weight=0.5)] of [STRUCT:record,loss=mlm] -> [TEXT:label,closed_set]"
LINES = {"alone": ALONE, "beside": BESIDE}


def prepared(name: str) -> Any:
    (task,) = worlds.ready([worlds.task(name, line=LINES[name])]).tasks
    return task


def ids(*values: int) -> Piece:
    return Piece.of_ids(values)


def nothing(column: str) -> Piece:
    raise AssertionError(column)


# ---------------------------------------------------------------------- what is hidden


def test_tokens_are_hidden_behind_masks_and_are_what_is_learned() -> None:
    piece, arrays = MaskedTokens("mlm", (("ratio", 0.5),)).prepare(
        ids(40, 41, MASK, 42, 43), nothing, np.random.default_rng(0)
    )
    shown = piece.arrays["ids"]
    assert piece.learn_P is not None
    assert piece.learn_P.sum() == 2
    assert not piece.learn_P[2]  # a mask of the line's own is not asked for
    assert (shown[piece.learn_P] == MASK).all()
    np.testing.assert_array_equal(arrays["labels"], np.array([40, 41, MASK, 42, 43])[piece.learn_P])
    np.testing.assert_array_equal(shown[~piece.learn_P], np.array([40, 41, MASK, 42, 43])[~piece.learn_P])


def test_one_is_hidden_at_least_and_never_all_of_several() -> None:
    for ratio, count in ((0.01, 1), (0.99, 3)):
        piece, _ = MaskedTokens("mlm", (("ratio", ratio),)).prepare(ids(40, 41, 42, 43), nothing, None)
        assert piece.learn_P is not None
        assert piece.learn_P.sum() == count
    with pytest.raises(DataError, match="nothing of it can be hidden for `loss=mlm`"):
        MaskedTokens("mlm").prepare(ids(MASK), nothing, None)


def test_cells_are_hidden_and_told_by_their_normalised_pixels() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (16, 24, 3)).astype(np.uint8)  # 2 x 3 cells of 8 pixels
    arrays = {"pixels": image.reshape(-1, 3), "mask": np.zeros(0, np.bool_)}
    piece = Piece("image", line_positions(6), arrays, grid=(1, 2, 3))
    shown, found = MaskedCells("mae", (("ratio", 0.5),)).prepare(piece, nothing, rng)
    assert shown.learn_P is not None
    np.testing.assert_array_equal(shown.arrays["mask"], shown.learn_P)
    hidden = np.flatnonzero(shown.learn_P)
    assert len(hidden) == 3
    for cell, goal in zip(hidden, found["goal"], strict=True):
        line, column = divmod(int(cell), 3)
        pixels = image[8 * line : 8 * line + 8, 8 * column : 8 * column + 8].astype(np.float32).reshape(-1)
        np.testing.assert_allclose(goal, (pixels - pixels.mean()) / pixels.std(), atol=1e-4)


def test_spans_of_sound_are_hidden_and_told_by_their_frames() -> None:
    frames = np.random.default_rng(1).normal(size=(78, 5)).astype(np.float16)
    piece = Piece("audio", line_positions(20), {"frames": frames})
    shown, found = MaskedFrames("mae", (("ratio", 0.5),)).prepare(piece, nothing, np.random.default_rng(0))
    assert shown.learn_P is not None
    assert shown.learn_P.sum() == 10
    edges = np.abs(np.diff(shown.learn_P.astype(int))).sum()
    assert edges <= 4  # spans, no single rows
    hidden = shown.learn_P.repeat(4)[:78]
    assert not shown.arrays["frames"][hidden].any()
    np.testing.assert_array_equal(shown.arrays["frames"][~hidden], frames[~hidden])
    whole = np.concatenate([frames, np.zeros((2, 5))]).reshape(20, 20)
    np.testing.assert_allclose(found["goal"], whole[shown.learn_P], atol=1e-3)


@pytest.mark.parametrize("objective", [MaskedTokens, MaskedCells, MaskedFrames])
@pytest.mark.parametrize("ratio", [0, 1, -0.1, True, "half"])
def test_a_ratio_that_cannot_be(objective: Any, ratio: Any) -> None:
    with pytest.raises(CardError, match="`ratio` of x is a share between 0 and 1"):
        objective("x", (("ratio", ratio),))


@pytest.mark.parametrize("name", LINES)
def test_what_is_hidden_is_a_function_of_the_sample_alone(name: str) -> None:
    task = prepared(name)
    row = worlds.rows(1)[0]

    def hidden(seed: int | None) -> list[Any]:
        rng = None if seed is None else np.random.default_rng(seed)
        (side,) = task.maker.example(row, "0", rng, seed is not None).sources
        return [piece.learn_P.tolist() for piece in side.pieces if piece.learn_P is not None]

    assert len(hidden(None)) == 2
    assert hidden(None) == hidden(None)
    assert hidden(3) == hidden(3)
    assert hidden(3) != hidden(4)
    asked = task.maker.source(row, "0")
    assert all(piece.learn_P is None for piece in asked.sources[0].pieces)


# ---------------------------------------------------------------------- trained


def step(model: Generalist, task: Any, packs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Gradients of a step over some rows, in packs; the losses stand at `losses`."""
    held = worlds.rows(6)
    batches = []
    for pack in packs:
        rngs = [np.random.default_rng(i) for i in pack]
        batches.append(
            collate([task.maker.example(held[i], str(i), rng, True) for i, rng in zip(pack, rngs, strict=True)])
        )
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    model.network.eval()
    model.network.zero_grad(set_to_none=True)
    found = []
    for batch in batches:
        losses = model.network(to_device(batch, torch.device("cpu")))
        weighted = (losses.values_U * torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])).sum()
        (weighted + losses.touch).backward()
        found.append(losses.values_U.detach())
    grads = {n: p.grad.clone() for n, p in model.network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(found).sort().values}


@pytest.mark.parametrize("name", LINES)
def test_packed_and_one_by_one_is_the_same(name: str) -> None:
    task = prepared(name)
    model = worlds.generalist(worlds.ready([worlds.task(name, line=LINES[name])]))
    one, many = step(model, task, [range(6)]), step(model, task, [[i] for i in range(6)])
    assert one.keys() == many.keys()
    heads = [n for n in one if "rebuilder" in n]
    assert len(heads) == 2
    assert all(one[n].abs().max() > 1e-6 for n in heads)
    for key, value in one.items():
        torch.testing.assert_close(many[key], value, rtol=2e-4, atol=2e-6, msg=key)


def test_heads_are_built_only_where_a_line_asks_for_them() -> None:
    def names(*tasks: Any) -> list[str]:
        return [n for n in worlds.weights(worlds.generalist(worlds.ready(tasks))) if "rebuilder" in n]

    assert names(worlds.task("caption"), worlds.task("speech")) == []
    both = names(worlds.task("caption"), worlds.task("a", line=ALONE), worlds.task("b", line=BESIDE))
    assert [n.split(".")[1] for n in both] == ["audio", "audio", "image", "image"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    """A model that learned a line that writes nothing, and one that does."""
    folder = tmp_path_factory.mktemp("hidden") / "run"
    held = {"train": worlds.rows(48), "valid": worlds.rows(8, 5), "test": worlds.rows(8, 5)}
    cards = [worlds.task(name, held, line=line) for name, line in LINES.items()]
    return worlds.run(cards, folder, steps=60, lr=1e-2, log_every=20, samples_per_step=12), folder


def test_both_are_trained_validated_and_exported(run: tuple[Generalist, Path]) -> None:
    model, folder = run
    train = {(r["task"], r["slot"], r["step"]): r["loss"] for r in RunFolder(folder).history() if r["kind"] == "train"}
    for key in (("alone", "cap:mlm"), ("beside", "record:mlm"), ("beside", "label")):
        assert train[(*key, 60)] < 0.7 * train[(*key, 20)], key
    assert train["alone", "img:mae", 60] < train["alone", "img:mae", 20]
    score = Validator(RunFolder(folder), samples=8)(model, 60, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}
    assert set(valid["alone"]["loss"]) == {"img:mae", "cap:mlm"}
    assert "value" not in valid["alone"]
    assert set(valid["beside"]["loss"]) == {"wav:mae", "record:mlm", "label"}
    assert score == valid["beside"]["value"]
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))


def test_what_writes_nothing_is_left_out_of_an_evaluation_and_said(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    held = {"train": worlds.rows(48), "valid": worlds.rows(8, 5), "test": worlds.rows(8, 5)}
    data: Any = dict.fromkeys(LINES, held)
    found = evaluate_model.evaluate(model, data=data, baselines=False, samples=0, bootstrap=1, seen="keep")
    assert [task.task for task in found.tasks] == ["beside"]
    assert found.facts["not evaluated"] == "alone (nothing is written)"
    with pytest.raises(DataError, match="nothing is written that could be judged: alone"):
        evaluate_model.evaluate(model, ["alone"], data=data, seen="keep")


def test_check_lets_such_a_line_pass_and_tells_wrong_ones() -> None:
    held = {"train": worlds.rows(24), "valid": worlds.rows(4, 5), "test": worlds.rows(4, 6)}
    good = load_task_card({"instruction": ALONE, "data": held}, name="t")
    assert not check_tasks([good], modalities()).errors
    for line, told in (
        ("[IMAGE:img,loss=mlm] ->", "IMAGE has no objective `mlm`"),
        ("[TEXT:cap] -> [TEXT:text,loss=mlm]", "an objective of a source slot"),
        ("[TEXT:cap,loss=mlm(share=0.1)] ->", "objective mlm has no `share`"),
        ("[TEXT:cap,loss=mlm(ratio=2)] ->", "a share between 0 and 1"),
    ):
        wrong = load_task_card({"instruction": line, "data": held}, name="t")
        with pytest.raises(OfasysError) as caught:
            make_ready([wrong], modalities(), worlds.small_data())
        assert told in str(caught.value), line
