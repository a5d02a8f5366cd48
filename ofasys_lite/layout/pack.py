"""What travels from rows to the model: `Example` (one row, numpy), `Batch` (one pack of flat streams, numpy).

Shapes: S source rows, T target rows, P rows of one part, L target rows with loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import ShapeError
from ofasys_lite.preprocess.base import Piece

__all__ = [
    "Batch",
    "CodeRows",
    "Example",
    "JudgeRows",
    "Part",
    "Rendered",
    "Side",
    "SideLoss",
    "SideRows",
    "Stream",
    "Target",
    "Term",
    "TermedPiece",
]

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Term:
    """One loss term: (task, slot).

    Attributes:
        task: Task name.
        slot: Slot key, with `:ctc` and the like for an objective that is not cross entropy.
        unit: `token`, `frame`, `position`, `sample` or `pair`.
        weight: The slot's weight.
    """

    task: str
    slot: str
    unit: str
    weight: float


@dataclass(frozen=True, slots=True)
class TermedPiece:
    """A piece on the target side and the term its learned rows count for (None: read, not learned).

    Attributes:
        piece: The piece.
        term: Of its learned rows.
        judges: Terms of the verdicts on a piece that judges learn from (`preprocess/judged.py`).
    """

    piece: Piece
    term: Term | None
    judges: tuple[Term, ...] = ()


@dataclass(frozen=True, slots=True)
class SideLoss:
    """An objective on the encoder's states of one source piece.

    Attributes:
        kind: `ctc`.
        piece: Index of the source piece whose rows it judges.
        term: The term it counts for.
        labels: Label ids.
    """

    kind: str
    piece: int
    term: Term
    labels: Ints


@dataclass(frozen=True, slots=True)
class Side:
    """One source sequence: its pieces in order."""

    pieces: tuple[Piece, ...]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(p.count for p in self.pieces)


@dataclass(frozen=True, slots=True)
class Target:
    """One target sequence: its pieces in order.

    Attributes:
        pieces: Causal: row t is fed element t - 1 and predicts element t; the last element is never fed back.
        causal: False where all rows see each other and each predicts its own element (mask-predict).
    """

    pieces: tuple[TermedPiece, ...]
    causal: bool = True

    @property
    def count(self) -> int:
        """Number of rows (one per element)."""
        return sum(p.piece.count for p in self.pieces)


@dataclass(frozen=True, slots=True)
class Example:
    """One row after preprocessing.

    Attributes:
        task: Task name.
        id: Sample id.
        sources: Source sequences (one; two for `<->`).
        targets: Target sequences (`;;`: one each).
        losses: Objectives on source pieces.
        masked: Source pieces by column of which a part is hidden: what a target of the same column is to write.
    """

    task: str
    id: str
    sources: tuple[Side, ...]
    targets: tuple[Target, ...]
    losses: tuple[SideLoss, ...] = ()
    masked: Mapping[str, Piece] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Part:
    """All pieces of a pack that one adapter embeds, in stream order.

    Attributes:
        adapter: Adapter name.
        rows_P: Row of the stream that each embedded row fills.
        counts: Rows per piece (sums to P).
        arrays: The pieces' arrays, concatenated along axis 0. (numpy; tensors after `Batch.to`.)
        sizes: Per array name, its length along axis 0 in each piece.
    """

    adapter: str
    rows_P: Any
    counts: tuple[int, ...]
    arrays: Mapping[str, Any]
    sizes: Mapping[str, tuple[int, ...]]


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
        parts: What fills the rows.
    """

    positions_S3: Any
    lengths: tuple[int, ...]
    parts: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(self.lengths)


@dataclass(frozen=True, slots=True)
class SideRows:
    """An objective on the encoder's states of one piece, in a pack.

    Attributes:
        kind: `ctc`.
        term: Index into the pack's terms.
        sample: Index into the pack's samples.
        rows: Source rows it judges.
        labels: Label ids, on the host; each is one loss unit.
    """

    kind: str
    term: int
    sample: int
    rows: Any
    labels: Any


@dataclass(frozen=True, slots=True)
class CodeRows:
    """Target rows that an adapter's own heads learn, in a pack: codes with depth.

    Attributes:
        adapter: Name of the adapter.
        rows: Target rows, one per position, in the order in which the adapter's part holds them.
        picked: Which positions of the part these are, or None for all of them.
    """

    adapter: str
    rows: Any
    picked: Any = None


@dataclass(frozen=True, slots=True)
class JudgeRows:
    """Whole pieces that an adapter's judges learn from, in a pack: J of L positions.

    Attributes:
        adapter: Name of the adapter.
        pieces: (J,) their numbers among the adapter's pieces.
        rows: (J, L) their target rows.
        samples: Index into the pack's samples of each.
        kinds: REAL, OTHER or OWN of `preprocess/judged.py`, of each.
        filled: Positions that the model itself fills in, in the pieces of kind OWN laid end to end.
    """

    adapter: str
    pieces: Any
    rows: Any
    samples: tuple[int, ...]
    kinds: tuple[int, ...]
    filled: Any


@dataclass(frozen=True, slots=True)
class Batch:
    """One pack.

    Attributes:
        source: Source stream.
        target: Target stream, shifted: row t holds what was before and predicts element t.
        cross: (target rows, source rows) per encoding, in stream order: the lengths of cross-attention.
        causal_rows: Number of leading target rows that are causal.
        loss_rows_L: Target rows with loss whose element is a token id.
        labels_L: What they must predict.
        terms_L: Index into `terms` for each of them, for the rows of `codes` behind them, then for the verdicts of
            `judged`.
        samples_L: Index into `samples` likewise.
        side: Objectives on the encoder.
        terms: The loss terms met in the pack.
        samples: (task, id) per sample, in stream order.
        codes: Rows with loss that adapters learn by heads of their own, by adapter name.
        judged: Pieces that judges learn from, by adapter name.
    """

    source: Stream
    target: Stream
    cross: tuple[tuple[int, int], ...]
    causal_rows: int
    loss_rows_L: Any
    labels_L: Any
    terms_L: Any
    samples_L: Any
    side: tuple[SideRows, ...]
    terms: tuple[Term, ...]
    samples: tuple[tuple[str, str], ...]
    codes: tuple[CodeRows, ...] = ()
    judged: tuple[JudgeRows, ...] = ()

    def __post_init__(self) -> None:
        for name, stream in (("source", self.source), ("target", self.target)):
            filled = sum(len(p.rows_P) for p in stream.parts)
            if filled != stream.count or len(stream.positions_S3) != stream.count:
                raise ShapeError(
                    f"{name} stream of {stream.count} rows has {filled} filled rows and "
                    f"{len(stream.positions_S3)} positions"
                )
        if sum(s for _, s in self.cross) != self.source.count and self.target.count:
            raise ShapeError("the lengths of cross-attention do not add up to the source rows")
