"""Weights that nothing of a step goes through stay as they are; only matrices of products decay."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import code_worlds
import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from test_training_steps import recorded
from torch import nn

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.sections import sections_of, used
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch
from ofasys_lite.training.parameter_groups import groups_of
from ofasys_lite.training.settings import TrainSettings

JUDGED = (
    "fill [IMAGE:img,mask_ratio=0.5,size=16] -> "
    "[IMAGE:img,codec=dnd({codec},judges=0.25),weight=2,decode=mask_predict(steps=3)]"
)


def packs(prepared: Any, rows: int = 12) -> dict[str, Batch]:
    """A pack per task."""
    found = {}
    for task in prepared.tasks:
        source = task.sources["train"]
        rng = np.random.default_rng(0)
        found[task.card.name] = collate([task.maker.example(source.row(i), str(i), rng, True) for i in range(rows)])
    return found


def still(network: Network, pack: Batch) -> tuple[set[str], set[str]]:
    """(weights without a gradient or with one of zeros, weights that the sections call idle) for one pack."""
    network.train()
    losses = network(to_device(pack, torch.device("cpu")))
    network.zero_grad()
    (losses.values_U.sum() + losses.touch).backward()
    zero = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    sections = sections_of(network)
    counted = zip(sections, used(sections, pack), strict=True)
    idle = {id(p) for section, count in counted if not count for p in section.parameters}
    return zero, {n for n, p in network.named_parameters() if id(p) in idle}


def of_worlds() -> Generalist:
    return worlds.generalist(worlds.ready(worlds.tasks()))


def test_in_every_modality_what_idles_is_what_has_no_gradient() -> None:
    lines = {"alone": "-> say [TEXT:cap]"}
    cards = [*worlds.tasks(), *(worlds.task(name, line=line) for name, line in lines.items())]
    prepared = worlds.ready(cards)
    model = worlds.generalist(prepared)
    for task, pack in packs(prepared).items():
        zero, idle = still(model.network, pack)
        assert zero == idle, task
    alone = still(model.network, packs(prepared)["alone"])[1]
    assert {n for n in alone if n.startswith("body")} == {
        n for n, _ in model.network.body.named_parameters("body") if "encoder" in n or "cross" in n
    }
    assert "adapters.image.mask" in still(model.network, packs(prepared)["caption"])[1]
    assert "adapters.image.mask" not in still(model.network, packs(prepared)["restore"])[1]


@pytest.mark.parametrize(
    "line", [*code_worlds.LINES.values(), JUDGED, "draw it once more -> [IMAGE:img,codec=dnd({codec})]"]
)
def test_of_an_adapter_that_writes_codes_what_idles_is_what_has_no_gradient(tmp_path: Path, line: str) -> None:
    prepared = code_worlds.ready([code_worlds.task("draw", code_worlds.codec(tmp_path / "c"), line)])
    model = code_worlds.generalist(prepared)
    learned = {n for n, p in model.network.named_parameters() if p.requires_grad}
    for rows in (12, 24):
        zero, idle = still(model.network, packs(prepared, rows)["draw"])
        assert zero & learned == idle & learned


def test_a_head_of_weight_zero_idles(tmp_path: Path) -> None:
    line = "draw [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},weights=(1,0))]"
    prepared = code_worlds.ready([code_worlds.task("draw", code_worlds.codec(tmp_path / "c"), line)])
    zero, idle = still(code_worlds.generalist(prepared).network, packs(prepared)["draw"])
    heads = {n for n in idle if ".heads." in n}
    assert heads
    assert zero >= heads
    assert all(".1." in n for n in heads)


@pytest.mark.parametrize("budget", [10_000, 40])
def test_the_encoder_does_not_move_in_steps_of_targets_alone(tmp_path: Path, budget: int) -> None:
    cards = [worlds.task("spell", weight=[[0, 1], [2, 0]]), worlds.task("alone", line="-> say [TEXT:cap]")]
    history = recorded(cards, tmp_path / "run", steps=6, source_budget=budget, target_budget=budget)
    for name in history[0]:
        moved = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(history)]
        if "encoder" in name or "cross" in name:
            assert any(moved[:2]), name
            assert not any(moved[2:]), name
        else:
            assert all(moved[1:]), name


# ---------------------------------------------------------------------- decay


def decayed(network: nn.Module) -> set[str]:
    groups = groups_of(network, TrainSettings(steps=1, weight_decay=0.1))
    return {name for group in groups if group.decay for name in group.parameters}


def test_matrices_decay_and_tables_norms_biases_and_masks_do_not(tmp_path: Path) -> None:
    place = code_worlds.codec(tmp_path / "c")
    lines = {"fill": JUDGED, "any": "a [TEXT:cap] -> [IMAGE:img,codec=dnd({codec},order=random)]"}
    prepared = code_worlds.ready([code_worlds.task(n, place, line) for n, line in lines.items()])
    for network in (of_worlds().network, code_worlds.generalist(prepared).network):
        found = decayed(network)
        for name, parameter in network.named_parameters():
            last = name.rpartition(".")[2]
            table = any(part in name for part in ("embedding", "table", "places", "norm"))
            assert (name in found) == (parameter.ndim > 1 and last == "weight" and not table), name
        groups = groups_of(network, TrainSettings(steps=1))
        held = [name for group in groups for name in group.parameters]
        assert sorted(held) == sorted(name for name, _ in network.named_parameters())


def test_decay_goes_by_the_layer_and_not_by_its_name() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding_map = nn.Linear(4, 4)
            self.codebook = nn.Embedding(5, 4)
            self.tied = nn.Linear(4, 5, bias=False)
            self.tied.weight = self.codebook.weight
            self.slots = nn.Parameter(torch.zeros(3, 4))
            self.seen = nn.Conv1d(4, 4, 3)

    assert decayed(Odd()) == {"embedding_map.weight", "seen.weight"}
