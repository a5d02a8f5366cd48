"""Losses of lines with `<->` against plain ones, over packs, ranks and resumed runs; what rests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from pair_worlds import DATA, PAIRS, logged, told_apart
from torch.nn import functional as F

from ofasys_lite.adapters.align import AlignAdapter
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.ready import ReadyTask
from ofasys_lite.preprocess.vocabulary import VECTOR
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.callbacks import Logs
from ofasys_lite.training.ranks import Ranks, looked
from ofasys_lite.training.rules import ParameterRule

CPU = torch.device("cpu")


def ready(line: str, data: Sequence[dict[str, Any]], **card: Any) -> tuple[Any, ReadyTask]:
    found = worlds.ready([worlds.task("pairs", line=line, data=list(data), **card)])
    return found, found.tasks[0]


def step(model: Generalist, task: ReadyTask, data: Sequence[Any], packs: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Losses (by row of the data) and gradients of a step in some packs."""
    batches = [collate([task.maker.example(data[i], str(i), None, False) for i in pack]) for pack in packs]
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    network = model.network
    network.train()
    network.zero_grad(set_to_none=True)

    def look(pack: Any, number: int) -> Any:
        return network.look(to_device(pack, CPU))

    steps: Sequence[Any] = [{}] if len(batches) == 1 else looked(batches, look, terms.term_index, Ranks())
    losses = list[torch.Tensor]()
    for batch, seen in zip(batches, steps, strict=True):
        found = network(to_device(batch, CPU), 0.0, seen)
        (
            (found.values_U * torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])).sum() + found.touch
        ).backward()
        losses.append(found.values_U.detach())
    grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(losses)}


def plain(model: Generalist, task: ReadyTask, data: Sequence[Any], loss: str) -> dict[str, Any]:
    """The same, each side of each row encoded by itself, the loss written out as in the papers."""
    network = model.network
    network.train()
    network.zero_grad(set_to_none=True)
    sides = list[torch.Tensor]()
    for side in (0, 1):
        states = []
        for i, row in enumerate(data):
            example = task.maker.source(row, str(i), None, side=side)
            source = to_device(collate([example]), CPU).source
            states.append(network.encode(source)[-1])
        head = network.adapters["align"]
        projected = torch.stack(states) @ head.projection.weight.T  # type: ignore[union-attr,operator]
        sides.append(projected / projected.norm(dim=1, keepdim=True))
    left, right = sides
    own = torch.arange(len(data))
    captions, pictures = [row["cap"] for row in data], [row["img"].tobytes() for row in data]
    equal = torch.tensor(
        [
            [i != j and (captions[i] == captions[j] or pictures[i] == pictures[j]) for j in range(len(data))]
            for i in range(len(data))
        ]
    )
    scale = torch.exp(head.log_factor[loss])  # type: ignore[union-attr,index]
    scores = scale * left @ right.T
    if loss == "clip":
        kept = scores.masked_fill(equal, -1e30)
        losses = (F.cross_entropy(kept, own, reduction="none") + F.cross_entropy(kept.T, own, reduction="none")) / 2
    else:
        signs = 2 * torch.eye(len(data)) - 1
        losses = -(F.logsigmoid(signs * (scores + head.bias)) * ~equal).sum(1)  # type: ignore[union-attr,operator]
    losses.mean().backward()
    grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {**grads, "losses": losses.detach()}


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        torch.testing.assert_close(
            found[name], value, rtol=3e-4, atol=2e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("loss", ["clip", "siglip"])
def test_losses_and_gradients_are_those_of_the_papers_over_one_pack_and_over_four(loss: str) -> None:
    data = told_apart(14)
    data[5] = {**data[5], "cap": data[1]["cap"]}  # no rivals of each other
    data[7] = {**data[7], "img": data[2]["img"]}
    found, task = ready(PAIRS.format(loss), data)
    model = worlds.generalist(found)
    with torch.no_grad():  # away from where it begins, so that gradients of all of it are seen
        model.network.adapters["align"].bias.fill_(-1.0)  # type: ignore[union-attr,operator]
    wanted = plain(model, task, data, loss)
    one = step(model, task, data, [range(14)])
    four = step(model, task, data, [range(3), [3], range(4, 9), range(9, 14)])
    same(one, wanted)
    same(four, wanted)
    head = [f"adapters.align.{n}" for n in ("projection.weight", f"log_factor.{loss}")]
    assert all(wanted[name].abs().max() > 1e-5 for name in head)
    half = step(model, task, data, [range(7)])["losses"]
    assert not torch.allclose(half, one["losses"][:7], rtol=1e-2)


def test_what_an_equal_side_would_make_a_negative_changes_no_loss() -> None:
    data = told_apart(6)
    found, task = ready(PAIRS.format("clip"), data)
    model = worlds.generalist(found)
    alone = step(model, task, data, [range(6)])["losses"]
    twice = step(model, task, [*data, {**data[0], "id": "again"}], [range(7)])["losses"]
    # the first pair's own double is no rival of it; of the others it is one more
    assert twice[0] == pytest.approx(float(alone[0]), rel=1e-5)
    assert torch.equal(twice[6], twice[0])
    assert (twice[1:6] > alone[1:6]).all()


def test_a_side_is_a_sequence_of_its_own_that_ends_with_a_row_of_the_vocabulary() -> None:
    found, task = ready("[TEXT:cap] one <-> [IMAGE:img] two ||| [TEXT:cap] <-> [IMAGE:img]", told_apart(8))
    batch = collate([task.maker.example(row, "x", None, False) for row in told_apart(3)])
    assert len(batch.source.lengths) == 6
    assert batch.target.lengths == ()
    assert batch.cross == tuple((0, sum(batch.source.lengths[i : i + 2])) for i in (0, 2, 4))
    (pairs,) = batch.losses
    assert pairs.rows_R.tolist() == (np.cumsum(batch.source.lengths) - 1).tolist()
    assert (pairs.units_U.tolist(), pairs.samples_U.tolist()) == ([1, 1, 1], [0, 1, 2])
    assert [(t.slot, t.unit) for t in task.maker.terms()] == [("clip", "pair")]
    ids = next(p for p in batch.source.parts if p.adapter == "text")
    ends = [ids.rows_P.tolist().index(row) for row in pairs.rows_R.tolist()]
    assert set(ids.arrays["ids"][ends]) == {found.vocabulary.find(VECTOR)}
    # both ends are at position 0 of their own sequence's rows plus what stands before
    assert (
        batch.source.positions_S3[0].tolist() == batch.source.positions_S3[batch.source.lengths[0]].tolist() == [0] * 3
    )


def test_the_factor_is_kept_in_its_range_and_can_come_back() -> None:
    found, task = ready(PAIRS.format("clip"), told_apart(8))
    model = worlds.generalist(found)
    head = model.network.adapters["align"]
    assert isinstance(head, AlignAdapter)
    for value, kept in ((9.0, 100.0), (-3.0, 1.0)):
        with torch.no_grad():
            head.log_factor["clip"].fill_(value)
        assert float(head.factor("clip").detach()) == pytest.approx(kept, rel=1e-5)
    grads = step(model, task, told_apart(8), [range(8)])
    assert grads["adapters.align.log_factor.clip"].abs() > 0
    assert "adapters.align.bias" not in grads or not grads["adapters.align.bias"].any()


def stop_after(step: int, cards: Any, folder: Path, **more: Any) -> None:
    """Runs until an interruption (Ctrl-C) behind `step`."""
    before = Logs.on_train_batch_end

    def interrupting(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        before(self, trainer, module, *rest)
        if trainer.global_step == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Logs, "on_train_batch_end", interrupting)
        with pytest.raises(KeyboardInterrupt):
            worlds.run(cards, folder, **more)


def test_a_resumed_run_ends_bit_for_bit_where_one_in_a_piece_ends(tmp_path: Path) -> None:
    cards = [worlds.task("pairs", line=PAIRS.format("clip(block=4)"), data=DATA), worlds.task("caption", data=DATA)]
    more: dict[str, Any] = {"steps": 6, "samples_per_step": 12, "source_budget": 150, "ema": 0.9}
    whole = worlds.run(cards, tmp_path / "whole", model={"dropout": 0.1}, **more)
    stop_after(3, cards, tmp_path / "parts", model={"dropout": 0.1}, **more)
    parts = worlds.run(cards, tmp_path / "parts", model={"dropout": 0.1}, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))


def test_one_side_may_rest_until_a_step(tmp_path: Path) -> None:
    rules = (ParameterRule.of({"match": ["adapters.image.*", "body.encoder.*"], "train": [2, None]}),)
    cards = [worlds.task("pairs", line=PAIRS.format("clip(block=4)"), data=DATA)]
    start = worlds.weights(worlds.run(worlds.tasks("caption"), tmp_path / "start", steps=1))
    for steps, moves in ((2, False), (4, True)):
        began = Generalist.from_pretrained(tmp_path / "start")
        model = worlds.run(cards, tmp_path / str(steps), start=began, steps=steps, parameters=rules, ema=0.0)
        now = worlds.weights(model)
        rested = [n for n in start if n.startswith(("adapters.image.", "body.encoder."))]
        assert rested
        assert any(not torch.equal(now[n], start[n]) for n in rested) == moves
        assert not torch.equal(now["embedding.weight"][:300], start["embedding.weight"][:300])


SCRIPT = """
import sys, warnings
from pathlib import Path
warnings.simplefilter("error")
import torch
torch.set_num_threads(1)
import pair_worlds as here
import tiny_worlds as worlds
cards = [worlds.task("pairs", line=here.PAIRS.format({loss!r}), data=here.DATA), worlds.task("caption", data=here.DATA)]
worlds.run(cards, Path({folder!r}), devices=2, strategy="ddp", **{more!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["clip(block=8)", "siglip(block=8)"])
def test_two_ranks_train_what_one_pack_trains(loss: str, tmp_path: Path) -> None:
    more = {"steps": 4, "samples_per_step": 24, "log_every": 4}
    budget = {**more, "source_budget": 200, "target_budget": 60}
    script = tmp_path / "two.py"
    script.write_text(SCRIPT.format(loss=loss, folder=str(tmp_path / "two"), more=budget))
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    cards = [worlds.task("pairs", line=PAIRS.format(loss), data=DATA), worlds.task("caption", data=DATA)]
    worlds.run(cards, tmp_path / "one", **more)
    worlds.run(cards, tmp_path / "four", **budget)
    one, four, two = (
        torch.load(RunFolder(tmp_path / n).last, weights_only=True)["state_dict"] for n in ("one", "four", "two")
    )
    start = {f"network.{n}": v for n, v in worlds.weights(worlds.generalist(worlds.ready(cards))).items()}
    moved = sum(float((one[n] - v).abs().sum()) for n, v in start.items())
    for other in (four, two):
        assert sum(float((one[n] - other[n]).abs().sum()) for n in start) < 1e-3 * moved
    losses = [logged(tmp_path / n, "train", "pairs")[-1]["loss"] for n in ("one", "four", "two")]
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-3)
