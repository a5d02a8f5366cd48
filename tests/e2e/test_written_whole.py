"""A modality from a folder outside the package is written all at once, in several passes: flow matching on its rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tiny_worlds as worlds
from users_folder import users_folder

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predict import Request, predict
from ofasys_lite.plan import build_plan

CARD = """
name: WAVE
preprocess: wave_parts.WavePreprocess
adapter: wave_parts.WaveAdapter
reads: never
writes: now
losses:
  flow: {side: target, unit: frame, objective: wave_parts.Flow, standard: true, together: true}
writers:
  flow:
    steps: {type: int, low: 1, high: 100, default: 8, help: "passes of the decoder"}
    noise: {type: float, low: 0, default: 1.0, help: "deviation of what it starts from"}
"""

MODULE = '''
"""WAVE: as many numbers as the setting says, a row each; learned and written by flow matching (arXiv 2210.02747)."""

import numpy as np
import torch
from users_folder import users_folder
from torch import nn

from ofasys_lite.adapters.base import Adapter, Reading
from ofasys_lite.adapters.passes import Written
from ofasys_lite.layout.learned import Objective
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions

ROWS = 6


class WavePreprocess(Preprocess):
    fixed_rows = ROWS

    def encode(self, value, options, known):
        return Piece(self.context.adapter, line_positions(ROWS), {"wave": np.array(value, dtype=np.float32)})

    def constraint(self, options, known):
        return Whole(self.context.adapter, tuple(map(tuple, line_positions(ROWS).tolist())))

    def decode(self, wave, options, known):
        return [float(x) for x in wave]


class Flow(Objective):
    """All rows, on the way from noise to the value at a time that the sample's generator draws."""

    def prepare(self, piece, read, rng):
        rng = np.random.default_rng(0) if rng is None else rng
        time, noise = rng.random(), rng.normal(size=ROWS)
        fed = (1 - time) * noise + time * piece.arrays["wave"]
        arrays = {"fed": fed.astype(np.float32), "time": np.full(ROWS, time, np.float32)}
        velocity = (piece.arrays["wave"] - noise).astype(np.float32)
        return Piece(piece.adapter, piece.positions_P3, arrays), {"velocity": velocity}


class WaveAdapter(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.inner = nn.Sequential(nn.Linear(2, shared.width), nn.GELU(), nn.Linear(shared.width, shared.width))
        self.back = nn.Linear(shared.width, 1)

    def embed(self, part):
        return self.inner(torch.stack([part.arrays["fed"], part.arrays["time"]], -1))

    def objectives(self):
        return {"flow": self.flow}

    def flow(self, rows, encoded):
        return Reading(lambda states: (self.back(states[rows.rows_R])[:, 0] - rows.arrays["velocity"]) ** 2)

    def write(self, sources, asked):
        passes = sources.passes(asked)
        steps, noise = asked[0].settings["steps"], asked[0].settings["noise"]
        x_NL = noise * torch.from_numpy(np.stack([each.rng().normal(size=ROWS) for each in asked])).float()
        for step in range(steps):
            fed = self.inner(torch.stack([x_NL, torch.full_like(x_NL, step / steps)], -1))
            x_NL = x_NL + self.back(passes(fed))[..., 0] / steps
        return [Written(x_L.numpy()) for x_L in x_NL]
'''
WAVES = {"up": [-2, -1, -0.5, 0.5, 1, 2], "down": [2, 1, 0.5, -0.5, -1, -2], "hill": [-2, 0, 2, 2, 0, -2]}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card and the module."""
    with users_folder(tmp_path, monkeypatch, "wave", CARD, "wave_parts", MODULE) as folder:
        yield folder


def test_it_is_learned_written_and_exported_beside_text(outside: Path, tmp_path: Path) -> None:
    data = [{"id": str(n), "name": name, "wave": WAVES[name]} for n, name in enumerate(list(WAVES) * 8)]
    line = "draw [TEXT:name] -> [WAVE:wave,decode=flow(steps=6)]"
    card = load_task_card({"instruction": line, "data": {"train": data}}, name="waves")
    more = {"steps": 250, "samples_per_step": 12, "lr": 1e-2, "log_every": 50}
    model = worlds.run([card, worlds.task("spell")], tmp_path / "run", modalities=modalities([outside]), **more)
    names = list(WAVES) * 3
    options = model.entry("waves").options
    asked = [Request("waves", {"name": name}, str(n), options(seed=n)) for n, name in enumerate(names)]
    asked += [Request("spell", {k: v for k, v in row.items() if k != "text"}, row["id"]) for row in worlds.rows(3)]
    found = predict(model, asked)
    for name, prediction in zip(names, found, strict=False):
        assert prediction is not None
        far = {other: float(np.abs(np.array(prediction.values["wave"]) - wave).mean()) for other, wave in WAVES.items()}
        assert min(far, key=lambda other: far[other]) == name, far
    # a sample does not depend on what it is written with; with another seed it is another one
    alone = predict(model, asked[4:5])[0]
    assert alone is not None
    np.testing.assert_allclose(alone.values["wave"], found[4].values["wave"], atol=1e-4)  # type: ignore[union-attr]
    other = predict(model, [Request("waves", {"name": names[4]}, "4", options(seed=99))])[0]
    assert other is not None
    assert np.abs(np.array(other.values["wave"]) - alone.values["wave"]).max() > 1e-4
    loaded = predict(Generalist.from_pretrained(tmp_path / "run"), asked)
    assert [p.values for p in loaded if p] == [p.values for p in found if p]


@pytest.mark.parametrize(
    ("decode", "told"),
    [
        ("flow(step=4)", "did you mean `steps`"),
        ("flow(steps=0)", "`steps=0` is out of range"),
        ("flow(steps=1.5)", "`steps` takes a whole number"),
        ("flow(steps=1,steps=2)", "given twice"),
        ("flow(4)", "takes arguments by name"),
        ("greedy", "`decode` cannot be `greedy`"),
    ],
)
def test_options_of_its_writer_are_held_against_the_card(outside: Path, decode: str, told: str) -> None:
    card = load_task_card({"instruction": f"draw [TEXT:name] -> [WAVE:wave,decode={decode}]"}, name="waves")
    with pytest.raises(OfasysError, match=told):
        build_plan(card, modalities([outside]))


def test_a_line_that_names_no_writer_has_the_first_one_with_its_defaults(outside: Path) -> None:
    plan = build_plan(load_task_card({"instruction": "[TEXT:name] -> [WAVE:wave]"}, name="w"), modalities([outside]))
    decode = dict(plan.target_slots()[0].options)["decode"]
    assert (decode.name, dict(decode.keyed)) == ("flow", {"steps": 8, "noise": 1.0})
    assert plan.decoding() == {"method": "flow", "steps": 8, "noise": 1.0}


def test_a_writer_without_a_default_or_with_a_name_of_the_package_is_refused(outside: Path) -> None:
    path = outside / "modalities" / "wave.yaml"
    path.write_text(CARD.replace(" default: 8,", ""))
    with pytest.raises(CardError, match="option `steps` of writer `flow` has no `default`"):
        modalities([outside])
    path.write_text(CARD.replace("  flow:\n    steps", "  beam:\n    steps"))
    with pytest.raises(CardError, match="a writer cannot be called `beam`"):
        modalities([outside])
