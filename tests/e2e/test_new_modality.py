"""A modality from a folder outside the package (one card, two short files) trains, is evaluated, exported and used."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predict import Request, predict
from ofasys_lite.run.run_folder import RunFolder

CARD = """
name: COLOUR
aliases: [COLOR]
preprocess: {default: colour_parts.ColourPreprocess}
adapter: {default: colour_parts.ColourAdapter}
reads: now
writes: never
attributes:
  dark: {type: flag, side: source, help: "halve the brightness"}
settings: {top: 255}
"""

MODULE = '''
"""COLOUR: `r g b` as text or three numbers -> one row."""

import numpy as np
import torch
from torch import nn

from ofasys_lite.adapters.base import Adapter
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import option
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions


class ColourPreprocess(Preprocess):
    length_kind = "list"

    def encode(self, value, options, rng, train):
        try:
            rgb = [float(v) for v in (value.split() if isinstance(value, str) else value)]
        except (TypeError, ValueError):
            raise DataError(f"{value!r} is no colour") from None
        if len(rgb) != 3:
            raise DataError(f"a colour has three numbers, this has {len(rgb)}")
        scale = self.settings["top"] * (2 if option(options, "dark") else 1)
        array = np.array([rgb], dtype=np.float32) / scale
        return Piece(self.context.adapter, line_positions(1), {"rgb": array})

    def rows_of(self, length, options):
        return 1


class ColourAdapter(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.inner = nn.Sequential(nn.Linear(3, shared.width), nn.GELU(), nn.Linear(shared.width, shared.width))

    def embed(self, part):
        return self.inner(part.arrays["rgb"])
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card, the module, a csv."""
    folder = tmp_path / "mine"
    (folder / "modalities").mkdir(parents=True)
    (folder / "modalities" / "colour.yaml").write_text(CARD)
    (folder / "colour_parts.py").write_text(MODULE)
    names = ("red", "green", "blue")
    lines = [f"{250 * (n % 3 == 0)} {250 * (n % 3 == 1)} {250 * (n % 3 == 2)},{names[n % 3]}" for n in range(60)]
    broken = ["200 10,red"]
    (folder / "colours.csv").write_text("\n".join(["colour,name", *lines, *broken]) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    yield folder
    sys.modules.pop("colour_parts", None)


def test_a_modality_from_outside_learns_beside_the_others(outside: Path, tmp_path: Path) -> None:
    cards = modalities([outside])
    line = "[COLOR:colour] which colour? -> [TEXT:name,closed_set]"
    card = load_task_card({"instruction": line, "data": {"train": str(outside / "colours.csv")}}, name="colours")
    folder = tmp_path / "run"
    more = {"steps": 40, "samples_per_step": 12, "quarantine": 0.1, "lr": 1e-2, "log_every": 10}
    model = worlds.run([card, worlds.task("spell")], folder, modalities=cards, **more)
    losses = [r["loss"] for r in RunFolder(folder).history() if r.get("task") == "colours"]
    assert losses[-1] < 0.3 * losses[0]
    assert set(model.network.adapters) == {"colour"}
    asked = [Request("colours", {"colour": rgb}) for rgb in ("250 0 0", [0, 250, 0], "0 0 250")]
    assert [p.values["name"] for p in predict(model, asked) if p] == ["red", "green", "blue"]
    loaded = Generalist.from_pretrained(folder)
    assert [p.values["name"] for p in predict(loaded, asked) if p] == ["red", "green", "blue"]
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))


def test_its_attributes_and_sides_are_checked_as_those_of_any_modality(outside: Path) -> None:
    from ofasys_lite.errors import OfasysError
    from ofasys_lite.plan import build_plan

    cards = modalities([outside])
    with pytest.raises(OfasysError, match="did you mean `dark`"):
        build_plan(load_task_card({"instruction": "[COLOUR:c,drak] -> [TEXT:a]"}, name="x"), cards)
    with pytest.raises(OfasysError, match="COLOUR"):
        build_plan(load_task_card({"instruction": "[TEXT:a] -> [COLOUR:c]"}, name="x"), cards)


def test_a_card_whose_module_is_not_there_says_which_one(outside: Path, tmp_path: Path) -> None:
    (outside / "colour_parts.py").unlink()
    sys.modules.pop("colour_parts", None)
    card = load_task_card(
        {"instruction": "[COLOUR:colour] -> [TEXT:name]", "data": {"train": str(outside / "colours.csv")}}, name="c"
    )
    with pytest.raises(CardError, match="no module `colour_parts`"):
        worlds.run([card], tmp_path / "run", modalities=modalities([outside]))


def test_a_wrong_number_of_rows_is_told_by_the_adapter_name(outside: Path) -> None:
    from ofasys_lite.adapters.base import Embedded
    from ofasys_lite.errors import ShapeError

    with pytest.raises(ShapeError, match="colour adapter returned 2 rows, the plan counts 3"):
        Embedded(torch.zeros(2, 4), torch.arange(3), "colour")
