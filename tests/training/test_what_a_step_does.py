"""Everything the settings promise of a step happens in it: seen at the optimizer's door, not in the code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import tiny_worlds as worlds
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.layout.loader import Steps
from ofasys_lite.layout.ready import Ready
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.module import TrainingModule

WORLD = ("caption", "record")


@contextmanager
def gradients() -> Iterator[list[list[Tensor]]]:
    """What every optimizer finds at each of its steps while this lasts."""
    found: list[list[Tensor]] = []

    def look(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        every = (p.grad for group in optimizer.param_groups for p in group["params"])
        found.append([g.detach().clone() for g in every if g is not None])

    handle = register_optimizer_step_pre_hook(look)
    try:
        yield found
    finally:
        handle.remove()


def norm(every: list[Tensor]) -> float:
    return float(torch.stack([g.norm() for g in every]).norm())


def run(folder: Path, **more: Any) -> Generalist:
    return worlds.run(worlds.tasks(*WORLD), folder, **{"steps": 2, **more})


def test_gradients_are_clipped_to_the_norm_that_is_set(tmp_path: Path) -> None:
    with gradients() as free:
        run(tmp_path / "free", clip=0.0)
    assert min(map(norm, free)) > 0.2
    with gradients() as clipped:
        run(tmp_path / "clipped", clip=0.1)
    assert [norm(g) for g in clipped] == pytest.approx([0.1, 0.1], rel=1e-3)


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_step_sets_no_attribute_of_a_module_and_walks_through_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ema: float
) -> None:
    # torch asks of each value whether it is a parameter: ten to twenty microseconds an attribute
    plain, found = TrainingModule.training_step, list[str]()

    def step(self: TrainingModule, share: Any, batch_idx: int) -> None:
        with monkeypatch.context() as patch:
            for name in ("__setattr__", "named_modules"):
                whole = getattr(nn.Module, name)

                def noted(module: nn.Module, *given: Any, name: str = name, whole: Any = whole, **more: Any) -> Any:
                    found.append(f"{self.global_step} {type(module).__name__}.{name} {given[:1]}")
                    return whole(module, *given, **more)

                patch.setattr(nn.Module, name, noted)
            plain(self, share, batch_idx)

    monkeypatch.setattr(TrainingModule, "training_step", step)
    run(tmp_path / "run", steps=3, ema=ema)
    # averages begin with the first step
    assert [each for each in found if not (ema and each.startswith("0 ") and "average" in each)] == []


def test_label_smoothing_reaches_the_loss(tmp_path: Path) -> None:
    with gradients() as sharp:
        run(tmp_path / "sharp", clip=0.0, steps=1)
    with gradients() as smooth:
        run(tmp_path / "smooth", clip=0.0, steps=1, label_smoothing=0.3)
    apart = [(a - b).abs().max() for a, b in zip(sharp[0], smooth[0], strict=True)]
    assert max(apart) > 1e-3


def test_ranks_multiply_their_loss_so_that_averaged_gradients_are_those_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # two ranks with the same share: counts double, each row weighs half, and the mean over ranks is what one rank has
    with gradients() as alone:
        run(tmp_path / "alone", clip=0.0, steps=1, model={"dropout": 0.0})
    agree = TrainingModule._agree

    def as_two(self: TrainingModule, *args: Any) -> Any:
        counts, *rest = agree(self, *args)
        counts.units[:] *= 2
        counts.samples[:] *= 2
        monkeypatch.setattr(L.Trainer, "world_size", property(lambda _: 2))
        return (counts, *rest)

    monkeypatch.setattr(TrainingModule, "_agree", as_two)
    patched = TrainingModule._backward

    def then_alone(self: TrainingModule, *args: Any) -> None:
        patched(self, *args)
        monkeypatch.setattr(L.Trainer, "world_size", property(lambda _: 1))

    monkeypatch.setattr(TrainingModule, "_backward", then_alone)
    with gradients() as doubled:
        run(tmp_path / "two", clip=0.0, steps=1, model={"dropout": 0.0})
    for one, two in zip(alone[0], doubled[0], strict=True):
        assert torch.allclose(one, two, atol=1e-6)


def test_dropout_is_seeded_anew_in_every_step_and_pack_and_alike_in_a_second_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, seeds, states, traces = Network.forward, list[int](), list[Tensor](), list[Any]()

    def noted(self: Network, *args: Any, **kwargs: Any) -> Any:
        if not seeds:  # building the model has seeded by torch
            monkeypatch.setattr(traceback, "format_stack", lambda *_: traces.append(1) or [])
        seeds.append(torch.initial_seed())
        states.append(torch.get_rng_state())
        return forward(self, *args, **kwargs)

    monkeypatch.setattr(Network, "forward", noted)
    for name in ("first", "second"):
        run(tmp_path / name, steps=3, samples_per_step=16, source_budget=150, target_budget=150)
        assert not traces or name == "second"  # of frames, kept for devices that are not there; building seeds by torch
    count = len(seeds) // 2
    assert count > 3  # several packs in some step
    assert all(
        torch.equal(state, torch.manual_seed(seed).get_state()) for seed, state in zip(seeds, states, strict=True)
    )
    assert seeds[:count] == seeds[count:]
    assert len(set(seeds[:count])) == count


def test_the_draws_of_a_sample_change_from_epoch_to_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = worlds.ready([worlds.task("restore", worlds.rows(4))])
    steps = Steps(prepared.tasks, Mixture([MixtureTask("restore", 4)], 3, 4), 3)
    example, drawn = ExampleMaker.example, {}

    def noted(self: ExampleMaker, row: Any, id: str, rng: np.random.Generator, *args: Any, **kwargs: Any) -> Any:
        drawn[id] = repr(rng.bit_generator.state)
        return example(self, row, id, rng, *args, **kwargs)

    monkeypatch.setattr(ExampleMaker, "example", noted)
    epochs = []
    for step in (0, 1, 0):
        drawn.clear()
        steps[step]
        epochs.append(dict(drawn))
    first, second, again = epochs
    assert len(first) == 4
    assert first.keys() == second.keys()
    assert first == again
    assert all(first[id] != second[id] for id in first)


def test_a_resumed_run_remembers_how_long_it_has_trained(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run(folder.path, steps=2, log_every=1)
    state = torch.load(folder.last, weights_only=True)
    state["ofasys"]["seconds"] = 1000.0
    torch.save(state, folder.last)
    run(folder.path, steps=4, log_every=1, resume=True)
    times = [row["time"] for row in folder.history() if row["kind"] == "step" and row["step"] > 2]
    assert len(times) == 2
    assert min(times) >= 1000.0
    assert torch.load(folder.last, weights_only=True)["ofasys"]["seconds"] >= 1000.0


def test_validation_sees_the_averaged_weights_and_training_goes_on_with_its_own(tmp_path: Path) -> None:
    seen: list[dict[str, Tensor]] = []

    def validate(model: Generalist, step: int, seconds: float) -> float:
        seen.append(worlds.weights(model))
        return 0.5

    model = run(tmp_path / "run", steps=4, ema=0.9, valid_every=1e9, validate=validate)
    state = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)
    own = {k.removeprefix("network."): v for k, v in state["state_dict"].items()}
    assert worlds.equal(seen[-1], state["ofasys"]["average"])
    assert worlds.equal(worlds.weights(model), seen[-1])
    assert any(not torch.equal(own[name], value) for name, value in seen[-1].items())


class Planted:
    """What a checkpoint of a stranger could hold."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_cannot_run_code_at_a_resume(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    run(folder.path, steps=1)
    state = torch.load(folder.last, weights_only=True)
    state["more"] = Planted(tmp_path / "planted")
    torch.save(state, folder.last)
    with pytest.raises(OfasysError):
        run(folder.path, steps=2, resume=True)
    assert not (tmp_path / "planted").exists()


@pytest.fixture(scope="module")
def spoken() -> Ready:
    return worlds.ready(worlds.tasks("speech"))


def test_ctc_takes_the_control_row_called_blank_for_nothing(spoken: Ready) -> None:
    model = worlds.generalist(spoken)
    entry = spoken.tasks[0]
    source = entry.sources["train"]
    rows = range(3)
    batch = to_device(
        collate([entry.maker.example(source.row(i), source.ids(i), None, False) for i in rows]), torch.device("cpu")
    )
    network = model.network.eval()
    with torch.no_grad():
        (rows,) = worlds.learned(batch, "ctc")
        found = network(batch, 0.0).values_U[-len(rows.counts) :]
        states_SD = network.encode(batch.source)
        each_rows = rows.rows_R.split(list(rows.counts))
        each_labels = np.split(rows.host["labels"], np.cumsum(rows.units_U)[:-1])
        for loss, own, labels in zip(found, each_rows, each_labels, strict=True):
            scores = network.text.scores(states_SD[own])
            want = F.ctc_loss(
                scores.float().log_softmax(-1).unsqueeze(1),
                torch.from_numpy(labels).unsqueeze(0),
                torch.tensor([len(scores)]),
                torch.tensor([len(labels)]),
                blank=CONTROL_IDS["blank"],
                reduction="sum",
            )
            assert float(loss) == pytest.approx(float(want), rel=1e-4)


def test_a_young_average_follows_the_weights_closely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update, seen = TrainingModule._update, []

    def noted(self: TrainingModule, step: int, through: list[int]) -> None:
        update(self, step, through)
        weights = {n: p.detach().clone() for n, p in self.network.named_parameters()}
        seen.append((weights, {n: v.clone() for n, v in self.average.items()}))

    monkeypatch.setattr(TrainingModule, "_update", noted)
    run(tmp_path / "run", steps=5, ema=0.999)
    (first, _), (last, mean) = seen[0], seen[-1]
    behind = sum(float((mean[n] - last[n]).abs().sum()) for n in mean)
    moved = sum(float((mean[n] - first[n]).abs().sum()) for n in mean)
    assert behind < moved
