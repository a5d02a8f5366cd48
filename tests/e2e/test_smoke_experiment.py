"""experiment=smoke trains three tasks over pictures, text and sound past their baselines, in minutes on one core."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ofasys_lite.commands.app import main
from ofasys_lite.recipes.preparation import data_root
from ofasys_lite.recipes.prepared_folders import is_prepared


@pytest.mark.slow
@pytest.mark.skipif(
    not all(is_prepared(data_root() / name) for name in ("digits", "intents", "speech")),
    reason="prepared data: ofasys-lite data prepare digits intents speech",
)
def test_three_tasks_clear_their_baselines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_DATA", str(data_root().resolve()))
    monkeypatch.chdir(tmp_path)
    assert main(["train", "experiment=smoke"]) == 0
    found = json.loads((tmp_path / "runs" / "smoke" / "evaluation.json").read_text())
    assert {task["task"] for task in found["tasks"]} == {"digits", "intent", "phrase"}
    for task in found["tasks"]:
        assert task["margin"]["low"] > 0.2, task["task"]
