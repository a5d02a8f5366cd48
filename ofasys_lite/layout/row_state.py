"""What is known while one row is laid out as an Example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ofasys_lite.data.groups import candidates
from ofasys_lite.layout.learned import Learned, Objective, Term
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.preprocess.base import Piece, RowContext


@dataclass(slots=True)
class RowState:
    """The row, its generator, what was found.

    Attributes:
        rng: The sample's generator; None where nothing may be random.
        frame: (width, height) in pixels that boxes of the row refer to.
        dropped: Slots with `drop=` are left out.
        objectives: What is learned is wanted.
        own_holes: Transparent parts of masked pictures say what is hidden.
        masked: Column -> its masked text or picture, of which the target learns what is hidden.
        pieces: Laid out so far.
        learned: What objectives learn of them.
    """

    row: Any
    rng: np.random.Generator | None
    train: bool
    frame: tuple[int, int] | None
    step: int | None = None
    dropped: bool = False
    objectives: bool = True
    own_holes: bool = False
    masked: dict[str, Piece] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    learned: list[Learned] = field(default_factory=list)

    def add(self, piece: Piece, objective: Objective | None = None, term: Term | None = None) -> None:
        """Lays a piece behind the others, learned by `objective` where it counts for a term."""
        if objective is not None and term is not None:
            self.learned.append(Learned(len(self.pieces), objective, (term,)))
        self.pieces.append(piece)

    def context(self, slot: SlotSegment, row: Any, target: bool) -> RowContext:
        """What the row (`row`: a record of it within a group) and the moment know of a slot."""
        closed = None if slot.closed is None else slot.closed.values
        if slot.closed is not None and slot.closed.kind == "candidates":
            closed = candidates(row, slot.closed.name)
        side: Literal["source", "target"] = "target" if target and slot.learned else "source"
        return RowContext(side, self.rng, self.train, self.frame, closed, self.step, self.own_holes, self.row)
