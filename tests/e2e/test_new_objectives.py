"""Objectives from a folder outside the package: of the encoder's states, of the decoder's, over all packs of a step."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from users_folder import users_folder

from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.errors import CardError, CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import Ready, make_ready
from ofasys_lite.plan import build_plan
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.ranks import Ranks, looked

CARD = """
name: COLOUR
preprocess: {default: tint_parts.ColourPreprocess}
adapter: {default: tint_parts.ColourAdapter}
reads: now
writes: now
losses:
  rebuild: {side: source, unit: frame, objective: tint_parts.Rebuild, arguments: [ratio]}
  contrast: {side: source, unit: sample, objective: tint_parts.Contrast, arguments: [of]}
  regress: {side: target, unit: frame, standard: true, together: true}
  forgotten: {side: source}
"""

MODULE = '''
"""COLOUR: three numbers -> three rows; parts of it hidden and rebuilt, compared with others, written in one go."""

import numpy as np
import torch
from torch import nn

from ofasys_lite.adapters.base import Adapter, Reading, Section
from ofasys_lite.layout.learned import Objective
from ofasys_lite.preprocess.base import Piece, Preprocess, line_positions


class ColourPreprocess(Preprocess):
    def encode(self, value, options, known):
        array = np.array(value, dtype=np.float32)
        asked = known.side == "target"
        arrays = {"value": array, "hidden": np.full(3, asked)}
        return Piece(self.context.adapter, line_positions(3), arrays)

    def rows_of(self, size, options):
        return 3


class Rebuild(Objective):
    """The rows that the sample's generator hides."""

    def prepare(self, piece, read, rng):
        hidden = np.zeros(3, bool) if rng is None else rng.random(3) < float(self.option("ratio", 0.5))
        arrays = {**piece.arrays, "hidden": hidden}
        return Piece(piece.adapter, piece.positions_P3, arrays, hidden), {"wanted": piece.arrays["value"][hidden]}


class Contrast(Objective):
    """Colours of one name are near each other, and far from all others of the step (arXiv 2004.11362)."""

    piecewise = True
    whole_step = True

    def prepare(self, piece, read, rng):
        return piece, {"name": read(str(self.option("of"))).arrays["ids"][:1]}

    def rows(self, pieces):
        from dataclasses import replace

        found = super().rows(pieces)
        return replace(found, arrays={}, host=found.arrays)


class ColourAdapter(Adapter):
    def __init__(self, settings, shared):
        super().__init__(settings, shared)
        self.inner = nn.Sequential(nn.Linear(3, shared.width), nn.GELU(), nn.Linear(shared.width, shared.width))
        self.mask = nn.Parameter(torch.zeros(shared.width))
        self.back = nn.Linear(shared.width, 1)
        self.vector = nn.Linear(shared.width, 8)
        self.sharpness = nn.Parameter(torch.ones(()))

    def embed(self, part):
        value = part.arrays["value"]
        place = torch.eye(3, dtype=value.dtype).repeat(len(value) // 3, 1)
        x = self.inner(value[:, None] * place + 0.1 * place)
        x = torch.where(part.arrays["hidden"][:, None], self.mask + self.inner(0.1 * place), x)
        return torch.cat([each[:count] for each, count in zip(x.split(3), part.counts)])

    def objectives(self):
        return {"rebuild": self.rebuild, "contrast": self.contrast, "regress": self.regress}

    def sections(self):
        # what a step does not use stays as it is
        back = Section(tuple(self.back.parameters()), lambda a: a.learned("rebuild") + a.learned("regress"))
        compared = (*self.vector.parameters(), self.sharpness)
        return (
            back,
            Section(compared, lambda a: a.learned("contrast")),
            Section((self.mask,), lambda a: a.marked("hidden")),
        )

    def rebuild(self, rows, encoded):
        return Reading(lambda states: (self.back(states[rows.rows_R])[:, 0] - rows.arrays["wanted"]) ** 2)

    def regress(self, rows, encoded):
        part = encoded.batch.part_of(rows)
        return Reading(lambda states: (self.back(states[rows.rows_R])[:, 0] - part.arrays["value"]) ** 2)

    def contrast(self, rows, encoded):
        step = encoded.step(rows)
        names = torch.from_numpy(step.host["name"])

        def look(states):
            pieces = states[rows.rows_R].split(rows.counts)
            return nn.functional.normalize(self.vector(torch.stack([piece.mean(0) for piece in pieces])), dim=-1)

        def of_all(vectors):
            rivals = step.rivals(vectors.device)
            scores = (self.sharpness * vectors @ vectors.T).masked_fill(~rivals, -1e9)
            near = rivals & (names[:, None] == names[None])
            log = scores.log_softmax(1).masked_fill(~near, 0.0)
            return -log.sum(1) / near.sum(1).clamp(min=1)

        return Reading(lambda states: step.losses(look(states), of_all), look=look)
'''

LINES = {
    "rebuild": "[COLOUR:rgb,loss=rebuild(ratio=0.4,weight=2)] which? -> [TEXT:name,closed_set]",
    "contrast": "[COLOUR:rgb,loss=contrast(of=name)] which? -> [TEXT:name,closed_set]",
    "regress": "mix [TEXT:name] -> [COLOUR:rgb]",
}
NAMES = {"red": (0.9, 0.1, 0.0), "green": (0.1, 0.8, 0.2), "blue": (0.0, 0.2, 1.0)}


def rows(count: int = 48) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        name = sorted(NAMES)[number % 3]
        value = np.clip(np.array(NAMES[name]) + rng.normal(0, 0.05, 3), 0, 1)
        found.append({"id": str(number), "rgb": value.round(3).tolist(), "name": name})
    return found


def card(*lines: str) -> list[TaskCard]:
    held = {"train": rows(), "valid": rows()[:9], "test": rows()[:9]}
    return [load_task_card({"instruction": LINES[line], "data": held}, name=line) for line in lines]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder: the card and the module."""
    with users_folder(tmp_path, monkeypatch, "colour", CARD, "tint_parts", MODULE) as folder:
        yield folder


def run(outside: Path, lines: Sequence[str], folder: Path, **more: Any) -> Generalist:
    return worlds.run(card(*lines), folder, modalities=modalities([outside]), **{"lr": 1e-2, "log_every": 10, **more})


def prepared(outside: Path, *lines: str) -> Ready:
    return make_ready(card(*lines), modalities([outside]), worlds.small_data())


def logged(folder: Path, slot: str) -> list[dict[str, Any]]:
    return [r for r in RunFolder(folder).history() if r["kind"] == "train" and r["slot"] == slot]


# ---------------------------------------------------------------------- an objective of the encoder's states


def test_an_objective_of_the_encoder_is_trained_validated_exported_and_loaded(outside: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = run(outside, ("rebuild",), folder, steps=120, samples_per_step=12)
    losses = logged(folder, "rgb:rebuild")
    assert losses[-1]["loss"] < 0.7 * losses[0]["loss"]
    terms = {t.slot: (t.unit, t.weight) for t in prepared(outside, "rebuild").tasks[0].maker.terms()}
    assert terms == {"rgb:rebuild": ("frame", 2.0), "name": ("token", 1.0)}
    Validator(RunFolder(folder), samples=9)(model, 120, 0.0)
    valid = next(r for r in RunFolder(folder).history() if r["kind"] == "valid")
    assert set(valid["loss"]) == {"rgb:rebuild", "name"}
    assert valid["loss"]["rgb:rebuild"] == pytest.approx(losses[-1]["loss"], abs=0.1)
    loaded = Generalist.from_pretrained(folder)
    assert worlds.equal(worlds.weights(model), worlds.weights(loaded))
    asked = [Request("rebuild", {"rgb": list(value)}) for value in NAMES.values()]
    assert [p.values["name"] for p in predict(loaded, asked) if p] == list(NAMES)


def test_an_objective_of_a_target_written_in_one_go_is_trained(outside: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(outside, ("regress", "rebuild"), folder, steps=60, samples_per_step=12)
    losses = logged(folder, "rgb")
    assert losses[-1]["loss"] < 0.5 * losses[0]["loss"]
    (task,) = prepared(outside, "regress").tasks
    assert [(t.slot, t.unit) for t in task.maker.terms()] == [("rgb", "frame")]
    batch = collate([task.maker.example(row, row["id"], None, False) for row in rows(3)])
    assert batch.causal_rows == 0
    assert [(r.objective.name, r.adapter, r.side, r.counts) for r in batch.losses] == [
        ("regress", "colour", "target", (3, 3, 3))
    ]


def test_what_is_masked_does_not_depend_on_the_pack(outside: Path) -> None:
    (task,) = prepared(outside, "rebuild").tasks
    examples = [task.maker.example(r, r["id"], np.random.default_rng(int(r["id"])), True) for r in rows(6)]
    pack, alone = collate(examples), [collate([each]) for each in examples]
    (found,) = worlds.learned(pack, "rebuild")
    each = [worlds.learned(batch, "rebuild")[0] for batch in alone]
    assert np.array_equal(found.arrays["wanted"], np.concatenate([r.arrays["wanted"] for r in each]))
    assert found.counts == tuple(count for r in each for count in r.counts)


def test_what_an_objective_does_not_take_and_what_nobody_learns_is_told(outside: Path, tmp_path: Path) -> None:
    cards = modalities([outside])
    with pytest.raises(OfasysError, match="did you mean `ratio`"):
        build_plan(load_task_card({"instruction": "[COLOUR:c,loss=rebuild(ration=1)] -> [TEXT:a]"}, name="x"), cards)
    with pytest.raises(OfasysError, match="objective of a target slot"):
        build_plan(load_task_card({"instruction": "[COLOUR:c,loss=regress] -> [TEXT:a]"}, name="x"), cards)
    held = {"train": rows(), "valid": rows()[:3], "test": rows()[:3]}
    line = "[COLOUR:rgb,loss=forgotten] which? -> [TEXT:name]"
    forgotten = load_task_card({"instruction": line, "data": held}, name="forgotten")
    with pytest.raises(CheckpointError, match="adapter `colour` has no objective `forgotten`") as caught:
        worlds.run([forgotten], tmp_path / "run", modalities=cards)
    assert caught.value.help == "its `objectives()` has: rebuild, contrast, regress"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("ctc: {side: source}", "an objective cannot be called `ctc`"),
        ("mine: {unit: frame}", "objective `mine` has no `side`"),
        ("mine: {side: both}", "`side` cannot be `both`"),
        ("mine: {side: source, units: frame}", "unknown key `units`"),
        ("mine: {side: source, objective: tint_parts.Nothing}", "objective tint_parts.Nothing: the module has no"),
    ],
)
def test_a_card_that_says_it_wrong_is_told_where(outside: Path, entry: str, message: str) -> None:
    place = outside / "modalities" / "colour.yaml"
    place.write_text(CARD.replace("  forgotten: {side: source}", f"  {entry}"))
    line = "[COLOUR:rgb,loss=mine] which? -> [TEXT:name]"
    mine = load_task_card({"instruction": line, "data": {"train": rows()}}, name="mine")
    with pytest.raises(CardError, match=message):
        worlds.run([mine], outside / "run", modalities=modalities([outside]))


# ---------------------------------------------------------------------- an objective over the whole step


def step(network: Network, task: Any, packs: list[list[int]]) -> dict[str, torch.Tensor]:
    """Gradients of a step over some rows, in packs; the losses stand at `losses`."""
    batches = [collate([task.maker.example(rows()[i], str(i), None, False) for i in pack]) for pack in packs]
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    network.train()
    network.zero_grad(set_to_none=True)

    def look(pack: Any, number: int) -> Any:
        return network.look(to_device(pack, torch.device("cpu")))

    steps: Sequence[Any] = [{}] if len(batches) == 1 else looked(batches, look, terms.term_index, Ranks())
    found = []
    for batch, seen in zip(batches, steps, strict=True):
        losses = network(to_device(batch, torch.device("cpu")), 0.0, seen)
        ((losses.values_U * torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])).sum()).backward()
        (own,) = worlds.learned(batch, "contrast")
        contrasts = torch.from_numpy(np.isin(batch.terms_U, own.terms_U))
        found.append(losses.values_U.detach()[contrasts])
    grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(found)}


def test_a_contrast_over_one_pack_and_over_four_is_the_same(outside: Path) -> None:
    ready = prepared(outside, "contrast")
    model = worlds.generalist(ready)
    order = [*range(7), *range(20, 29)]
    one = step(model.network, ready.tasks[0], [order])
    four = step(model.network, ready.tasks[0], [order[:3], order[3:4], order[4:12], order[12:]])
    assert len(one["losses"]) == 16
    assert one.keys() == four.keys()
    for name, value in one.items():
        torch.testing.assert_close(four[name], value, rtol=2e-4, atol=1e-6, msg=name)
    head = [n for n in one if "colour.vector" in n or "sharpness" in n]
    assert len(head) == 3
    assert all(one[n].abs().max() > 1e-5 for n in head)
    apart = step(model.network, ready.tasks[0], [order[:8]])["losses"]
    assert not torch.allclose(apart, one["losses"][:8], rtol=1e-2)  # half of the step has half of the rivals


def test_both_passes_over_a_pack_have_the_same_dropout(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Tensor] = []
    losses = WholeStep.losses

    def noted(step: WholeStep, own_UF: torch.Tensor, of_all: Any) -> torch.Tensor:
        assert step.seen_GF is not None
        assert torch.equal(own_UF, step.seen_GF[step.first : step.first + len(own_UF)])
        seen.append(own_UF.detach())
        return losses(step, own_UF, of_all)

    monkeypatch.setattr(WholeStep, "losses", noted)
    more = {"steps": 2, "samples_per_step": 8, "source_budget": 20, "target_budget": 20}
    for dropout in (0.0, 0.3):
        run(outside, ("contrast",), tmp_path / str(dropout), model={"dropout": dropout}, **more)
    half = len(seen) // 2
    assert half >= 4
    assert not torch.allclose(seen[0], seen[half])


def test_steps_without_such_an_objective_are_looked_at_once(
    outside: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[int] = []
    look = Network.look
    monkeypatch.setattr(Network, "look", lambda *given: looks.append(1) or look(*given))  # type: ignore[func-returns-value]
    more = {"steps": 3, "samples_per_step": 8, "source_budget": 12, "target_budget": 12}
    run(outside, ("rebuild",), tmp_path / "a", **more)
    assert looks == []
    run(outside, ("contrast",), tmp_path / "b", **more)
    assert len(looks) > 3


SCRIPT = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
import test_new_objectives as here
here.run(Path({outside!r}), ("contrast",), Path({folder!r}), devices=2, strategy="ddp", **{more!r})
"""


@pytest.mark.slow
def test_a_contrast_over_two_ranks_trains_what_one_pack_trains(outside: Path, tmp_path: Path) -> None:
    more = {"steps": 4, "samples_per_step": 13, "log_every": 4}
    script = tmp_path / "two.py"
    budget = {**more, "source_budget": 20, "target_budget": 20}
    script.write_text(SCRIPT.format(outside=str(outside), folder=str(tmp_path / "two"), more=budget))
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2]), str(outside)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    run(outside, ("contrast",), tmp_path / "one", **more)
    run(outside, ("contrast",), tmp_path / "four", **budget)
    one, four, two = (
        torch.load(RunFolder(tmp_path / n).last, weights_only=True)["state_dict"] for n in ("one", "four", "two")
    )
    start = {f"network.{n}": v for n, v in worlds.weights(worlds.generalist(prepared(outside, "contrast"))).items()}
    moved = sum(float((one[n] - v).abs().sum()) for n, v in start.items())
    for other in (four, two):
        assert sum(float((one[n] - other[n]).abs().sum()) for n in start) < 1e-3 * moved
    losses = [logged(tmp_path / n, "rgb:contrast")[-1]["loss"] for n in ("one", "four", "two")]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-3)
