"""What travels from rows to the model: `Example` (one row, numpy), `Batch` (one pack of flat streams, numpy).

What is learned stands in `learned.py`. Shapes: S source rows, T target rows, P rows of one part, U loss values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.learned import Learned, LossRows, Term
from ofasys_lite.preprocess.base import Grid, Piece
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

Ints = npt.NDArray[np.int64]
_NOTHING = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Side:
    """One sequence, of the source where it is no Target.

    Attributes:
        learned: What objectives learn of them.
        causal: Row t is fed element t - 1 and predicts element t, the last is never fed; else all rows see each other,
            and each stands for its own element (the source; mask-predict).
        opening: The id that the first row of a causal sequence is fed.
    """

    pieces: tuple[Piece, ...]
    learned: tuple[Learned, ...] = ()
    causal: bool = False
    opening: int = CONTROL_IDS["start"]

    @property
    def count(self) -> int:
        """Number of rows (one per element)."""
        return sum(p.count for p in self.pieces)


@dataclass(frozen=True, slots=True)
class Target(Side):
    """One target sequence; a piece without objective is read, not learned."""

    causal: bool = True


@dataclass(frozen=True, slots=True)
class Example:
    """One row after preprocessing.

    Attributes:
        sources: Source sequences (one; two for `<->`).
        targets: Target sequences (`;;`: one each).
        masked: Source pieces by column of which a part is hidden: what a target of the same column is to write.
        opening: The id that the first row of each causal target is fed.
    """

    task: str
    id: str
    sources: tuple[Side, ...]
    targets: tuple[Target, ...]
    masked: Mapping[str, Piece] = field(default_factory=dict)
    opening: int = CONTROL_IDS["start"]

    @property
    def rows(self) -> int:
        """Source and target rows together."""
        return sum(side.count for side in (*self.sources, *self.targets))


@dataclass(frozen=True, slots=True)
class Part:
    """All pieces of a pack that one adapter embeds, in stream order.

    Attributes:
        rows_P: Row of the stream that each embedded row fills.
        counts: Rows per piece (sums to P).
        arrays: The pieces' arrays, concatenated along axis 0. (numpy; tensors after `Batch.to`.)
        sizes: Per array name, its length along axis 0 in each piece.
        grids: (frames, lines, columns) of each piece, None where it lies in no grid; on the host.
    """

    adapter: str
    rows_P: Any
    counts: tuple[int, ...]
    arrays: Mapping[str, Any]
    sizes: Mapping[str, tuple[int, ...]]
    grids: tuple[Grid | None, ...] = ()


@dataclass(frozen=True, slots=True)
class Rendered:
    """What an adapter made of decoded codes; the modality's Preprocess makes a value of the array."""

    array: Any


@dataclass(frozen=True, slots=True)
class Stream:
    """Rows of all samples laid end to end.

    Attributes:
        positions_S3: (time, row, column) of each row; every sequence starts at 0.
        lengths: Rows per sequence, on the host.
        runs: (rows, grid or None) of what counts its places from 0, where a model's places do not run on: neighbouring
            pieces of token ids of a sequence, else a piece; on the host.
    """

    positions_S3: Any
    lengths: tuple[int, ...]
    parts: tuple[Part, ...]
    runs: tuple[tuple[int, Grid | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """One pack.

    Attributes:
        target: Target stream, shifted: row t holds what was before and predicts element t.
        cross: (target rows, source rows) per encoding, in stream order: the lengths of cross-attention.
        causal_rows: Number of leading target rows that are causal.
        losses: What is learned. Its order is the order of loss values: target before source, then by name of the
            objective and of the adapter.
        samples: (task, id) per sample, in stream order.
    """

    source: Stream
    target: Stream
    cross: tuple[tuple[int, int], ...]
    causal_rows: int
    losses: tuple[LossRows, ...]
    terms: tuple[Term, ...]
    samples: tuple[tuple[str, str], ...]

    @property
    def terms_U(self) -> Ints:
        """Index into `terms` of each loss value."""
        return np.concatenate([_NOTHING, *(rows.terms_U for rows in self.losses)])

    @property
    def samples_U(self) -> Ints:
        """Index into `samples` of each loss value."""
        return np.concatenate([_NOTHING, *(rows.samples_U for rows in self.losses)])

    @property
    def units_U(self) -> Ints:
        """Loss units that each loss value is the sum of."""
        return np.concatenate([_NOTHING, *(rows.units_U for rows in self.losses)])

    def part_of(self, rows: LossRows) -> Part:
        """The pieces of the adapter that learns `rows`, in their stream."""
        stream = self.source if rows.side == "source" else self.target
        return next(part for part in stream.parts if part.adapter == rows.adapter)

    def __post_init__(self) -> None:
        source, target = sum(self.source.lengths), sum(self.target.lengths)
        for name, stream, count in (("source", self.source, source), ("target", self.target, target)):
            filled, placed = sum(len(p.rows_P) for p in stream.parts), len(stream.positions_S3)
            if not filled == placed == count:
                raise ShapeError(f"{name} stream of {count} rows has {filled} filled rows and {placed} positions")
        if sum(s for _, s in self.cross) != source and target:
            raise ShapeError("the lengths of cross-attention do not add up to the source rows")
