"""What search needs of a model: a step function. Shapes: B live rows, D width, V vocabulary, W ids asked for."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Session"]


class Session(Protocol):
    """A model with its caches, as search sees it: live rows that are fed one element at a time.

    At first there is one live row per sample. Keys of a sample's source are shared by all of its rows.
    """

    def advance(self, ids_B: Tensor, positions_B3: Tensor) -> Tensor:
        """States (B, D) behind one more element per live row: what is fed (at first `<start>`) stands at the position
        of the element that the state then predicts."""

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        """Scores (B, V), or (B, W) of the given ids only, before softmax; a fresh tensor, which search writes into."""

    def select(self, rows: Tensor) -> None:
        """Makes row i the continuation of row `rows[i]`; there may be more rows (beams) or fewer (finished)."""
