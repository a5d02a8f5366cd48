"""Groups of parameters by rules, optimizers by name and path, steps in which parameters rest."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
from test_training_resume import checkpoint, same_state, stop_after
from test_training_steps import recorded

from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.network import Network
from ofasys_lite.training.optimizers import clip
from ofasys_lite.training.parameter_groups import Group, groups_of, table
from ofasys_lite.training.settings import TrainSettings

RULES: list[dict[str, Any]] = [
    {"match": "body.encoder.*", "lr": 0.5, "train": [3, None]},
    {"match": ["body.decoder.0.mlp.*", "body.decoder_norm.*"], "decay": 0.0, "train": [None, 2]},
]
MUON = {"path": "muon", "lr": 2.0, "ns_steps": 3}


@pytest.fixture(scope="module")
def network() -> Network:
    return worlds.generalist(worlds.ready(worlds.tasks("caption", "spell"))).network


def grouped(network: Network, **settings: Any) -> dict[str, Group]:
    """Group by parameter."""
    groups = groups_of(network, TrainSettings(steps=1, **settings))
    held = [(name, group) for group in groups for name in group.parameters]
    assert len(dict(held)) == len(held) == len(list(network.named_parameters()))
    return dict(held)


def test_muon_takes_matrices_and_kernels_and_adamw_tables_norms_and_biases(network: Network) -> None:
    found = grouped(network, optimizer="muon")
    shapes = set()
    for name, parameter in network.named_parameters():
        matrix = name.startswith(("body.", "adapters.")) and parameter.ndim > 1
        shapes |= {(name.split(".")[0], parameter.ndim)} if matrix else set()
        assert found[name].optimizer.name == ("muon" if matrix else "adamw"), name
    assert shapes == {("body", 2), ("adapters", 2), ("adapters", 4)}


def test_later_rules_win_key_by_key_and_a_rule_may_name_an_optimizer(network: Network) -> None:
    rules = [
        {"match": "*", "lr": 0.5, "decay": 0.2},
        {"match": "body.encoder.0.*", "train": [5, None]},
        {"match": "body.encoder.0.mlp.*", "lr": 0.1, "optimizer": MUON},
        {"match": "*.mlp_norm.*", "train": False},
    ]
    found = grouped(network, parameters=rules)
    one = found["body.encoder.0.attention.qkv.weight"]
    assert (one.lr, one.decay, one.first, one.last, one.optimizer.name) == (0.5, 0.2, 5, None, "adamw")
    two = found["body.encoder.0.mlp.into.weight"]
    # the optimizer's factor and the rule's
    assert (two.lr, two.decay, two.first, two.optimizer.name) == (0.2, 0.2, 5, "muon")
    assert found["body.encoder.0.mlp_norm.weight"].last == 0
    assert found["embedding.weight"].decay == 0.2


def test_a_run_tells_its_groups_and_keeps_them(tmp_path: Path, network: Network) -> None:
    from rich.console import Console

    groups = groups_of(network, TrainSettings(steps=1, optimizer=MUON, parameters=RULES))
    console = Console(width=200)
    with console.capture() as shown:
        console.print(table(groups))
    lines = [line.split() for line in shown.get().splitlines()]
    assert any("muon" in line and "x1" in line and line[-4:] == ["3", "to", "the", "end"] for line in lines)
    assert any("muon" in line and "x2" in line and line[-3:] == ["0", "to", "2"] for line in lines)
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, parameters=RULES)
    kept = json.loads((tmp_path / "run" / "parameters.json").read_text())
    assert {"group", "optimizer", "lr", "decay", "train", "parameters"} == set(kept[0])
    assert {n for group in kept for n in group["parameters"]} >= {"embedding.weight", "body.decoder_norm.weight"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"optimizer": "moun"}, "optimizer `moun` is not known.*did you mean `muon`"),
        ({"optimizer": {"path": "muon", "momentun": 0.9}}, "unknown option `momentun`.*did you mean `momentum`"),
        ({"optimizer": {"path": "muon", "ns_steps": 0}}, "ns_steps is 0.*at least 1"),
        ({"optimizer": {"path": "muon", "ns_steps": 6}}, "ns_steps is 6.*at most 5.*quintic"),
        ({"optimizer": {"path": "muon", "iteration": "cubic"}}, "iteration is 'cubic'.*minimax or quintic"),
        ({"optimizer": {"path": "adamw", "lr": -1}}, "lr is -1.*at least 0"),
        ({"optimizer": {"lr": 1}}, "has no `path`"),
        ({"parameters": {"match": "*"}}, "parameters is .*a list of rules"),
        ({"parameters": [{"match": "*", "lrr": 1}]}, "unknown key `lrr`.*did you mean `lr`"),
        ({"parameters": [{"lr": 1}]}, "match is None"),
        ({"parameters": [{"match": "*", "train": [5, 2]}]}, "ends before it begins"),
        ({"parameters": [{"match": "*", "train": 500}]}, r"train is 500.*as \[500, null\]"),
        ({"parameters": [{"match": "*", "decay": "0"}]}, "decay is '0'"),
    ],
)
def test_a_wrong_value_is_told_when_it_is_written_down(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=f"(?s){message}"):
        TrainSettings.from_dict({"steps": 1, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": [{"match": "body.encodr.*", "lr": 1}]}, r"did you mean `body.encoder.\*`"),
        ({"parameters": [{"match": "adapters.*", "optimizer": "muon"}]}, r"`adapters.\*` matches no parameter"),
        ({"parameters": [{"match": "*norm*", "optimizer": "muon"}]}, "no parameter is left for the optimizer muon"),
        ({"optimizer": "no_such_thing.build"}, "no module `no_such_thing`"),
        ({"optimizer": "torch.optim.AdamX"}, "has no `AdamX`.*did you mean `Adam"),
        ({"optimizer": {"path": "torch.optim.SGD", "momentun": 1}}, "SGD cannot be built: TypeError.*momentun"),
        ({"optimizer": "torch.numel"}, "numel cannot be built"),
        ({"optimizer": lambda groups, lr: [groups]}, "gave list"),
        ({"optimizer": lambda groups, lr: torch.optim.SGD(groups[0]["params"])}, "has other groups of parameters"),
    ],
)
def test_a_wrong_rule_or_optimizer_ends_the_run_before_it_trains(
    tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(CardError, match=f"(?s){message}"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, **settings)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_what_is_frozen_has_no_update_no_decay_and_no_moments_until_its_step(tmp_path: Path) -> None:
    history = recorded(worlds.tasks("spell"), tmp_path / "run", steps=5, parameters=RULES, optimizer=MUON)
    for name in history[0]:
        moved = [not torch.equal(a[name], b[name]) for a, b in itertools.pairwise(history)]
        if name.startswith("body.encoder."):
            assert moved == [False, False, False, True, True], name
        elif name.startswith(("body.decoder.0.mlp.", "body.decoder_norm.")):
            assert moved == [True, True, False, False, False], name
        elif not name.startswith("adapters."):
            assert all(moved), name
    states = checkpoint(tmp_path / "run")["optimizer_states"]
    steps = {float(state["step"]) for state in states[1]["state"].values()}
    assert steps == {2.0, 5.0}  # AdamW: of the norms of the encoder 5 - 3, of the decoder's last norm 2


def test_after_a_run_everything_can_be_trained_again(tmp_path: Path) -> None:
    model = worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=2, parameters=[{"match": "*", "train": False}])
    assert all(p.requires_grad for p in model.network.parameters())
    assert worlds.equal(worlds.weights(model), worlds.weights(worlds.generalist(worlds.ready(worlds.tasks("spell")))))


@pytest.mark.parametrize("optimizer", [MUON, {"path": "torch.optim.RAdam", "betas": [0.8, 0.9]}])
def test_a_resumed_run_of_several_optimizers_ends_as_the_undisturbed_one_bit_for_bit(
    tmp_path: Path, optimizer: Any
) -> None:
    cards = worlds.tasks("caption", "spell")
    more: dict[str, Any] = {"steps": 6, "optimizer": optimizer, "parameters": RULES, "ema": 0.9, "samples_per_step": 6}
    whole = worlds.run(cards, tmp_path / "whole", model={"dropout": 0.1}, **more)
    stop_after(3, cards, tmp_path / "parts", model={"dropout": 0.1}, **more)
    parts = worlds.run(cards, tmp_path / "parts", model={"dropout": 0.1}, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    same_state(tmp_path / "whole", tmp_path / "parts")


def test_other_groups_than_the_checkpoints_are_refused_and_other_rates_are_not(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    asked: dict[str, Any] = {"steps": 2, "optimizer": "muon", "parameters": RULES[:1]}
    worlds.run(cards, tmp_path / "run", **{**asked, "steps": 1})
    for change in ({"optimizer": "adamw"}, {"parameters": []}):
        with pytest.raises(CheckpointError, match="its optimizers hold other groups of parameters"):
            worlds.run(cards, tmp_path / "run", resume=True, **{**asked, **change})
    rules = [{**RULES[0], "lr": 0.25, "decay": 0.5, "train": [1, 9]}]
    optimizer = {"path": "muon", "lr": 3.0}
    worlds.run(cards, tmp_path / "run", steps=2, optimizer=optimizer, parameters=rules, resume=True, warmup=0.0)
    groups = checkpoint(tmp_path / "run")["optimizer_states"]
    assert {group["weight_decay"] for held in groups for group in held["param_groups"]} >= {0.5}


def test_options_that_a_resumed_run_is_given_are_taken(tmp_path: Path) -> None:
    """A checkpoint brings its own back with the state, which nobody asked for again."""
    cards = worlds.tasks("spell")
    began = {"path": "muon", "momentum": 0.9, "precision": "fp32"}
    worlds.run(cards, tmp_path / "run", steps=1, optimizer=began)
    asked = {"path": "muon", "momentum": 0.5, "iteration": "quintic", "beta2": 0.9, "precision": "auto"}
    worlds.run(cards, tmp_path / "run", steps=2, optimizer=asked, betas=[0.8, 0.9], resume=True)
    found = [group for held in checkpoint(tmp_path / "run")["optimizer_states"] for group in held["param_groups"]]
    muon = next(group for group in found if "momentum" in group)
    adamw = next(group for group in found if "betas" in group)
    assert {key: muon[key] for key in asked if key != "path"} == {k: v for k, v in asked.items() if k != "path"}
    assert muon["ns_steps"] == 5
    assert tuple(adamw["betas"]) == (0.8, 0.9)


def test_a_checkpoint_from_before_there_was_a_choice_is_read(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=1)
    file = tmp_path / "run" / "checkpoints" / "last.ckpt"
    state = torch.load(file, weights_only=True)
    del state["ofasys"]["facts"]["optimizers"], state["ofasys"]["rate"]
    torch.save(state, file)
    with pytest.raises(CheckpointError, match="other groups of parameters"):
        worlds.run(cards, tmp_path / "run", steps=2, optimizer="muon", resume=True)
    worlds.run(cards, tmp_path / "run", steps=2, resume=True)
    assert checkpoint(tmp_path / "run")["global_step"] == 2


@pytest.mark.parametrize("norm", [0.5, 1e6])
def test_gradients_are_clipped_bit_for_bit_as_torch_does(norm: float) -> None:
    shapes = [(7, 5), (3,), (), (11, 2, 3), (64,)]
    draw = torch.Generator().manual_seed(0)
    gradients = [torch.randn(shape, generator=draw) for shape in shapes]
    ours, theirs = ([torch.nn.Parameter(torch.zeros(shape)) for shape in (*shapes, (2,))] for _ in range(2))
    for parameters in (ours, theirs):
        for parameter, gradient in zip(parameters, gradients, strict=False):
            parameter.grad = gradient.clone()
    clip(ours, norm)
    torch.nn.utils.clip_grad_norm_(theirs, norm)
    assert all(torch.equal(a.grad, b.grad) for a, b in zip(ours[:-1], theirs[:-1], strict=True))  # type: ignore[arg-type]
    assert ours[-1].grad is None
    clip([], norm)
