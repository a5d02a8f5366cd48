"""Shares come from loader processes as they were made, without a copy of their arrays through a pipe."""

from __future__ import annotations

import dataclasses
import os
from multiprocessing.reduction import ForkingPickler
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from torch.utils.data._utils.pin_memory import pin_memory

from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.layout.learned import Objective
from ofasys_lite.layout.loader import Share, Steps
from ofasys_lite.training import steps
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.steps import Parcel, StepsModule, parcelled, unpacked


@pytest.fixture(scope="module")
def module() -> StepsModule:
    """Steps of all tiny tasks in two packs."""
    prepared = worlds.ready(worlds.tasks())
    mixture = Mixture([MixtureTask(t.card.name, len(t.sources["train"])) for t in prepared.tasks], 3, 26)
    settings = TrainSettings(steps=4, samples_per_step=26, workers=1, source_budget=150, target_budget=150)
    return StepsModule(prepared, mixture, settings, 0)


@pytest.fixture(scope="module")
def share(module: StepsModule) -> Share:
    return Steps(module.ready.tasks, module.mixture, 0, 0, 1, (150, 150))[0]


def arrays(value: Any) -> list[Any]:
    """Every leaf of nested dataclasses, mappings and sequences."""
    if dataclasses.is_dataclass(value):
        return [leaf for each in dataclasses.fields(value) for leaf in arrays(getattr(value, each.name))]
    if isinstance(value, dict):
        return [leaf for key, each in value.items() for leaf in (key, *arrays(each))]
    return [leaf for each in value for leaf in arrays(each)] if isinstance(value, tuple) else [value]


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    # an objective is what it was made of
    return bool(vars(one) == vars(other) if isinstance(one, Objective) else one == other)


def same(one: Share, other: Share) -> bool:
    return all(alike(a, b) for a, b in zip(arrays(one), arrays(other), strict=True))


def test_a_share_arrives_as_it_was_made(share: Share) -> None:
    parcel = Parcel.of(share)
    assert len(share.packs) > 1
    assert same(parcel.share(), share)
    assert {start % 64 for start, _ in parcel.spans} == {0}


def test_its_arrays_do_not_go_through_the_pipe(share: Share) -> None:
    whole, light = (len(ForkingPickler.dumps(each)) for each in (share, Parcel.of(share)))
    assert light < whole / 10
    parcel = Parcel.of(share)
    held = [leaf for leaf in arrays(parcel.share()) if isinstance(leaf, np.ndarray) and leaf.size]
    first, room = parcel.block.data_ptr(), parcel.block.numel()
    assert all(first <= leaf.ctypes.data < first + room for leaf in held)
    assert all(leaf.flags.writeable for leaf in held)


def test_pages_are_locked_by_torchs_own_way(share: Share, monkeypatch: pytest.MonkeyPatch) -> None:
    locked: list[int] = []

    def lock(tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        locked.append(tensor.numel())
        return tensor.clone()

    monkeypatch.setattr(torch.Tensor, "pin_memory", lock)
    parcel = Parcel.of(share)
    assert same(pin_memory(parcel).share(), share)
    assert locked == [parcel.block.numel()]


def test_where_shared_memory_runs_out_the_share_goes_through_the_pipe(
    share: Share, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(parcelled(share), Parcel)
    full = type("Full", (), {"f_bavail": 10, "f_frsize": 4096})
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    assert parcelled(share) is share
    monkeypatch.undo()
    monkeypatch.setattr(steps, "_SHARED", "/nowhere/at/all")
    assert isinstance(parcelled(share), Parcel)


@pytest.mark.parametrize("free", [True, False])
def test_loader_processes_give_the_shares_of_none(
    module: StepsModule, free: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not free:
        monkeypatch.setattr(os, "statvfs", lambda _: type("Full", (), {"f_bavail": 0, "f_frsize": 1}))
    wanted = Steps(module.ready.tasks, module.mixture, 0, 0, 1, (150, 150))
    for step, item in enumerate(module.train_dataloader()):
        assert isinstance(item, Parcel) == free
        assert same(unpacked(item), wanted[step])
