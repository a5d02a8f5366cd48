"""Keys and values of all sources in one grid, for steps in which every source has the same number of rows.

A gap at the end of a shorter source is masked. A source without rows keeps one row of zeros that is not masked, so what
is read from it is zero, as everywhere in this room.
Shape suffixes: N sources, S rows of all sources, L rows of the longest, B live rows, H query heads, G key and value
heads, C channels of a head, Q query rows of a source and key head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ofasys_lite.model.transfer import moved

#: Grids that are larger than this many times what they hold are not made.
WASTE = 3


class SourceGrid:
    """Memories (S, G, C) of all layers as grids (N G, L, C), each made when it is first asked for.

    Args:
        memories: Keys and values of each layer, None without an encoder.
        lengths: Rows of each source.
    """

    def __init__(self, memories: Sequence[tuple[Tensor, Tensor] | None], lengths: Sequence[int]) -> None:
        self.memories, self.lengths = memories, tuple(lengths)
        self.longest = max(1, *self.lengths) if self.lengths else 1
        self._grids: dict[int, tuple[Tensor, Tensor]] = {}
        self._gaps = any(length != self.longest for length in self.lengths)
        self._mask: Tensor | None = None

    @property
    def fits(self) -> bool:
        """Whether the gaps are few enough."""
        return 0 < len(self.lengths) * self.longest <= WASTE * max(sum(self.lengths), len(self.lengths))

    def layer(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values (N G, L, C) of `layer`."""
        memory = self.memories[layer]
        if memory is None:
            return None
        if layer not in self._grids:
            self._grids[layer] = (self._grid(memory[0]), self._grid(memory[1]))
        return self._grids[layer]

    def mask(self, like: Tensor) -> Tensor | None:
        """(N, 1, 1, L): minus infinity at gaps; None without gaps."""
        if not self._gaps:
            return None
        if self._mask is None:
            lengths_N1 = torch.tensor(self.lengths).clamp(min=1).unsqueeze(1)
            gap_NL = torch.arange(self.longest) >= lengths_N1
            mask_NL = torch.zeros(gap_NL.shape).masked_fill_(gap_NL, float("-inf"))
            self._mask = moved(mask_NL.to(like.dtype), like.device)[:, None, None]
        return self._mask

    def read(self, layer: int, q_BHC: Tensor, scaled: bool) -> Tensor:
        """(B, H, C): what rows, sorted by source and equally many for each, read from their sources."""
        grid = self._grids.get(layer) or self.layer(layer)
        if grid is None:
            return torch.zeros_like(q_BHC)
        count, (heads, channels) = len(self.lengths), q_BHC.shape[1:]
        mask = self.mask(q_BHC) if self._gaps else None
        groups = grid[0].shape[0] // count
        rows = q_BHC.shape[0] // count
        q_BHC = q_BHC if scaled else q_BHC * channels**-0.5
        if rows == 1:
            q = q_BHC.reshape(count * groups, -1, channels)
            return attend_grid(q, *grid, mask).view(q_BHC.shape)
        q = q_BHC.view(count, rows, groups, -1, channels).transpose(1, 2).reshape(count * groups, -1, channels)
        out = attend_grid(q, *grid, mask)
        return out.view(count, groups, rows, -1, channels).transpose(1, 2).reshape(-1, heads, channels)

    def _grid(self, x_SGC: Tensor) -> Tensor:
        grid = x_SGC.new_zeros((len(self.lengths), x_SGC.shape[1], self.longest, x_SGC.shape[2]))
        for row, piece in zip(grid, x_SGC.split_with_sizes(list(self.lengths)), strict=True):
            row[:, : len(piece)] = piece.transpose(0, 1)
        return grid.flatten(0, 1)


def attend_grid(q_XQC: Tensor, k_XLC: Tensor, v_XLC: Tensor, mask_N11L: Tensor | None = None) -> Tensor:
    """(X, Q, C) with X = N G: softmax(q k + mask) v; the queries are scaled already."""
    scores = torch.bmm(q_XQC, k_XLC.transpose(1, 2))
    if mask_N11L is not None:
        count, length = mask_N11L.shape[0], scores.shape[-1]
        scores = (scores.view(count, -1, q_XQC.shape[1], length) + mask_N11L).view(scores.shape)
    return torch.bmm(scores.softmax(-1), v_XLC)
