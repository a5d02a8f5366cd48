"""Converters of the network: low-rank updates train, resume, are merged in exports; what differs is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
from test_training_resume import same_state, stop_after
from test_training_steps import recorded
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from ofasys_lite.adapters.image_efficientnet import SameConv
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist import converters
from ofasys_lite.generalist.converters import Lora
from ofasys_lite.generalist.export import load_weights
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.run.run_folder import RunFolder

LORA: dict[str, Any] = {"path": "lora", "rank": 2, "match": ["body.*", "adapters.*"]}
RULES = [{"match": "*", "train": False}, {"match": "*.parametrizations.*", "train": True}]
CARDS = ("caption", "spell")


def test_low_rank_updates_move_and_the_weights_under_them_rest(tmp_path: Path) -> None:
    history = recorded(worlds.tasks(*CARDS), tmp_path / "run", steps=3, converters=[LORA], parameters=RULES)
    for name, value in history[-1].items():
        moved = not torch.equal(value, history[0][name])
        assert moved == name.endswith(("up_OR", "down_RI")), name
    assert sum("up_OR" in name for name in history[0]) > 8
    assert sum(n.endswith(".original") and value.ndim == 4 for n, value in history[0].items()) == 2


def test_the_model_and_the_export_of_a_converted_run_are_plain_and_hold_the_update(tmp_path: Path) -> None:
    cards = worlds.tasks(*CARDS)
    start = worlds.run(cards, tmp_path / "first", steps=2)
    before = worlds.weights(start)
    seen: list[tuple[Any, ...]] = []

    def validate(model: Generalist, step: int, seconds: float) -> float:
        asked = Request("spell", {"phones": "S AH N"})
        seen.append((bool(model.network.converters), [p.values for p in predict(model, [asked]) if p]))
        return 1.0

    model = worlds.run(
        cards, tmp_path / "run", start=start, steps=4, ema=0.5, converters=[LORA], parameters=RULES, lr=0.05,
        validate=validate, valid_every=0.001,
    )  # fmt: skip
    after = worlds.weights(model)
    assert before.keys() == after.keys()
    assert not model.network.converters
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {n for n in before if n.startswith(("body.", "adapters.")) and before[n].ndim >= 2}
    assert {before[name].ndim for name in changed} == {2, 4}
    for name in changed:
        assert torch.linalg.matrix_rank((after[name] - before[name]).flatten(1).double(), rtol=1e-3) <= 2, name
    loaded = Generalist.from_pretrained(tmp_path / "run")
    assert worlds.equal(after, worlds.weights(loaded))
    # what was validated with the updates in place is what the merged weights write
    answers = [
        [p.values for p in predict(each, [Request("spell", {"phones": "S AH N"})]) if p] for each in (model, loaded)
    ]
    assert seen[-1] == (True, answers[0])
    assert answers[0] == answers[1]
    load_weights(loaded.network, RunFolder(tmp_path / "run").best)
    again = worlds.run(cards, tmp_path / "again", start=model, steps=2, converters=[LORA])
    assert not again.network.converters


def test_a_converted_run_resumes_bit_for_bit(tmp_path: Path) -> None:
    cards = worlds.tasks(*CARDS)
    more: dict[str, Any] = {"steps": 6, "converters": [LORA], "optimizer": "muon", "ema": 0.9, "samples_per_step": 6}
    whole = worlds.run(cards, tmp_path / "whole", model={"dropout": 0.1}, **more)
    stop_after(3, cards, tmp_path / "parts", model={"dropout": 0.1}, **more)
    parts = worlds.run(cards, tmp_path / "parts", model={"dropout": 0.1}, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    same_state(tmp_path / "whole", tmp_path / "parts")
    groups = json.loads((tmp_path / "whole" / "parameters.json").read_text())
    assert all(group["optimizer"] != "muon" for group in groups if any("up_OR" in n for n in group["parameters"]))
    more |= {"steps": 9, "converters": [], "model": {"dropout": 0.1}, "resume": True}
    with pytest.raises(CheckpointError, match=r"trainer\.converters was .*rank.*and is now \[\]"):
        worlds.run(cards, tmp_path / "parts", **more)


def test_a_run_whose_converter_took_fewer_layers_then_says_why_it_cannot_go_on(tmp_path: Path) -> None:
    cards, more = worlds.tasks("caption"), {"converters": [LORA], "checkpoint_every": 1e-9}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converters, "_LAYERS", (nn.Linear,))
        worlds.run(cards, tmp_path / "run", steps=2, **more)
    with pytest.raises(CheckpointError, match=r"(?s)hold other groups.*lora took linear layers alone at first.*start="):
        worlds.run(cards, tmp_path / "run", steps=4, resume=True, **more)
    model = worlds.run(
        cards, tmp_path / "next", steps=1, start=Generalist.from_pretrained(tmp_path / "run"), converters=[LORA]
    )
    assert model.network.converters == []


LAYERS = {
    "sound": (nn.Conv1d(6, 8, 3, stride=2, padding=1), (2, 6, 9)),
    "picture": (nn.Conv2d(6, 8, 3, padding=1), (2, 6, 5, 7)),
    "point by point": (nn.Conv2d(6, 8, 1, bias=False), (2, 6, 5, 7)),
    "clip": (nn.Conv3d(3, 8, (2, 3, 3)), (2, 3, 4, 5, 5)),
    "TensorFlow's padding": (SameConv(6, 8, 3, 2, bias=False), (2, 6, 5, 7)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_convolutions_update_is_a_convolution_to_few_channels_and_one_back(name: str) -> None:
    layer, shape = copy.deepcopy(LAYERS[name][0]), LAYERS[name][1]
    network, x = nn.ModuleDict({"a": layer}), torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    before = layer(x)
    tensors = {n: p.detach().clone() for n, p in network.named_parameters()}
    lora = Lora("a.*", rank=2, alpha=6.0)
    lora.convert(network)
    assert torch.equal(layer(x), before)
    update = layer.parametrizations.weight[0]
    nn.init.normal_(update.up_OR)
    # as PEFT has it: a layer of the same kernel, stride and padding to R channels, and a 1 x 1 one behind it
    down = copy.deepcopy(LAYERS[name][0])
    down.weight, down.bias = nn.Parameter(update.down_RI.detach().view(2, *layer.weight.shape[1:])), None
    through = torch.einsum("or,nr...->no...", update.up_OR.detach(), down(x))
    torch.testing.assert_close(layer(x) - before, 3.0 * through, rtol=1e-4, atol=1e-5)
    layer(x).square().sum().backward()
    assert layer.parametrizations.weight.original.grad is None
    assert update.down_RI.grad is not None
    assert update.up_OR.grad is not None
    merged = lora.plain(network, dict(network.named_parameters()))
    assert {n: t.shape for n, t in merged.items()} == {n: t.shape for n, t in tensors.items()}
    plain = copy.deepcopy(LAYERS[name][0])
    plain.load_state_dict({n.removeprefix("a."): t for n, t in merged.items()})
    assert torch.equal(plain(x), layer(x))


def test_the_rank_of_a_kernel_is_at_most_its_smaller_side_and_transposed_ones_are_left() -> None:
    network = nn.ModuleDict({
        "depthwise": SameConv(16, 16, 3, groups=16, bias=False),
        "wide": nn.Conv2d(16, 32, 3, groups=4),
        "narrow": nn.Conv1d(16, 4, 3),
        "back": nn.ConvTranspose2d(16, 8, 3),
    })  # fmt: skip
    Lora("*", rank=12).convert(network)
    shapes = {n: tuple(p.shape) for n, p in network.named_parameters() if n.endswith("up_OR")}
    assert shapes == {
        "depthwise.parametrizations.weight.0.up_OR": (16, 9),
        "wide.parametrizations.weight.0.up_OR": (32, 12),
        "narrow.parametrizations.weight.0.up_OR": (4, 4),
    }


@pytest.mark.parametrize("match", ["*", "one.*", "two.*"])
def test_layers_that_share_a_weight_share_its_update(match: str) -> None:
    network = nn.ModuleDict({"one": nn.Linear(6, 4), "two": nn.Linear(6, 4), "three": nn.Linear(6, 4)})
    network["two"].weight = network["one"].weight
    names = set(network.state_dict())
    lora = Lora(match, rank=2)
    lora.convert(network)
    one, two = (network[name].parametrizations.weight for name in ("one", "two"))
    assert one[0] is two[0]
    assert one.original is two.original
    nn.init.normal_(one[0].up_OR)
    merged = lora.plain(network, dict(network.state_dict()))
    assert set(merged) == names
    assert torch.equal(merged["one.weight"], merged["two.weight"])
    assert torch.equal(network["one"].weight, merged["one.weight"])


def test_one_layer_under_two_names_has_one_update_and_is_plain_under_both() -> None:
    layer = nn.Linear(6, 4)
    network = nn.ModuleDict({"one": layer, "two": layer})
    names = set(network.state_dict())
    lora = Lora("two.*", rank=2)
    lora.convert(network)
    assert len(layer.parametrizations.weight) == 1
    assert set(lora.plain(network, dict(network.state_dict()))) == names


def test_a_weight_that_is_shared_with_another_kind_of_layer_is_refused() -> None:
    network = nn.ModuleDict({"one": nn.Conv2d(4, 4, 3), "back": nn.ConvTranspose2d(4, 4, 3)})
    network["back"].weight = network["one"].weight
    with pytest.raises(CardError, match=r"back.weight shares its weight with a layer that matches"):
        Lora("one.*").convert(network)


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.spectral_norm, weight_norm])
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
def test_a_weight_that_others_make_is_refused(norm: Any) -> None:
    network = nn.ModuleDict({"a": norm(nn.Conv1d(4, 4, 3))})
    with pytest.raises(CardError, match=r"a\.weight is computed from other tensors"):
        Lora("a.*").convert(network)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["loar"], "converter `loar` is not known.*did you mean `lora`"),
        ("lora", "converters is 'lora'.*a list"),
        ([{"path": "lora", "rank": 0}], "rank is 0.*at least 1"),
        ([{"path": "lora", "rnk": 4}], "lora cannot be built: TypeError.*rnk"),
        (
            [{"path": "lora", "match": "body.encodr.*"}],
            r"matches no linear layer or convolution.*did you mean `body.encoder.\*`",
        ),
        (["torch.nn.Identity"], "has no method `convert`"),
        (["ofasys_lite.generalist.converters.Converter"], "does not say how it converts a network"),
        (["lora", "lora"], "is converted already"),
    ],
)
def test_a_wrong_converter_is_told_before_it_trains(tmp_path: Path, given: Any, message: str) -> None:
    with pytest.raises(CardError, match=f"(?s){message}"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, converters=given)
