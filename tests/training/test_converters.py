"""Converters of the network: low-rank updates train, resume, are merged in exports; what differs is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
from test_training_resume import same_state, stop_after
from test_training_steps import recorded

from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.export import load_weights
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.run.run_folder import RunFolder

LORA: dict[str, Any] = {"path": "lora", "rank": 2, "match": ["body.*", "adapters.*"]}
RULES = [{"match": "*", "train": False}, {"match": "*.parametrizations.*", "train": True}]
CARDS = ("caption", "spell")


def test_low_rank_updates_move_and_the_weights_under_them_rest(tmp_path: Path) -> None:
    history = recorded(worlds.tasks(*CARDS), tmp_path / "run", steps=3, converters=[LORA], parameters=RULES)
    for name, value in history[-1].items():
        moved = not torch.equal(value, history[0][name])
        assert moved == name.endswith(("up_OR", "down_RI")), name
    assert sum("up_OR" in name for name in history[0]) > 8


def test_the_model_and_the_export_of_a_converted_run_are_plain_and_hold_the_update(tmp_path: Path) -> None:
    cards = worlds.tasks(*CARDS)
    start = worlds.run(cards, tmp_path / "first", steps=2)
    before = worlds.weights(start)
    seen: list[tuple[Any, ...]] = []

    def validate(model: Generalist, step: int, seconds: float) -> float:
        asked = Request("spell", {"phones": "S AH N"})
        seen.append((bool(model.network.converters), [p.values for p in predict(model, [asked]) if p]))
        return 1.0

    model = worlds.run(
        cards, tmp_path / "run", start=start, steps=4, ema=0.5, converters=[LORA], parameters=RULES, lr=0.05,
        validate=validate, valid_every=0.001,
    )  # fmt: skip
    after = worlds.weights(model)
    assert before.keys() == after.keys()
    assert not model.network.converters
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if n.startswith(("body.", "adapters.")) and before[n].ndim == 2}
    for name in changed:
        assert torch.linalg.matrix_rank((after[name] - before[name]).double(), rtol=1e-3) <= 2, name
    loaded = Generalist.from_pretrained(tmp_path / "run")
    assert worlds.equal(after, worlds.weights(loaded))
    # what was validated with the updates in place is what the merged weights write
    answers = [
        [p.values for p in predict(each, [Request("spell", {"phones": "S AH N"})]) if p] for each in (model, loaded)
    ]
    assert seen[-1] == (True, answers[0])
    assert answers[0] == answers[1]
    load_weights(loaded.network, RunFolder(tmp_path / "run").best)
    again = worlds.run(cards, tmp_path / "again", start=model, steps=2, converters=[LORA])
    assert not again.network.converters


def test_a_converted_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    cards = worlds.tasks(*CARDS)
    more: dict[str, Any] = {"steps": 6, "converters": [LORA], "optimizer": "muon", "ema": 0.9, "samples_per_step": 6}
    whole = worlds.run(cards, tmp_path / "whole", model={"dropout": 0.1}, **more)
    stop_after(3, cards, tmp_path / "parts", model={"dropout": 0.1}, **more)
    parts = worlds.run(cards, tmp_path / "parts", model={"dropout": 0.1}, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    same_state(tmp_path / "whole", tmp_path / "parts")
    more |= {"steps": 9, "converters": [], "model": {"dropout": 0.1}, "resume": True}
    with pytest.raises(CheckpointError, match=r"trainer\.converters was .*rank.*and is now \[\]"):
        worlds.run(cards, tmp_path / "parts", **more)


@pytest.mark.parametrize(
    ("converters", "message"),
    [
        (["loar"], "converter `loar` is not known.*did you mean `lora`"),
        ("lora", "converters is 'lora'.*a list"),
        ([{"path": "lora", "rank": 0}], "rank is 0.*at least 1"),
        ([{"path": "lora", "rnk": 4}], "lora cannot be built: TypeError.*rnk"),
        ([{"path": "lora", "match": "body.encodr.*"}], r"matches no linear layer.*did you mean `body.encoder.\*`"),
        (["torch.nn.Identity"], "has no method `convert`"),
        (["ofasys_lite.generalist.converters.Converter"], "does not say how it converts a network"),
        (["lora", "lora"], "is converted already"),
    ],
)
def test_a_wrong_converter_is_told_before_it_trains(tmp_path: Path, converters: Any, message: str) -> None:
    with pytest.raises(CardError, match=f"(?s){message}"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, converters=converters)
