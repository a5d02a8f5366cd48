"""What the source hides of a value, told by a linear head from the encoder's states (MAE, arXiv 2111.06377).

Shapes: R rows learned, D width, E numbers of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from ofasys_lite.adapters.base import Begin, Encoded, Reading, Section
from ofasys_lite.layout.learned import LossRows


class Rebuilder(nn.Module):
    """The head of `loss=mae`, which an adapter has only where a line asks for it.

    Args:
        settings: The adapter's.
        numbers: Of a row.
    """

    def __init__(self, settings: Mapping[str, Any], width: int, numbers: int) -> None:
        super().__init__()
        self.out = nn.Linear(width, numbers) if "mae" in settings.get("objectives", ()) else None

    def objectives(self) -> Mapping[str, Begin]:
        """`mae`: one mean squared error a row."""
        return {} if self.out is None else {"mae": self._begin}

    def sections(self) -> tuple[Section, ...]:
        """The head: values of which nothing is hidden do not move it."""
        return (Section(tuple(self.parameters()), lambda asked: asked.learned("mae")),) if self.out is not None else ()

    def _begin(self, rows: LossRows, encoded: Encoded) -> Reading:
        def loss(states_SD: Tensor) -> Tensor:
            assert self.out is not None  # `objectives` names it
            told_RE: Tensor = self.out(states_SD.index_select(0, rows.rows_R)).float()
            loss_R: Tensor = (told_RE - rows.arrays["goal"].float()).square().mean(-1)
            return loss_R

        return Reading(loss)
