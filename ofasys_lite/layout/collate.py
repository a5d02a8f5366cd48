"""Flat collation: examples -> one Batch, with rows and positions of every segment decided here, in numpy.

Positions are M-RoPE's (Qwen2-VL, arXiv 2409.12191): the next piece starts at the largest position so far + 1, and every
sequence starts at 0. Shapes: S source rows, T target rows, P rows of a part, L target rows with loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.pack import (
    Batch,
    CodeRows,
    Example,
    JudgeRows,
    Part,
    SideRows,
    Stream,
    Target,
    Term,
    TermedPiece,
)
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.judged import OWN
from ofasys_lite.preprocess.vocabulary import CONTROLS

__all__ = ["collate"]

Ints = npt.NDArray[np.int64]
_START = CONTROLS.index("<start>")


class _Parts:
    """Gathers pieces by adapter, in stream order."""

    def __init__(self) -> None:
        self.pieces: dict[str, list[tuple[Piece, Ints]]] = {}

    def add(self, piece: Piece, rows_P: Ints) -> None:
        self.pieces.setdefault(piece.adapter, []).append((piece, rows_P))

    def build(self) -> tuple[Part, ...]:
        return tuple(_part(adapter, self.pieces[adapter]) for adapter in sorted(self.pieces))


def _part(adapter: str, pieces: list[tuple[Piece, Ints]]) -> Part:
    names = list(pieces[0][0].arrays)
    return Part(
        adapter=adapter,
        rows_P=np.concatenate([rows for _, rows in pieces]),
        counts=tuple(len(rows) for _, rows in pieces),
        arrays={n: np.concatenate([p.arrays[n] for p, _ in pieces]) for n in names},
        sizes={n: tuple(len(p.arrays[n]) for p, _ in pieces) for n in names},
    )


def _placed(pieces: Sequence[Piece]) -> Ints:
    """(rows, 3) positions of pieces laid one after another, from 0."""
    start = 0
    found: list[Ints] = []
    for piece in pieces:
        if piece.count:
            positions = piece.positions_P3 + start
            start = int(positions.max()) + 1
            found.append(positions)
    return np.concatenate(found) if found else np.zeros((0, 3), dtype=np.int64)


def collate(examples: Sequence[Example]) -> Batch:
    """One pack of `examples`, laid end to end: those with causal targets first, else in the given order.

    An empty pack is legal.
    """
    examples = sorted(examples, key=lambda example: not all(t.causal for t in example.targets))
    sources, source_lengths, source_positions, source_row = _Parts(), list[int](), list[Ints](), 0
    side: list[SideRows] = []
    terms: dict[Term, int] = {}
    targets = _TargetStream(terms)
    cross: list[tuple[int, int]] = []
    for number, example in enumerate(examples):
        first_rows: list[int] = []
        for sequence in example.sources:
            source_positions.append(_placed(sequence.pieces))
            source_lengths.append(sequence.count)
            for piece in sequence.pieces:
                first_rows.append(source_row)
                if piece.count:
                    sources.add(piece, np.arange(source_row, source_row + piece.count))
                source_row += piece.count
        for loss in example.losses:
            piece = example.sources[0].pieces[loss.piece]
            rows = np.arange(first_rows[loss.piece], first_rows[loss.piece] + piece.count)
            side.append(SideRows(loss.kind, terms.setdefault(loss.term, len(terms)), number, rows, loss.labels))
        written = sum(targets.add(target, number) for target in example.targets)
        cross.append((written, sum(sequence.count for sequence in example.sources)))
    codes = [targets.codes[name] for name in sorted(targets.codes)]
    stream = Stream(_stack(source_positions), tuple(source_lengths), sources.build())
    return Batch(
        source=stream,
        target=targets.stream(),
        cross=tuple(cross),
        causal_rows=targets.causal_rows,
        loss_rows_L=_join(targets.loss_rows),
        labels_L=_join(targets.labels),
        terms_L=_join([*targets.terms_found, *(t for c in codes for t in c.terms), *(c.verdicts() for c in codes)]),
        samples_L=_join([*targets.samples, *(n for c in codes for n in c.samples), *(c.judged_by() for c in codes)]),
        side=tuple(side),
        terms=tuple(terms),
        samples=tuple((e.task, e.id) for e in examples),
        codes=tuple(c.built() for c in codes),
        judged=tuple(c.judged() for c in codes if c.shown),
    )


class _Codes:
    """Rows that one adapter learns by its own heads."""

    def __init__(self, adapter: str) -> None:
        self.adapter = adapter
        self.rows: list[Ints] = []
        self.picked: list[Ints] = []
        self.terms: list[Ints] = []
        self.samples: list[Ints] = []
        #: Per judged piece: its number, its rows, its sample, its kind, the terms of its verdicts.
        self.shown: list[tuple[int, Ints, int, int, tuple[int, ...]]] = []
        #: Per judged piece that the model fills in: True where it does.
        self.filled: list[npt.NDArray[np.bool_]] = []
        self.pieces = 0
        self.positions = 0

    def add(self, piece: Piece, term: int | None, rows: Ints, sample: int, judges: tuple[int, ...] = ()) -> None:
        """Notes the positions of a piece that are learned; the adapter's part counts all of them."""
        if judges:
            kind = int(piece.arrays["judge"][0])
            self.shown.append((self.pieces, rows, sample, kind, judges))
            if kind == OWN:
                self.filled.append(piece.arrays["hidden"])
        self.pieces += 1
        chosen = np.arange(piece.count) if piece.learn_P is None else np.flatnonzero(piece.learn_P)
        if term is not None:
            self.rows.append(rows[chosen])
            self.picked.append(self.positions + chosen)
            self.terms.append(np.full(len(chosen), term, dtype=np.int64))
            self.samples.append(np.full(len(chosen), sample, dtype=np.int64))
        self.positions += piece.count

    def built(self) -> CodeRows:
        """What the pack holds."""
        picked = _join(self.picked)
        return CodeRows(self.adapter, _join(self.rows), None if len(picked) == self.positions else picked)

    def judged(self) -> JudgeRows:
        """The pieces that are shown to judges."""
        numbers, rows, samples, kinds, _ = zip(*self.shown, strict=True)
        filled = np.flatnonzero(np.concatenate(self.filled)) if self.filled else np.zeros(0, np.int64)
        return JudgeRows(self.adapter, np.array(numbers, dtype=np.int64), np.stack(rows), samples, kinds, filled)

    def verdicts(self) -> Ints:
        """Term of each verdict, piece by piece."""
        return np.array([term for *_, terms in self.shown for term in terms], dtype=np.int64)

    def judged_by(self) -> Ints:
        """Sample of each verdict."""
        return np.array([sample for _, _, sample, _, terms in self.shown for _ in terms], dtype=np.int64)


class _TargetStream:
    """Lays target sequences end to end.

    Causal ones are shifted: row t holds element t-1, stands at the place of element t.
    """

    def __init__(self, terms: dict[Term, int]) -> None:
        self.terms = terms
        self.parts = _Parts()
        self.row = 0
        self.lengths: list[int] = []
        self.positions: list[Ints] = []
        self.loss_rows: list[Ints] = []
        self.labels: list[Ints] = []
        self.terms_found: list[Ints] = []
        self.samples: list[Ints] = []
        self.codes: dict[str, _Codes] = {}
        self.causal_rows = 0

    def add(self, target: Target, sample: int) -> int:
        """Appends one sequence of sample number `sample`; returns its number of rows."""
        if not target.causal:
            return self._together(target, sample)
        pieces = _written(target)
        total = sum(item.piece.count for item in pieces)
        if total == 0:
            return 0
        first = self.row
        inputs: list[tuple[Piece, Ints]] = [(Piece.of_ids([_START]), np.array([first]))]
        place = 0
        for item in pieces:
            piece = item.piece
            if piece.count == 0:
                continue
            rows = np.arange(first + place, first + place + piece.count)
            if piece.coded:
                self._code(piece, item.term, rows, sample)
            elif item.term is not None:
                self._learn(piece, item.term, rows, sample)
            fed = rows + 1
            if fed[-1] == first + total:
                # the last element is predicted, never fed back
                fed = fed[:-1]
            # a piece of codes is there even where none of its rows is fed: its codes are what is learned
            if len(fed) or piece.coded:
                inputs.append((_fed(piece, len(fed)), fed))
            place += piece.count
        for piece, rows in inputs:
            self.parts.add(piece, rows)
        self.positions.append(_placed([item.piece for item in pieces]))
        self.lengths.append(total)
        self.row += total
        self.causal_rows = self.row
        return total

    def _together(self, target: Target, sample: int) -> int:
        """Appends a sequence whose rows see each other: each stands for its own element, and predicts it."""
        first, place = self.row, 0
        for item in target.pieces:
            rows = np.arange(first + place, first + place + item.piece.count)
            if item.piece.coded:
                self._code(item.piece, item.term, rows, sample, item.judges)
            elif item.term is not None:
                raise _unlearned(item.piece, "in one go")
            if len(rows):
                self.parts.add(item.piece, rows)
            place += item.piece.count
        if place:
            self.positions.append(_placed([item.piece for item in target.pieces]))
            self.lengths.append(place)
            self.row += place
        return place

    def _code(self, piece: Piece, term: Term | None, rows: Ints, sample: int, judges: tuple[Term, ...] = ()) -> None:
        index = None if term is None else self.terms.setdefault(term, len(self.terms))
        verdicts = tuple(self.terms.setdefault(judge, len(self.terms)) for judge in judges)
        self.codes.setdefault(piece.adapter, _Codes(piece.adapter)).add(piece, index, rows, sample, verdicts)

    def _learn(self, piece: Piece, term: Term, rows: Ints, sample: int) -> None:
        if piece.adapter != "text":
            raise _unlearned(piece, "one element after another")
        labels = piece.arrays["ids"]
        if piece.learn_P is not None:
            rows, labels = rows[piece.learn_P], labels[piece.learn_P]
        index = self.terms.setdefault(term, len(self.terms))
        self.loss_rows.append(rows)
        self.labels.append(labels)
        self.terms_found.append(np.full(len(rows), index, dtype=np.int64))
        self.samples.append(np.full(len(rows), sample, dtype=np.int64))

    def stream(self) -> Stream:
        """The finished stream."""
        return Stream(_stack(self.positions), tuple(self.lengths), self.parts.build())


def _unlearned(piece: Piece, way: str) -> ShapeError:
    """The error for a learned piece that no objective learns: it would be left out, or learned as other ids."""
    return ShapeError(
        f"a piece of adapter `{piece.adapter}` is to be learned {way}, and nothing of it has that objective",
        help="what is learned is token ids from left to right, or codes (`Piece(coded=True)`) of an adapter of codes",
    )


def _written(target: Target) -> tuple[TermedPiece, ...]:
    """The pieces of a target without those at its end that are neither learned nor token ids: nobody looks at them."""
    pieces = target.pieces
    while pieces and pieces[-1].term is None and pieces[-1].piece.adapter != "text":
        pieces = pieces[:-1]
    return pieces


def _fed(piece: Piece, count: int) -> Piece:
    """The first `count` rows of a token piece as the decoder is fed them; other pieces are fed whole."""
    if piece.adapter != "text":
        return piece
    ids = piece.arrays.get("inputs", piece.arrays["ids"])
    return Piece("text", piece.positions_P3[:count], {"ids": ids[:count]})


def _stack(positions: Sequence[Ints]) -> Ints:
    return np.concatenate(positions) if positions else np.zeros((0, 3), dtype=np.int64)


def _join(arrays: Sequence[Ints]) -> Ints:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=np.int64)
