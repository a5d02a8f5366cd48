"""AUDIO written row after row (`loss=frames`): learned, written to its own end, packed as one by one, refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from test_sound_written import DATA, TONES, heard, pitch, rows

from ofasys_lite.cards import load_modality_card, load_task_card, modalities
from ofasys_lite.errors import CardError, DataError, InstructionError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.following import Following
from ofasys_lite.layout.ready import Ready, make_ready
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.preprocess.audio_written import AudioWriting
from ofasys_lite.preprocess.base import line_positions
from ofasys_lite.preprocess.continuous import value_piece, with_given
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

LINE = "beep [TEXT:name,drop=0.1] -> [AUDIO:wav,loss=frames]"


def prepared(line: str = LINE) -> Ready:
    held = {"train": rows(), "valid": rows()[:6], "test": rows()[:6]}
    return make_ready([worlds.task("t0", held, line=line)], modalities(), DATA)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generalist, Path]:
    folder = tmp_path_factory.mktemp("frames") / "run"
    held = {"train": rows(), "valid": rows()[:6], "test": rows()[:6]}
    more = {"steps": 260, "samples_per_step": 12, "lr": 1e-2, "ema": 0.9, "data": DATA, "model": {"width": 48}}
    return worlds.run([worlds.task("t0", held, line=LINE)], folder, **more), folder


def test_tones_are_played_in_their_pitch_and_end_by_themselves(run: tuple[Generalist, Path]) -> None:
    found = heard(run[0], "t0")
    assert [pitch(value) for value in found] == list(TONES)
    seconds = [len(samples) / rate for samples, rate in found]
    assert seconds == pytest.approx([s for _, s in TONES.values()], abs=0.06)
    np.testing.assert_array_equal(found[0][0], heard(run[0], "t0")[0][0])


def test_a_sample_does_not_depend_on_what_it_is_written_with(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    for given in ({}, {"cfg": 2.0}):
        options = model.entry("t0").options(**given)
        asked = [Request("t0", {"name": name}, str(n), options) for n, name in enumerate([*TONES, *TONES])]
        together, (alone,) = predict(model, asked), predict(model, asked[3:4])
        assert together[3] is not None
        assert alone is not None
        np.testing.assert_allclose(together[3].values["wav"][0], alone.values["wav"][0], atol=2e-3)


def test_guidance_of_one_is_none_and_more_is_not(run: tuple[Generalist, Path]) -> None:
    plain, one, more = (heard(run[0], "t0", **given)[1][0] for given in ({}, {"cfg": 1.0}, {"cfg": 3.0}))
    np.testing.assert_array_equal(plain, one)
    assert len(one) != len(more) or np.abs(one - more).max() > 1e-3


def test_it_is_validated_and_exported(run: tuple[Generalist, Path]) -> None:
    model, folder = run
    Validator(RunFolder(folder), samples=6)(model, 260, 0.0)
    valid = {r["task"]: r for r in RunFolder(folder).history() if r["kind"] == "valid"}
    (task,) = prepared().tasks
    batch = collate([task.maker.example(row, row["id"], None, False) for row in rows()[:6]])
    assert valid["t0"]["loss"]["wav"] < 0.45 * np.mean(batch.losses[0].arrays["goal"] ** 2)
    loaded = Generalist.from_pretrained(folder)
    np.testing.assert_array_equal(heard(loaded, "t0")[1][0], heard(model, "t0")[1][0])


def test_what_is_walked_is_what_was_learned(run: tuple[Generalist, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows that are written, fed at once as a target, are predicted again: cache and shift agree with training."""
    model, _ = run
    monkeypatch.setattr(AudioWriting, "decode", lambda tool, ids, options, known: ids)
    (rows_LC,) = (found.values["wav"] for found in predict(model, [Request("t0", {"name": "high"}, "x")]) if found)
    example = prepared().tasks[0].maker.example(rows()[2], "2", None, False)
    (target,) = example.targets
    nothing_L = np.zeros(len(rows_LC), np.bool_)
    piece = value_piece(target.pieces[0].adapter, rows_LC, line_positions(len(rows_LC)), nothing_L, 12)
    fed, arrays = Following("frames").prepare(piece, lambda _: piece, None)
    learned = replace(target.learned[0], arrays=arrays)
    batch = collate([replace(example, targets=(replace(target, pieces=(fed,), learned=(learned,)),))])
    network = model.network.eval()
    with torch.inference_mode():
        tensors = to_device(batch, torch.device("cpu"))
        states_TD = network.decode(tensors, network.encode(tensors.source))
        out_LC = network.get_submodule(f"adapters.{fed.adapter}.denoiser.out")(states_TD)
    np.testing.assert_allclose(out_LC.numpy(), rows_LC, atol=2e-3)


def test_packed_and_one_by_one_is_the_same() -> None:
    (task,) = prepared().tasks
    model = worlds.generalist(prepared())
    torch.nn.init.normal_(model.network.get_parameter("adapters.audio:audiowriter.denoiser.out.weight"))
    one, many = (worlds.gradients(model, task, rows(), p) for p in ([range(9)], [[i] for i in range(9)]))
    assert one.keys() == many.keys()
    heads = [n for n in one if "denoiser" in n]
    assert any("length" in n for n in heads)
    for name, value in one.items():
        torch.testing.assert_close(many[name], value, rtol=2e-4, atol=2e-6, msg=name)


def test_noise_is_of_training_and_a_function_of_the_sample_alone() -> None:
    (task,) = prepared().tasks

    def fed(seed: int | None) -> Any:
        rng = None if seed is None else np.random.default_rng(seed)
        (target,) = task.maker.example(rows()[2], "2", rng, seed is not None).targets
        assert target.causal
        return target.pieces[0].arrays["values"], target.learned[0].arrays["goal"]

    np.testing.assert_array_equal(fed(3)[0], fed(3)[0])
    assert np.abs(fed(3)[0] - fed(4)[0]).max() > 0.1
    np.testing.assert_array_equal(*fed(None))
    (quiet,) = prepared(LINE.replace("=frames", "=frames(noise=0)")).tasks
    (target,) = quiet.maker.example(rows()[2], "2", np.random.default_rng(0), True).targets
    np.testing.assert_array_equal(target.pieces[0].arrays["values"], target.learned[0].arrays["goal"])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "[TEXT:name] -> [AUDIO:wav,loss=frames,decode=denoise]",
            "`decode=denoise` cannot write what `loss=frames` learned",
        ),
        ("[TEXT:name] -> [AUDIO:wav,decode=frames]", "`decode=frames` cannot write what `loss=flow` learned"),
        ("[TEXT:name] -> [AUDIO:wav,loss=frames(noise=-1)]", "`noise` of frames"),
        ("[TEXT:name] -> [AUDIO:wav,loss=frames(noise=much)]", "`noise` of frames"),
        ("[TEXT:name] -> [AUDIO:wav,loss=frames(noises=1)]", "did you mean `noise`"),
        ("[TEXT:name] -> [AUDIO:wav,loss=frames] and [TEXT:name]", "written by a writer of its own stands beside"),
        ("[TEXT:name] -> [AUDIO:wav?,loss=frames]", "written by a writer of its own is always there"),
    ],
)
def test_what_a_line_cannot_ask_for(line: str, told: str) -> None:
    with pytest.raises((InstructionError, CardError)) as caught:
        prepared(line)
    assert told in str(caught.value)


def test_given_rows_are_refused() -> None:
    piece = value_piece("a", np.zeros((4, 2), np.float32), np.zeros((4, 3), np.int64), np.zeros(4, bool), 9)
    with pytest.raises(DataError, match="from the first row to the last"):
        Following("frames").prepare(with_given(piece, np.array([True, False, False, True])), lambda _: piece, None)


def test_another_way_is_not_taken_from_a_call(run: tuple[Generalist, Path]) -> None:
    with pytest.raises(CardError, match="denoise"):
        heard(run[0], "t0", method="denoise")


def test_the_line_says_how_it_is_written() -> None:
    (slot,) = build_plan(load_task_card({"instruction": LINE}, name="t"), modalities()).target_slots()
    decode = dict(slot.options)["decode"]
    assert isinstance(decode, CallValue)
    assert decode.name == "frames"


def test_a_card_names_writers_that_it_has(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "name: MINE\npreprocess: a.B\nadapter: a.C\nwriters:\n  slowly: {}\n"
        "losses:\n  near: {side: target, writer: slowy}\n"
    )
    with pytest.raises(CardError, match=r"(?s)no writer `slowy`.*slowly"):
        load_modality_card(path)


def test_bf16_writes_a_tone_of_the_same_pitch_and_length(run: tuple[Generalist, Path]) -> None:
    model, _ = run
    asked = [Request("t0", {"name": name}, name) for name in TONES]
    for exact, half in zip(predict(model, asked), predict(model, asked, precision="bf16"), strict=True):
        assert exact is not None
        assert half is not None
        assert pitch(half.values["wav"]) == pitch(exact.values["wav"])
        assert abs(len(half.values["wav"][0]) - len(exact.values["wav"][0])) <= 0.05 * 8000
