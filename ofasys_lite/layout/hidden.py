"""Objectives of the encoder: a part of what is read is hidden, and is to be told from the rest.

Shapes: P rows of a piece, R rows that are hidden, f pixels a cell is wide and high, F frames, M bands.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.layout.learned import Arrays, Objective
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import TOKEN_ADAPTER, Piece
from ofasys_lite.preprocess.vocabulary import CONTROLS

_MASK = CONTROLS.index("<mask>")
Bools = npt.NDArray[np.bool_]


class Hidden(Objective):
    """Base: draws what is hidden, `ratio` of the rows, at least one and never all where there are several.

    Where nothing may be random the drawing follows from the value, so that every validation asks the same.
    """

    #: Share of the rows that is hidden where the line does not say it.
    ratio: ClassVar[float] = 0.15

    def __init__(self, name: str, options: Options = (), together: bool = False) -> None:
        super().__init__(name, options, together)
        ratio = self.option("ratio", self.ratio)
        if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio < 1:
            raise CardError(
                f"loss: `ratio` of {name} is a share between 0 and 1, not {ratio!r}",
                help=f"write {name}(ratio={self.ratio:g})",
            )
        self.share = float(ratio)

    def draw(self, free_P: Bools, rng: np.random.Generator) -> Bools:
        """(P,) which of the free rows are hidden."""
        places = np.flatnonzero(free_P)
        count = min(max(1, round(self.share * len(places))), max(1, len(places) - 1))
        hidden_P = np.zeros(len(free_P), np.bool_)
        hidden_P[rng.permutation(places)[:count]] = True
        return hidden_P

    def drawn(self, free_P: Bools, value: npt.NDArray[Any], rng: np.random.Generator | None) -> Bools:
        """The same, by the value where nothing may be random; DataError where nothing can be hidden."""
        if not free_P.any():
            raise DataError(f"nothing of it can be hidden for `loss={self.name}`", help="leave the row out")
        return self.draw(free_P, np.random.default_rng(zlib.crc32(value.tobytes())) if rng is None else rng)


class MaskedTokens(Hidden):
    """Masked language modelling (BERT, arXiv 1810.04805): ids in whose place a mask is read, by the head of tokens.

    Every hidden id is replaced by the mask: there is no later stage that would meet masks for the first time.
    """

    head: ClassVar[str | None] = TOKEN_ADAPTER
    own_mask: ClassVar[bool] = True

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece with masks, and the ids behind them as `labels`."""
        ids = np.asarray(piece.arrays["ids"])
        hidden_P = self.drawn(ids != _MASK, ids, rng)
        shown = replace(piece, arrays={**piece.arrays, "ids": np.where(hidden_P, _MASK, ids)}, learn_P=hidden_P)
        return shown, {"labels": ids[hidden_P]}


class MaskedCells(Hidden):
    """Cells of pictures that are hidden (MAE, arXiv 2111.06377); `goal` (R, f * f * 3): their pixels.

    Those of a cell less their mean, over their deviation, as there.
    """

    ratio: ClassVar[float] = 0.75

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece with a mask over its cells."""
        mask_P, pixels = piece.arrays["mask"], piece.arrays["pixels"]
        free_P = ~mask_P if len(mask_P) else np.ones(piece.count, np.bool_)
        hidden_P = self.drawn(free_P, pixels, rng)
        frames, lines, columns = piece.grid or (1, 1, piece.count)
        side = round((len(pixels) / piece.count) ** 0.5)
        cells = pixels.reshape(frames, lines, side, columns, side, 3).transpose(0, 1, 3, 2, 4, 5)
        goal_RE = cells.reshape(piece.count, -1)[hidden_P].astype(np.float32)
        goal_RE -= goal_RE.mean(1, keepdims=True)
        goal_RE /= np.maximum(goal_RE.std(1, keepdims=True), 1.0)
        shown = replace(piece, arrays={**piece.arrays, "mask": ~free_P | hidden_P}, learn_P=hidden_P)
        return shown, {"goal": goal_RE}


#: Rows of a hidden span of sound: 400 ms.
_SPAN = 10


class MaskedFrames(Hidden):
    """Spans of sound that are hidden (as wav2vec 2.0 hides them, arXiv 2006.11477); `goal` (R, 4 * M): their frames."""

    ratio: ClassVar[float] = 0.5

    def draw(self, free_P: Bools, rng: np.random.Generator) -> Bools:
        """(P,) spans of at most 10 rows, until the share is hidden."""
        total = len(free_P)
        wanted = min(max(1, round(self.share * total)), max(1, total - 1))
        hidden_P = np.zeros(total, np.bool_)
        while (missing := wanted - int(hidden_P.sum())) > 0:
            first = int(rng.integers(total))
            span = np.arange(first, min(total, first + min(_SPAN, missing)))
            hidden_P[span] = True
        return hidden_P

    def prepare(
        self, piece: Piece, read: Callable[[str], Piece], rng: np.random.Generator | None
    ) -> tuple[Piece, Arrays]:
        """The piece with zeros, the mean of its frames, where it is hidden."""
        frames_FM = piece.arrays["frames"]
        hidden_P = self.drawn(np.ones(piece.count, np.bool_), frames_FM, rng)
        group = -(-len(frames_FM) // piece.count)
        filled = np.zeros((piece.count * group, frames_FM.shape[1]), np.float32)
        filled[: len(frames_FM)] = frames_FM
        hidden_F = hidden_P.repeat(group)[: len(frames_FM), None]
        shown = replace(
            piece, arrays={**piece.arrays, "frames": np.where(hidden_F, 0, frames_FM).astype(frames_FM.dtype)}
        )
        return replace(shown, learn_P=hidden_P), {"goal": filled.reshape(piece.count, -1)[hidden_P]}
