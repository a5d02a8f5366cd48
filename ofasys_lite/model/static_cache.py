"""Keys and values of decoding at fixed addresses and shapes, so that a step can be captured in a CUDA graph.

All rows stand at the same place, which a counter on the device holds. A step writes there, opens that place in an
additive mask, and attends over the whole buffer behind the mask: nothing is read back to the host, nothing grows.
`DecodeCache` is the one for rows that come and go, and the faster one on a CPU, because it reads written places only.
Shape suffixes: B live rows, P places, S source rows, L rows of the longest source, H query heads, G key and value
heads, C channels of a head.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.borders import Borders
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.few_rows import FewRows, StepRotation
from ofasys_lite.model.source_grid import SourceGrid, attend_grid

__all__ = ["StaticCache"]


class StaticCache:
    """State of B rows, one per source, that are written together; the interface of `DecodeCache`.

    Args:
        memories: Keys and values (S, G, C) of all sources, per layer; None in a model without an encoder.
        source_lengths: Rows of each source.
        config: Of the model.
        room: Places P of every row; a step beyond them is refused on a CPU and undefined elsewhere.
        like: A tensor of the type and on the device of the keys.

    Attributes:
        place: (1,) how many places are written, on the device.
        blocks: Always None: steps take the decoder's own blocks.
    """

    blocks: list[FewRows] | None = None

    def __init__(
        self,
        memories: Sequence[tuple[Tensor, Tensor] | None],
        source_lengths: Sequence[int],
        config: ModelConfig,
        room: int,
        like: Tensor,
    ) -> None:
        if room < 1:
            raise ShapeError(f"static cache of {room} places", help="room is the number of steps of a generation")
        self.rows, self.room = len(source_lengths), room
        self.rotation = StepRotation(config, like.device)
        self.place = torch.zeros(1, dtype=torch.long, device=like.device)
        shape = (self.rows, config.kv_groups, room, config.head_width)
        self._buffers = [(like.new_zeros(shape), like.new_zeros(shape)) for _ in memories]
        self._mask_P = like.new_full((room,), float("-inf"))
        self._source_B = torch.arange(self.rows, device=like.device)
        self._memories, self._lengths = list(memories), tuple(source_lengths)
        grid = SourceGrid(memories, source_lengths)
        self._grids = [grid.layer(layer) for layer in range(len(memories))]
        mask = grid.mask(like)
        self._grid_mask = None if mask is None else mask.clone()

    @property
    def lengths(self) -> list[int]:
        """Positions written so far, per row; waits for the device."""
        return [int(self.place)] * self.rows

    @property
    def source_B(self) -> list[int]:
        """Source of each row; waits for the device."""
        return [int(source) for source in self._source_B.tolist()]

    def reorder(self, parents_B: Tensor | Sequence[int]) -> None:
        """Makes row i the continuation of row `parents_B[i]`: contents move, addresses stay.

        Raises:
            ShapeError: There would be more or fewer rows.
        """
        index = torch.as_tensor(parents_B, dtype=torch.long, device=self.place.device)
        if len(index) != self.rows:
            raise ShapeError(
                f"static cache: {len(index)} rows for {self.rows}", help="rows do not come or go; use `start` for that"
            )
        grids = [x.view(self.rows, -1, *x.shape[1:]) for grid in self._grids if grid is not None for x in grid]
        masks = [] if self._grid_mask is None else [self._grid_mask]
        for x_B in (*(x for pair in self._buffers for x in pair), *grids, *masks, self._source_B):
            x_B.copy_(x_B.index_select(0, index))

    def keep(self, rows: Tensor | Sequence[int]) -> None:
        """As `reorder`: finished rows stay and are not looked at."""
        self.reorder(rows)

    def memory(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values (S, G, C) of all sources at `layer`; None in a model without an encoder."""
        return self._memories[layer]

    def cross_of(self, lengths: Sequence[int]) -> Borders:
        """Borders between whole prefixes, one per row, and the sources."""
        return Borders(lengths, self._lengths)

    def begin(self, device: torch.device) -> None:
        """Opens the next place of every row, once for all layers of a step."""
        if device.type == "cpu" and not torch.compiler.is_compiling() and int(self.place) >= self.room:
            raise ShapeError(f"static cache: its {self.room} places are written", help="start with more room")
        self._mask_P.index_fill_(0, self.place, 0.0)

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row at the open place."""
        for buffer, x_BGC in zip(self._buffers[layer], (k_BGC, v_BGC), strict=True):
            buffer.index_copy_(2, self.place, x_BGC.unsqueeze(2))

    def attend(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What each row's newest query reads from the whole buffer behind the mask: (B, H, C)."""
        keys, values = (x.flatten(0, 1) for x in self._buffers[layer])
        q_BHC = q_BHC if scaled else q_BHC * q_BHC.shape[2] ** -0.5
        q = q_BHC.reshape(len(keys), -1, q_BHC.shape[2])
        return attend_grid(q, keys, values, self._mask_P.view(1, 1, 1, -1)).view(q_BHC.shape)

    def read(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What each row's newest query reads from its source: (B, H, C); zeros where the source has no rows."""
        grid = self._grids[layer]
        if grid is None:
            return torch.zeros_like(q_BHC)
        q_BHC = q_BHC if scaled else q_BHC * q_BHC.shape[2] ** -0.5
        q = q_BHC.reshape(len(grid[0]), -1, q_BHC.shape[2])
        return attend_grid(q, *grid, self._grid_mask).view(q_BHC.shape)

    def advance(self) -> None:
        """Counts the position that all layers have written, on the device."""
        self.place.add_(1)

    def write_prefix(self, layer: int, k_TGC: Tensor, v_TGC: Tensor, lengths: Sequence[int]) -> None:
        """Puts the keys and values of prefixes of one length, laid end to end, into empty rows."""
        length = self._common(lengths)
        for buffer, x_TGC in zip(self._buffers[layer], (k_TGC, v_TGC), strict=True):
            buffer[:, :, :length] = x_TGC.reshape(self.rows, length, *x_TGC.shape[1:]).transpose(1, 2)

    def advance_prefix(self, lengths: Sequence[int], device: torch.device) -> None:
        """Counts the prefixes that all layers have written."""
        length = self._common(lengths)
        self._mask_P[:length] = 0.0
        self.place.fill_(length)

    def _common(self, lengths: Sequence[int]) -> int:
        if len(set(lengths)) > 1 or max(lengths, default=0) > self.room:
            raise ShapeError(
                f"static cache: prefixes of {list(lengths)} positions in {self.room} places",
                help="prefixes have one length, which leaves room; use `start` for ragged ones",
            )
        return max(lengths, default=0)
