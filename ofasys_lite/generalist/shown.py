"""Values that targets show and that are no token ids (pictures with `no_loss`): taken out of constraints, embedded.

Shapes: R rows, N samples, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ofasys_lite.generalist.tensors import to_device
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example, Side, Stream
from ofasys_lite.plan.constraints import Constraint, Repeat, Series, Shown, Slotted
from ofasys_lite.preprocess.base import Piece


def taken(constraint: Constraint, pieces: list[Piece]) -> Constraint:
    """The constraint with its shown rows numbered and without their values, which are put behind `pieces`."""
    match constraint:
        case Shown(piece=piece):
            first = sum(each.count for each in pieces)
            pieces.append(piece)
            return replace(constraint, first=first, piece=None)
        case Series(parts):
            return Series(tuple(taken(part, pieces) for part in parts))
        case Slotted(key, part):
            return Slotted(key, taken(part, pieces))
        case Repeat(elements=elements):
            return replace(constraint, elements=tuple((number, taken(each, pieces)) for number, each in elements))
    return constraint


@dataclass(frozen=True, slots=True)
class ShownRows:
    """What the targets of a chunk show, embedded.

    Attributes:
        first_N: Where the rows of each sample begin.
    """

    x_RD: Tensor
    first_N: Tensor

    @staticmethod
    def of_pieces(
        embed: Callable[[Stream], Tensor], pieces: Sequence[Sequence[Piece]], device: torch.device
    ) -> ShownRows | None:
        """The pieces of samples, each sample's in the order of its target; None where nothing is shown.

        Args:
            embed: Rows of a stream -> (R, D).
        """
        if not any(pieces):
            return None
        # a sequence each: where they stand is said where they are fed
        sides = tuple(Side((piece,)) for own in pieces for piece in own)
        stream = to_device(collate([Example("", "", sides, ())]), device).source
        counts = [sum(piece.count for piece in own) for own in pieces]
        first_N = torch.tensor([0, *counts[:-1]], device=device).cumsum(0)
        return ShownRows(embed(stream), first_N)

    def of(self, samples_R: Tensor, rows_R: Tensor) -> Tensor:
        """(R, D) rows of samples by their numbers."""
        return self.x_RD.index_select(0, self.first_N.index_select(0, samples_R) + rows_R)
