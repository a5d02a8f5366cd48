"""What is learned: of one piece (`Learned`), of a pack (`LossRows`), and how the one becomes the other (`Objective`).

An objective has two halves of one name. This one is numpy, runs where rows are read, and says which rows it learns and
in which units; the other is a function of an adapter (`Adapter.objectives`), which makes losses of states.
Shapes: P rows of a piece, R rows that are learned, U loss values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import Piece

Ints = npt.NDArray[np.int64]
Arrays = Mapping[str, npt.NDArray[Any]]
StreamSide = Literal["source", "target"]
#: (side, objective, adapter, options): rows of a pack with the same stand together.
LossKey = tuple[StreamSide, str, str, Options]


class Term(NamedTuple):
    """One loss term: (task, slot). Each step looks all of its terms up: the hash of a tuple is not made in Python.

    Attributes:
        slot: Slot key, with `:ctc` and the like for an objective on a source slot.
        unit: `token`, `frame`, `position`, `sample` or `pair`.
    """

    task: str
    slot: str
    unit: str
    weight: float


@dataclass(frozen=True, slots=True)
class LearnedPiece:
    """A piece of a pack, and where its rows stand, for the objective that learns it.

    Attributes:
        rows_P: Rows of the stream: on a causal target those that predict its elements.
        adapter: The adapter whose head learns it.
        number: Its number among the pieces of its own adapter in the stream.
        first: Rows of the pieces before it in that order.
        sample: Index into the pack's samples.
        terms: Indices into the pack's terms.
        arrays: What `Objective.prepare` found.
        causal: Whether its rows see only what is before them; True on the source side.
    """

    piece: Piece
    rows_P: Ints
    side: StreamSide
    adapter: str
    number: int
    first: int
    sample: int
    terms: tuple[int, ...]
    arrays: Arrays
    causal: bool = True

    @property
    def learned_P(self) -> Ints:
        """Places within the piece that carry loss."""
        learn_P = self.piece.learn_P
        return np.arange(self.piece.count) if learn_P is None else np.flatnonzero(learn_P)


@dataclass(frozen=True, slots=True)
class LossRows:
    """Rows of a stream that one objective learns in a pack.

    Attributes:
        objective: Which, with what the model's side is told of it.
        adapter: Name of the adapter whose head it is.
        side: Whose states it reads.
        rows_R: Their rows in the stream.
        counts: Rows of each piece (sums to R), on the host.
        terms_U: Index into the pack's terms of each loss value; always on the host.
        samples_U: Index into the pack's samples of each.
        units_U: Loss units that each value is the sum of: 1 for most, the labels of a text for CTC.
        arrays: What else the objective needs, on the model's device.
        host: What it needs on the host.
    """

    objective: Objective
    adapter: str
    side: StreamSide
    rows_R: Any
    counts: tuple[int, ...]
    terms_U: Ints
    samples_U: Ints
    units_U: Ints
    arrays: Mapping[str, Any] = field(default_factory=dict)
    host: Arrays = field(default_factory=dict)

    @property
    def key(self) -> LossKey:
        """What tells it from the other LossRows of its pack."""
        return self.side, self.objective.name, self.adapter, self.objective.options


class Objective:
    """Learns each row of a piece (or those of its `learn_P`), one loss value a row; base of all others.

    A card names it: `losses: {rebuild: {side: source, unit: frame}}` is this class itself, with `objective:
    my_module.Rebuild` a class of one's own. It must be picklable and hold no state: it travels with packs.

    Args:
        name: As the card and `Adapter.objectives` spell it.
        options: What the line gives it: `loss=rebuild(ratio=0.5)`. Pieces with other options are other LossRows.
        together: A target learned by it is written in one go: its rows see each other, each stands for its own element.
    """

    #: Adapter whose head learns the rows; None for the one that the rows belong to.
    #: It hides ids behind the mask row that our own vocabularies have.
    own_mask: ClassVar[bool] = False
    head: ClassVar[str | None] = None
    #: One loss value for each piece, not for each row.
    piecewise: ClassVar[bool] = False
    #: Its states are read by taps in the decoder alone, not behind the last layer.
    tapped: ClassVar[bool] = False
    #: A value depends on other samples of the step: before the backward passes all packs are looked at
    #: (`adapters/whole_step.py`); `host` arrays are then of one length with the values.
    whole_step: ClassVar[bool] = False
    #: What it is to know of the step are its `host` arrays alone: nothing is computed for it.
    on_host: ClassVar[bool] = False
    #: It learns values of the slot's closed set, each a row of the vocabulary.
    over_set: ClassVar[bool] = False
    #: Each row is learned from those before it, though it is a writer of the card that writes them.
    walked: ClassVar[bool] = False
    #: What it draws is of training alone: elsewhere `prepare` is given no generator.
    of_training: ClassVar[bool] = False
    #: Gives the likelihood of answers that are compared with what frozen weights say of them (`layout/preference.py`).
    base: Objective | None = None
    #: In training a sample has an answer of another row behind its own source, too (`layout/preference.py`).
    mismatched: ClassVar[bool] = False
    #: What learns the further target sequence that stands beside the piece's (`further`); None where there is none.
    beside: ClassVar[Objective | None] = None
    #: Weight of what is learned so, times the slot's.
    beside_weight: ClassVar[float] = 1.0

    def __init__(self, name: str, options: Options = (), together: bool = False) -> None:
        self.name = name
        #: Name of the objective whose heads learn it: its own, or that which gives it likelihoods.
        self.likelihood = name
        self.options = options
        self.together = together

    def option(self, key: str, default: Any = None) -> Any:
        """What the line gives for `key`."""
        return dict(self.options).get(key, default)

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece as the model is to see it, and arrays of this objective's own; here the piece alone.

        Args:
            piece: What the modality's Preprocess made of the value.
            read: The piece of another column of the row, as the line reads it, else as text.
            rng: The sample's generator, for masks and noise; None where nothing may be random.

        Raises:
            DataError: The row cannot be learned; it goes to the quarantine.
        """
        return piece, {}

    def among(self, ids_I: Ints, counts_I: Ints) -> Objective:
        """This objective for a slot with a closed set; here itself.

        Args:
            ids_I: Row of the vocabulary of each value of the set.
            counts_I: Training rows whose target it is; zeros where nobody counted them.
        """
        return self

    def further(self, piece: Piece) -> tuple[Piece, Arrays] | None:
        """What `beside` is asked of the piece: rows of a target sequence of their own, whose rows see each other.

        They read the same source and see nothing of the piece; None where it needs no asking.
        """
        return None

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """What the pack holds of `pieces`, which have the same adapter and side, in stream order.

        Raises:
            ShapeError: Pieces that it cannot learn.
        """
        kept = [p.rows_P if p.piece.learn_P is None else p.rows_P[p.piece.learn_P] for p in pieces]
        counts = tuple(len(rows) for rows in kept)
        values = (1,) * len(pieces) if self.piecewise else counts
        terms_U = np.repeat(np.array([p.terms[0] for p in pieces], dtype=np.int64), values)
        return LossRows(
            self,
            pieces[0].adapter,
            pieces[0].side,
            rows_R=np.concatenate(kept),
            counts=counts,
            terms_U=terms_U,
            samples_U=np.repeat(np.array([p.sample for p in pieces], dtype=np.int64), values),
            units_U=np.ones(len(terms_U), dtype=np.int64),
            arrays={name: np.concatenate([p.arrays[name] for p in pieces]) for name in pieces[0].arrays},
        )


@dataclass(frozen=True, slots=True)
class Learned:
    """What one objective learns of one piece of a sequence.

    Attributes:
        piece: Index of the piece in its sequence.
        terms: What its loss values count for; one for most.
        arrays: What `Objective.prepare` found.
    """

    piece: int
    objective: Objective
    terms: tuple[Term, ...]
    arrays: Arrays = field(default_factory=dict)
