"""Values in continuous rows (sound that is written, motion): the pieces that are learned by taking noise away.

Shapes: P rows of a piece, C numbers of a row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ofasys_lite.preprocess.base import Piece, line_positions

Floats = npt.NDArray[np.float32]


def value_piece(
    adapter: str, values_PC: Floats, positions_P3: npt.NDArray[np.int64], known_P: npt.NDArray[np.bool_], most: int
) -> Piece:
    """A value in continuous rows, as it is; `layout.denoised` puts noise on it where it is learned.

    Args:
        known_P: Rows that the model is told; all of them where the value is read.
        most: The most rows that a value may have, where the model must learn how many it has; 0: it need not.
    """
    return Piece(
        adapter,
        positions_P3,
        {
            "values": values_PC.astype(np.float32),
            "level": np.zeros(len(values_PC), np.float32),
            "known": known_P.astype(np.float32),
            "most": np.full(len(values_PC), most, np.int64),
            "asked": np.zeros(len(values_PC), np.bool_),
        },
        learn_P=None if not known_P.any() or known_P.all() else ~known_P,
    )


def length_piece(adapter: str, channels: int) -> Piece:
    """The row that asks how many rows a value has."""
    plain = value_piece(adapter, np.zeros((1, channels), np.float32), line_positions(1), np.zeros(1, np.bool_), 0)
    return Piece(adapter, plain.positions_P3, {**plain.arrays, "asked": np.ones(1, np.bool_)})
