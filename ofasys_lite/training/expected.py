"""What a run will cost, before anything of it is spent: parameters, operations, memory, and with a probe its time.

The formulas and what they take for granted stand in docs/costs.md. Some rows of every task are read for their lengths.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from ofasys_lite.adapters.base import roughly
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.loader import deal
from ofasys_lite.layout.pack import Example
from ofasys_lite.layout.preference import other_answer
from ofasys_lite.layout.ready import ReadyTask
from ofasys_lite.model import Work, body_work
from ofasys_lite.training.muon import ITERATIONS, update_flops
from ofasys_lite.training.parameter_groups import Group
from ofasys_lite.training.rules import OPTIMIZERS
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.shares import MEASURED, in_samples

#: How the parts of adapters are named.
ADAPTER = "adapter "
#: Rows of each task that are read.
ROWS = 16
#: Samples of each task that are read by adapters, whose cost is counted on them.
_READ = 2
#: Samples whose packs are looked at for the largest one.
_SAMPLES = 512
#: Bytes that an update reads and writes for each number: AdamW (others are taken for it) its state, weights, gradients;
#: Muon's momentum, its matrices side by side, their norms, what is read and written beside the products of their Grams.
_PASSED = {"adamw": 28.0, "muon": 88.0}
#: The same of clipping (a norm, a factor) and of averages.
_CLIPPED, _AVERAGED = 12.0, 12.0
#: Steps that stand for a run without a number of steps.
_STEPS = 1000


@dataclass(frozen=True, slots=True)
class TaskCost:
    """What a task takes of a step: samples and work over all ranks, source and target rows of a sample in the mean."""

    name: str
    samples: float
    source: float
    target: float
    work: Work


@dataclass(frozen=True, slots=True)
class OneRank:
    """What a run takes of one of its ranks.

    Attributes:
        memory: Bytes by what they are for.
        packs: Packs of a step, in the mean.
        widest: Source and target rows of the largest pack.
    """

    memory: Mapping[str, float]
    packs: float
    widest: tuple[float, float]

    @property
    def peak(self) -> float:
        """Most bytes at once: gradients of one pack come while what it kept goes, those of several stay."""
        passing = (self.memory["activations"], self.memory["gradients"])
        return sum(self.memory.values()) - (min(passing) if self.packs <= 1 else 0)


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run will cost.

    Attributes:
        parameters: Numbers of the model by part.
        trained: How many of them some step trains.
        update: Operations of an optimizer's update beside those on single numbers (Muon's products).
        passed: Bytes that updates, clipping and averages read and write.
        rank: What a rank takes.
        others: What a rank takes with other numbers of processes, where that was asked for.
        rough: Adapters whose cost could not be counted and is taken from their weights, with the error.
    """

    parameters: Mapping[str, int]
    trained: int
    tasks: tuple[TaskCost, ...]
    update: float
    passed: float
    rank: OneRank
    ranks: int = 1
    others: Mapping[int, OneRank] = field(default_factory=dict)
    rough: Mapping[str, str] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        """Operations of a step over all ranks, without the update."""
        return sum(task.work.flops for task in self.tasks)


def expect(
    tasks: Sequence[ReadyTask],
    network: Network,
    groups: Sequence[Group],
    mixture: Mixture,
    settings: TrainSettings,
    bf16: bool = False,
    ranks: int = 1,
    beside: Sequence[int] = (),
) -> Expected:
    """What training `network` on the mixture will cost; its weights are not looked at, and may have no values.

    Args:
        bf16: Whether products are in bf16.
        ranks: Processes that train; above 1 by DDP.
        beside: Other numbers of processes.
    """
    sampled = [examples_of(task, mixture.seed) for task in tasks]
    per_row, rough = row_works(network, [example for examples in sampled for example in examples[:_READ]])
    works = [work_of(network, per_row, examples) for examples in sampled]
    steps = min(settings.steps or _STEPS, mixture.steps or _STEPS)
    drawn = [count / steps for count in mixture.counts(steps)]
    costs = []
    for task, examples, work, samples in zip(tasks, sampled, works, drawn, strict=True):
        source = _mean([sum(side.count for side in each.sources) for each in examples])
        target = _mean([sum(side.count for side in each.targets) for each in examples])
        costs.append(TaskCost(task.card.name, samples, source, target, work * samples))
    moved = [(p, g) for g in groups if g.last != 0 for p in g.parameters.values() if p.requires_grad]
    update = passed = 0.0
    for parameter, group in moved:
        each = _PASSED.get(str(group.optimizer.path), _PASSED["adamw"])
        passed += parameter.numel() * (each + _CLIPPED * (settings.clip > 0) + _AVERAGED * (settings.ema > 0))
        if group.optimizer.path == "muon":
            given = group.optimizer.options
            kind = given.get("iteration", OPTIMIZERS["muon"]["iteration"][0])
            update += update_flops(parameter.shape, given.get("ns_steps") or ITERATIONS[kind], given.get("block"))
    found = {}
    for count in dict.fromkeys((ranks, *beside)):
        packs, widest, kept = _packs(tasks, works, costs, mixture, settings, count)
        found[count] = OneRank(memory_of(network, moved, settings, kept, bf16, count), packs, widest)
    return Expected(
        parameters=parameters_of(network),
        trained=sum(p.numel() for p, _ in moved),
        tasks=tuple(costs),
        update=update,
        passed=passed,
        rank=found[ranks],
        ranks=ranks,
        others={count: found[count] for count in beside},
        rough=rough,
    )


def mixture_of(
    ready: Sequence[ReadyTask], settings: TrainSettings, means: Mapping[str, float] | None = None
) -> Mixture:
    """Which sample of the tasks is drawn when.

    Args:
        means: Tokens of a sample of each task, where weights are shares of tokens.

    Raises:
        CardError: Their epochs hold no step.
    """
    tasks = []
    for t in ready:
        name, weight = t.card.name, t.card.weight
        if means is not None:
            weight = in_samples(weight, means[name], f"task {name}: weight")
        tasks.append(MixtureTask(name, t.rows, weight, None if t.rows is None else t.card.epochs, t.plan.block))
    mixture = Mixture(tasks, settings.seed, settings.samples_per_step)
    if mixture.steps == 0:
        rows = sum(task.limit or 0 for task in tasks)
        raise CardError(
            f"the tasks' epochs are over after {rows} samples, and one step takes {settings.samples_per_step}",
            help="raise `epochs`, take it away from one task, or lower trainer.samples_per_step",
        )
    return mixture


def token_means(tasks: Sequence[ReadyTask], settings: TrainSettings) -> dict[str, float] | None:
    """Task -> tokens of a sample in the mean, of rows spread evenly over its training split (of a stream, its first).

    None where weights are shares of samples.

    Raises:
        CardError: None of a task's rows can be read.
    """
    if settings.mixture.unit == "samples":
        return None
    found = {}
    for task in tasks:
        counts = [example.rows for example in examples_of(task, settings.seed, MEASURED)]
        if not sum(counts):
            looked = min(MEASURED, len(task.sources["train"]))
            raise CardError(
                f"task {task.card.name}: none of {looked} rows can be read, so nobody knows how long they are",
                help=f"run: ofasys-lite check {task.card.name}",
            )
        found[task.card.name] = round(sum(counts) / len(counts), 3)
    return found


def parameters_of(network: Network) -> dict[str, int]:
    """Numbers of the network by part; the token table is also the head of texts, others belong to their adapters."""
    body = network.body
    found = {"token table": network.embedding.weight.numel()}
    for name, parts in (("encoder", (body.encoder, body.encoder_norm)), ("decoder", (body.decoder, body.decoder_norm))):
        found[name] = sum(p.numel() for part in parts if part is not None for p in part.parameters())
    seen = {id(network.embedding.weight)}
    for name, adapter in network.adapters.items():
        own = {id(p): p.numel() for p in adapter.parameters() if id(p) not in seen}
        seen |= own.keys()
        if own:
            heads = " with its heads" if name in network.learning else ""
            found[f"{ADAPTER}{name}{heads}"] = sum(own.values())
    return found


def memory_of(
    network: Network,
    trained: Sequence[tuple[torch.nn.Parameter, Group]],
    settings: TrainSettings,
    kept: Work,
    bf16: bool,
    ranks: int,
) -> dict[str, float]:
    """Bytes on each rank by what they are for; every rank of DDP holds all of the model.

    Args:
        network: Its weights are in fp32.
        trained: Parameters that some step trains, with their groups.
        kept: What the forward pass over the largest pack keeps.
        bf16: Products in bf16: weights are cast for a pass.
        ranks: Processes; above 1 DDP sends gradients in buckets of its own.
    """
    numbers = sum(p.numel() for p in network.parameters())
    gradients = 4.0 * sum(p.numel() for p, _ in trained)
    # momentum for Muon, two moments for AdamW and for what nobody knows
    state = sum(p.numel() * (4.0 if g.optimizer.path == "muon" else 8.0) for p, g in trained)
    found = {"weights": 4.0 * numbers, "gradients": gradients, "optimizer": state}
    if ranks > 1:
        found["gradients in buckets"] = gradients
    if settings.ema:
        found["averaged weights"] = 4.0 * numbers
    if bf16:
        found["weights in bf16"] = 2.0 * numbers
    found["activations"] = kept.bytes(bf16)
    return found


def examples_of(task: ReadyTask, seed: int, rows: int = ROWS) -> list[Example]:
    """Some rows as training lays them out; those that cannot be read are the quarantine's business."""
    source, found = task.sources["train"], []
    for index in np.linspace(0, len(source) - 1, min(rows, len(source))).astype(int).tolist():
        try:
            row = source.row(index)
            rng = np.random.default_rng((seed, index))
            other = other_answer(source, index, rng) if task.maker.mismatched else None
            found.append(task.maker.example(row, source.ids(index, row), rng, train=True, step=0, other=other))
        except DataError:
            continue
    return found


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / max(1, len(numbers))


def row_works(network: Network, examples: Sequence[Example]) -> tuple[dict[str, tuple[Work, Work]], dict[str, str]]:
    """(per adapter, what a row costs that is embedded and one that is learned; those only guessed, with the error)."""
    batch = to_device(collate(examples), torch.device("meta"))
    parts = defaultdict(list)
    for part in (*batch.source.parts, *batch.target.parts):
        parts[part.adapter].append(part)
    works, rough = dict[str, tuple[Work, Work]](), dict[str, str]()
    for name in sorted({*parts, *(rows.adapter for rows in batch.losses)}):
        adapter = network.adapter(name)
        try:
            works[name] = adapter.work(parts[name])
        except Exception as error:  # an adapter is anybody's code, and an estimate must not end a run
            works[name] = roughly(adapter)
            rough[name] = f"{type(error).__name__}: {error}".splitlines()[0]
    return works, rough


def work_of(network: Network, per_row: Mapping[str, tuple[Work, Work]], examples: Sequence[Example]) -> Work:
    """What a sample costs, in the mean."""
    if not examples:
        return Work()
    batch = collate(examples)
    work = body_work(network.config, batch.source.lengths, batch.target.lengths, batch.cross)
    for part in (*batch.source.parts, *batch.target.parts):
        work += per_row[part.adapter][0] * sum(part.counts)
    for rows in batch.losses:
        work += per_row[rows.adapter][1] * len(rows.rows_R)
    return work * (1 / len(examples))


def _lengths(task: ReadyTask, index: int) -> tuple[int, int]:
    """(source, target) rows of a sample; of a stream, of which little is known, those of one like it."""
    source = task.sources["train"]
    return task.maker.lengths(source, index % len(source))


def _packs(
    tasks: Sequence[ReadyTask],
    works: Sequence[Work],
    costs: Sequence[TaskCost],
    mixture: Mixture,
    settings: TrainSettings,
    ranks: int,
) -> tuple[float, tuple[float, float], Work]:
    """(packs of a rank and step, rows of the largest one, what it costs), from lengths as training deals by them."""
    budgets = (settings.source_budget, settings.target_budget)
    steps = max(1, _SAMPLES // settings.samples_per_step)
    dealt, widest, most = 0, (0.0, 0.0), Work()
    steps = min(steps, mixture.steps or steps)
    for step in range(steps):
        draws = mixture.draw(step)
        lengths = [_lengths(tasks[d.task], d.index) for d in draws]
        shares = deal(lengths, ranks, budgets)
        dealt += sum(map(len, shares))
        for pack in (pack for share in shares for pack in share):
            # estimated lengths say how the packs are cut; what is in them, rows that were read
            found = sum((works[draws[i].task] for i in pack), Work())
            if found.kept > most.kept:
                most = found
                drawn = [costs[draws[i].task] for i in pack]
                widest = (sum(cost.source for cost in drawn), sum(cost.target for cost in drawn))
    return dealt / steps / ranks, widest, most
