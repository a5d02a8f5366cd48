"""Keys and values of decoding: the source's once, the target's in buffers that grow by doubling.

Shape suffixes: N sources, B live rows, S source rows, P places of a buffer, D width, H query heads, G key and value
heads, C channels of a head. Rows belong to sources by an index, so beams share what they read.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.attention import attend_within
from ofasys_lite.model.borders import Borders

__all__ = ["DecodeCache"]

FIRST_PLACES = 16


class DecodeCache:
    """State of B rows that are written step by step, each from one of N sources.

    Attributes:
        lengths: Positions written so far, per row.
        source_B: Source of each row, as plain ints on the host.
    """

    def __init__(self, memories: list[tuple[Tensor, Tensor] | None], source_lengths: Sequence[int]) -> None:
        self._memories = memories
        self._source_lengths = tuple(source_lengths)
        self.source_B: list[int] = list(range(len(self._source_lengths)))
        self.lengths: list[int] = [0] * len(self._source_lengths)
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * len(memories)
        self._cross: tuple[Borders, list[int] | None] | None = None

    @property
    def rows(self) -> int:
        """Number of live rows B."""
        return len(self.source_B)

    def reorder(self, parents_B: Tensor | Sequence[int]) -> None:
        """Makes row i the continuation of row `parents_B[i]`; there may be more or fewer rows than before."""
        parents = [int(p) for p in (parents_B.tolist() if isinstance(parents_B, Tensor) else parents_B)]
        if any(not 0 <= p < self.rows for p in parents):
            raise ShapeError(f"cache: parents {parents} point outside of the {self.rows} live rows")
        if parents == list(range(self.rows)):
            return
        places = max(self.lengths, default=0)
        for layer, buffers in enumerate(self._buffers):
            if buffers is not None and places:
                self._buffers[layer] = _select(buffers, parents, self.rows, places)
        self.lengths = [self.lengths[p] for p in parents]
        sources = [self.source_B[p] for p in parents]
        if sources != self.source_B:
            self.source_B, self._cross = sources, None

    def keep(self, rows: Tensor | Sequence[int]) -> None:
        """Drops every live row that `rows` does not name (finished ones); order as given."""
        self.reorder(rows)

    def memory(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values (S, G, C) of all sources at `layer`; None in a model without an encoder."""
        return self._memories[layer]

    def cross(self) -> tuple[Borders, list[int] | None]:
        """Borders between rows sorted by source and the sources; the sorting, None where rows are sorted already."""
        if self._cross is None:
            order = sorted(range(self.rows), key=self.source_B.__getitem__)
            counts = [0] * len(self._source_lengths)
            for source in self.source_B:
                counts[source] += 1
            sorted_already = order == list(range(self.rows))
            self._cross = (Borders(counts, self._source_lengths), None if sorted_already else order)
        return self._cross

    def cross_of(self, lengths: Sequence[int]) -> Borders:
        """Borders between whole prefixes (one per row, rows sorted by source) and the sources."""
        if self.cross()[1] is not None:
            raise ShapeError("cache: prefill wants rows sorted by source", help="prefill before rows are reordered")
        counts = [0] * len(self._source_lengths)
        for source, length in zip(self.source_B, lengths, strict=True):
            counts[source] += length
        return Borders(counts, self._source_lengths)

    def advance(self, lengths: Sequence[int]) -> None:
        """Counts positions that all layers have written."""
        self.lengths = [old + new for old, new in zip(self.lengths, lengths, strict=True)]

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row behind the row's last."""
        keys, values = self._room(layer, k_BGC, max(self.lengths, default=0) + 1)
        if len(set(self.lengths)) <= 1:
            place = self.lengths[0] if self.lengths else 0
            keys[:, :, place], values[:, :, place] = k_BGC, v_BGC
            return
        rows = torch.arange(self.rows, device=k_BGC.device)
        places = torch.tensor(self.lengths, device=k_BGC.device)
        keys[rows, :, places], values[rows, :, places] = k_BGC, v_BGC

    def write_prefix(self, layer: int, k_TGC: Tensor, v_TGC: Tensor, lengths: Sequence[int]) -> None:
        """Puts the keys and values of whole prefixes, laid end to end, into empty rows."""
        keys, values = self._room(layer, k_TGC, max(lengths, default=0) + 1)
        pieces = zip(k_TGC.split_with_sizes(list(lengths)), v_TGC.split_with_sizes(list(lengths)), strict=True)
        for row, (k_LGC, v_LGC) in enumerate(pieces):
            keys[row, :, : len(k_LGC)], values[row, :, : len(v_LGC)] = k_LGC.transpose(0, 1), v_LGC.transpose(0, 1)

    def attend(self, layer: int, q_BHC: Tensor) -> Tensor:
        """What each row's newest query reads from the row's keys, the newest among them: (B, H, C)."""
        buffers = self._buffers[layer]
        if buffers is None or not self.rows:
            return torch.zeros_like(q_BHC)
        places = max(self.lengths) + 1
        keys, values = (x[: self.rows, :, :places].flatten(0, 1) for x in buffers)
        groups = keys.shape[0] // self.rows
        q_XRC = q_BHC.reshape(keys.shape[0], -1, keys.shape[2]) * q_BHC.shape[2] ** -0.5
        scores_XRP = torch.bmm(q_XRC, keys.transpose(1, 2))
        if min(self.lengths) + 1 < places:
            last_B = torch.tensor(self.lengths, device=q_BHC.device)
            hidden_BP = torch.arange(places, device=q_BHC.device) > last_B.unsqueeze(1)
            scores_XRP.masked_fill_(hidden_BP.repeat_interleave(groups, 0).unsqueeze(1), float("-inf"))
        return torch.bmm(scores_XRP.softmax(-1), values).reshape(q_BHC.shape)

    def read(self, q_BHC: Tensor, layer: int) -> Tensor:
        """What each row's newest query reads from its source: (B, H, C); zeros where the source has no rows."""
        memory = self._memories[layer]
        if memory is None:
            return torch.zeros_like(q_BHC)
        borders, order = self.cross()
        if order is None:
            return attend_within(q_BHC, *memory, borders)
        index = torch.tensor(order, device=q_BHC.device)
        sorted_BHC = attend_within(q_BHC.index_select(0, index), *memory, borders)
        return torch.empty_like(sorted_BHC).index_copy(0, index, sorted_BHC)

    def _room(self, layer: int, like: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """The layer's buffers (B, G, P, C), P at least `places`: made at first, doubled when full."""
        buffers = self._buffers[layer]
        if buffers is not None and buffers[0].shape[2] >= places:
            return buffers[0][: self.rows], buffers[1][: self.rows]
        room = max(FIRST_PLACES, 2 * places if buffers is not None else places)
        shape = (self.rows, like.shape[1], room, like.shape[2])
        grown = (like.new_zeros(shape), like.new_zeros(shape))
        if buffers is not None:
            for new, old in zip(grown, buffers, strict=True):
                new[:, :, : old.shape[2]] = old[: self.rows]
        self._buffers[layer] = grown
        return grown


def _select(buffers: tuple[Tensor, Tensor], parents: list[int], rows: int, places: int) -> tuple[Tensor, Tensor]:
    """Buffers whose row i holds row `parents[i]`; in place, and only rows that change, where the room suffices."""
    device = buffers[0].device
    if len(parents) <= buffers[0].shape[0]:
        changed = [i for i, parent in enumerate(parents) if i != parent]
        if changed:
            into = torch.tensor(changed, device=device)
            source = torch.tensor([parents[i] for i in changed], device=device)
            for buffer in buffers:
                used = buffer[:, :, :places]
                used[into] = used[source]
        return buffers
    index = torch.tensor(parents, device=device)
    grown = tuple(buffer.new_zeros((len(parents), *buffer.shape[1:])) for buffer in buffers)
    for new, old in zip(grown, buffers, strict=True):
        new[:, :, :places] = old[:rows, :, :places].index_select(0, index)
    return grown[0], grown[1]
