"""Keys and values of decoding: the source's once, the target's in buffers that grow by doubling and are never copied
when beams change places.

Every live row has a home: a physical source and a slot among the rows of that source. A step writes the keys of all
rows at the next place of their homes. Who continues whom is kept in a small table (per row and place, the slot that
holds its history); rows of a source look at the places of all its slots, and the table masks what is not their own.
The bytes read are the same as for rows of their own, and a beam search moves no keys.

Shape suffixes: N physical sources, B live rows, J slots of a source, P places, S source rows, H query heads, G key and
value heads, R = H / G, C channels of a head, X = N * J.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.attention import attend_within
from ofasys_lite.model.borders import Borders
from ofasys_lite.model.few_rows import FewRows, StepRotation
from ofasys_lite.model.pages import large_zeros
from ofasys_lite.model.source_grid import SourceGrids, attend_grid
from ofasys_lite.model.transfer import moved

FIRST_PLACES = 16


class DecodeCache:
    """State of B rows that are written step by step, each from one of several sources; for use without gradients.

    Args:
        memories: Keys and values (S, G, C) of all sources, per layer; None in a model without an encoder.
        source_lengths: Rows of each source.
        room: Places that the buffers have at first; they are doubled when full.

    Attributes:
        source_B: Source of each row, as plain ints on the host.
        lengths: Positions written so far, per row.
        rotation: Makes the rotary tables of a step.
        blocks: The decoder's blocks laid out for these steps; None to take the decoder's own.
        entries: What is called of the decoder's own blocks.
    """

    def __init__(
        self,
        memories: list[tuple[Tensor, Tensor] | None],
        source_lengths: Sequence[int],
        rotation: StepRotation,
        blocks: list[FewRows] | None = None,
        room: int | None = None,
    ) -> None:
        self.rotation, self.blocks = rotation, blocks
        self.entries: list[Callable[..., Any]] = []
        self._first = FIRST_PLACES if room is None else max(1, room)
        self._memories = memories
        self._source_lengths = tuple(source_lengths)
        first = next((memory[0] for memory in memories if memory is not None), None)
        self._grids = SourceGrids(memories, source_lengths) if first is not None and first.is_cpu else None
        self.source_B: list[int] = list(range(len(self._source_lengths)))
        self.lengths: list[int] = [0] * len(self._source_lengths)
        self._layout = _Layout(self.source_B, list(self.source_B), 1)
        self._places = 0
        self._history_BP: Tensor | None = None
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * len(memories)
        self._cross: tuple[Borders, list[int] | None] | None = None
        self._mask: Tensor | None = None
        #: Whether every row is the only one of its source, in order: then no table says who holds whose history.
        self._alone = False
        self._lines: dict[int, _Lines] = {}
        #: Per layer what is added to the scores of this step, by head and place (H, P); None where nothing is.
        self.biases: list[Tensor] | None = None
        #: Of prefixes: rows of each source, the position behind each, places before the shorter ones.
        self._prefix: tuple[int, ...] = ()
        self._behind_N: Tensor | None = None
        self._behind_B1: Tensor | None = None
        self._gaps: _Gaps | None = None

    def expect(self, lengths: Sequence[int], behind_N: Tensor) -> None:
        """Prefixes of that many rows are about to be filled in, one a source, all ending at one place.

        Args:
            behind_N: The position behind each.
        """
        longest = max(lengths)
        self._prefix, self._behind_N = tuple(lengths), behind_N
        self._places, self.lengths = longest, list(lengths)
        self._first += longest
        if min(lengths) < longest:
            self._gaps = _Gaps(lengths, behind_N.device)

    def fill(self, layer: int, k_SGC: Tensor, v_SGC: Tensor) -> None:
        """Puts keys and values of all prefixes, end to end."""
        longest, count = self._places, len(self._prefix)
        rows = [torch.arange(n) + (place + 1) * longest - n for place, n in enumerate(self._prefix)]
        index_S = moved(torch.cat(rows), k_SGC.device)
        for buffer, x_SGC in zip(self._room(layer, k_SGC, longest), (k_SGC, v_SGC), strict=True):
            flat = x_SGC.new_zeros(count * longest, *x_SGC.shape[1:]).index_copy(0, index_S, x_SGC)
            buffer[:, :, :longest, 0] = flat.unflatten(0, (count, longest)).transpose(1, 2)  # type: ignore[no-untyped-call]

    def placed(self, positions_B3: Tensor) -> Tensor:
        """(B, 3) positions of live rows behind those of their prefixes."""
        if self._behind_N is None:
            return positions_B3
        if self._behind_B1 is None:
            index_B = moved(torch.tensor(self.source_B, dtype=torch.long), self._behind_N.device)
            self._behind_B1 = self._behind_N.index_select(0, index_B).unsqueeze(1)
        return positions_B3 + self._behind_B1

    @property
    def place(self) -> int:
        """The place that this step writes: every row of a session is as long as the others."""
        return self._places

    @property
    def rows(self) -> int:
        """Number of live rows B."""
        return len(self.source_B)

    def reorder(self, parents_B: Tensor | Sequence[int]) -> None:
        """Makes row i the continuation of row `parents_B[i]`; there may be more or fewer rows than before."""
        parents = [int(p) for p in (parents_B.tolist() if isinstance(parents_B, Tensor) else parents_B)]
        rows = self.rows
        if any(not 0 <= p < rows for p in parents):
            raise ShapeError(f"cache: parents {parents} point outside of the {rows} live rows")
        if parents == list(range(rows)):
            return
        self.lengths = [self.lengths[p] for p in parents]
        sources = [self.source_B[p] for p in parents]
        if self._history_BP is not None:
            index = moved(torch.tensor(parents, dtype=torch.long), self._history_BP.device)
            self._history_BP = self._history_BP.index_select(0, index)
        if sources != self.source_B:
            self._settle(sources)

    def keep(self, rows: Tensor | Sequence[int]) -> None:
        """Drops every live row that `rows` does not name (finished ones); order as given."""
        self.reorder(rows)

    def cross(self) -> tuple[Borders, list[int] | None]:
        """Borders between rows sorted by source and the sources; the sorting, None where rows are sorted already."""
        if self._cross is None:
            order = sorted(range(self.rows), key=self.source_B.__getitem__)
            self._cross = (self._borders([1] * self.rows), None if order == list(range(self.rows)) else order)
        return self._cross

    def begin(self, device: torch.device) -> None:
        """Prepares the next place of every row, once for all layers of a step."""
        beams, places = self._layout.beams, self._places + 1
        self._alone = beams == 1 and self._layout.whole
        gap_NP = None if self._gaps is None else self._gaps.before(self._layout, places)
        if beams == 1:  # every history lies in the one slot there is
            self._mask = None if gap_NP is None else gap_NP.unsqueeze(1)
            return
        history_BP = self._history(device, places)
        history_BP[:, self._places] = self._layout.slots_of_rows(device)
        slots_J = torch.arange(beams, device=device)
        hidden_BPJ = history_BP[:, :places].unsqueeze(2) != slots_J
        mask_BX = torch.zeros(hidden_BPJ.shape, device=device).masked_fill_(hidden_BPJ, float("-inf")).flatten(1)
        self._mask = self._layout.grid(mask_BX)
        if gap_NP is not None:
            self._mask = self._mask + gap_NP.repeat_interleave(beams, 1).unsqueeze(1)

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row at the place that `begin` prepared."""
        if self._alone:
            lines = self._lines.get(layer)
            if lines is None or lines.room <= self._places:
                lines = self._lines[layer] = _Lines(self._room(layer, k_BGC, self._places + 1), self._layout.count)
            lines.keys_NGPC.select(2, self._places).copy_(k_BGC)
            lines.values_NGPC.select(2, self._places).copy_(v_BGC)
            return
        buffers = self._room(layer, k_BGC, self._places + 1)
        for buffer, x_BGC in zip(buffers, (k_BGC, v_BGC), strict=True):
            buffer[: self._layout.count, :, self._places] = self._layout.grid(x_BGC).transpose(1, 2)

    def attend(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What each row's newest query reads from the row's keys, the newest among them: (B, H, C).

        Args:
            scaled: Whether they are divided by sqrt(C) already.
        """
        buffers, count, beams = self._buffers[layer], self._layout.count, self._layout.beams
        if buffers is None or not self.source_B:
            return torch.zeros_like(q_BHC)
        places, groups, channels = self._places + 1, buffers[0].shape[1], q_BHC.shape[2]
        q_BHC = q_BHC if scaled else q_BHC * channels**-0.5
        if self._alone:
            lines = self._lines[layer]
            keys, values = lines.keys_XPC.narrow(1, 0, places), lines.values_XPC.narrow(1, 0, places)
            added = None if self._mask is None else self._mask[:, None]
            if self.biases is not None:
                added = self.biases[layer].view(groups, 1, -1, places).repeat(count, 1, 1, 1)
            return attend_grid(q_BHC.reshape(len(keys), -1, channels), keys, values, added).view(q_BHC.shape)
        # rows of all sources and groups stand behind each other: one view instead of slices and a reshape
        keys, values = (x.view(-1, x.shape[2] * beams, channels)[: count * groups, : places * beams] for x in buffers)
        q_NJGRC = self._layout.grid(q_BHC).reshape(count, beams, groups, -1, channels)
        scores = torch.bmm(q_NJGRC.transpose(1, 2).reshape(count * groups, -1, channels), keys.transpose(1, 2))
        if self.biases is not None:
            bias_GRP = self.biases[layer].view(groups, 1, -1, places)
            scores.view(count, groups, beams, -1, places * beams).add_(bias_GRP.repeat_interleave(beams, -1))
        if self._mask is not None:
            scores.view(count, groups, beams, -1, places * beams).add_(self._mask.unsqueeze(1).unsqueeze(3))
        out = torch.bmm(scores.softmax(-1), values).view(count, groups, beams, -1, channels).transpose(1, 2)
        return self._layout.rows_of(out.reshape(count * beams, -1, channels))

    def read(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What each row's newest query reads from its source: (B, H, C); zeros where the source has no rows."""
        memory = self._memories[layer]
        if memory is None or not self.source_B:
            return torch.zeros_like(q_BHC)
        if self._grids is not None:
            q_BHC = q_BHC if scaled else q_BHC * q_BHC.shape[2] ** -0.5
            if self._alone:
                return self._grids.read(layer, q_BHC.unsqueeze(1)).squeeze(1)
            return self._layout.rows_of(self._grids.read(layer, self._layout.grid(q_BHC)).flatten(0, 1))
        borders, order = self._cross or self.cross()
        q_BHC = q_BHC * q_BHC.shape[2] ** 0.5 if scaled else q_BHC
        if order is None:
            read_BHC: Tensor = attend_within(q_BHC, *memory, borders)
            return read_BHC
        index = moved(torch.tensor(order), q_BHC.device)
        sorted_BHC = attend_within(q_BHC.index_select(0, index), *memory, borders)
        return torch.empty_like(sorted_BHC).index_copy(0, index, sorted_BHC)

    def advance(self) -> None:
        """Counts the position that all layers have written."""
        self._places += 1
        self.lengths = [length + 1 for length in self.lengths]

    def _borders(self, rows_B: Sequence[int]) -> Borders:
        counts = [0] * len(self._source_lengths)
        for source, rows in zip(self.source_B, rows_B, strict=True):
            counts[source] += rows
        return Borders(counts, self._source_lengths)

    def _settle(self, sources: list[int]) -> None:
        """Gives new rows their homes: sources without rows make room, sources with more rows get more slots."""
        old = self._layout
        live = set(sources)
        order = [s for s in old.sources if s in live]
        tail = [s for s in old.sources[len(order) :] if s in live]
        into = [i for i, s in enumerate(old.sources[: len(order)]) if s not in live]
        order = list(old.sources[: len(order)])
        for place, source in zip(into, tail, strict=True):
            order[place] = source
        self.source_B, self._cross, self._behind_B1 = sources, None, None
        self._lines.clear()
        beams = max(old.beams, max((sources.count(s) for s in live), default=1))
        self._layout = _Layout(sources, order, beams)
        if self._grids is not None and order != old.sources:
            self._grids.settle(order)
        movers = [old.sources.index(s) for s in tail]
        for layer, buffers in enumerate(self._buffers):
            if buffers is not None:
                self._buffers[layer] = (
                    self._resettle(buffers[0], into, movers),
                    self._resettle(buffers[1], into, movers),
                )

    def _resettle(self, buffer: Tensor, into: list[int], movers: list[int]) -> Tensor:
        """The buffer with sources `movers` at places `into`, and as many slots as the layout has."""
        used = buffer[:, :, : self._places]
        if into:
            homes, guests = (moved(torch.tensor(x), buffer.device) for x in (into, movers))
            used[homes] = used[guests]
        beams = self._layout.beams
        if buffer.shape[3] == beams:
            return buffer
        grown = buffer.new_zeros((self._layout.count, *buffer.shape[1:3], beams, buffer.shape[4]))
        grown[:, :, : self._places, : buffer.shape[3]] = used[: self._layout.count]
        return grown

    def _history(self, device: torch.device, places: int) -> Tensor:
        """The table of slots (B, P): -1 where a row has nothing. While each source has one slot there is none."""
        if self._history_BP is None:
            self._history_BP = torch.full((self.rows, max(self._first, places)), -1, device=device)
            self._history_BP[:, : self._places] = 0
        elif self._history_BP.shape[1] < places:
            old = self._history_BP
            self._history_BP = torch.cat([old, torch.full((self.rows, places), -1, device=device)], dim=1)
        return self._history_BP

    def _room(self, layer: int, like: Tensor, places: int) -> tuple[Tensor, Tensor]:
        """The layer's buffers (N, G, P, J, C), P at least `places`: made at first, doubled when full."""
        buffers = self._buffers[layer]
        if buffers is not None and buffers[0].shape[2] >= places:
            return buffers
        room = max(self._first, places) if buffers is None else 2 * places
        shape = (self._layout.count, like.shape[1], room, self._layout.beams, like.shape[2])
        keys, values = large_zeros((2, *shape), like)
        grown = (keys, values)
        if buffers is not None:
            for new, old in zip(grown, buffers, strict=True):
                new[:, :, : self._places] = old[: self._layout.count, :, : self._places]
        self._buffers[layer] = grown
        return grown


class _Lines:
    """Views of a layer's buffers whose rows stand alone, made once and not at each step."""

    def __init__(self, buffers: tuple[Tensor, Tensor], rows: int) -> None:
        self.room = buffers[0].shape[2]
        self.keys_NGPC, self.values_NGPC = (x[:rows].squeeze(3) for x in buffers)
        self.keys_XPC, self.values_XPC = self.keys_NGPC.flatten(0, 1), self.values_NGPC.flatten(0, 1)


class _Gaps:
    """Places before the shorter ones of several prefixes, which end at one place and are hidden from their rows.

    Args:
        lengths: Rows of each source's prefix.
    """

    def __init__(self, lengths: Sequence[int], device: torch.device) -> None:
        hidden_NP = torch.arange(max(lengths)) < max(lengths) - torch.tensor(list(lengths)).unsqueeze(1)
        self._all_NP = moved(torch.zeros(hidden_NP.shape).masked_fill_(hidden_NP, float("-inf")), device)
        self._layout: _Layout | None = None
        self._own_NP = self._all_NP

    def before(self, layout: _Layout, places: int) -> Tensor:
        """(N, P) minus infinity at gaps, 0 elsewhere, of the physical sources."""
        if layout is not self._layout:
            index_N = moved(torch.tensor(layout.sources, dtype=torch.long), self._all_NP.device)
            self._own_NP, self._layout = self._all_NP.index_select(0, index_N), layout
        return F.pad(self._own_NP, (0, places - self._own_NP.shape[1]))


class _Layout:
    """Homes of the live rows: a grid of N physical sources with J slots each."""

    def __init__(self, source_B: Sequence[int], sources: list[int], beams: int) -> None:
        self.sources = sources
        self.beams = beams
        self.count = len(sources)
        physical = {source: n for n, source in enumerate(sources)}
        taken = dict.fromkeys(sources, 0)
        self.homes: list[tuple[int, int]] = []
        for source in source_B:
            self.homes.append((physical[source], taken[source]))
            taken[source] += 1
        flat = [n * beams + slot for n, slot in self.homes]
        self.whole = flat == list(range(self.count * beams))
        self._flat = torch.tensor(flat, dtype=torch.long)
        self._slots = torch.tensor([slot for _, slot in self.homes], dtype=torch.long)

    def slots_of_rows(self, device: torch.device) -> Tensor:
        """The slot of each row: (B,)."""
        self._slots = moved(self._slots, device)
        return self._slots

    def grid(self, x_B: Tensor) -> Tensor:
        """Rows at their homes: (N, J, ...), zeros where nobody lives."""
        if not self.whole:
            self._flat = moved(self._flat, x_B.device)
            x_B = x_B.new_zeros((self.count * self.beams, *x_B.shape[1:])).index_copy_(0, self._flat, x_B)
        return x_B.reshape(self.count, self.beams, *x_B.shape[1:])

    def rows_of(self, grid_X: Tensor) -> Tensor:
        """Live rows out of a flattened grid: (B, ...)."""
        if self.whole:
            return grid_X
        self._flat = moved(self._flat, grid_X.device)
        return grid_X.index_select(0, self._flat)
