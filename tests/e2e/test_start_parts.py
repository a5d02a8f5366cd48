"""A modality from a folder outside the package whose adapter begins with weights of others: `start.colour=FILE`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from users_folder import users_folder

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.commands.explain import main as explain
from ofasys_lite.commands.train import main
from ofasys_lite.errors import CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist

CARD = """
name: COLOUR
preprocess: {default: hue_parts.ColourPreprocess}
adapter: {default: hue_parts.Plain, hue: hue_parts.Hue}
reads: now
starts: hue_parts.read
settings: {scale: 1.0}
"""

MODULE = '''
"""COLOUR: `r g b` -> a row; `Hue` has a tower whose weights come from a file, and a projection of its own."""

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ofasys_lite.adapters.base import Adapter
from ofasys_lite.generalist.parts import Origin, Part
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions


class ColourPreprocess(Preprocess):
    def encode(self, value, options, known):
        array = np.array([float(x) for x in value.split()], dtype=np.float32) * self.settings["scale"]
        return Piece(self.context.adapter, line_positions(1), {"value": array})

    def rows_of(self, size, options):
        return 1


class Plain(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.project = nn.Linear(3, shared.width)

    def embed(self, part):
        return self.project(part.arrays["value"].view(-1, 3))


class Hue(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.tower = nn.Linear(3, 4)
        self.project = nn.Linear(4, shared.width)

    def embed(self, part):
        return self.project(self.tower(part.arrays["value"].view(-1, 3)))


def read(source):
    said = json.loads(Path(source).read_text())
    state = {name: torch.tensor(value) for name, value in said["state"].items()}
    origins = {"w": Origin("tower.weight", 0, 4)}
    return Part("Palette", source, said.get("choice", "hue"), {"scale": 2.0}, state, origins, {}, ("project.",), "MIT")
'''
LINE = "[COLOUR:c] which? -> [TEXT:a,closed_set]"
SMALL = ["model=tiny", "trainer.workers=0", "trainer.valid_every=0", "data.pieces=300", "evaluate=false"]
TASK = [f"+tasks.hue.instruction={LINE}", "+tasks.hue.data.train=d.csv", "+modalities.COLOUR={}"]
STATE = {"tower.weight": [[float(i + 3 * j) for i in range(3)] for j in range(4)], "tower.bias": [1.0, 2.0, 3.0, 4.0]}
STILL = ["trainer.lr=1e-9", "trainer.weight_decay=0", "trainer.ema=0"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: data, a folder of cards (`mine`), weights of others."""
    rows = [f"{n} {n % 3} {n % 5},{'red' if n % 2 else 'blue'}" for n in range(60)]
    (tmp_path / "d.csv").write_text("c,a\n" + "\n".join(rows) + "\n", encoding="utf-8")
    palette(tmp_path)
    monkeypatch.chdir(tmp_path)
    with users_folder(tmp_path, monkeypatch, "colour", CARD, "hue_parts", MODULE):
        yield tmp_path


def palette(folder: Path, **changes: Any) -> None:
    (folder / "palette.json").write_text(json.dumps({"state": STATE, **changes}), encoding="utf-8")


def train(name: str, *more: str, steps: int = 2) -> None:
    main([f"name={name}", f"steps={steps}", "--config-dir", "mine", *SMALL, *TASK, *more])


def test_a_run_begins_with_the_weights_says_so_and_its_export_keeps_them(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train("x", "start.colour=palette.json", *STILL)
    told = " ".join("".join(capfd.readouterr()).split())
    assert "COLOUR begins with Palette (palette.json), 16 numbers; fresh: project; licence: MIT" in told
    model = Generalist.from_pretrained("runs/x", "cpu")
    weights = dict(model.network.adapters["colour"].named_parameters())
    assert weights["tower.weight"].sub(torch.tensor(STATE["tower.weight"])).abs().max() < 1e-6
    assert model.network.specs["colour"].path == "hue_parts.Hue"
    assert model.modalities["COLOUR"].settings["scale"] == 2.0
    assert model.parts == {"COLOUR": {"house": "Palette", "source": "palette.json", "licence": "MIT"}}
    # and what is begun with that run knows it, too
    train("y", "start=runs/x", *STILL)
    assert Generalist.from_pretrained("runs/y", "cpu").parts == model.parts


def test_a_run_goes_on_bit_for_bit_without_the_weights_of_others(here: Path) -> None:
    more = ["+start.colour=palette.json", "trainer.schedule=constant", "trainer.warmup=0", "trainer.threads=1"]
    train("whole", *more, steps=4)
    train("cut", *more)
    (here / "palette.json").unlink()
    main(["resume=runs/cut", "steps=4", "--config-dir", "mine"])
    whole, cut = (Generalist.from_pretrained(f"runs/{name}", "cpu") for name in ("whole", "cut"))
    for name, value in whole.network.state_dict().items():
        assert value.equal(cut.network.state_dict()[name]), name
    assert cut.parts == whole.parts
    with pytest.raises(
        CheckpointError, match=r"began with start\.colour=palette\.json, .*go on with no part of others"
    ):
        train("cut", "resume=true", steps=6)
    with pytest.raises(
        CheckpointError, match=r"began with start\.colour=palette\.json, and is to go on with start\.colour=o"
    ):
        train("cut", "+start.colour=other.json", "resume=true", steps=6)


def test_fit_begins_with_them_too(here: Path) -> None:
    rows = [{"c": f"{n} 1 2", "a": "red" if n % 2 else "blue"} for n in range(40)]
    task = Task("hue", LINE, folders=["mine"]).add_dataset(rows, "train").add_dataset(rows[:4], "test")
    model = GeneralistModel("tiny", folder="mine")
    options: dict[str, Any] = {"steps": 1, "workers": 0, "valid_every": 0, "pieces": 300, "lr": 1e-9, "ema": 0}
    fit(model, [task], folder="run", start={"colour": "palette.json"}, **options)
    assert model.generalist.parts["COLOUR"]["house"] == "Palette"
    state = model.generalist.network.state_dict()
    assert float(state["adapters.colour.tower.weight"][1, 0]) == pytest.approx(3.0, abs=1e-5)
    assert Generalist.from_pretrained("run", "cpu").parts == model.generalist.parts
    with pytest.raises(CheckpointError, match=r"start=colour: palette\.json: this model has weights"):
        fit(model, [task], folder="run2", start={"colour": "palette.json"}, **options)


@pytest.mark.parametrize(
    ("words", "changes", "message"),
    [
        (["+start.colur=palette.json"], {}, "start: unknown key `colur`.*did you mean `colour`"),
        (["start.box=palette.json"], {}, "start.box: BOX has no part that begins with weights of others.*colour"),
        (
            ["+start.colour=palette.json", "start.path=runs/x"],
            {},
            r"path \(runs/x\) and colour \(palette.json\) are both",
        ),
        (["+start.colour=palette.json", "start.replay=0.2"], {}, "there is nothing to replay"),
        (["+start.colour=3"], {}, "start.colour=3 cannot be read.*No such file"),
        (
            ["+start.colour=palette.json", "modalities.COLOUR.scale=3.0"],
            {},
            "modalities.COLOUR.scale is 2.0 there, and 3.0",
        ),
        (["+start.colour=palette.json"], {"choice": "tint"}, "COLOUR declares no adapter `tint` for Palette"),
        (["+start.colour=palette.json"], {"state": {"tower.bias": [1.0] * 4}}, r"nothing fills \['tower.weight'\]"),
        (["+start.colour=palette.json"], {"state": {**STATE, "gain": [1.0]}}, r"no place for \['gain'\]"),
        (
            ["+start.colour=palette.json"],
            {"state": {**STATE, "tower.bias": [1.0]}},
            r"the shape \[1\], wanted is \[4\]",
        ),
        (["+start.colour=palette.json"], {"state": {**STATE, "tower.bias": [float("nan")] * 4}}, "not finite"),
        (
            ["+start.colour=palette.json", "tasks.hue.instruction=[TEXT:c] which? -> [TEXT:a,closed_set]"],
            {},
            "no task of the run reads COLOUR by the adapter `hue`",
        ),
    ],
)
def test_mistakes_are_told(here: Path, words: list[str], changes: dict[str, Any], message: str) -> None:
    palette(here, **changes)
    with pytest.raises(OfasysError, match=f"(?s){message}"):
        train("x", *words)


def test_what_is_not_finite_is_told_before_a_run_begins(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    palette(here, state={**STATE, "tower.bias": [float("nan")] * 4})
    with pytest.raises(CheckpointError, match=r"start\.colour=palette\.json: `tower\.bias` would hold numbers"):
        train("x", "+start.colour=palette.json", "tasks.hue.instruction=[TEXT:c] which? -> [TEXT:a,closed_set]")
    assert "training" not in "".join(capfd.readouterr())
    assert not (here / "runs").exists()


def test_what_it_costs_is_told_with_the_parts_of_others(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run = [*SMALL, *TASK, "steps=2", "trainer.precision=fp32"]
    said = []
    for start in ([], ["+start.colour=palette.json"]):
        assert explain([*run, *start, "--config-dir", "mine"]) == 0
        said.append(capfd.readouterr().out)
    # Plain projects 3 numbers to the width of 128; Hue's tower has 16, and projects 4
    numbers = [line.split()[2] for out in said for line in out.splitlines() if line.startswith("adapter colour")]
    assert numbers == [f"{3 * 128 + 128}", f"{16 + 4 * 128 + 128}"]
    assert "COLOUR begins with Palette" in said[1]
    assert not (here / "runs").exists()
