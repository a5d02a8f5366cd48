"""What is known while one row is laid out as an Example."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ofasys_lite.layout.pack import SideLoss, TermedPiece
from ofasys_lite.preprocess.base import Piece

__all__ = ["RowState"]


@dataclass(slots=True)
class RowState:
    """The row, its generator, what was found.

    Attributes:
        row: Raw values by column.
        rng: The sample's generator; None where nothing may be random.
        train: Augmentation, paraphrases, `drop` and noise apply.
        frame: (width, height) in pixels that boxes of the row refer to.
        step: Number of the training step.
        dropped: Slots with `drop=` are left out.
        objectives: Those on the encoder are wanted.
        own_holes: Transparent parts of masked pictures say what is hidden.
        masked: Column -> its masked text or picture, of which the target learns what is hidden.
        pieces: Laid out so far.
        losses: Objectives on the encoder.
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
    pieces: list[TermedPiece] = field(default_factory=list)
    losses: list[SideLoss] = field(default_factory=list)
