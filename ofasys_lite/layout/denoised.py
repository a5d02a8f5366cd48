"""Targets in continuous rows, learned by taking noise away; and how many rows they have, learned beside.

Shapes: P rows of a piece, C numbers of a row, R rows that are learned.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import ClassVar

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.layout.learned import Arrays, Objective
from ofasys_lite.layout.noise import Process
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.continuous import length_piece

#: How many rows a value has, read from its source by a row that sees nothing of the value (as the length token of
#: arXiv 1904.09324 stands beside the source).
LENGTH = Objective("length", together=True)


class Denoised(Objective):
    """All rows of a value, with noise of a level that the sample's generator draws; `flow` or `diffusion`.

    What the model is to give is the array `goal` (R, C). Where nothing may be random, level and noise follow from the
    value, so that every validation asks the same.
    """

    beside: ClassVar[Objective | None] = LENGTH
    beside_weight: ClassVar[float] = 0.1

    def __init__(self, name: str, options: Options = (), together: bool = True) -> None:
        super().__init__(name, options, together)
        self.process = Process.of(name, dict(options))

    def further(self, piece: Piece) -> tuple[Piece, Arrays] | None:
        """The row that asks for the number of rows (of moments, where they lie in a grid), which is its label; None
        where all values have as many."""
        most = int(piece.arrays["most"][0])
        if not most:
            return None
        count = piece.count if piece.grid is None else piece.grid[0]
        return length_piece(piece.adapter, piece.arrays["values"].shape[1]), {"labels": np.array([count])}

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece with noise on the rows that are not known."""
        values_PC = piece.arrays["values"]
        rng = np.random.default_rng(zlib.crc32(values_PC.tobytes())) if rng is None else rng
        level = self.process.draw(rng)
        noise_PC = rng.standard_normal(values_PC.shape, dtype=np.float32)
        signal, share = self.process.scales(level)
        known_P = piece.arrays["known"] > 0
        hidden_P = ~known_P
        learned_P = hidden_P if piece.learn_P is None else piece.learn_P
        if not learned_P.any():
            raise DataError("every row of it is given, so that nothing is left to be learned")
        fed_PC = np.where(hidden_P[:, None], signal * values_PC + share * noise_PC, values_PC)
        goal_PC = self.process.goal(values_PC, noise_PC, level)
        arrays = {
            **piece.arrays,
            "values": fed_PC.astype(np.float32),
            "level": np.where(hidden_P, np.float32(level), np.float32(0)).astype(np.float32),
        }
        shown = Piece(piece.adapter, piece.positions_P3, arrays, piece.learn_P, piece.grid)
        return shown, {"goal": goal_PC[learned_P].astype(np.float32)}
