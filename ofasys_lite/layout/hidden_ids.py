"""Token ids that are written all together (`decode=mask_predict`): what of them is hidden, and how many there are.

Shapes: P ids of a piece, R ids that are hidden.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.layout.learned import Arrays, Objective
from ofasys_lite.plan.constraints import Constraint, Free, Whole
from ofasys_lite.plan.language import LONGEST, ROUNDS_ADAPTER
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Piece, line_positions
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

_MASK = CONTROL_IDS["mask"]


class Length(Objective):
    """How many ids a target has, read from its source by a row that sees nothing of it (arXiv 1904.09324)."""

    head: ClassVar[str | None] = ROUNDS_ADAPTER

    def __init__(self) -> None:
        super().__init__("length", together=True)


class TokensInRounds(Objective):
    """Masked ids of a target, told from its source and its other ids (CMLM, arXiv 1904.09324): one to all of them.

    Where nothing may be random, which are hidden follows from the ids, so that every validation asks the same.
    """

    head: ClassVar[str | None] = TOKEN_ADAPTER
    own_mask: ClassVar[bool] = True
    beside: ClassVar[Objective | None] = Length()
    beside_weight: ClassVar[float] = 0.1

    def __init__(self) -> None:
        super().__init__("masked_ids", together=True)

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece with masks and without its closing control, which the length stands for; `labels` (R,)."""
        ids = np.asarray(piece.arrays["ids"])[:-1]
        if not 0 < len(ids) <= LONGEST:
            raise DataError(
                f"{len(ids)} ids cannot be written in rounds, which write 1 to {LONGEST}",
                help="leave the row out" if not len(ids) else "write `max_length=` to cut it, or leave `decode` out",
            )
        rng = np.random.default_rng(zlib.crc32(ids.tobytes())) if rng is None else rng
        hidden_P = np.zeros(len(ids), np.bool_)
        hidden_P[rng.permutation(len(ids))[: int(rng.integers(1, len(ids) + 1))]] = True
        shown = replace(
            piece,
            positions_P3=piece.positions_P3[:-1],
            arrays={"ids": np.where(hidden_P, _MASK, ids)},
            learn_P=hidden_P,
        )
        return shown, {"labels": ids[hidden_P]}

    def further(self, piece: Piece) -> tuple[Piece, Arrays] | None:
        """The row that asks for the number of ids, which is its label."""
        return Piece.of_ids([CONTROL_IDS["start"]]), {"labels": np.array([piece.count])}


def in_rounds(free: Constraint) -> Whole:
    """What a text may be, for those who write it in rounds: how many ids, and which are legal at every place.

    Raises:
        DataError: It is no free text: what an id may be depends on the others.
    """
    if not isinstance(free, Free):
        raise DataError(f"{type(free).__name__} is not written in rounds", help="leave `decode=mask_predict` out")
    most = min(free.most, LONGEST)
    legal = tuple(sorted({*range(free.low, free.high), *free.ids}))
    about = (("close", free.close), ("least", min(max(1, free.least), most)), ("legal", legal))
    return Whole(ROUNDS_ADAPTER, tuple(map(tuple, line_positions(most).tolist())), about)
