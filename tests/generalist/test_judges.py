"""Judges of pictures written in rounds: what they learn from, and how they choose among candidates and stop early."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import code_worlds as worlds
import numpy as np
import pytest
import tiny_worlds
import torch

from ofasys_lite.adapters.base import Encoded
from ofasys_lite.adapters.judging import Judges, show_judged
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.rendering import given_elements
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.preprocess.judged import OTHER, OWN, REAL, SHARE
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.callbacks import Logs

LINE = (
    "fill [IMAGE:img,mask_ratio=0.5,size=16] -> "
    "[IMAGE:img,codec=dnd({codec}{judges}),weight=2,decode=mask_predict(steps=3)]"
)


def world(folder: Path, judges: str = ",judges=0.25") -> tuple[Any, Generalist]:
    line = LINE.replace("{judges}", judges)
    prepared = worlds.ready([worlds.task("fill", worlds.codec(folder / "c"), line)])
    return prepared, worlds.generalist(prepared)


def examples(prepared: Any, count: int) -> list[Example]:
    maker, source = prepared.tasks[0].maker, prepared.tasks[0].sources["train"]
    return [maker.example(source.row(n % 24), str(n), np.random.default_rng(n), True) for n in range(count)]


def judged_pack(prepared: Any, count: int = 48) -> Batch:
    return to_device(collate(examples(prepared, count)), torch.device("cpu"))


def judged_of(batch: Batch) -> LossRows:
    (found,) = tiny_worlds.learned(batch, "judges")
    return found


def code_rows(batch: Batch) -> list[int]:
    found: list[int] = tiny_worlds.learned(batch, "depth_cross_entropy")[0].rows_R.tolist()
    return found


def shown(model: Generalist, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(J, L, K) codes that judges see, (J, L, K) real ones, (J, L) hidden positions."""
    judged = judged_of(batch)
    coder = model.network.coder(judged.adapter)
    with torch.no_grad():
        network = model.network
        show_judged(coder, judged, Encoded(batch, network.body, network.encode(batch.source)))
    assert coder._shown is not None
    part = next(p for p in batch.target.parts if p.adapter == judged.adapter)
    hidden = part.arrays["hidden"].view(-1, coder.positions)[judged.arrays["pieces"]]
    return coder._shown[2], coder.codes(part)[0][judged.arrays["pieces"]], hidden


def test_without_judges_nothing_is_added(tmp_path: Path) -> None:
    prepared, model = world(tmp_path, judges="")
    batch = judged_pack(prepared)
    assert tiny_worlds.learned(batch, "judges") == ()
    assert not any("judges" in name for name in model.network.state_dict())
    assert [t.slot for t in prepared.tasks[0].maker.terms()] == ["img"]
    part = next(p for p in batch.target.parts if "dnd" in p.adapter)
    assert "judge" not in part.arrays


def test_what_is_written_is_the_same_with_judges_and_without(tmp_path: Path) -> None:
    plain, _ = world(tmp_path / "a", judges="")
    prepared, _ = world(tmp_path / "b")
    extra = 0
    for one, two in zip(examples(plain, 200), examples(prepared, 200), strict=True):
        a, b = one.targets[0].pieces[0], two.targets[0].pieces[0]
        assert np.array_equal(a.arrays["hidden"], b.arrays["hidden"])
        assert np.array_equal(one.masked["img"].arrays["mask"], two.masked["img"].arrays["mask"])
        assert len(one.targets) == 1
        extra += len(two.targets) - 1
    assert 0.7 * SHARE < extra / 200 < 1.3 * SHARE


def test_judged_pictures_carry_verdicts_and_no_codes_to_learn(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    batch = judged_pack(prepared)
    judged = judged_of(batch)
    kinds = judged.host["kinds"].tolist()
    assert set(kinds) == {REAL, OTHER, OWN}
    rows = set(code_rows(batch))
    assert not rows & set(judged.rows_R.tolist())
    units = len(kinds) + kinds.count(REAL)
    losses = model.network(batch)
    assert len(losses.values_U) == len(batch.terms_U) == len(rows) + units
    names = [batch.terms[i].slot for i in batch.terms_U[-units:]]
    asked = {REAL: ["img:relevance", "img:fidelity"], OTHER: ["img:relevance"], OWN: ["img:fidelity"]}
    assert names == [name for kind in kinds for name in asked[kind]]
    assert np.array_equal(
        batch.samples_U[-units:], [s for s, k in zip(judged.host["samples"], kinds, strict=True) for _ in asked[k]]
    )
    terms = {t.slot: t for t in prepared.tasks[0].maker.terms()}
    assert [(terms[n].unit, terms[n].weight) for n in asked[REAL]] == [("sample", 0.5)] * 2


def test_wrong_codes_stand_only_where_the_picture_is_hidden(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    batch = judged_pack(prepared)
    codes, real, hidden = shown(model, batch)
    kinds = torch.from_numpy(judged_of(batch).host["kinds"])
    assert torch.equal(codes[~hidden], real[~hidden])
    assert torch.equal(codes[kinds == REAL], real[kinds == REAL])
    for kind in (OTHER, OWN):
        chosen = kinds == kind
        assert (codes[chosen] != real[chosen]).flatten(1).any(1).float().mean() > 0.7
    # what stands in the hole of another kind is a hole of one and the same picture of the pack
    part = next(p for p in batch.target.parts if "dnd" in p.adapter)
    every = model.network.coder(part.adapter).codes(part)[0]
    for j in (kinds == OTHER).nonzero().flatten().tolist():
        assert (every[:, hidden[j]] == codes[j, hidden[j]]).flatten(1).all(1).any()


def test_own_codes_are_drawn_as_the_model_writes_them(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    batch = judged_pack(prepared, 150)
    judged = judged_of(batch)
    heads = model.network.coder(judged.adapter).heads
    with torch.no_grad():
        for k, head in enumerate(heads.heads):
            # a model that is sure of code 3 + k writes nothing else
            head.weight.zero_()
            heads.norms[k].weight.zero_()
    first = shown(model, batch)[0]
    kinds = torch.from_numpy(judged.host["kinds"])
    hidden = shown(model, batch)[2][kinds == OWN]
    spread = first[kinds == OWN][hidden].flatten().bincount(minlength=8)
    assert (spread > 0).all()
    write = model.network.coder(judged.adapter).writer

    # one that is sure of code 3 + k writes nothing else
    def sure(rows: Any, choose: Any) -> Any:
        def biased(k: int, logits: torch.Tensor) -> torch.Tensor:
            return choose(k, logits + 100 * torch.nn.functional.one_hot(torch.tensor(3 + k), logits.shape[1]))

        return write(rows, biased)

    model.network.coder(judged.adapter).writer = sure  # type: ignore[method-assign]
    own = shown(model, batch)[0][kinds == OWN][hidden]
    assert (own == torch.tensor([3, 4])).all()


def test_draws_follow_the_seed_of_the_step(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    model.network.train()
    batch = judged_pack(prepared)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.network(batch).values_U)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_a_wrong_code_that_happens_to_be_right_is_no_wrong_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    judges = Judges(8)
    states = torch.randn(3, 4, 8)
    real = torch.tensor([[True] * 4, [True, False, True, True], [True] * 4])
    asked = torch.tensor([[True] * 4, [True, True, False, False], [False, True, False, True]])
    loss = judges.loss(states, real, asked, (REAL, OTHER, OWN))
    logits = judges(states)
    right = torch.nn.functional.logsigmoid(logits)
    expected = [
        -right[0, :, 0].mean(),
        -right[0, :, 1].mean(),
        # the second position is wrong
        -(right[1, 0, 0] + torch.nn.functional.logsigmoid(-logits[1, 1, 0])) / 2,
        -right[2, [1, 3], 1].mean(),
    ]
    assert torch.allclose(loss, torch.stack(expected))
    scores = [right[0].sum(-1).mean(), right[1, :2].sum(-1).mean(), right[2, [1, 3]].sum(-1).mean()]
    assert torch.allclose(judges.scores(states, asked), torch.stack(scores))


def test_verdicts_ask_for_pieces_that_were_shown(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    batch = judged_pack(prepared)
    coder = model.network.coder(judged_of(batch).adapter)
    part = next(p for p in batch.target.parts if "dnd" in p.adapter)
    with pytest.raises(ShapeError, match="were not shown"):
        coder.verdicts(part, torch.zeros(1, 16, 32), (REAL,))


def test_the_pass_that_fills_in_takes_no_gradient_from_the_weights(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    batch = judged_pack(prepared)
    model.network.train()
    grads = []
    for fill in (True, False):
        model.network.zero_grad()
        torch.manual_seed(0)
        pack = batch if fill else replace(batch, losses=tiny_worlds.learned(batch, "depth_cross_entropy"))
        with torch.autocast("cpu", torch.bfloat16):
            losses = model.network(pack)
        losses.values_U[: len(code_rows(batch))].sum().backward()
        grads.append([p.grad for p in model.network.body.decoder.parameters()])
    for a, b in zip(*grads, strict=True):
        assert a is not None
        assert b is not None
        assert float(b.abs().max()) > 0
        assert torch.allclose(a, b, rtol=0.05, atol=0.02 * float(b.abs().max()))


def test_weights_of_verdicts_are_means_over_samples(tmp_path: Path) -> None:
    prepared, _ = world(tmp_path)
    batch = collate(examples(prepared, 48))
    ledger = RunTerms(prepared.tasks[0].maker.terms(), ["fill"])
    rows = unit_weights(batch, ledger, ledger.count([batch]), "share")[0]
    for name, total in (("img", 2.0), ("img:relevance", 0.5), ("img:fidelity", 0.5)):
        index = next(i for i, t in enumerate(batch.terms) if t.slot == name)
        assert rows[batch.terms_U == index].sum() == pytest.approx(total, rel=1e-5)


# ---------------------------------------------------------------------- predictions


def test_judged_predictions_keep_what_is_given_and_do_not_depend_on_their_batch(tmp_path: Path) -> None:
    prepared, model = world(tmp_path)
    rows = [worlds.coded_row(prepared, "fill", n) for n in range(4)]
    options = DecodeOptions("mask_predict", steps=4, candidates=3, patience=2, temperature=1.5)
    together = predict(model, [Request("fill", row, str(n), options) for n, row in enumerate(rows)])
    plain = predict(
        model, [Request("fill", r, str(n), replace(options, candidates=1, patience=0)) for n, r in enumerate(rows)]
    )
    changed = 0
    for n, row in enumerate(rows):
        (alone,) = predict(model, [Request("fill", row, str(n), options)])
        both = together[n]
        assert alone is not None
        assert both is not None
        assert np.array_equal(alone.codes["img"], both.codes["img"])
        example = model.maker("fill").source(row, str(n), sample_rng(0, "fill", str(n), 0))
        known = given_elements(model.network, [model.maker("fill").known(0, row, example.masked)])[0]["img"]
        packed = [8 * a + b for a, b in both.codes["img"].tolist()]
        assert all(e < 0 or e == p for e, p in zip(known, packed, strict=True))
        changed += not np.array_equal(both.codes["img"], plain[n].codes["img"])  # type: ignore[union-attr]
    assert changed > 0


def test_a_line_learned_without_judges_takes_no_candidates(tmp_path: Path) -> None:
    prepared, model = world(tmp_path, judges="")
    options = DecodeOptions("mask_predict", candidates=2)
    with pytest.raises(CardError, match="learned without judges"):
        predict(model, [Request("fill", worlds.coded_row(prepared, "fill"), "0", options)])


# ---------------------------------------------------------------------- a run


def test_a_run_logs_both_judges_and_its_export_decodes_with_them(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    line = LINE.replace("{judges}", ",judges=0.25").replace("steps=3", "steps=3,candidates=2,patience=1")
    model = worlds.small_run([worlds.task("fill", place, line)], tmp_path / "run", steps=4, samples_per_step=24)
    logged = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    found = {row["slot"]: row["loss"] for row in logged if row["kind"] == "train"}
    assert set(found) == {"img", "img:relevance", "img:fidelity"}
    assert all(0.3 < found[f"img:{head}"] < 1.5 for head in ("relevance", "fidelity"))
    again = Generalist.from_pretrained(tmp_path / "run" / "export")
    (prediction,) = predict(again, [Request("fill", worlds.rows(1)[0], "0")])
    (same,) = predict(model, [Request("fill", worlds.rows(1)[0], "0")])
    assert prediction is not None
    assert np.array_equal(prediction.codes["img"], same.codes["img"])  # type: ignore[union-attr]


def test_a_resumed_run_ends_as_the_undisturbed_one_bit_for_bit(tmp_path: Path, monkeypatch: Any) -> None:
    place = worlds.codec(tmp_path / "c")
    cards = [worlds.task("fill", place, LINE.replace("{judges}", ",judges=1"))]
    more: dict[str, Any] = {"samples_per_step": 12, "model": {"decoder_layers": 2, "dropout": 0.1}}
    whole = tiny_worlds.run(cards, tmp_path / "whole", data=worlds.DATA, **more)
    before = Logs.on_train_batch_end

    def interrupting(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        before(self, trainer, module, *rest)
        if trainer.global_step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Logs, "on_train_batch_end", interrupting)
        with pytest.raises(KeyboardInterrupt):
            tiny_worlds.run(cards, tmp_path / "parts", data=worlds.DATA, **more)
    parts = tiny_worlds.run(cards, tmp_path / "parts", data=worlds.DATA, resume=True, **more)
    assert tiny_worlds.equal(tiny_worlds.weights(whole), tiny_worlds.weights(parts))


@pytest.mark.slow
def test_judges_learn_to_tell_wrong_pictures(tmp_path: Path) -> None:
    place = worlds.codec(tmp_path / "c")
    line = LINE.replace("{judges}", ",judges=1")
    more = {"steps": 400, "samples_per_step": 32, "log_every": 100}
    worlds.small_run([worlds.task("fill", place, line)], tmp_path / "run", **more)
    logged = [json.loads(text) for text in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    last = {row["slot"]: row["loss"] for row in logged if row["kind"] == "train"}
    assert last["img:relevance"] < math.log(2) - 0.06
    assert last["img:fidelity"] < math.log(2) - 0.01
