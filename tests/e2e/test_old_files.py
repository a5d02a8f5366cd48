"""Exports and run folders of an earlier commit are read, decoded and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import equality
import old_files
import pytest

from ofasys_lite.generalist.generalist import Generalist


@pytest.fixture(scope="module")
def stored() -> dict[str, Any]:
    return dict(json.loads(old_files.STORED.read_text(encoding="utf-8")))


def test_an_old_export_has_its_weights_and_says_what_it_said(stored: dict[str, Any]) -> None:
    with old_files.unpacked() as folder:
        model = Generalist.from_pretrained(folder / "export")
        assert {task: entry.plan.hash for task, entry in model.tasks.items()} == stored["plans"]
        assert equality.weights(model.network) == stored["export"]
        said = old_files.written(model, folder)
    if stored["machine"] == equality.machine():
        assert said == stored["written"]
    else:
        assert said.keys() == stored["written"].keys()


def test_an_old_run_is_resumed_and_ends_as_it_would_have(stored: dict[str, Any]) -> None:
    exact = stored["machine"] == equality.machine()
    with old_files.unpacked() as folder:
        model = old_files.trained(folder / "run", resume=True)
        now = {"losses": equality.losses(folder / "run", "train"), "end": equality.weights(model.network)}
    assert {int(name.split()[0]) for name in now["losses"]} == {1, 2, 3, 4}
    before = {part: stored[part] for part in now}
    assert equality.compare("old", before, now, exact) == []


def test_a_new_export_of_an_old_one_is_the_same(stored: dict[str, Any], tmp_path: Path) -> None:
    with old_files.unpacked() as folder:
        Generalist.from_pretrained(folder / "export").save_pretrained(tmp_path / "again")
    again = Generalist.from_pretrained(tmp_path / "again")
    assert equality.weights(again.network) == stored["export"]
    assert {task: entry.plan.hash for task, entry in again.tasks.items()} == stored["plans"]
