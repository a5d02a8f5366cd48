"""Steps of a run as a map-style dataset: item k is one rank's share of step k, dealt to packs.

A step's samples are named by the mixture, so the item follows from its number alone: any worker, any resume, any order
of loading gives the same packs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from ofasys_lite.data.mixture import Draw, Mixture
from ofasys_lite.data.passing_rows import StepRows
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.stream_draws import States, StreamDraws, Walker
from ofasys_lite.errors import DataError
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.layout.preference import other_answer
from ofasys_lite.layout.ready import ReadyTask

#: Spare rows tried before a task counts as unreadable.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that could not be read.

    Attributes:
        index: Its number in the training split; of a stream, how many rows were drawn of it before.
    """

    task: str
    index: int
    id: str
    reason: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of a step.

    Attributes:
        packs: What goes through the model, one after another.
        refused: Rows that were replaced by spare ones.
        failure: Why there are no packs: a task whose rows cannot be read. None where all is well.
        over: Every task has ended before this step.
        streams: Task -> where its stream stands behind this step (`StreamDraws.states`).
        tokens: Task -> source and target rows of its samples in this share.
    """

    step: int
    packs: tuple[Batch, ...]
    refused: tuple[Refused, ...] = ()
    failure: DataError | None = None
    over: bool = False
    streams: States = field(default_factory=dict)
    tokens: Mapping[str, int] = field(default_factory=dict)


class Steps:
    """Item k -> Share of step k; where a task is a stream, steps are asked for in rising order.

    Args:
        budgets: Source and target rows of a pack.
        streams: Where the streams stand.
    """

    def __init__(
        self,
        tasks: Sequence[ReadyTask],
        mixture: Mixture,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        budgets: tuple[int, int] = (16_384, 8_192),
        streams: States | None = None,
    ) -> None:
        self.tasks = tuple(tasks)
        walkers = dict[int, Walker]()
        for number, task in enumerate(self.tasks):
            if task.first is not None:
                state = (streams or {}).get(task.card.name)
                walkers[number] = Walker(task.first, task.card.name, seed, task.card.epochs, state)
        self.streams = StreamDraws(mixture, walkers)
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.budgets = budgets
        for task in self.tasks:
            if task.rows is None:
                continue
            # here, once, so that loader processes get the sizes of all rows and do not measure them each
            task.maker.lengths(task.sources["train"], 0)
        #: Per task, (source, target) rows of each row that was drawn before; 0 where they are not known yet.
        self._known = [np.zeros((task.rows or 0, 2), np.int32) for task in self.tasks]

    def __getitem__(self, step: int) -> Share:
        refused: list[Refused] = []
        try:
            passing: Mapping[int, StepRows] = {}
            if self.streams.walkers:
                drawn = self.streams.draw(step)
                if drawn is None:
                    return Share(step, (), over=True, streams=self.streams.states())
                draws, passing = drawn
            else:
                draws = self.streams.mixture.draw(step)
            sizes = [self._lengths(draw, passing) for draw in draws]
            packs = deal(sizes, self.ranks, self.budgets)[self.rank]
            batches, tokens = list[Batch](), Counter[str]()
            for pack in packs:
                batch = collate([self._example(draws[i], step, refused, passing) for i in pack])
                batches.append(batch)
                for (task, _), rows in zip(batch.samples, batch.cross, strict=True):
                    tokens[task] += sum(rows)
        except DataError as error:
            # carried, not raised: all ranks end together, and a worker's traceback would hide the message
            return Share(step, (), tuple(refused), error)
        states = self.streams.states() if self.streams.walkers else {}
        return Share(step, tuple(batches), tuple(refused), streams=states, tokens=dict(tokens))

    def _lengths(self, draw: Draw, passing: Mapping[int, StepRows]) -> Sequence[int]:
        """(source, target) rows of a sample."""
        task = self.tasks[draw.task]
        if draw.task in passing:
            return task.maker.lengths(passing[draw.task], draw.index)
        known_2 = self._known[draw.task][draw.index]
        if not known_2.any():
            known_2[:] = task.maker.lengths(task.sources["train"], draw.index)
        found: list[int] = known_2.tolist()
        return found

    def _example(
        self, draw: Draw, step: int, refused: list[Refused], passing: Mapping[int, StepRows] | None = None
    ) -> Example:
        task = self.tasks[draw.task]
        train = task.sources["train"]
        stream = (passing or {}).get(draw.task)
        source: RowSource = train if stream is None else stream
        index = draw.index
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                row = source.row(index)
                id = source.ids(index, row)
                rng = sample_rng(self.seed, task.card.name, id, draw.epoch)
                other = None
                if task.maker.mismatched:
                    # the same one in every epoch, so that frozen weights are asked for it once
                    other = other_answer(train, index, sample_rng(self.seed, task.card.name, f"{id} another", 0))
                return task.maker.example(row, id, rng, train=True, step=step, other=other)
            except DataError as error:
                id = source.ids(index)
                reason = error.message.removeprefix(f"task {task.card.name}, id {id}: ")
                number = index if stream is None else draw.ordinal
                refused.append(Refused(task.card.name, number, id, reason, source.place(index)))
                # where rows only pass, one of the first ones stands in
                place, source = draw.index if stream is None else draw.ordinal, train
                index = self.streams.mixture.spare(draw.task, draw.epoch, attempt, place, len(train))
        raise DataError(
            f"task {task.card.name}: {_ATTEMPTS} rows in a row cannot be read; the last: {refused[-1].reason}",
            help=f"run: ofasys-lite check {task.card.name}",
        )


def deal(sizes: Sequence[Sequence[int]], ranks: int, budgets: tuple[int, int]) -> list[list[list[int]]]:
    """Rank -> packs -> positions in `sizes`; every position once, every rank with the same number of packs.

    Ranks get balanced shares: the longest sample first, each to the rank with the least so far (longest processing time
    first, Graham 1969). Packs are cut by first fit, longest first; a sample above a budget gets a pack of its own.
    Ranks with fewer packs get empty ones.

    Args:
        sizes: (source, target) rows of each sample of a step, as estimated without decoding.
        budgets: Source and target rows of a pack.

    Raises:
        DataError: If a number is not positive.
    """
    for name, number in (("ranks", ranks), ("source budget", budgets[0]), ("target budget", budgets[1])):
        if number < 1:
            raise DataError(f"{name} is {number}", help="it is 1 or more")
    # the dearer side decides what a sample costs; equal ones keep the order of the draws
    costs = [max(source / budgets[0], target / budgets[1]) for source, target in sizes]
    shares: list[list[int]] = [[] for _ in range(ranks)]
    loads = [(0.0, 0, rank) for rank in range(ranks)]
    for position in sorted(range(len(costs)), key=lambda at: (-costs[at], at)):
        load, count, rank = min(loads)
        shares[rank].append(position)
        loads[rank] = (load + costs[position], count + 1, rank)
    packs = [_first_fit(share, sizes, budgets) for share in shares]
    most = max(len(one) for one in packs)
    return [one + [[] for _ in range(most - len(one))] for one in packs]


def _first_fit(positions: Sequence[int], sizes: Sequence[Sequence[int]], budgets: tuple[int, int]) -> list[list[int]]:
    """Packs within the budgets, positions in drawn order within each."""
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []
    for position in positions:
        source, target = sizes[position]
        for number, (source_room, target_room) in enumerate(rooms):
            if source <= source_room and target <= target_room:
                packs[number].append(position)
                rooms[number] = (source_room - source, target_room - target)
                break
        else:
            packs.append([position])
            # a sample above a budget leaves no room: not even a sample without rows may join it
            fits = source <= budgets[0] and target <= budgets[1]
            rooms.append((budgets[0] - source, budgets[1] - target) if fits else (-1, -1))
    return [sorted(pack) for pack in packs]
