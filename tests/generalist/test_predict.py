"""What a generalist makes of lines, paraphrases and decoding options; no training needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, CheckpointError, DataError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.model import fast_linear, pick_precision, probe
from ofasys_lite.model.fast_linear import bytes_are_exact

FULL = "[TEXT:cap] beside [TEXT:text] is -> [TEXT:label,closed_set]"
SHORT = "only [TEXT:cap] is -> [TEXT:label,closed_set]"
DETECT = "[IMAGE:img] detect. -> ([BOX:box] [TEXT:label,closed_set=labels])*<over=objects,max=4>"


@pytest.fixture(scope="module")
def model() -> Generalist:
    cards = [
        worlds.task("colour", line=f"{FULL} ||| {SHORT}"),
        worlds.task("both"),
        worlds.task("detect", line=DETECT),
        worlds.task("beamed", line="read [TEXT:cap] -> [TEXT:label,decode=beam(beam=3,n_best=2)]"),
        worlds.task("asked", line="which of them? [TEXT:cap] -> [TEXT:label,closed_set=@choices]",
                    data=[{**row, "choices": ["red", "green", "blue"]} for row in worlds.rows(12)]),
    ]  # fmt: skip
    return worlds.generalist(worlds.ready(cards))


def one(model: Generalist, line: str, row: dict[str, Any], options: DecodeOptions | None = None) -> Any:
    return predict(model, [Request(model.task_of_line(line), row, options=options)])[0]


def test_a_learned_line_is_its_task_however_it_is_spaced(model: Generalist) -> None:
    assert model.task_of_line(f"{FULL} ||| {SHORT}") == "colour"
    assert model.task_of_line(FULL.replace(" is ", "  is\n")) == "colour"
    assert model.task_of_line(DETECT) == "detect"


def test_a_paraphrase_reads_its_own_columns_and_writes_the_tasks_closed_set(model: Generalist) -> None:
    name = model.task_of_line(SHORT)
    assert [s.column for s in model.entry(name).plan.slots()] == ["cap", "label"]
    found = one(model, SHORT, {"cap": "a red sun"})
    assert found.values["label"] in worlds.LABELS
    assert model.task_of_line(SHORT) == name


def test_predictions_by_the_fast_products_are_those_of_the_plain_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fast_linear, "SMALL", 0)
    model = worlds.generalist(worlds.ready([worlds.task("both")]))
    line, rows = "read [TEXT:cap] -> [TEXT:label]", [{"cap": "a red sun"}, {"cap": "b" * 40}]
    found = []
    for many, few in ((False, False), (True, True), (False, True)):
        monkeypatch.setattr(
            fast_linear,
            "laid_out_is_faster",
            lambda rows, many=many, few=few: few if rows <= fast_linear.FEW else many,
        )
        asked = [
            Request(model.task_of_line(line), row, options=DecodeOptions(min_length=24, max_length=24)) for row in rows
        ]
        found.append(predict(model, asked))
    for plain, *others in zip(*found, strict=True):
        assert plain is not None
        for other in others:
            assert other is not None
            assert other.values == plain.values
            assert other.score == pytest.approx(plain.score, rel=1e-5)


def test_a_model_predicts_in_its_precision(tmp_path: Path) -> None:
    worlds.generalist(worlds.ready([worlds.task("both")])).save_pretrained(tmp_path / "m")
    found, said = {}, {}
    for precision in ("fp32", "bf16"):
        model = Generalist.from_pretrained(tmp_path / "m", "cpu", precision)
        request = Request(model.task_of_line("read [TEXT:cap] -> [TEXT:label]"), {"cap": "a red sun"})
        (one,), (other,) = predict(model, [request]), predict(model, [request], precision="bf16")
        assert one is not None
        assert other is not None
        found[precision], said[precision] = one.score, other.score
    assert found["bf16"] == said["bf16"] == said["fp32"] != found["fp32"]
    assert found["bf16"] == pytest.approx(found["fp32"], rel=0.05)


def test_a_precision_that_is_asked_for_ends_with_the_call_and_stays_in_its_thread(tmp_path: Path) -> None:
    worlds.generalist(worlds.ready([worlds.task("both")])).save_pretrained(tmp_path / "m")
    model = Generalist.from_pretrained(tmp_path / "m", "cpu")
    with pytest.raises(DataError, match="cap"):
        predict(model, [Request("both", {"text": "b"})], precision="bf16")
    assert model.precision == "fp32"
    with model.in_precision("bf16"), model.in_precision(None), ThreadPoolExecutor(1) as pool:
        assert model.precision == "bf16"
        assert pool.submit(lambda: model.precision).result() == "fp32"
    assert model.precision == "fp32"
    with pytest.raises(CheckpointError, match="precision `bf61` is not known"), model.in_precision("bf61"):
        pass


@pytest.mark.skipif(not bytes_are_exact(), reason="no exact products in eight bits here")
def test_a_precision_that_a_device_has_not_is_told_when_the_model_is_there(tmp_path: Path) -> None:
    worlds.generalist(worlds.ready([worlds.task("both")])).save_pretrained(tmp_path / "m")
    model = Generalist.from_pretrained(tmp_path / "m", "cpu", "int8")
    model.network.to("meta")
    with pytest.raises(CheckpointError, match="precision `int8` is not of meta"):
        predict(model, [Request("both", {"cap": "a", "text": "b"})])


@pytest.mark.skipif(not bytes_are_exact(), reason="no exact products in eight bits here")
@pytest.mark.parametrize("beam", [1, 3])
def test_predictions_in_eight_bits_are_near_and_do_not_depend_on_those_beside_them(tmp_path: Path, beam: int) -> None:
    sizes = {"width": 256, "heads": 4, "ffn": 512}
    worlds.generalist(worlds.ready([worlds.task("both")]), **sizes).save_pretrained(tmp_path / "m")
    exact, near = (Generalist.from_pretrained(tmp_path / "m", "cpu", name) for name in ("fp32", "int8"))
    assert near.precision == "int8"
    options, words = DecodeOptions("beam", beam=beam), ("a red sun", "two", "green moons above the sea", "a")
    asked = [Request("both", {"cap": each, "text": "b"}, each, options) for each in words]
    plain, found = predict(exact, asked), predict(near, asked)
    for one, other, request in zip(plain, found, asked, strict=True):
        assert one is not None
        assert other is not None
        assert other.score != one.score
        assert other.score == pytest.approx(one.score, rel=0.1)
        (alone,) = predict(near, [request])
        assert alone is not None
        assert (alone.values, alone.score) == (other.values, pytest.approx(other.score, rel=1e-4))
    assert predict(near, asked, precision="fp32") == plain


def test_a_precision_is_known_and_auto_follows_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    with pytest.raises(CheckpointError, match="precision `bf61` is not known"):
        pick_precision("bf61", cpu)
    for fastest in ("fp32", "bf16", "int8"):
        monkeypatch.setattr(probe, "_fastest", lambda fastest=fastest: fastest)
        assert pick_precision("auto", cpu) == fastest
        assert pick_precision("fp32", cpu) == "fp32"
    with pytest.raises(CheckpointError, match="precision `int8` is not of cuda"):
        pick_precision("int8", torch.device("cuda"))
    for exact, taken in ((True, "int8"), (False, None)):
        monkeypatch.setattr(probe, "bytes_are_exact", lambda exact=exact: exact)
        if taken:
            assert pick_precision("int8", cpu) == taken
            continue
        with pytest.raises(CheckpointError, match="does not add products in eight bits exactly"):
            pick_precision("int8", cpu)


def test_of_precisions_that_are_alike_the_more_exact_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, whole = iter(()), True
    monkeypatch.setattr(probe, "bytes_are_exact", lambda: whole)
    monkeypatch.setattr(probe, "best_seconds", lambda work, times: next(asked))
    cases = (([3.0, 2.9, 2.8], "fp32"), ([3.0, 2.0, 1.9], "bf16"), ([3.0, 2.0, 1.0], "int8"), ([3.0, 4.0, 2.0], "int8"))
    for seconds, taken in cases:
        asked = iter(seconds)
        assert probe._fastest.__wrapped__() == taken
    whole, asked = False, iter([3.0, 2.0])
    assert probe._fastest.__wrapped__() == "bf16"


def test_every_hypothesis_has_its_own_score(model: Generalist) -> None:
    options = DecodeOptions("beam", beam=3, n_best=3)
    found = one(model, FULL, {"cap": "a", "text": "b"}, options)
    scores = [each.score for each in found.n_best]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) == 3
    assert scores[0] == found.score


def test_hypotheses_of_several_targets_are_refused(model: Generalist) -> None:
    request = Request("both", {"cap": "a", "text": "b"}, options=DecodeOptions("beam", beam=2, n_best=2))
    with pytest.raises(CardError, match="n_best 2, but the line writes 2 targets"):
        predict(model, [request])


def test_an_option_of_a_call_leaves_the_lines_decode_as_it_is(model: Generalist) -> None:
    entry = model.entry("beamed")
    assert entry.options(max_length=4) == DecodeOptions("beam", beam=3, n_best=2, max_length=4)
    assert entry.options(beam=1) == DecodeOptions()


def test_a_row_without_what_the_target_needs_is_told_and_the_others_are_predicted(model: Generalist) -> None:
    rows = [{"cap": "a", "choices": ["red", "blue"]}, {"cap": "a"}, {"cap": "a", "choices": "red"}]
    requests = [Request("asked", row, str(number)) for number, row in enumerate(rows)]
    requests.append(Request("both", {"cap": "a"}, "3"))
    reasons: dict[int, str] = {}
    found = predict(model, requests, skip_unreadable=True, reasons=reasons)
    assert [each is not None for each in found] == [True, False, False, False]
    assert "no column `choices`" in reasons[1]
    assert "must hold a list" in reasons[2]
    assert "task both, id 3: no column `text`" in reasons[3]
    with pytest.raises(DataError, match="task asked, id 1"):
        predict(model, requests[:2])
