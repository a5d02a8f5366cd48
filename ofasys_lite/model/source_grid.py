"""Keys and values of all sources for steps on a CPU: those of like lengths stand in one grid, which is one product.

A gap at the end of a shorter source is masked. A source without rows keeps one row of zeros that is not masked, so what
is read from it is zero, as everywhere in this room. Sources that are done leave their grid.
Shape suffixes: N live sources in the order of the grids, S rows of all sources, L rows of a grid's longest source, J
slots of a source, H query heads, G key and value heads, C channels of a head, Q query rows of a source and key head,
X = N * G.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: A grid holds at most WASTE times what its sources do, and GAP rows, which are read as fast as a call is made.
WASTE, GAP = 1.25, 64
#: Sources of one grid at most: where one of them is done, the others are copied.
MOST = 16


class SourceGrids:
    """Memories (S, G, C) of all layers as grids (X, L, C).

    Args:
        memories: Keys and values of each layer, None without an encoder.
        lengths: Rows of each source; where like ones stand beside each other, queries are not put in order first.
    """

    def __init__(self, memories: Sequence[tuple[Tensor, Tensor] | None], lengths: Sequence[int]) -> None:
        parts = [None if m is None else [x.split_with_sizes(list(lengths)) for x in m] for m in memories]
        self._grids: list[_Grid] = []
        for members in _grouped(lengths):
            held = [None if p is None else (_filled(p[0], members), _filled(p[1], members)) for p in parts]
            self._grids.append(_Grid(members, [max(1, lengths[s]) for s in members], held))
        self.settle(range(len(lengths)))

    def settle(self, sources: Sequence[int]) -> None:
        """Which sources live, in the order in which queries come: the others leave their grids."""
        place = {source: n for n, source in enumerate(sources)}
        self._grids = [grid for grid in self._grids if grid.keep(place)]
        order = [place[source] for grid in self._grids for source in grid.members]
        self._order = self._back = None
        if order != list(range(len(order))):
            self._order = torch.tensor(order)
            self._back = self._order.argsort()

    def read(self, layer: int, q_NJHC: Tensor) -> Tensor:
        """(N, J, H, C): what the rows of each source read from it; the queries are scaled already."""
        q_NJHC = q_NJHC if self._order is None else q_NJHC.index_select(0, self._order)
        count, rows, heads, channels = q_NJHC.shape
        held = [grid.held[layer] for grid in self._grids]
        if held[0] is None:
            return torch.zeros_like(q_NJHC)
        groups = len(held[0][0]) // len(self._grids[0].members)
        q_NGQC = q_NJHC.view(count, rows, groups, -1, channels).transpose(1, 2) if rows > 1 else q_NJHC
        parts = q_NGQC.reshape(count * groups, -1, channels).split_with_sizes([len(pair[0]) for pair in held if pair])
        found = [
            attend_grid(q, *pair, g.mask_N11L) for q, pair, g in zip(parts, held, self._grids, strict=True) if pair
        ]
        out_XQC = found[0] if len(found) == 1 else torch.cat(found)
        if rows > 1:
            out_XQC = out_XQC.view(count, groups, rows, -1, channels).transpose(1, 2)
        out_NJHC = out_XQC.reshape(count, rows, heads, channels)
        return out_NJHC if self._back is None else out_NJHC.index_select(0, self._back)


class _Grid:
    """Some sources in one grid.

    Args:
        members: The sources.
        lengths: Their rows, at least one each.
        held: Keys and values (X, L, C) of each layer.
    """

    def __init__(self, members: list[int], lengths: list[int], held: list[tuple[Tensor, Tensor] | None]) -> None:
        self.members, self.lengths, self.held = members, lengths, held
        self.mask_N11L = self._mask()

    def _mask(self) -> Tensor | None:
        """Minus infinity at gaps; None without gaps."""
        if min(self.lengths) == max(self.lengths):
            return None
        gap_NL = torch.arange(max(self.lengths)) >= torch.tensor(self.lengths).unsqueeze(1)
        like = next(pair[0] for pair in self.held if pair is not None)
        return torch.zeros(gap_NL.shape, dtype=like.dtype).masked_fill_(gap_NL, float("-inf"))[:, None, None]

    def keep(self, live: dict[int, int]) -> bool:
        """Sources that are not in `live` leave; whether any is left."""
        kept = [n for n, source in enumerate(self.members) if source in live]
        if kept and len(kept) < len(self.members):
            longest = max(self.lengths[n] for n in kept)
            for layer, pair in enumerate(self.held):
                if pair is not None:
                    keys, values = (
                        x.view(len(self.members), -1, *x.shape[1:])[kept, :, :longest].flatten(0, 1) for x in pair
                    )
                    self.held[layer] = keys, values
            self.members, self.lengths = [self.members[n] for n in kept], [self.lengths[n] for n in kept]
            self.mask_N11L = self._mask()
        return bool(kept)


def _grouped(lengths: Sequence[int]) -> list[list[int]]:
    """Sources in the order of their lengths, cut where a grid would hold too little."""
    found: list[list[int]] = []
    rows = 0
    for source in sorted(range(len(lengths)), key=lambda s: lengths[s]):
        length = max(1, lengths[source])
        members = found[-1] if found else []
        if members and len(members) < MOST and (len(members) + 1) * length <= WASTE * (rows + length) + GAP:
            members.append(source)
            rows += length
        else:
            found.append([source])
            rows = length
    return found


def _filled(parts: Sequence[Tensor], members: Sequence[int]) -> Tensor:
    """(X, L, C) of the members' parts (rows, G, C), zeros at gaps."""
    longest = max(1, *(len(parts[s]) for s in members))
    groups, channels = parts[0].shape[1:]
    grid = parts[0].new_zeros((len(members), groups, longest, channels))
    for row, source in zip(grid, members, strict=True):
        row[:, : len(parts[source])] = parts[source].transpose(0, 1)
    return grid.flatten(0, 1)


def attend_grid(q_XQC: Tensor, k_XLC: Tensor, v_XLC: Tensor, mask_N11L: Tensor | None = None) -> Tensor:
    """(X, Q, C) with X = N G: softmax(q k + mask) v; the queries are scaled already.

    Args:
        mask_N11L: Added to the scores; further numbers than one in its second and third places, where they differ.
    """
    scores = torch.bmm(q_XQC, k_XLC.transpose(1, 2))
    if mask_N11L is not None:
        scores.view(len(mask_N11L), -1, *scores.shape[1:]).add_(mask_N11L)
    return torch.bmm(scores.softmax(-1), v_XLC)
