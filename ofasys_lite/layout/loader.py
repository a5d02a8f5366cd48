"""Steps of a run as a map-style dataset: item k is one rank's share of step k, a list of packs.

A step's samples are named by the mixture, so the item follows from its number alone: any worker, any resume, any order
of loading gives the same packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ofasys_lite.data.mixture import Draw, Mixture
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.errors import DataError
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.deal import deal
from ofasys_lite.layout.pack import Batch, Example
from ofasys_lite.layout.ready import ReadyTask

#: Spare rows tried before a task counts as unreadable.
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Refused:
    """A row that could not be read."""

    task: str
    index: int
    id: str
    reason: str
    place: str = ""


@dataclass(frozen=True, slots=True)
class Share:
    """One rank's part of a step.

    Attributes:
        step: Number of the step.
        packs: What goes through the model, one after another.
        refused: Rows that were replaced by spare ones.
        failure: Why there are no packs: a task whose rows cannot be read. None where all is well.
    """

    step: int
    packs: tuple[Batch, ...]
    refused: tuple[Refused, ...] = ()
    failure: DataError | None = None


class Steps:
    """Item k -> Share of step k.

    Args:
        seed: Seed of the samples' generators.
        budgets: Source and target rows of a pack.
    """

    def __init__(
        self,
        tasks: Sequence[ReadyTask],
        mixture: Mixture,
        seed: int,
        rank: int = 0,
        ranks: int = 1,
        budgets: tuple[int, int] = (16_384, 8_192),
    ) -> None:
        self.tasks = tuple(tasks)
        self.mixture = mixture
        self.seed = seed
        self.rank = rank
        self.ranks = ranks
        self.budgets = budgets
        for task in self.tasks:
            # here, once, so that loader processes get the sizes of all rows and do not measure them each
            task.maker.lengths(task.sources["train"], 0)
        #: Per task, (source, target) rows of each row that was drawn before; 0 where they are not known yet.
        self._known = [np.zeros((len(task.sources["train"]), 2), np.int32) for task in self.tasks]

    def __getitem__(self, step: int) -> Share:
        draws = self.mixture.draw(step)
        sources, targets = zip(*(self._lengths(d) for d in draws), strict=True)
        packs = deal(draws, sources, targets, self.ranks, self.budgets[0], self.budgets[1])[self.rank]
        refused: list[Refused] = []
        try:
            batches = tuple(collate([self._example(draws[i], step, refused) for i in pack]) for pack in packs)
        except DataError as error:
            # carried, not raised: all ranks end together, and a worker's traceback would hide the message
            return Share(step, (), tuple(refused), error)
        return Share(step, batches, tuple(refused))

    def _lengths(self, draw: Draw) -> tuple[int, int]:
        """Rows of the source and the target, estimated without decoding, alike on every rank."""
        known_2 = self._known[draw.task][draw.index]
        if not known_2.any():
            task = self.tasks[draw.task]
            known_2[:] = task.maker.lengths(task.sources["train"], draw.index)
        source, target = known_2.tolist()
        return source, target

    def _example(self, draw: Draw, step: int, refused: list[Refused]) -> Example:
        task = self.tasks[draw.task]
        source = task.sources["train"]
        index = draw.index
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                row = source.row(index)
                id = source.ids(index, row)
                rng = sample_rng(self.seed, task.card.name, id, draw.epoch)
                return task.maker.example(row, id, rng, train=True, step=step)
            except DataError as error:
                id = source.ids(index)
                reason = error.message.removeprefix(f"task {task.card.name}, id {id}: ")
                refused.append(Refused(task.card.name, index, id, reason, source.place(index)))
                index = self.mixture.spare(draw.task, draw.epoch, attempt, draw.index)
        raise DataError(
            f"task {task.card.name}: {_ATTEMPTS} rows in a row cannot be read; the last: {refused[-1].reason}",
            help=f"run: ofasys-lite check {task.card.name}",
        )
