"""What a user's own folder adds to a training: an optimizer for some parameters, a rule that freezes others."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.commands.app import main
from ofasys_lite.run.run_folder import RunFolder

MODULE = '''
"""Signs of a momentum (Lion without its second rate), for matrices."""

import torch


class Signs(torch.optim.Optimizer):
    def __init__(self, groups, lr, weight_decay=0.0):
        super().__init__(groups, {"lr": lr, "weight_decay": weight_decay, "beta": 0.0})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    state = self.state[p]
                    if not state:
                        state["mean"] = torch.zeros_like(p)
                    state["mean"].lerp_(p.grad, 1 - group["beta"])
                    p.mul_(1 - group["lr"] * group["weight_decay"])
                    p.add_(state["mean"].sign(), alpha=-group["lr"])


def build(groups, lr, beta=0.9):
    return Signs([{**group, "beta": beta} for group in groups], lr=lr)
'''
RULES: list[dict[str, Any]] = [
    {"match": "body.encoder.*.weight", "optimizer": {"path": "signs.build", "lr": 0.25, "beta": 0.8}},
    {"match": "body.decoder.*", "train": [3, None]},
]
COMMAND = [
    *("train", "name=r", "model=tiny", "steps=4", "evaluate=false", "data.pieces=300", "--config-dir", "conf"),
    *(
        "trainer=mine",
        "trainer.workers=0",
        "trainer.valid_every=0",
        "trainer.log_every=1",
        "trainer.samples_per_step=8",
    ),
    *("trainer.threads=1", "+trainer.progress=false", "trainer.samples_per_step=8"),
    *("+tasks.mine.instruction=[TEXT:q] what? -> [TEXT:a]", "+tasks.mine.data.train=d.csv"),
]


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with a module, a trainer preset and rows."""
    (tmp_path / "signs.py").write_text(MODULE)
    (tmp_path / "conf" / "trainer").mkdir(parents=True)
    preset = {"defaults": ["cpu"], "parameters": RULES}
    (tmp_path / "conf" / "trainer" / "mine.yaml").write_text(yaml.safe_dump(preset))
    (tmp_path / "d.csv").write_text("q,a\n" + "".join(f"word {n},answer {n % 7}\n" for n in range(40)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    path = list(sys.path)
    yield tmp_path
    sys.path[:] = path
    sys.modules.pop("signs", None)


def state_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(RunFolder(folder).last, weights_only=True)
    return found


def test_an_optimizer_of_the_users_trains_some_parameters_while_others_rest(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(COMMAND) == 0
    shown = capsys.readouterr().err
    assert "signs.build" in shown
    assert "3 to the end" in shown
    kept = json.loads((outside / "runs" / "r" / "parameters.json").read_text())
    signs = {n for group in kept if group["optimizer"] != "adamw" for n in group["parameters"]}
    assert signs == {n for group in kept for n in group["parameters"] if "body.encoder." in n and "weight" in n}
    mine, adamw = state_of(outside / "runs" / "r")["optimizer_states"]
    assert {group["beta"] for group in mine["param_groups"]} == {0.8}
    assert {float(state["step"]) for state in adamw["state"].values()} == {1.0, 4.0}
    config = yaml.safe_load((outside / "runs" / "r" / "config.yaml").read_text())
    assert config["trainer"]["parameters"] == RULES
    # the same from Python, with the function itself
    import signs as module  # type: ignore[import-not-found]

    rules = [{**RULES[0], "optimizer": {**RULES[0]["optimizer"], "path": module.build}}, RULES[1]]
    rows = Task("mine", "[TEXT:q] what? -> [TEXT:a]", data=str(outside / "d.csv"))
    model = fit(
        *(GeneralistModel("tiny"), rows),
        **{"steps": 4, "name": "p", "parameters": rules, "workers": 0, "valid_every": 0, "samples_per_step": 8},
        **{"pieces": 300, "threads": 1, "log_every": 1, "progress": False, "precision": "fp32"},
    )
    assert model.run == Path("runs/p")
    assert yaml.safe_load((outside / "runs" / "p" / "config.yaml").read_text())["trainer"]["parameters"] == RULES


def test_wrong_options_on_the_command_line_name_the_near_ones(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for argument, message in (
        ("trainer.optimizer=moun", "did you mean `muon`"),
        ("trainer.optimizer={path:muon,momentun:0.9}", "did you mean `momentum`"),
        ("trainer.optimizer=signs.bild", "did you mean `build`"),
        ("trainer.parameters=[{match:body.encodr.*,lr:0.1}]", "did you mean `body.encoder.*`"),
        ("trainer.optimiser=muon", "did you mean `optimizer`"),
        ("trainer.nodes.number=2", "trainer.nodes is one value"),
    ):
        assert main([*COMMAND, argument]) == 1
        assert message in capsys.readouterr().err, argument
    assert main([each.lstrip("+") if "progress" in each else each for each in COMMAND]) == 1
    assert "so it is added: +trainer.progress=" in capsys.readouterr().err
    assert not (outside / "runs" / "r" / "checkpoints" / "last.ckpt").exists()


SHARED = '''
"""Every block of the encoder shares the weights of the first one's feed-forward layer."""

from ofasys_lite.generalist.converters import Converter


class SharedMlp(Converter):
    def __init__(self, noted=()):
        self.steps = list(noted)

    def convert(self, network):
        for block in network.body.encoder[1:]:
            block.mlp = network.body.encoder[0].mlp

    def after_step(self, network, step):
        self.steps.append(step)

    def plain(self, network, tensors):
        first = {n: t for n, t in tensors.items() if n.startswith("body.encoder.0.mlp.")}
        for number in range(1, len(network.body.encoder)):
            tensors |= {n.replace("encoder.0.", f"encoder.{number}."): t for n, t in first.items()}
        return tensors


class Lossy(Converter):
    def convert(self, network):
        network.body.encoder[1].mlp = network.body.encoder[0].mlp
'''
FEW = {"workers": 0, "valid_every": 0, "samples_per_step": 8, "log_every": 1, "progress": False, "precision": "fp32"}


def test_a_converter_of_the_users_trains_and_leaves_a_plain_export(
    outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (outside / "shared.py").write_text(SHARED)
    assert main([*COMMAND, "trainer.converters=[shared.Lossy]"]) == 1
    assert "plain() does not give the weights as they were" in capsys.readouterr().err
    assert main([*COMMAND, "trainer.converters=[shared.SharedMpl]"]) == 1
    assert "did you mean `SharedMlp`" in capsys.readouterr().err
    import shared  # type: ignore[import-not-found]

    converter = shared.SharedMlp()
    model = fit(
        *(GeneralistModel("tiny"), Task("mine", "[TEXT:q] what? -> [TEXT:a]", data=str(outside / "d.csv"))),
        **{**FEW, "steps": 4, "name": "p", "converters": [converter], "pieces": 300, "threads": 1},
    )
    assert converter.steps == [0, 1, 2, 3]
    loaded = GeneralistModel.from_pretrained("runs/p", device="cpu")
    ways = [dict(each.generalist.network.named_parameters()) for each in (model, loaded)]
    assert all(torch.equal(ways[0][name], ways[1][name]) for name in ways[0])
    assert torch.equal(ways[1]["body.encoder.0.mlp.into.weight"], ways[1]["body.encoder.1.mlp.into.weight"])
    assert ways[1]["body.encoder.0.mlp.into.weight"] is not ways[1]["body.encoder.1.mlp.into.weight"]
    sys.modules.pop("shared", None)
