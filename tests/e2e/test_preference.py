"""Preference pairs `[TEXT:chosen>rejected]`: DPO, IPO and KTO against frozen weights, of texts and of codes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import code_worlds
import numpy as np
import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.adapters.pair_losses import losses
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import CheckpointError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.loader import Steps
from ofasys_lite.layout.preference import OtherAnswer, other_answer
from ofasys_lite.layout.ready import make_ready
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.ranks import Ranks, looked
from ofasys_lite.training.reference import Reference

NAMES = ("dpo", "ipo(beta=0.2)", "kto(beta=0.3)", "dpo(beta=0.2,sft=0.5)")
WORDS = ("sun", "moon", "star", "sky", "rain", "snow")


def rows(count: int = 48) -> list[dict[str, Any]]:
    """The better answer shouts the word, which is longer and less likely at first."""
    found = []
    for number in range(count):
        word = WORDS[number % 6]
        found.append(
            {"id": str(number), "q": f"{word} {number}", "good": f"{word.upper()}! {word}!", "bad": f"a {word}"}
        )
    return found


def cards(loss: str = "dpo") -> list[Any]:
    held = {"train": rows(), "valid": rows(60)[48:], "test": rows(60)[48:]}
    return [worlds.task("pair", held, line=f"what is [TEXT:q] ? -> well, [TEXT:good>bad,loss={loss}]")]


def world(loss: str = "dpo") -> tuple[Any, Generalist]:
    (task,) = worlds.ready(cards(loss)).tasks
    return task, worlds.generalist(worlds.ready(cards(loss)))


def answer(network: Network, task: Any, row: dict[str, Any], column: str) -> float:
    """Log probability of one answer by itself, as cross entropy of a plain line has it."""
    held = {"train": rows(), "valid": rows()[:2], "test": rows()[:2]}
    plain = worlds.task("plain", held, line=f"what is [TEXT:q] ? -> well, [TEXT:{column}]")
    (ready,) = make_ready([plain], modalities(), worlds.small_data(), task.maker.vocabulary).tasks
    batch = collate([ready.maker.example(row, row["id"], None, False)])
    with torch.no_grad():
        return -float(network(to_device(batch, torch.device("cpu"))).values_U.sum())


# ---------------------------------------------------------------------- the losses


def test_losses_are_those_of_the_papers() -> None:
    ratios = torch.tensor([[1.0, -0.5], [-2.0, 3.0]])
    dpo, ipo, kto = (losses(name, ratios, 0.2).tolist() for name in ("dpo", "ipo", "kto"))
    assert dpo == pytest.approx([math.log(1 + math.exp(-0.3)), math.log(1 + math.exp(1.0))])
    assert ipo == pytest.approx([(1.5 - 2.5) ** 2, (-5.0 - 2.5) ** 2])

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    def wanted(z: float) -> list[float]:
        return [1 - (sigmoid(0.2 * (a - z)) + sigmoid(0.2 * (z - b))) / 2 for a, b in ratios.tolist()]

    # without answers to other sources z is 0
    assert kto == pytest.approx(wanted(0.0))
    for others, z in (((2.5, -1.0), 0.75), ((2.5, -4.0), 0.0)):
        three = torch.cat([ratios, torch.tensor(others)[:, None]], 1).requires_grad_()
        found = losses("kto", three, 0.2)
        assert found.tolist() == pytest.approx(wanted(z))
        (gradient,) = torch.autograd.grad(found.sum(), three)
        assert gradient[:, :2].abs().min() > 0
        assert not gradient[:, 2].any()


@pytest.mark.parametrize("loss", NAMES)
def test_a_pair_costs_what_its_answers_by_themselves_say(loss: str) -> None:
    task, model = world(loss)
    torch.manual_seed(3)
    other = worlds.generalist(worlds.ready(cards(loss)), seed=5)
    batch = collate([trained(task, number) for number in range(5)])
    reference = Reference(other.network)
    frozen = reference(batch, torch.device("cpu"))
    (found,) = batch.losses
    assert found.counts == tuple(len(p.arrays["ids"]) for p in _pieces([trained(task, n) for n in range(5)]))
    values = model.network(to_device(batch, torch.device("cpu")), 0.1, {}, frozen).values_U.tolist()
    name, _, options = loss.partition("(")
    said = dict(pair.split("=") for pair in options.rstrip(")").split(",") if pair)
    beta, sft = float(said.get("beta", 0.1)), float(said.get("sft", 0))
    own, theirs = (
        [_answers(network, task, number) for number in range(5)] for network in (model.network, other.network)
    )
    ratios = torch.tensor(own) - torch.tensor(theirs)
    wanted = losses(name, ratios, beta)
    wanted -= sft * torch.tensor([each[0] for each in own]) / torch.tensor(found.counts[:: ratios.shape[1]])
    assert values == pytest.approx(wanted.tolist(), abs=1e-4)
    if name == "kto":
        # what answers to other sources say counts
        assert abs(ratios[:, 2].mean()) > 0.1
        assert ratios.shape == (5, 3)


def trained(task: Any, number: int) -> Any:
    """A row as training lays it out, but without anything random of its own."""
    other = (
        other_answer(task.sources["train"], number, np.random.default_rng(number)) if task.maker.mismatched else None
    )
    return task.maker.example(rows()[number], str(number), None, False, other=other)


def _answers(network: Network, task: Any, number: int) -> list[float]:
    """Log probabilities of a row's answers, and of the other row's to its source."""
    row = rows()[number]
    found = [answer(network, task, row, column) for column in ("good", "bad")]
    if task.maker.mismatched:
        other = other_answer(task.sources["train"], number, np.random.default_rng(number))
        assert other.row["id"] != row["id"]
        found.append(answer(network, task, {**other.row, "q": row["q"]}, "bad" if other.rejected else "good"))
    return found


def _pieces(examples: Sequence[Any]) -> list[Any]:
    return [target.pieces[target.learned[0].piece] for example in examples for target in example.targets]


def step(model: Generalist, task: Any, packs: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Gradients of a step over some rows, in packs; the losses stand at `losses`."""
    host = torch.device("cpu")
    batches = [collate([trained(task, i) for i in pack]) for pack in packs]
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    reference = Reference(worlds.generalist(worlds.ready(cards()), seed=5).network)
    frozen = [reference(batch, host) for batch in batches]
    network = model.network
    network.zero_grad(set_to_none=True)

    def look(pack: Any, number: int) -> Any:
        return network.look(to_device(pack, host), frozen[number])

    steps: Sequence[Any] = [{}] if len(batches) == 1 else looked(batches, look, terms.term_index, Ranks())
    found = []
    for number, batch in enumerate(batches):
        made = network(to_device(batch, host), 0.0, steps[number], frozen[number])
        (made.values_U * torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])).sum().backward()
        found.append(made.values_U.detach())
    grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(found)}


@pytest.mark.parametrize("loss", NAMES)
def test_one_pack_and_four_are_the_same(loss: str) -> None:
    task, model = world(loss)
    order = [*range(5), *range(20, 27)]
    one, four = step(model, task, [order]), step(model, task, [order[:2], order[2:3], order[3:8], order[8:]])
    assert len(one["losses"]) == 12
    assert one.keys() == four.keys()
    for name, value in one.items():
        torch.testing.assert_close(four[name], value, rtol=5e-4, atol=2e-6, msg=name)


# ---------------------------------------------------------------------- trained


def margins(model: Generalist, task: Any) -> Any:
    """How much likelier the better answer of new rows is, in nats."""
    pairs = [[answer(model.network, task, row, column) for column in ("good", "bad")] for row in rows(60)[48:]]
    return np.array([a - b for a, b in pairs])


@pytest.mark.parametrize("loss", ["dpo", "ipo(beta=0.5)", "kto(beta=0.5)"])
def test_a_preference_is_learned_while_the_reference_stays_as_it_was(loss: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"samples_per_step": 12, "lr": 5e-3, "log_every": 10}
    task, begun = world(loss)
    folder = tmp_path / "run"
    model = worlds.run(cards(loss), folder, steps=40, **more)
    begin = worlds.generalist(worlds.ready(cards(loss)))
    frozen = Reference(begin.network)
    frozen.keep(RunFolder(folder).reference, True, False)
    # untrained weights of the run's seed, to the last bit
    assert all(torch.equal(p, q) for p, q in zip(frozen.network.parameters(), begun.network.parameters(), strict=True))
    assert not worlds.equal(worlds.weights(model), worlds.weights(begin))
    before, after = margins(begin, task), margins(model, task)
    assert before.max() < 0
    # of all new rows, too
    assert (after - before).min() > 0.5
    if loss == "dpo":  # the others ask for a margin against the frozen weights, not for the likelier answer
        assert after.min() > 0
    assert worlds.weights(Generalist.from_pretrained(folder)).keys() == worlds.weights(begin).keys()
    score = Validator(RunFolder(folder), samples=6)(model, 40, 0.0)
    assert score is not None
    valid = next(r for r in RunFolder(folder).history() if r["kind"] == "valid")
    assert set(valid["loss"]) == {"good"}


def test_frozen_weights_are_asked_once_for_what_they_have_seen() -> None:
    task, model = world()
    reference = Reference(model.network)

    def ask(*numbers: int) -> Any:
        return reference(
            collate([task.maker.example(rows()[n], str(n), None, False) for n in numbers]), torch.device("cpu")
        )

    first = ask(0, 1, 2)
    again = ask(2, 0)
    assert reference.passes == 1
    (one,), (two,) = first.values(), again.values()
    torch.testing.assert_close(two, one.view(3, 2)[[2, 0]].flatten())
    ask(2, 3)
    assert reference.passes == 2
    changed = {**rows()[0], "q": "another question"}
    reference(collate([task.maker.example(changed, "0", None, False)]), torch.device("cpu"))
    assert reference.passes == 3


@pytest.mark.parametrize("loss", ["dpo", "kto"])
def test_a_resumed_run_goes_on_against_the_same_weights(loss: str, tmp_path: Path) -> None:
    more: dict[str, Any] = {"samples_per_step": 6, "warmup": 0.0, "schedule": "constant"}
    whole = worlds.run(cards(loss), tmp_path / "whole", steps=8, **more)
    worlds.run(cards(loss), tmp_path / "parts", steps=4, **more)
    parts = worlds.run(cards(loss), tmp_path / "parts", steps=8, resume=True, **more)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    RunFolder(tmp_path / "parts").reference.unlink()
    with pytest.raises(CheckpointError, match="compared with the weights that the run began with"):
        worlds.run(cards(loss), tmp_path / "parts", steps=10, resume=True, **more)


def test_a_sample_keeps_the_answer_of_another_row() -> None:
    task, model = world("kto")
    steps = Steps([task], Mixture([MixtureTask("pair", 48)], 0, 48), 0, budgets=(100, 60))
    assert task.maker.lengths(task.sources["train"], 0)[1] > world("dpo")[0].maker.lengths(task.sources["train"], 0)[1]
    met: dict[str, list[Any]] = {}
    reference = Reference(model.network)
    for number in (0, 1):  # both epochs
        packs = steps[number].packs
        assert len(packs) > 3
        for pack in packs:
            (found,) = pack.losses
            reference(pack, torch.device("cpu"))
            for (_, id), contents in zip(pack.samples, found.host["content"].tolist(), strict=True):
                met.setdefault(id, []).append(contents)
    assert len(met) == 48
    assert all(len(first) == 3 and first == second for first, second in met.values())
    # asked once, however the second epoch is packed
    assert reference.passes == len(steps[0].packs)
    assert len({contents[2] for contents, _ in met.values()}) > 40


def test_an_answer_of_another_row_that_cannot_be_read_is_told() -> None:
    task, _ = world("kto")
    other = OtherAnswer({"id": "7", "good": None, "bad": "x"}, "7", False)
    with pytest.raises(OfasysError, match=r"id 0: the answer of 7, which its own are compared with: .*good"):
        task.maker.example(rows()[0], "0", np.random.default_rng(0), True, other=other)


def test_pictures_in_codes_are_preferred(tmp_path: Path) -> None:
    codec = code_worlds.codec(tmp_path / "codec")
    pictures = {row["label"]: row["img"] for row in code_worlds.rows(40)}
    held = []
    for number in range(24):
        label = list(code_worlds.COLOURS)[number % 3]
        held.append({"id": str(number), "cap": label, "good": pictures[label], "bad": 255 - pictures[label]})
    card = load_task_card(
        {
            "instruction": f"draw [TEXT:cap] -> [IMAGE:good>bad,codec=dnd({codec}),loss=dpo(beta=0.2)]",
            "data": {"train": held, "valid": held[:3], "test": held[:3]},
        },
        name="draw",
    )
    folder = tmp_path / "run"
    more: dict[str, Any] = {"model": {"decoder_layers": 2}, "data": code_worlds.DATA}
    worlds.run([card], folder, steps=20, log_every=5, samples_per_step=6, lr=5e-3, **more)
    found = [r["loss"] for r in RunFolder(folder).history() if r["kind"] == "train"]
    assert found[0] > 0.4
    assert found[-1] < 0.2


# ---------------------------------------------------------------------- what cannot be

WRONG = {
    "[TEXT:q] -> [TEXT:a,loss=dpo]": "dpo compares two columns",
    "[TEXT:q] -> [TEXT:good>bad,loss=cross_entropy]": "knows of one column, and a preference pair has two",
    "[TEXT:q] -> [TEXT:good>bad,loss=dpo(gamma=1)]": "objective dpo has no `gamma`",
    "[TEXT:q] -> [TEXT:good>bad,loss=dpo(beta=0)]": "`beta` of dpo is a number of at least 1e-06, not 0",
    "[TEXT:q] -> [TEXT:good>bad,loss=kto(sft=-1)]": "`sft` of kto is a number of at least 0",
    "[TEXT:q] -> [TEXT:good>bad] [TEXT:more]": "a preference pair is all that its line writes",
    "[TEXT:q] -> [TEXT:good>bad] ;; [TEXT:more]": "a preference pair is all that its line writes",
    "[TEXT:q] -> ([TEXT:good>bad])*": "a preference pair is all that its line writes",
    "[TEXT:good>bad] -> [TEXT:a]": "a preference pair stands on the target side",
    "[TEXT:q] -> [AUDIO:good>bad]": "a preference pair needs a likelihood, and AUDIO is learned by flow",
}


@pytest.mark.parametrize("line", WRONG)
def test_lines_that_cannot_be(line: str) -> None:
    held = [{**row, "more": "x", "a": "y"} for row in rows()]
    with pytest.raises(OfasysError) as caught:
        worlds.ready([worlds.task("t", {"train": held, "valid": held[:2], "test": held[:2]}, line=line)])
    assert WRONG[line] in str(caught.value)


def test_a_row_without_its_second_answer_is_told() -> None:
    task, _ = world()
    for value, told in (("", "column `bad`: the target is empty"), (None, "bad")):
        with pytest.raises(OfasysError, match=told):
            task.maker.example({**rows()[0], "bad": value}, "0", np.random.default_rng(0), True)
