"""What a run will cost, held against what torch counts, keeps and makes; what is said where a budget is too small."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import code_worlds
import pytest
import tiny_worlds as worlds
import torch
import yaml
from rich.console import Console
from torch.utils.flop_counter import FlopCounterMode

from ofasys_lite.cards import modalities
from ofasys_lite.cards.find import content_folder
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.model import ModelConfig, Work
from ofasys_lite.model.speed import Speed
from ofasys_lite.training import fit
from ofasys_lite.training.expected import (
    Expected,
    OneRank,
    examples_of,
    expect,
    memory_of,
    parameters_of,
    row_works,
    work_of,
)
from ofasys_lite.training.muon import MINIMAX, orthogonal, update_flops
from ofasys_lite.training.outlook import Outlook, duration, room_of
from ofasys_lite.training.parameter_groups import groups_of
from ofasys_lite.training.settings import TrainSettings

PRESETS = sorted(path.stem for path in content_folder("presets").glob("model/*.yaml"))


def network_of(ready: Ready, config: ModelConfig) -> Network:
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in ready.adapters.items()}
    return Network(config, len(ready.vocabulary), specs)


def measured(network: Network, examples: Any) -> tuple[float, float]:
    """(operations that torch counts, of causal attention half; numbers that autograd keeps) of one pack."""
    batch, held = to_device(collate(examples), torch.device("cpu")), list[torch.Tensor]()
    own = {x.untyped_storage().data_ptr() for x in (*network.parameters(), *network.buffers())}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        held.append(tensor)
        return tensor

    with FlopCounterMode(display=False) as counter:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            losses = network(batch)
        (losses.values_U.sum() + losses.touch).backward()
    kept = {x.untyped_storage().data_ptr(): x.untyped_storage().nbytes() for x in held}
    # of causal attention torch counts both halves, forward and twice backward
    causal = 2 * sum(n * n for n in batch.target.lengths) * network.config.width * network.config.decoder_layers
    return counter.get_total_flops() - 3 * causal, sum(size for key, size in kept.items() if key not in own) / 4


@pytest.mark.parametrize("name", worlds.LINES)
def test_operations_and_kept_numbers_of_a_task_are_those_that_torch_counts(name: str) -> None:
    ready = worlds.ready([worlds.task(name)])
    network = network_of(ready, worlds.tiny())
    examples = examples_of(ready.tasks[0], 0)
    assert len(examples) == 16
    work = work_of(network, row_works(network, examples[:4])[0], examples)
    flops, kept = measured(network, examples)
    assert len(examples) * work.flops == pytest.approx(flops, rel=0.03)
    assert len(examples) * work.kept == pytest.approx(kept, rel=0.1)


@pytest.mark.parametrize(
    "sizes",
    [
        {"mlp": "swiglu", "norm": "rmsnorm", "qk_norm": True},
        {"heads": 4, "kv_heads": 2},
        {"encoder_layers": 3, "decoder_layers": 2},
    ],
)
def test_other_sizes_cost_what_torch_counts(sizes: dict[str, Any]) -> None:
    ready = worlds.ready([worlds.task("caption")])
    network = network_of(ready, worlds.tiny(**sizes))
    examples = examples_of(ready.tasks[0], 0)
    work = work_of(network, row_works(network, examples[:4])[0], examples)
    flops, kept = measured(network, examples)
    assert len(examples) * work.flops == pytest.approx(flops, rel=0.03)
    assert len(examples) * work.kept == pytest.approx(kept, rel=0.1)


def test_an_adapter_that_cannot_be_counted_makes_an_estimate_rougher_and_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ready = worlds.ready([worlds.task("caption")])
    network, settings = network_of(ready, worlds.tiny()), TrainSettings(steps=2, samples_per_step=4)
    mixture = Mixture([MixtureTask("caption", len(ready.tasks[0].sources["train"]))], 0, 4)
    given = (ready.tasks, network, groups_of(network, settings), mixture, settings)
    exact = expect(*given)
    assert exact.rough == {}

    def embed(*_: Any) -> Any:
        raise ValueError("asks for values\nand more")

    monkeypatch.setattr(type(network.adapter("image")), "embed", embed)
    found = expect(*given)
    assert found.rough == {"image": "ValueError: asks for values"}
    assert 0 < found.flops != exact.flops
    speed = Speed(512, 1024, 4096, 1e12, 0.0, 5e11, 1e11)
    shown = Outlook(found, settings, network.config, speed, torch.device("cpu"), 0).lines()
    said = " ".join(" ".join(shown).split())
    assert "note: rougher for the adapter image: what it computes could not be counted (ValueError: asks for" in said
    assert all(len(line) <= 80 for line in shown)


def test_what_codes_cost_is_counted(tmp_path: Path) -> None:
    card = code_worlds.task("draw", code_worlds.codec(tmp_path / "codec"))
    ready = make_ready([card], modalities(), code_worlds.DATA)
    network, (task,) = network_of(ready, worlds.tiny(decoder_layers=2)), ready.tasks
    works, rough = row_works(
        network, [task.maker.example(task.sources["train"].row(i), "0", None, True) for i in (0, 1)]
    )
    assert rough == {}
    assert all(works[name][0].flops > 0 for name in works if "dnd" in name)


@pytest.mark.parametrize("preset", PRESETS)
def test_parameters_of_every_preset_are_those_of_its_model(preset: str) -> None:
    values = yaml.safe_load((content_folder("presets") / "model" / f"{preset}.yaml").read_text(encoding="utf-8"))
    cards = worlds.tasks("caption", "speech")
    with torch.device("meta"):
        network = network_of(
            make_ready(cards, modalities(), DataSettings(400, 32)), ModelConfig.from_dict(values["model"])
        )
    found = parameters_of(network)
    assert sum(found.values()) == sum(p.numel() for p in network.parameters())
    assert found["encoder"] + found["decoder"] == sum(p.numel() for p in network.body.parameters())
    assert found["token table"] == network.embedding.weight.numel()
    assert found["adapter audio"] == sum(p.numel() for p in network.adapters["audio"].parameters())


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
@pytest.mark.parametrize("steps", [1, 5])
def test_an_update_of_muon_costs_what_torch_counts(shape: tuple[int, int], steps: int) -> None:
    with FlopCounterMode(display=False) as counter:
        orthogonal(torch.randn(1, *shape), MINIMAX[:steps], 1e-7, True)
    assert update_flops(shape, steps) == counter.get_total_flops()


def test_memory_is_what_one_adds_up_by_hand() -> None:
    # 10 x 10 by Muon and 5 by AdamW, of a network of 115 numbers: a table of 10 stands still
    network: Any = torch.nn.Module()
    network.matrix = torch.nn.Parameter(torch.zeros(10, 10))
    network.bias = torch.nn.Parameter(torch.zeros(5))
    network.table = torch.nn.Parameter(torch.zeros(10))
    adamw = groups_of(torch.nn.Linear(2, 2), TrainSettings(steps=1))[0]
    muon = replace(adamw, optimizer=TrainSettings(steps=1, optimizer="muon").optimizer)  # type: ignore[arg-type]
    trained = [(network.matrix, muon), (network.bias, adamw)]
    alone = memory_of(network, trained, TrainSettings(steps=1), Work(0, 1000, 100), False, 1)
    assert alone == {"weights": 460, "gradients": 420, "optimizer": 440, "activations": 4000}
    more = memory_of(network, trained, TrainSettings(steps=1, ema=0.9), Work(0, 1000, 100), True, 2)
    assert more["averaged weights"] == 460
    assert more["weights in bf16"] == 230
    assert more["gradients in buckets"] == 420
    assert more["activations"] == 2 * 900 + 4 * 100


def test_a_mixture_costs_what_its_shares_cost() -> None:
    ready = worlds.ready(worlds.tasks("caption", "record"))
    network = network_of(ready, worlds.tiny())
    settings = TrainSettings(steps=10, samples_per_step=8, source_budget=10**6, target_budget=10**6)
    groups = groups_of(network, settings)

    def found(first: float, second: float, **more: Any) -> Expected:
        entries = [MixtureTask("caption", 24, first), MixtureTask("record", 24, second)]
        chosen = replace(settings, **more)
        return expect(ready.tasks, network, groups, Mixture(entries, 0, 8), chosen)

    both, one, other = found(3, 1), found(1, 0), found(0, 1)
    assert [task.samples for task in both.tasks] == [6, 2]
    assert both.flops == pytest.approx(0.75 * one.flops + 0.25 * other.flops)
    small = found(3, 1, source_budget=40, target_budget=40)
    assert small.rank.packs > both.rank.packs == 1
    assert small.flops == both.flops
    assert small.rank.memory["activations"] < both.rank.memory["activations"]
    assert small.others == {}
    mixture = Mixture([MixtureTask("caption", 24), MixtureTask("record", 24)], 0, 8)
    shared = expect(ready.tasks, network, groups, mixture, settings, beside=(1, 2))
    assert shared.others[1] == shared.rank
    assert shared.others[2].memory["gradients in buckets"] == shared.rank.memory["gradients"]
    assert shared.others[2].memory["activations"] < shared.rank.memory["activations"]
    # what one pack keeps goes while its gradients come; gradients of several stay
    assert both.rank.peak == sum(both.rank.memory.values()) - both.rank.memory["gradients"]
    assert small.rank.peak == sum(small.rank.memory.values())


def outlook(room: int = 0, **settings: Any) -> Outlook:
    memory = {"weights": 4e9, "gradients": 4e9, "optimizer": 8e9, "activations": 64e9}
    found = Expected(
        {"token table": 10**8, "encoder": 9 * 10**8, "adapter x": 7},
        10**9,
        (),
        0.6e12,
        0.4e11,
        OneRank(memory, 2.0, (9, 9)),
    )
    speed = Speed(512, 1024, 4096, 1e12, 0.0, 5e11, 1e11)
    return Outlook(found, TrainSettings(**settings), worlds.tiny(), speed, torch.device("cpu"), room)


def test_it_is_said_which_budget_does_not_fit() -> None:
    fits = outlook(100 * 10**9, steps=30, minutes=1)
    assert fits.seconds == 1.0
    assert fits.unfit() == []
    short = outlook(100 * 10**9, steps=200, minutes=1)
    assert short.unfit() == [
        "warning: minutes=1 end it after about 60 of 200 steps; all of them take 3.3 minutes; the learning rate "
        "follows the steps, and its schedule is cut short there",
    ]
    large = outlook(64 * 10**9, steps=30)
    (said,) = large.unfit()
    assert "it needs 80 GB of memory, and this machine has 64 GB" in said
    assert "trainer.gradient_checkpointing=true" in said
    for each in (fits, short, large):
        assert all(len(line) <= 80 for line in each.lines())
        assert "1 G parameters" in each.lines()[0]


def test_minutes_alone_say_how_many_steps_they_hold() -> None:
    assert outlook(minutes=2).steps == 120
    assert "120 steps in 2.0 minutes" in " ".join(" ".join(outlook(minutes=2).lines()).split())
    assert [duration(s) for s in (0.04, 12.3, 600, 86400 * 3)] == ["0.04 s", "12 s", "10 minutes", "3.0 days"]


def test_this_machine_says_its_memory() -> None:
    assert room_of(torch.device("cpu")) > 10**8


def test_what_is_expected_is_printed_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cards, told = worlds.tasks("caption", "spell"), io.StringIO()
    loud = worlds.run(cards, tmp_path / "loud", progress=True, console=Console(file=told, width=80))
    assert "expected:" in told.getvalue()
    assert "4 steps in" in told.getvalue()

    def probed(*_: object) -> None:
        raise AssertionError("nobody sees what was probed")

    monkeypatch.setattr(fit, "outlook", probed)
    quiet = worlds.run(cards, tmp_path / "quiet", progress=False)
    assert worlds.equal(worlds.weights(loud), worlds.weights(quiet))
