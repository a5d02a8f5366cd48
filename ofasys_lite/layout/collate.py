"""Flat collation: examples -> one Batch, with rows and positions of every segment decided here, in numpy.

Positions are M-RoPE's (Qwen2-VL, arXiv 2409.12191): the next piece starts at the largest position so far + 1, and every
sequence starts at 0. Shapes: S source rows, T target rows, P rows of a part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ofasys_lite.layout.learned import Learned, LearnedPiece, LossKey, Objective, StreamSide, Term
from ofasys_lite.layout.pack import Batch, Example, Part, Side, Stream
from ofasys_lite.preprocess.base import Grid, Piece
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

Ints = npt.NDArray[np.int64]
_START = CONTROL_IDS["start"]
#: What the first row of a causal sequence holds, but where weights of others open it with another row.
_OPENING = Piece.of_ids([_START])


def collate(examples: Sequence[Example]) -> Batch:
    """One pack of `examples`, laid end to end: those with causal targets first, else in the given order.

    An empty pack is legal.
    """
    examples = sorted(examples, key=lambda example: not all(t.causal for t in example.targets))
    learned = _Learning()
    sources, targets = _Stream("source", learned), _Stream("target", learned)
    cross: list[tuple[int, int]] = []
    for number, example in enumerate(examples):
        read = sum(sources.add(sequence, number) for sequence in example.sources)
        written = sum(targets.add(target, number) for target in example.targets)
        cross.append((written, read))
    order = sorted(learned.found, key=lambda key: (key[0] == "source", *key[1:3], repr(key[3])))
    return Batch(
        source=sources.stream(),
        target=targets.stream(),
        cross=tuple(cross),
        causal_rows=targets.causal_rows,
        losses=tuple(learned.objectives[key].rows(learned.found[key]) for key in order),
        terms=tuple(learned.terms),
        samples=tuple((e.task, e.id) for e in examples),
    )


@dataclass(slots=True)
class _Learning:
    """Gathers what is learned, by side, objective and adapter, and numbers the terms as they are met."""

    terms: dict[Term, int] = field(default_factory=dict)
    found: dict[LossKey, list[LearnedPiece]] = field(default_factory=dict)
    objectives: dict[LossKey, Objective] = field(default_factory=dict)

    def add(
        self,
        item: Learned,
        piece: Piece,
        rows_P: Ints,
        side: StreamSide,
        place: tuple[int, int],
        sample: int,
        causal: bool = True,
    ) -> None:
        """Notes a piece with the rows that learn it; `place`: its number and first row among its adapter's."""
        objective = item.objective
        adapter = objective.head or piece.adapter
        terms = tuple(self.terms.setdefault(term, len(self.terms)) for term in item.terms)
        key: LossKey = (side, objective.name, adapter, objective.options)
        self.objectives.setdefault(key, objective)
        found = LearnedPiece(piece, rows_P, side, adapter, *place, sample, terms, item.arrays, causal)
        self.found.setdefault(key, []).append(found)


@dataclass(slots=True)
class _Stream:
    """Lays sequences end to end, and gathers their pieces by adapter.

    Causal ones are shifted: row t holds element t-1, stands at the place of element t.
    """

    side: StreamSide
    learning: _Learning
    pieces: dict[str, list[tuple[Piece, Ints]]] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    row: int = 0
    lengths: list[int] = field(default_factory=list)
    positions: list[Ints] = field(default_factory=list)
    runs: list[tuple[int, Grid | None]] = field(default_factory=list)
    causal_rows: int = 0

    def stream(self) -> Stream:
        """The finished stream."""
        parts = []
        for adapter, held in sorted(self.pieces.items()):
            pieces = [piece for piece, _ in held]
            parts.append(
                Part(
                    adapter=adapter,
                    rows_P=np.concatenate([rows for _, rows in held]),
                    counts=tuple(len(rows) for _, rows in held),
                    arrays={n: np.concatenate([p.arrays[n] for p in pieces]) for n in pieces[0].arrays},
                    sizes={n: tuple(len(p.arrays[n]) for p in pieces) for n in pieces[0].arrays},
                    grids=tuple(p.grid for p in pieces),
                )
            )
        positions = np.concatenate(self.positions) if self.positions else np.zeros((0, 3), dtype=np.int64)
        return Stream(positions, tuple(self.lengths), tuple(parts), tuple(self.runs))

    def add(self, sequence: Side, sample: int) -> int:
        """Appends one sequence of sample number `sample`; returns its number of rows."""
        causal, pieces = sequence.causal, sequence.pieces
        learned: dict[int, list[Learned]] = {}
        for item in sequence.learned:
            learned.setdefault(item.piece, []).append(item)
        while causal and pieces and len(pieces) - 1 not in learned and not pieces[-1].tokens:
            pieces = pieces[:-1]  # neither learned nor fed: nobody looks at it
        counts, joined = [len(piece.positions_P3) for piece in pieces], False
        total = sum(counts)
        if not total and self.side == "target":
            return 0
        start, end = 0, self.row + total
        if causal:
            opening = _OPENING if sequence.opening == _START else Piece.of_ids([sequence.opening])
            self._hold(opening, np.array([self.row]), 1)
        for index, (piece, count) in enumerate(zip(pieces, counts, strict=True)):
            if not count:
                continue
            # neighbouring pieces of token ids count their places together, others each from 0
            joined, before = "ids" in piece.arrays, joined
            if joined and before:
                self.runs[-1] = (self.runs[-1][0] + count, None)
            else:
                self.runs.append((count, piece.grid))
            self.positions.append(piece.positions_P3 + start)
            start = int(self.positions[-1].max()) + 1
            rows = fed = np.arange(self.row, self.row + count)
            self.row += count
            if causal:
                # a row holds the element before its own; the last element is predicted, never fed back
                fed = rows + 1 if self.row < end else rows[1:]
            own, place = learned.get(index, ()), (0, 0)
            # a learned piece is there even where none of its rows is fed: its adapter may know what is to be learned
            if len(fed) or (own and not piece.tokens):
                held = piece
                if causal and piece.tokens:  # of others, their adapter needs all
                    ids = piece.arrays.get("inputs", piece.arrays["ids"])
                    held = Piece(piece.adapter, piece.positions_P3[: len(fed)], {"ids": ids[: len(fed)]})
                place = self._hold(held, fed, count)
            for item in own:
                self.learning.add(item, piece, rows, self.side, place, sample, causal or self.side == "source")
        self.lengths.append(total)
        if causal:
            self.causal_rows = self.row
        return total

    def _hold(self, piece: Piece, rows_P: Ints, count: int) -> tuple[int, int]:
        """Notes a piece of `count` rows; returns (its number, rows before it) among those of its adapter."""
        held = self.pieces.setdefault(piece.adapter, [])
        held.append((piece, rows_P))
        before = self.counts.get(piece.adapter, 0)
        self.counts[piece.adapter] = before + count
        return len(held) - 1, before
