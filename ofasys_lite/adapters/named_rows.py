"""Rows of names that know their words: a name's vector is its own row + the mean of the rows of its pieces.

So names that share words are near each other, and a name that was never trained on, whose own row is zero, has a place
among them. Shapes: I names, V vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class NamedRows(nn.Module):
    """The table of a vocabulary whose rows from `first` on are names.

    Args:
        pieces: Of each name the ids of its pieces, below `first`; none where it has no words.
    """

    flat: Tensor
    starts: Tensor

    def __init__(self, first: int, pieces: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.first = first
        ids = [id for each in pieces for id in each]
        starts = [0]
        for each in pieces:
            starts.append(starts[-1] + len(each))
        # made of the vocabulary, so no weights of a checkpoint
        self.register_buffer("flat", torch.tensor(ids, dtype=torch.int64), persistent=False)
        self.register_buffer("starts", torch.tensor(starts[:-1], dtype=torch.int64), persistent=False)
        self._kept: tuple[object, Tensor] | None = None

    def forward(self, weight_VD: Tensor) -> Tensor:
        """(V, D) the table with words; kept while nothing is learned and the rows do not change."""
        learning = torch.is_grad_enabled() and weight_VD.requires_grad
        state = (weight_VD.data_ptr(), weight_VD._version, weight_VD.shape)
        if not learning and self._kept is not None and self._kept[0] == state:
            return self._kept[1]
        words_ID = F.embedding_bag(self.flat, weight_VD, self.starts, mode="mean")
        last = self.first + len(words_ID)
        found = torch.cat([weight_VD[: self.first], weight_VD[self.first : last] + words_ID, weight_VD[last:]])
        self._kept = None if learning else (state, found)
        return found
