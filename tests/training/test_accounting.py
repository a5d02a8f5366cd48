"""A step's loss does not depend on how it is cut into packs, and one pack gives what its samples give one by one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.data.mixture import sample_rng
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.layout.ready import Ready
from ofasys_lite.training.accounting import MODES, RunTerms, unit_weights


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
        rows_L, side = unit_weights(pack, ledger, counts, mode)
        losses = model.network(to_device(pack, torch.device("cpu")), smoothing)
        loss = (losses.token_L * torch.from_numpy(rows_L)).sum() + losses.touch
        loss = loss + sum(float(w) * s for w, s in zip(side, losses.side, strict=True))
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
    together = model.network(to_device(collate(samples), device), 0.0)
    alone = [model.network(to_device(collate([s]), device), 0.0) for s in samples]
    torch.testing.assert_close(together.token_L, torch.cat([a.token_L for a in alone]), rtol=2e-5, atol=2e-5)
    side = [s for a in alone for s in a.side]
    assert len(side) == 2
    torch.testing.assert_close(torch.stack(together.side), torch.stack(side), rtol=2e-5, atol=2e-5)


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
    rows_L, _ = unit_weights(pack, ledger, ledger.count([pack]), "share")
    for number, term in enumerate(pack.terms):
        share = sum(task == term.task for task, _ in pack.samples) / len(samples)
        assert rows_L[np.asarray(pack.terms_L) == number].sum() == pytest.approx(share * term.weight, rel=1e-5)


def test_sample_weighs_every_sample_the_same(prepared: Ready) -> None:
    samples = [e for e in examples(prepared, 3) if e.task == "caption"]
    pack = collate(samples)
    ledger = ledger_of(prepared)
    rows_L, _ = unit_weights(pack, ledger, ledger.count([pack]), "sample")
    sums = [rows_L[np.asarray(pack.samples_L) == n].sum() for n in range(len(samples))]
    assert sums == pytest.approx([1 / len(samples)] * len(samples), rel=1e-5)


def test_token_weighs_every_unit_the_same(prepared: Ready) -> None:
    pack = collate([e for e in examples(prepared, 2) if e.task in ("caption", "speech")])
    ledger = ledger_of(prepared)
    rows_L, side = unit_weights(pack, ledger, ledger.count([pack]), "token")
    units = len(rows_L) + sum(len(s.labels) for s in pack.side)
    assert set(rows_L.tolist()) == {np.float32(1 / units)}
    assert side.tolist() == pytest.approx([0.3 / units] * len(side))


def test_an_unknown_mode_is_refused_with_the_near_name(prepared: Ready) -> None:
    pack = collate([])
    ledger = ledger_of(prepared)
    with pytest.raises(CardError, match="did you mean `share`"):
        unit_weights(pack, ledger, ledger.count([pack]), "shares")


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
    (losses.token_L.sum() + losses.touch).backward()
    without = [n for n, p in model.network.named_parameters() if p.grad is None]
    assert without == []
    assert all(not p.grad.any() for p in model.network.parameters() if p.grad is not None)
