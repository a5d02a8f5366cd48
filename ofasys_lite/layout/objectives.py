"""Objectives of the package, their half that runs where rows are read, and which of them a slot has.

Shapes: P rows of a piece, R rows that are learned, U loss values, J judged pieces, L positions of a piece.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ofasys_lite.cards.classes import load_class
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.layout.hidden_ids import TokensInRounds
from ofasys_lite.layout.learned import Arrays, Learned, LearnedPiece, LossRows, Objective, Term
from ofasys_lite.layout.pack import Target
from ofasys_lite.layout.preference import Preference
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.language import ALIGN_ADAPTER, ALIGNMENTS, PREFERENCES
from ofasys_lite.plan.segments import LossSpec, SlotSegment
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Piece
from ofasys_lite.preprocess.judged import OWN, VERDICTS, judged_piece


class Tokens(Objective):
    """Cross entropy of token ids, written one after another: row t predicts element t."""

    head: ClassVar[str | None] = TOKEN_ADAPTER

    def __init__(self) -> None:
        super().__init__("cross_entropy")

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """Rows and `labels`, the ids they are to predict."""
        for each in pieces:
            if each.piece.adapter != self.head or not each.causal:
                raise _unlearned(each)
        ids = [p.piece.arrays["ids"] for p in pieces]
        kept = [i if p.piece.learn_P is None else i[p.piece.learn_P] for i, p in zip(ids, pieces, strict=True)]
        return replace(super().rows(pieces), arrays={"labels": np.concatenate(kept)})


class Ctc(Objective):
    """Connectionist temporal classification (Graves et al., 2006): a column's labels along a source piece's rows."""

    head: ClassVar[str | None] = TOKEN_ADAPTER
    piecewise: ClassVar[bool] = True

    def __init__(self, column: str) -> None:
        super().__init__("ctc")
        self.column = column

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece, and the ids of the column."""
        ids = np.asarray(read(self.column).arrays["ids"])
        # a row per label, and one more between equal neighbours
        needed = len(ids) + int((ids[1:] == ids[:-1]).sum())
        if piece.count < needed or len(ids) == 0:
            raise DataError(f"{piece.count} rows cannot be aligned with {len(ids)} labels of `{self.column}`")
        return piece, {"labels": ids}

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """Each value is the sum over the labels of a piece; they stay on the host, piece behind piece."""
        found = super().rows(pieces)
        units_U = np.array([len(p.arrays["labels"]) for p in pieces], dtype=np.int64)
        return replace(found, units_U=units_U, arrays={}, host={"labels": found.arrays["labels"]})


class DepthCodes(Objective):
    """Codes with depth (arXiv 2410.01912), read in the decoder by heads of their adapter: all codes of a position."""

    tapped: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__("depth_cross_entropy")

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """Rows, and `picked`: which of the adapter's positions these are."""
        picked = np.concatenate([p.first + p.learned_P for p in pieces])
        return replace(super().rows(pieces), arrays={"picked": picked})


class Judges(Objective):
    """Verdicts on whole pieces of codes (`preprocess/judged.py`): one or two a piece, each a loss value."""

    def __init__(self) -> None:
        super().__init__("judges")

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """All rows of the J pieces, all of one length.

        `pieces` (J,): their numbers among the adapter's pieces; `filled`: positions that the model itself fills in, in
        the pieces of kind OWN laid end to end; on the host `samples` and `kinds` of each piece.
        """
        kinds = np.array([int(p.piece.arrays["judge"][0]) for p in pieces], dtype=np.int64)
        hidden = [p.piece.arrays["hidden"] for p, kind in zip(pieces, kinds, strict=True) if kind == OWN]
        samples = np.array([p.sample for p in pieces], dtype=np.int64)
        terms_U = np.concatenate([np.array(p.terms, dtype=np.int64) for p in pieces])
        return LossRows(
            self,
            pieces[0].adapter,
            pieces[0].side,
            rows_R=np.concatenate([p.rows_P for p in pieces]),
            counts=tuple(len(p.rows_P) for p in pieces),
            terms_U=terms_U,
            samples_U=np.repeat(samples, [len(VERDICTS[int(kind)]) for kind in kinds]),
            units_U=np.ones(len(terms_U), dtype=np.int64),
            arrays={
                "pieces": np.array([p.number for p in pieces], dtype=np.int64),
                "filled": np.flatnonzero(np.concatenate(hidden)) if hidden else np.zeros(0, dtype=np.int64),
            },
            host={"samples": samples, "kinds": kinds},
        )


class Pairs(Objective):
    """The two sides of a sample, told from those of all other samples of the task in the step: one value a pair."""

    head: ClassVar[str | None] = ALIGN_ADAPTER
    piecewise: ClassVar[bool] = True
    whole_step: ClassVar[bool] = True

    def rows(self, pieces: Sequence[LearnedPiece]) -> LossRows:
        """The last row of each side, left and right beside each other; on the host `left` and `right`.

        These (U,) are hashes of what the sides hold: pairs with an equal side are no rivals.
        """
        left, right = pieces[::2], pieces[1::2]
        samples_U = np.array([p.sample for p in left], dtype=np.int64)
        if [p.sample for p in right] != samples_U.tolist():
            raise ShapeError("a sample of `<->` has two sides, each with one row whose state is its vector")
        hashes_U = [np.concatenate([p.arrays["content"] for p in side]) for side in (left, right)]
        return LossRows(
            self,
            pieces[0].adapter,
            pieces[0].side,
            rows_R=np.concatenate([p.rows_P for p in pieces]),
            counts=(1,) * len(pieces),
            terms_U=np.array([p.terms[0] for p in left], dtype=np.int64),
            samples_U=samples_U,
            units_U=np.ones(len(left), dtype=np.int64),
            host=dict(zip(("left", "right"), hashes_U, strict=True)),
        )


#: They have no options: one of each will do.
TOKENS, CODES, JUDGES, IN_ROUNDS = Tokens(), DepthCodes(), Judges(), TokensInRounds()

#: Objectives of a whole line with `<->`, by name.
ALIGNED = {name: Pairs(name) for name in ALIGNMENTS}


def objective_of(slot: SlotSegment, loss: LossSpec, modalities: Mapping[str, ModalityCard]) -> Objective:
    """The objective that a plan calls `loss` on `slot`; CardError: the card names a class that is not there."""
    if loss.name == "cross_entropy":
        if slot.in_rounds:
            return IN_ROUNDS
        return CODES if codec_of(slot) is not None else TOKENS
    if loss.name in PREFERENCES:
        return Preference(loss.name, loss.options, CODES if codec_of(slot) is not None else TOKENS)
    if loss.name == "ctc":
        return Ctc(str(dict(loss.options)["column"]))
    card = modalities[slot.modality].objectives[loss.name]
    kind = load_class(card.objective, Objective, "objective") if card.objective else Objective
    found: Objective = kind(loss.name, loss.options, card.together)
    return found


def _unlearned(found: LearnedPiece) -> ShapeError:
    """The error for a learned piece that no objective learns: it would be left out, or learned as other ids."""
    way = "one element after another" if found.causal else "in one go"
    return ShapeError(
        f"a piece of adapter `{found.piece.adapter}` is to be learned {way}, and nothing of it has that objective",
        help="token ids are learned from left to right; else the card names an objective of the adapter in `losses`",
    )


def judged_targets(
    terms: Iterable[tuple[Term, ...]], pieces: Sequence[Piece], rng: np.random.Generator
) -> list[Target]:
    """The picture of a target of a line with judges once more, now and then.

    Args:
        terms: Per slot of the target, what its verdicts count for; empty where there are none.
        pieces: What was laid out of it.
    """
    judged = [found for found in terms if found]
    coded = [piece for piece in pieces if "judge" in piece.arrays]
    targets = []
    # a slot written in one go stands alone, so that there is at most one piece
    for names, piece in zip(judged, coded, strict=False):
        shown = judged_piece(piece, rng)
        if shown is not None:
            asked = tuple(names[head] for head in VERDICTS[int(shown.arrays["judge"][0])])
            targets.append(Target((shown,), (Learned(0, JUDGES, asked),), causal=False))
    return targets
