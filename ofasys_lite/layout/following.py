"""Targets in continuous rows, learned row after row from those before, and where they end.

As Tacotron 2 does (arXiv 1712.05884), but for its stop: at each row the number of all rows is asked.

Shapes: P rows of a piece, C numbers of a row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.layout.learned import Arrays, Objective
from ofasys_lite.preprocess.base import Piece

#: Deviation of what is added to the rows that are fed back in training. What a model writes is never quite right: one
#: that has only seen right rows follows its own mistakes.
NOISE = 0.5


class Following(Objective):
    """Each row of a value from the rows before it, and, at each row, how many there will be.

    The array `goal` (P, C) is what the rows are, `labels` (P,) how many of them there are. What is fed back has noise
    of the deviation `noise`, in training alone, drawn by the sample's generator.

    Raises:
        CardError: `noise` is no number of at least 0.
        DataError: A value of which some rows are given: what stands between them cannot be learned so.
    """

    of_training: ClassVar[bool] = True
    walked: ClassVar[bool] = True

    def __init__(self, name: str, options: tuple[tuple[str, object], ...] = (), together: bool = False) -> None:
        super().__init__(name, options, together)
        noise = self.option("noise", NOISE)
        if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0 <= noise < 100:
            raise CardError(
                f"`noise` of {name} cannot be `{noise}`", help="a deviation from 0 to below 100, such as 0.5"
            )
        self.noise = float(noise)

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece as it is fed back."""
        if piece.learn_P is not None:
            raise DataError("some of its rows are given, and `frames` writes from the first row to the last")
        values_PC = piece.arrays["values"]
        fed_PC = values_PC
        if rng is not None and self.noise:
            fed_PC = values_PC + np.float32(self.noise) * rng.standard_normal(values_PC.shape, dtype=np.float32)
        arrays = {**piece.arrays, "values": fed_PC, "known": np.ones(piece.count, np.float32)}
        return replace(piece, arrays=arrays), {"goal": values_PC, "labels": np.full(piece.count, piece.count)}
