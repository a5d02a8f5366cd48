"""Softmax over names that are drawn: in expectation, and with all of them drawn exactly, the softmax over all."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
import torch
from torch.nn import functional as F

from ofasys_lite.adapters.base import Encoded
from ofasys_lite.adapters.few_names import sampled
from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError, DataError, OfasysError, ShapeError
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.learned import LearnedPiece
from ofasys_lite.layout.ready import make_ready
from ofasys_lite.layout.sampled import SampledSoftmax
from ofasys_lite.model import sampled_loss
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.training.accounting import RunTerms, unit_weights
from ofasys_lite.training.ranks import Ranks, looked

CPU = torch.device("cpu")
NAMES, WIDTH, LOW = 12, 5, 40
COUNTS = np.array([1, 2, 40, 3, 5, 90, 1, 0, 7, 20, 2, 11])
LINE = "after [CATEGORY:old] -> [CATEGORY:new,closed_set=names,loss=sampled_softmax({})]"


def bound(**options: Any) -> Any:
    found = SampledSoftmax("sampled_softmax", tuple(options.items()))
    return found.among(np.arange(LOW, LOW + NAMES)[::-1].copy(), COUNTS[::-1].copy())


def losses(objective: Any, states: torch.Tensor, weight: torch.Tensor, rights: Sequence[int], rng: Any) -> torch.Tensor:
    """Losses of rows, one a name, laid out as a pack."""
    pieces = []
    for row, right in enumerate(rights):
        piece, arrays = objective.prepare(Piece.of_ids([LOW + right]), lambda _: Piece.of_ids([]), rng)
        pieces.append(LearnedPiece(piece, np.array([row]), "target", "text", row, row, row, (0,), arrays))
    rows = objective.rows(pieces)
    batch = collate([])
    made = to_device(type(batch)(batch.source, batch.target, (), 0, (rows,), (), ()), CPU).losses[0]
    return sampled(made, Encoded(batch, None, states), weight, 1.0).loss(states)  # type: ignore[arg-type]


@pytest.fixture
def world() -> tuple[torch.Tensor, torch.Tensor]:
    """States (3, D) and a table whose rows of the set stand behind others."""
    drawn = torch.Generator().manual_seed(3)
    return torch.randn(3, WIDTH, generator=drawn), torch.randn(LOW + NAMES, WIDTH, generator=drawn)


RIGHTS = (2, 7, 5)


def full(states: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(states @ weight[LOW:].T, torch.tensor(RIGHTS), reduction="none")


@pytest.mark.parametrize(
    "options", [{"negatives": 11}, {"negatives": 500, "power": 1.0}, {"negatives": 11, "log_q": False}]
)
def test_with_all_names_drawn_it_is_the_full_softmax(options: Any, world: Any) -> None:
    states, weight = (x.clone().requires_grad_() for x in world)
    found = losses(bound(**options), states, weight, RIGHTS, np.random.default_rng(0))
    wanted = full(*world)
    torch.testing.assert_close(found, wanted)
    grads = torch.autograd.grad(found.sum(), (states, weight))
    other = [x.clone().requires_grad_() for x in world]
    for one, two in zip(grads, torch.autograd.grad(full(*other).sum(), other), strict=True):
        torch.testing.assert_close(one, two)


def test_all_others_beside_a_row_each_once_are_the_full_softmax_too(world: Any) -> None:
    states, weight = world
    others = torch.tensor([[i for i in range(NAMES) if i != right] for right in RIGHTS])
    found = sampled_loss(states, weight[LOW:], torch.tensor(RIGHTS), others, torch.zeros(3, NAMES - 1))
    torch.testing.assert_close(found, full(states, weight))


def test_where_nothing_is_random_all_names_are_compared(world: Any) -> None:
    found = losses(bound(negatives=2), *world, RIGHTS, None)
    torch.testing.assert_close(found, full(*world))


def estimate(
    options: dict[str, Any], world: Any, rounds: int = 1500
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Means over draws: of the sum over all names, of its gradient and of the loss's gradient, by the states."""
    objective, rng = bound(**options), np.random.default_rng(1)
    states, weight = world[0].clone().requires_grad_(), world[1]
    own = (states * weight[LOW + np.array(RIGHTS)]).sum(1)
    sums, of_sums, of_losses = [], [], []
    for _ in range(rounds):
        loss = losses(objective, states, weight, RIGHTS, rng)
        total = (loss + own).exp()
        of_sums.append(torch.autograd.grad(total.sum(), states, retain_graph=True)[0])
        of_losses.append(torch.autograd.grad(loss.sum(), states)[0])
        sums.append(total.detach())
    return torch.stack(sums).mean(0), torch.stack(of_sums).mean(0), torch.stack(of_losses).mean(0)


@pytest.mark.parametrize("power", [0.0, 0.75])
def test_the_correction_makes_the_expected_sum_and_its_gradient_those_over_all_names(power: float, world: Any) -> None:
    states, weight = world[0].clone().requires_grad_(), world[1]
    wanted = (states @ weight[LOW:].T).exp().sum(1)
    (of_wanted,) = torch.autograd.grad(wanted.sum(), states)
    total, of_total, _ = estimate({"negatives": 6, "power": power}, world)
    torch.testing.assert_close(total, wanted.detach(), rtol=0.06, atol=0)
    assert (of_total - of_wanted).norm() < 0.08 * of_wanted.norm()
    blind, _, _ = estimate({"negatives": 6, "power": power, "log_q": False}, world, 300)
    assert (blind / wanted - 1).abs().mean() > 0.25


def test_the_gradient_of_the_loss_is_nearer_to_the_full_one_with_the_correction(world: Any) -> None:
    states, weight = world[0].clone().requires_grad_(), world[1]
    (wanted,) = torch.autograd.grad(full(states, weight).sum(), states)
    away = {}
    for log_q in (True, False):
        _, _, found = estimate({"negatives": 10, "power": 0.75, "log_q": log_q}, world, 600)
        away[log_q] = float((found - wanted).norm() / wanted.norm())
    assert away[True] < 0.6 * away[False]


# ---------------------------------------------------------------------- in a task


def ready(options: str, count: int = 14, most: int = 30) -> tuple[Any, Any]:
    names = [f"n{i}" for i in range(most)]
    rows = [{"id": str(i), "old": names[i % most], "new": names[(i * i + 1) % most]} for i in range(count)]
    found = worlds.ready([worlds.task("next", rows, line=LINE.format(options), sets={"names": names})])
    return found, found.tasks[0]


def step(model: Any, task: Any, packs: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Losses and gradients of one step of the rows, in some packs."""
    source = task.sources["train"]
    batches = [
        collate([task.maker.example(source.row(i), str(i), np.random.default_rng([7, i]), True) for i in pack])
        for pack in packs
    ]
    terms = RunTerms(task.maker.terms(), [task.card.name])
    counts = terms.count(batches)
    network = model.network
    network.train()
    network.zero_grad(set_to_none=True)
    steps: Sequence[Any] = [{}] * len(batches)
    if len(batches) > 1:
        steps = looked(batches, lambda pack, _: network.look(to_device(pack, CPU)), terms.term_index, Ranks())
    found = list[torch.Tensor]()
    for batch, seen in zip(batches, steps, strict=True):
        made = network(to_device(batch, CPU), 0.0, seen)
        weights = torch.from_numpy(unit_weights(batch, terms, counts, "share")[0])
        ((made.values_U * weights).sum() + made.touch).backward()
        found.append(made.values_U.detach())
    grads = {n: p.grad.clone() for n, p in network.named_parameters() if p.grad is not None}
    return {**grads, "losses": torch.cat(found)}


@pytest.mark.parametrize(
    "options", ["negatives=5", "negatives=5,power=0.75", "negatives=5,in_step=true", "negatives=0,in_step=true"]
)
def test_packs_of_a_step_give_what_one_pack_gives(options: str) -> None:
    found, task = ready(options)
    model = worlds.generalist(found)
    one = step(model, task, [range(14)])
    for packs in ([[i] for i in range(14)], [range(3), [3], range(4, 9), range(9, 14)]):
        several = step(model, task, packs)
        assert several.keys() == one.keys()
        for name, value in one.items():
            torch.testing.assert_close(several[name], value, rtol=1e-4, atol=1e-6, msg=name)


def test_targets_of_the_step_are_compared_with_by_how_often_they_are_targets() -> None:
    found, task = ready("negatives=0,in_step=true")
    model = worlds.generalist(found)
    source = task.sources["train"]
    batch = collate([task.maker.example(source.row(i), str(i), np.random.default_rng(i), True) for i in range(14)])
    table = model.network.embedding.weight
    with torch.no_grad():
        model.network.eval()
        values = model.network(to_device(batch, CPU)).values_U
        encoded = model.network.encode(to_device(batch, CPU).source)
        states = model.network.decode(to_device(batch, CPU), encoded)
    rights = [found.vocabulary.find(f"={source.row(i)['new']}") for i in range(14)]
    logits = (states @ table[rights].T * model.network.text.logit_scale).detach()
    shares = np.array([rights.count(right) / 14 for right in rights])
    for i in range(14):
        others = [j for j in range(14) if rights[j] != rights[i]]
        log = logits[i, others] - torch.tensor(np.log(13 * shares[others]), dtype=torch.float32)
        wanted = torch.cat([logits[i, i : i + 1], log]).logsumexp(0) - logits[i, i]
        assert float(values[i]) == pytest.approx(float(wanted), rel=1e-4)


def test_a_sample_draws_the_same_names_again_and_its_objective_travels_without_the_set() -> None:
    _, task = ready("negatives=6")
    row = task.sources["train"].row(3)
    one, two = (task.maker.example(row, "3", np.random.default_rng(5), True) for _ in range(2))
    held = one.targets[0].learned[-1]
    np.testing.assert_array_equal(held.arrays["drawn"], two.targets[0].learned[-1].arrays["drawn"])
    assert held.arrays["drawn"].shape == (1, 6)
    assert held.arrays["place"][0] not in held.arrays["drawn"]
    assert len(set(held.arrays["drawn"][0])) == 6
    assert "drawn" not in task.maker.example(row, "3", np.random.default_rng(5), False).targets[0].learned[-1].arrays
    assert pickle.loads(pickle.dumps(held.objective))._among is None


def test_names_have_a_row_each_however_many_and_other_large_sets_are_spelt() -> None:
    names = [f"item {i}" for i in range(5000)]
    rows = [{"id": str(i), "old": names[i], "new": names[i + 1], "label": names[i]} for i in range(20)]
    cards = [
        worlds.task("next", rows, line=LINE.format("negatives=5"), sets={"names": names}),
        worlds.task("say", rows, line="[TEXT:old] -> [TEXT:label,closed_set=names]", sets={"names": names}),
    ]
    found = make_ready(cards[:1], modalities(), worlds.small_data())
    assert sum(name.startswith("=") for name in found.vocabulary.declared) == 5000
    found = make_ready(cards[1:], modalities(), worlds.small_data())
    assert not any(name.startswith("=") for name in found.vocabulary.declared)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("negatives=-1", "`negatives` of sampled_softmax is a whole number from 0, not -1"),
        ("negatives=0", "sampled_softmax compares a name with none"),
        ("power=2", "`power` of sampled_softmax is a number from 0 .each alike. to 1 .by frequency., not 2"),
        ("in_step=3", "`in_step` of sampled_softmax is true or false, not 3"),
        ("negative=3", "objective sampled_softmax has no `negative`"),
    ],
)
def test_an_option_that_cannot_be_is_told(options: str, message: str) -> None:
    with pytest.raises(OfasysError, match=message):
        ready(options)


def test_what_it_cannot_learn_is_told() -> None:
    rows = [{"id": "1", "old": "a", "new": "b", "of": ["a", "b"]}] * 3
    line = "[CATEGORY:old] -> [CATEGORY:new,closed_set=@of,loss=sampled_softmax]"
    with pytest.raises(CardError, match="draws from the closed set of `new`, which is of the row"):
        worlds.ready([worlds.task("next", rows, line=line)])
    with pytest.raises(CardError, match="a closed set of two names or more"):
        SampledSoftmax("sampled_softmax").among(np.array([1]), np.array([1]))
    with pytest.raises(DataError, match="learns one row of the vocabulary"):
        bound().prepare(Piece.of_ids([3]), lambda _: Piece.of_ids([]), None)
    with pytest.raises(ShapeError, match="3 rows, labels of shape"):
        sampled_loss(torch.zeros(3, 2), torch.zeros(4, 2), torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, 1))
    found, task = ready("negatives=4")
    row = task.sources["train"].row(0)
    batch = collate([task.maker.example(row, "0", np.random.default_rng(0), True)])
    with pytest.raises(CardError, match="label smoothing gives every name a share"):
        worlds.generalist(found).network(to_device(batch, CPU), 0.1)
