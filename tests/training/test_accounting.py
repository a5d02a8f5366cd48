"""A step's loss does not depend on how it is cut into packs, and one pack gives what its samples give one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.layout.ready import Ready
from ofasys_lite.training.accounting import MODES, RunTerms, unit_weights
from ofasys_lite.training.settings import TrainSettings


@pytest.fixture(scope="module")
def prepared() -> Ready:
    """All tasks of the tiny world."""
    return worlds.ready(worlds.tasks())


@pytest.fixture(scope="module")
def model(prepared: Ready) -> Generalist:
    """An untrained model for them."""
    return worlds.generalist(prepared)


def examples(prepared: Ready, each: int) -> list[Example]:
    """`each` samples of every task, tasks taking turns."""
    found = []
    for number in range(each):
        for task in prepared.tasks:
            source = task.sources["train"]
            rng = sample_rng(0, task.card.name, source.ids(number), 0)
            found.append(task.maker.example(source.row(number), source.ids(number), rng, train=True))
    return found


def ledger_of(prepared: Ready) -> RunTerms:
    """The numbering of the run."""
    return RunTerms([t for task in prepared.tasks for t in task.maker.terms()], [t.card.name for t in prepared.tasks])


def step(
    model: Generalist, prepared: Ready, packs: Sequence[Batch], mode: str, smoothing: float = 0.0
) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of a step and its gradients."""
    ledger = ledger_of(prepared)
    counts = ledger.count(packs)
    model.network.zero_grad(set_to_none=True)
    total = 0.0
    for pack in packs:
        weights_U = unit_weights(pack, ledger, counts, mode)[0]
        losses = model.network(to_device(pack, torch.device("cpu")), smoothing)
        loss = (losses.values_U * torch.from_numpy(weights_U)).sum() + losses.touch
        loss.backward()
        total += float(loss.detach())
    grads = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in model.network.named_parameters()}
    return total, grads


def close(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Asserts equality to rounding, relative to the largest entry of each tensor."""
    for name, value in first.items():
        limit = 3e-5 * max(float(value.abs().max()), 1e-3)
        assert float((value - second[name]).abs().max()) <= limit, name


def test_a_packed_mixture_of_all_modalities_gives_each_sample_the_losses_it_has_alone(
    prepared: Ready, model: Generalist
) -> None:
    samples = examples(prepared, 2)
    device = torch.device("cpu")
    pack, packs = collate(samples), [collate([s]) for s in samples]
    together = model.network(to_device(pack, device), 0.0).values_U
    alone = [model.network(to_device(each, device), 0.0).values_U for each in packs]
    for number, losses in enumerate(alone):
        torch.testing.assert_close(together[torch.from_numpy(pack.samples_U == number)], losses, rtol=2e-5, atol=2e-5)
    assert sum(rows.side == "source" for each in packs for rows in each.losses) == 2


@pytest.mark.parametrize("mode", MODES)
def test_a_packed_mixture_has_the_gradients_of_its_samples_one_by_one(
    prepared: Ready, model: Generalist, mode: str
) -> None:
    samples = examples(prepared, 2)
    one, grads = step(model, prepared, [collate(samples)], mode)
    many, summed = step(model, prepared, [collate([s]) for s in samples], mode)
    assert one == pytest.approx(many, rel=1e-5)
    close(grads, summed)
    assert all(float(g.abs().max()) > 0 for n, g in grads.items() if "mask" not in n)


@pytest.mark.parametrize("mode", MODES)
def test_two_packs_of_8_are_one_of_16_and_an_empty_pack_adds_nothing(
    prepared: Ready, model: Generalist, mode: str
) -> None:
    samples = examples(prepared, 2)[:16]
    one, grads = step(model, prepared, [collate(samples)], mode, smoothing=0.1)
    two, summed = step(model, prepared, [collate(samples[:8]), collate(samples[8:]), collate([])], mode, smoothing=0.1)
    assert one == pytest.approx(two, rel=1e-5)
    close(grads, summed)


def test_share_weighs_a_task_by_its_samples_and_a_slot_by_its_mean_unit(prepared: Ready, model: Generalist) -> None:
    samples = [e for e in examples(prepared, 4) if e.task in ("caption", "both")][:6]
    pack = collate(samples)
    ledger = ledger_of(prepared)
    rows_L = unit_weights(pack, ledger, ledger.count([pack]), "share")[0]
    for number, term in enumerate(pack.terms):
        share = sum(task == term.task for task, _ in pack.samples) / len(samples)
        assert rows_L[np.asarray(pack.terms_U) == number].sum() == pytest.approx(share * term.weight, rel=1e-5)


def test_sample_weighs_every_sample_the_same(prepared: Ready) -> None:
    samples = [e for e in examples(prepared, 3) if e.task == "caption"]
    pack = collate(samples)
    ledger = ledger_of(prepared)
    rows_L = unit_weights(pack, ledger, ledger.count([pack]), "sample")[0]
    sums = [rows_L[np.asarray(pack.samples_U) == n].sum() for n in range(len(samples))]
    assert sums == pytest.approx([1 / len(samples)] * len(samples), rel=1e-5)


def test_token_weighs_every_unit_the_same(prepared: Ready) -> None:
    pack = collate([e for e in examples(prepared, 2) if e.task in ("caption", "speech")])
    ledger = ledger_of(prepared)
    weights_U = unit_weights(pack, ledger, ledger.count([pack]), "token")[0]
    units = pack.units_U.sum()
    assert units == len(weights_U) - 2 + sum(len(rows.host["labels"]) for rows in pack.losses if rows.side == "source")
    for rows, start in zip(pack.losses, np.cumsum([0, *(len(r.terms_U) for r in pack.losses)]), strict=False):
        share = 1.0 if rows.side == "target" else 0.3
        assert set(weights_U[start : start + len(rows.terms_U)].tolist()) == {np.float32(share / units)}


def test_an_unknown_mode_is_refused_with_the_near_name() -> None:
    with pytest.raises(CardError, match="did you mean `share`"):
        TrainSettings(steps=1, accounting="shares")


@pytest.mark.parametrize("switch", ["gradient_checkpointing", "kv"])
def test_gradient_checkpointing_changes_no_gradient(prepared: Ready, switch: str) -> None:
    more = {"kv_heads": 1} if switch == "kv" else {}
    plain = worlds.generalist(prepared, **more)
    saving = worlds.generalist(prepared, gradient_checkpointing=True, **more)
    pack = [collate(examples(prepared, 1))]
    one, grads = step(plain, prepared, pack, "share")
    two, again = step(saving, prepared, pack, "share")
    assert one == pytest.approx(two, rel=1e-6)
    close(grads, again)


def test_every_parameter_has_a_place_in_the_graph_of_an_empty_pack(prepared: Ready, model: Generalist) -> None:
    model.network.zero_grad(set_to_none=True)
    losses = model.network(to_device(collate([]), torch.device("cpu")), 0.0)
    (losses.values_U.sum() + losses.touch).backward()
    without = [n for n, p in model.network.named_parameters() if p.grad is None]
    assert without == []
    assert all(not p.grad.any() for p in model.network.parameters() if p.grad is not None)
