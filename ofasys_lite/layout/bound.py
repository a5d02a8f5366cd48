"""The parts of a plan bound to what lays them out, found once, not for each row; what is known of a row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ofasys_lite.data.fields import MISSING, missing
from ofasys_lite.data.fields import field as data_field
from ofasys_lite.data.groups import candidates, group_columns, group_key
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.layout.learned import Learned, Objective, Term
from ofasys_lite.layout.objectives import ALIGNED
from ofasys_lite.layout.pack import Target
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.segments import (
    GroupSegment,
    LossSpec,
    Plan,
    PlannedTemplate,
    Segment,
    SlotSegment,
    ToolKey,
    WordsSegment,
    option,
    walk,
)
from ofasys_lite.preprocess.base import Piece, Preprocess, RowContext
from ofasys_lite.preprocess.closed import closed_sequences
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, VECTOR, Vocabulary


@dataclass(frozen=True, slots=True)
class BoundWords:
    """Words as ids, and what they count for where they carry loss."""

    piece: Piece
    term: Term | None


@dataclass(frozen=True, slots=True)
class BoundSlot:
    """A slot.

    Attributes:
        learned: Its objectives, and what each counts for.
        besides: What counts for what each objective learns beside (`Objective.beside`); None where it does not.
        judged: What the verdicts on its pictures count for: relevance, fidelity; none where its codec has no judges.
        span: A span of the text is hidden, and the target learns it (MASS).
    """

    slot: SlotSegment
    tool: Preprocess
    target: bool
    learned: tuple[tuple[Objective, Term], ...]
    besides: tuple[Term | None, ...]
    judged: tuple[Term, ...]
    span: bool


@dataclass(frozen=True, slots=True)
class BoundGroup:
    """A repeated group: its parts per alternative.

    Attributes:
        term: What its controls (another element? which?) count for; None where the row knows that beforehand.
        written: It holds something that is learned.
    """

    group: GroupSegment
    target: bool
    alternatives: tuple[tuple[Bound, ...], ...]
    term: Term | None
    written: bool


Bound = BoundWords | BoundSlot | BoundGroup


@dataclass(frozen=True, slots=True)
class BoundTemplate:
    """One paraphrase.

    Attributes:
        sources: What is read, a sequence each.
        targets: What is written, a sequence each.
        columns: Per source, the columns whose values it holds: what pairs of `<->` are compared by.
        readers: The slots of the sources and their Preprocess, groups opened.
        drop: Probability with which its slots with `drop=` are emptied in training.
    """

    sources: tuple[tuple[Bound, ...], ...]
    targets: tuple[tuple[Bound, ...], ...]
    columns: tuple[tuple[tuple[str, bool], ...], ...]
    readers: tuple[tuple[SlotSegment, Preprocess], ...]
    drop: float


@dataclass(slots=True)
class Binder:
    """Binds the templates of a plan.

    Attributes:
        tools: Preprocessors by `tool_key`.
        objectives: By (`tool_key`, loss).
        counts: By slot key, training rows of each value of its closed set.
        terms: Every loss term of what was bound, in the order in which they were met.
    """

    plan: Plan
    tools: Mapping[ToolKey, Preprocess]
    vocabulary: Vocabulary
    objectives: Mapping[tuple[ToolKey, LossSpec], Objective]
    counts: Mapping[str, Mapping[str, int]]
    terms: dict[Term, None] = field(default_factory=dict)

    def template(self, template: PlannedTemplate) -> BoundTemplate:
        """A template, bound."""
        slots = [slot for side in template.read for slot in walk(side)]
        return BoundTemplate(
            tuple(self._side(side, False) for side in template.read),
            tuple(self._side(side, True) for side in template.written),
            tuple(tuple(_held(side)) for side in template.read),
            tuple((slot, self.tools[slot.tool_key]) for slot in slots),
            max((slot.drop for slot in slots), default=0.0),
        )

    def pairs(self) -> tuple[Objective, Term, Piece] | None:
        """Of a line with `<->`: its objective, what it counts for, the row that ends each side; else None."""
        loss = self.plan.alignment
        if loss is None:
            return None
        id = self.vocabulary.find(VECTOR)
        if id is None:
            raise CheckpointError(
                f"task {self.plan.task}: this vocabulary has no row {VECTOR}, whose state is a side's vector",
                help="it has one where a line with `<->` was trained: train the model with such a task",
            )
        return ALIGNED[loss.name], self._term(loss.name, loss.unit, loss.weight), Piece.of_ids([id])

    def _side(self, segments: tuple[Segment, ...], target: bool) -> tuple[Bound, ...]:
        return tuple(self._bound(segment, target) for segment in segments)

    def _bound(self, segment: Segment, target: bool) -> Bound:
        if isinstance(segment, WordsSegment):
            term = self._term("words", "token") if target and self.plan.loss_on_words else None
            return BoundWords(Piece.of_ids(self.vocabulary.encode(segment.text)), term)
        if isinstance(segment, GroupSegment):
            learned = target and any(slot.learned for slot in walk((segment,)))
            # the row says how many elements there are, and of which kind, where it has a part of each beforehand
            given = not all(slot.learned for slot in walk((segment,)))
            term = self._term(f"{group_key(segment)}:next", "token") if learned and not given else None
            sides = tuple(self._side(side, target) for side in segment.alternatives)
            return BoundGroup(segment, target, sides, term, learned)
        key = segment.tool_key
        for loss in segment.losses:
            if self.objectives[key, loss].own_mask and self.vocabulary.control("mask") != CONTROL_IDS["mask"]:
                raise CheckpointError(
                    f"task {self.plan.task}: `loss={loss.name}` hides text behind this package's own mask row, and "
                    "these weights have another one",
                    help="leave the loss out, or hide text with mask_ratio= and write it in a target",
                )
        learns = tuple((self._objective(segment, loss), self._learns(segment, loss)) for loss in segment.losses)
        span = option(segment.options, "mask_style") == "mass" and bool(option(segment.options, "mask_ratio"))
        judged = self._judges(segment) if segment.learned else ()
        besides = tuple(self._beside(segment, *each) for each in learns)
        return BoundSlot(segment, self.tools[key], target, learns, besides, judged, span)

    def _objective(self, slot: SlotSegment, loss: LossSpec) -> Objective:
        """The objective of a slot, over its closed set where each value of it has a row of the vocabulary."""
        objective = self.objectives[slot.tool_key, loss]
        if not objective.over_set:
            return objective
        values = () if slot.closed is None else slot.closed.values
        sequences = closed_sequences(self.vocabulary, values) if values else ()
        if not values or any(len(ids) != 1 for ids in sequences):
            what = "is of the row" if not values else "is spelt in pieces"
            raise CardError(
                f"task {self.plan.task}: `loss={loss.name}` draws from the closed set of `{slot.column}`, which {what}",
                help="give it one set for all rows: closed_set, closed_set=(a,b), a name or a file",
            )
        counts = self.counts.get(slot.key, {})
        ids_I = np.array([id for (id,) in sequences], dtype=np.int64)
        return objective.among(ids_I, np.array([counts.get(value, 0) for value in values], dtype=np.int64))

    def _learns(self, slot: SlotSegment, loss: LossSpec) -> Term:
        """Of an objective on a slot: called as the slot where the slot is written, else `slot:objective`."""
        if slot.learned:
            return self._term(slot.key, loss.unit, slot.weight * loss.weight)
        return self._term(f"{slot.key}:{loss.name}", loss.unit, loss.weight)

    def _beside(self, slot: SlotSegment, objective: Objective, term: Term) -> Term | None:
        """Of what is learned beside an objective, `slot:length`."""
        if objective.beside is None:
            return None
        return self._term(f"{slot.key}:{objective.beside.name}", "sample", term.weight * objective.beside_weight)

    def _judges(self, slot: SlotSegment) -> tuple[Term, ...]:
        codec = codec_of(slot)
        weight = None if codec is None else codec.get("judges")
        if weight is None:
            return ()
        factor = slot.weight * float(str(weight))
        return tuple(self._term(f"{slot.key}:{head}", "sample", factor) for head in ("relevance", "fidelity"))

    def _term(self, name: str, unit: str, weight: float = 1.0) -> Term:
        term = Term(self.plan.task, name, unit, weight)
        self.terms[term] = None
        return term


def _held(side: tuple[Segment, ...]) -> Iterator[tuple[str, bool]]:
    """(column, whether it is never a path) of what a side holds."""
    for segment in side:
        if isinstance(segment, SlotSegment):
            yield segment.column, segment.exact
        elif isinstance(segment, GroupSegment):
            yield from ((column, False) for column in group_columns(segment))


@dataclass(slots=True)
class RowState:
    """The row, its generator, what was found.

    Attributes:
        rng: The sample's generator; None where nothing may be random.
        frame: (width, height) in pixels that boxes of the row refer to.
        dropped: Slots with `drop=` are left out.
        negative: Text that those of them read that hold text, in the place of being left out.
        objectives: What is learned is wanted.
        rejected: Of a preference pair the second column is laid out.
        own_holes: Transparent parts of masked pictures say what is hidden.
        masked: Column -> its masked text or picture, of which the target learns what is hidden.
        learned: What objectives learn of them.
        further: Target sequences that stand beside this one.
    """

    row: Any
    rng: np.random.Generator | None
    train: bool
    frame: tuple[int, int] | None
    step: int | None = None
    dropped: bool = False
    negative: str = ""
    objectives: bool = True
    rejected: bool = False
    own_holes: bool = False
    masked: dict[str, Piece] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)
    further: list[Target] = field(default_factory=list)

    def add(self, piece: Piece, objective: Objective | None = None, term: Term | None = None) -> None:
        """Lays a piece behind the others, learned by `objective` where it counts for a term."""
        if objective is not None and term is not None:
            self.learned.append(Learned(len(self.pieces), objective, (term,)))
        self.pieces.append(piece)

    def context(self, slot: SlotSegment, row: Any, target: bool) -> RowContext:
        """What the row (`row`: a record of it within a group) and the moment know of a slot."""
        closed = None if slot.closed is None else slot.closed.values
        if slot.closed is not None and slot.closed.kind == "candidates":
            closed = candidates(row, slot.closed.name, self.row)
        side: Literal["source", "target"] = "target" if target and slot.learned else "source"
        named = {column: _of_row(self.row, column) for column, _ in slot.named} if target else {}
        about = (side, self.rng, self.train, self.frame, closed, self.step, self.own_holes, self.row)
        return RowContext(*about, named=named)


def _of_row(row: Any, column: str) -> Any:
    """What the row has in a column that an attribute names; DataError if it has none."""
    value = data_field(row, column)
    if value is MISSING or value is None:
        raise missing(column, row)
    return value
