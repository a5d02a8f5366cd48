"""Values in continuous rows (sound that is written, motion): the pieces that are learned by taking noise away.

Shapes: P rows of a piece, C numbers of a row.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ofasys_lite.preprocess.base import Grid, Piece, line_positions

Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


def value_piece(
    adapter: str,
    values_PC: Floats,
    positions_P3: npt.NDArray[np.int64],
    known_P: Flags,
    most: int,
    grid: Grid | None = None,
) -> Piece:
    """A value in continuous rows, as it is; `layout.denoised` puts noise on it where it is learned.

    Args:
        known_P: Rows that the model is told; all of them where the value is read.
        most: The most rows that a value may have, where the model must learn how many it has; 0: it need not. Of rows
            in a grid, the most moments.
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
            "mask": np.zeros(0, np.bool_),
        },
        learn_P=None if not known_P.any() or known_P.all() else ~known_P,
        grid=grid,
    )


def with_given(piece: Piece, given_P: Flags, there_P: Flags | None = None) -> Piece:
    """The piece of a target of which the model is told some rows, and learns those others that are there.

    Args:
        there_P: Rows of which the value is known; None: all.
    """
    arrays = {**piece.arrays, "known": given_P.astype(np.float32)}
    return replace(piece, arrays=arrays, learn_P=~given_P if there_P is None else ~given_P & there_P)


def given_rows(values_PC: Floats, given_P: Flags) -> Floats:
    """What `Whole.given` is: the rows that are given, NaN in those that are to be written."""
    return np.where(given_P[:, None], values_PC, np.nan).astype(np.float32)


def some_rows(count: int, rng: np.random.Generator) -> Flags:
    """(count,) rows to be told in training of what may be given in part: none, some anywhere, all but a stretch."""
    told = np.zeros(count, np.bool_)
    way, kept = rng.integers(4), int(rng.integers(count))
    if way == 0:
        told[rng.permutation(count)[:kept]] = True
    elif way == 1:
        first = int(rng.integers(kept + 1))
        told[:first] = told[first + count - kept :] = True
    return told


def length_piece(adapter: str, channels: int) -> Piece:
    """The row that asks how many rows a value has."""
    plain = value_piece(adapter, np.zeros((1, channels), np.float32), line_positions(1), np.zeros(1, np.bool_), 0)
    return Piece(adapter, plain.positions_P3, {**plain.arrays, "asked": np.ones(1, np.bool_)})
