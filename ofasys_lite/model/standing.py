"""Where rows stand, as weights of others know it: rows of tables, and biases of scores, instead of turned channels.

A *run* is what counts its places from 0: neighbouring tokens of a sequence, or the cells of one grid. Runs are told as
plain ints on the host, (rows, grid or None) from the start of a stream to its end.

Shape suffixes: R rows of a stream, S source rows, L rows of one sequence, N rows of a table, B live rows in decoding, D
width, H query heads, G key and value heads, C channels of a head, P places written so far.
Sources: TUPE (untied absolute positions), arXiv 2006.15595; OFA, arXiv 2202.03052; T5, arXiv 1910.10683.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.config import WAVES, ModelConfig
from ofasys_lite.model.fast_linear import make_linear
from ofasys_lite.model.rotary import Rotation
from ofasys_lite.model.transfer import moved

#: Kinds of rows: tokens, which lie in a line, and cells of a grid.
_KINDS = ("line", "grid")
#: (rows, grid); grid: (frames, lines, columns).
Run = tuple[int, tuple[int, int, int] | None]
Runs = Sequence[Run]
#: A bias (H, L, L) of each sequence.
Biases = Sequence[Tensor]


class Standing(NamedTuple):
    """What the places of rows give to the heads of all layers, where they do not only turn channels.

    Untied positions are further channels: a score is the product of both, over sqrt(2 C).

    Attributes:
        rotation: Turns queries and keys; None where positions are told otherwise.
        own: Queries (R, H, C) and keys (R, G, C) of places in self-attention.
        cross: Of places in cross-attention, queries (R, H, C) of a target or keys (R, G, C) of a source.
    """

    rotation: Rotation | None = None
    own: tuple[Tensor, Tensor] | None = None
    cross: Tensor | None = None


class Places(nn.Module):
    """All that one side's rows learn of their places: how they enter, what they give to heads, biases by distance.

    Args:
        layers: Blocks of the stack, for `relative: log`, whose tables are one a block.
        causal: The decoder's side: no grids; distances look back only; cross-attention has maps of its own.
    """

    def __init__(self, config: ModelConfig, layers: int, causal: bool) -> None:
        super().__init__()
        self.config, self.causal = config, causal
        self.side = 0 if causal else config.grid_side
        width = config.width
        kinds = _KINDS if self.side else _KINDS[:1]
        if config.positions in ("learned", "untied"):
            self.tables = nn.ModuleDict({kind: nn.Embedding(self._rows(kind), width) for kind in kinds})
            for table in self.tables.values():
                nn.init.normal_(table.weight, std=0.02)  # type: ignore[arg-type]
        elif config.positions in WAVES:
            made = sinusoids if config.positions == "sinusoidal" else sinusoids_t2t
            self.register_buffer("waves", made(config.places, width), persistent=False)
        if config.entry != "plain":
            named = kinds if config.entry == "kinds" else _KINDS[:1]
            self.norms = nn.ModuleDict({kind: _norm(config) for kind in named})
        if config.entry == "kinds" and not causal:
            self.types = nn.ParameterDict({kind: nn.Parameter(torch.zeros(width)) for kind in kinds})
        if config.positions == "untied":
            self.place_norms = nn.ModuleDict({kind: _norm(config) for kind in kinds})
            keys = config.kv_groups * config.head_width
            self.q, self.k = make_linear(width, width, config.bias), make_linear(width, keys, config.bias)
            if causal and config.encoder_layers:
                self.cross_q = make_linear(width, width, config.bias)
                self.cross_k = make_linear(width, keys, config.bias)
        if config.relative != "none":
            count = layers if config.relative == "log" else 1
            distances = 2 * config.relative_buckets - 1 if config.relative == "log" else config.relative_buckets
            sizes = {"line": distances, **({"grid": (2 * self.side - 1) ** 2} if self.side else {})}
            self.relative = nn.ModuleDict(
                {kind: nn.ModuleList(_zeros(rows, config.heads) for _ in range(count)) for kind, rows in sizes.items()}
            )

    def _rows(self, kind: str) -> int:
        return self.config.places if kind == "line" else self.side**2 + 1

    def enter(self, x_RD: Tensor, runs: Runs) -> tuple[Tensor, Tensor | None]:
        """(what the first block reads (R, D), what rows know of their places (R, D) where that is kept apart)."""
        where = _Where(self.config, runs, self.side, x_RD.device)
        config, places_RD = self.config, self._known(where)
        if config.positions in ("learned", *WAVES):
            x_RD = x_RD + self._looked_up(where)
        if config.entry == "kinds":
            if not self.causal:
                # by name: a dict of parameters puts its keys in order
                types = torch.stack([self.types[kind] for kind in _KINDS[: len(self.types)]])
                x_RD = x_RD + types[where.kinds_R]
            x_RD = self._by_kind(x_RD, where, self.norms)
        elif config.entry == "norm":
            x_RD = self.norms["line"](x_RD)
        return x_RD, places_RD

    def known(self, runs: Runs, device: torch.device) -> Tensor | None:
        """(R, D) what rows know of their places, where that is kept apart from what they hold."""
        return self._known(_Where(self.config, runs, self.side, device))

    def _known(self, where: _Where) -> Tensor | None:
        if self.config.positions != "untied":
            return None
        return self._by_kind(self._looked_up(where), where, self.place_norms)

    def _looked_up(self, where: _Where) -> Tensor:
        if self.config.positions in WAVES:
            waves: Tensor = self.waves.index_select(0, where.rows_R)  # type: ignore[operator]
            return waves
        if not self.side:
            found: Tensor = self.tables["line"](where.rows_R)
            return found
        # one table behind the other: a single lookup, and both are in the graph of every pack
        both_ND = torch.cat([_weight(self.tables[kind]) for kind in _KINDS])
        return F.embedding(where.rows_R + where.kinds_R * self.config.places, both_ND)

    def _by_kind(self, x_RD: Tensor, where: _Where, norms: nn.ModuleDict) -> Tensor:
        line_RD: Tensor = norms["line"](x_RD)
        if not self.side:
            return line_RD
        return torch.where(where.kinds_R.unsqueeze(1) == 0, line_RD, norms["grid"](x_RD))

    def own(self, places_RD: Tensor | None) -> tuple[Tensor, Tensor] | None:
        """Queries (R, H, C) and keys (R, G, C) of places in self-attention; None where there are none."""
        return None if places_RD is None else (self._heads(self.q(places_RD)), self._heads(self.k(places_RD)))

    def cross_queries(self, places_TD: Tensor | None) -> Tensor | None:
        """(T, H, C) of the places of target rows."""
        return None if places_TD is None else self._heads(self.cross_q(places_TD))

    def cross_keys(self, places_SD: Tensor | None) -> Tensor | None:
        """(S, G, C) of the places of source rows."""
        return None if places_SD is None else self._heads(self.cross_k(places_SD))

    def _heads(self, x_RX: Tensor) -> Tensor:
        return x_RX.view(len(x_RX), -1, self.config.head_width)

    def biases(self, lengths: Sequence[int], runs: Runs, device: torch.device) -> Iterator[Biases | None]:
        """Per block, a bias (H, L, L) of each sequence; None where scores have none."""
        config = self.config
        if config.relative == "none":
            while True:
                yield None
        indices = [moved(self._index(each), device) for each in _sequences(lengths, runs)]
        shared: Biases | None = None
        for layer in range(max(config.encoder_layers, config.decoder_layers)):
            if shared is None or config.relative == "log":
                table_NH = self._table(layer)
                shared = [F.embedding(index_LL, table_NH).permute(2, 0, 1) for index_LL in indices]
            yield shared

    def _table(self, layer: int) -> Tensor:
        """All tables of a block behind each other, and a row of zeros for what stands in two runs."""
        held = [self.relative[kind] for kind in _KINDS if kind in self.relative]
        weights = [_weight(each[min(layer, len(each) - 1)]) for each in held]  # type: ignore[index,arg-type]
        return torch.cat([*weights, weights[0].new_zeros(1, self.config.heads)])

    def _index(self, runs: Runs) -> Tensor:
        """(L, L) rows of `_table` for each pair of a sequence's rows."""
        sizes = [len(_weight(self.relative[kind][0])) for kind in _KINDS if kind in self.relative]  # type: ignore[index]
        rows = sum(count for count, _ in runs)
        index = torch.full((rows, rows), sum(sizes))
        start = 0
        for count, grid in runs:
            square = slice(start, start + count)
            if grid is None or not self.side:
                at = torch.arange(count)
                index[square, square] = self._buckets(at.unsqueeze(1) - at)
            else:
                index[square, square] = sizes[0] + _grid_buckets(grid, self.side)
            start += count
        return index

    def _buckets(self, distance: Tensor) -> Tensor:
        """Row of the table for distances (query - key)."""
        config = self.config
        if config.relative == "log":
            return log_buckets(distance, config.relative_buckets, config.relative_span)
        return t5_buckets(distance, config.relative_buckets, config.relative_span, both_ways=not self.causal)

    def step(self, x_BD: Tensor, place: int) -> tuple[Tensor, Standing]:
        """What the first block reads of one more row of every target, all at the same place, and how they stand."""
        config = self.config
        _check_place(place + 1, config)
        standing = Standing()
        if config.positions == "untied":
            place_1D = self.place_norms["line"](self.tables["line"].weight[place : place + 1])  # type: ignore[index]
            own = self.own(place_1D)
            cross = self.cross_queries(place_1D) if config.encoder_layers else None
            rows = len(x_BD)
            standing = Standing(
                own=None if own is None else (own[0].expand(rows, -1, -1), own[1].expand(rows, -1, -1)),
                cross=None if cross is None else cross.expand(rows, -1, -1),
            )
        elif config.positions == "learned":
            x_BD = x_BD + self.tables["line"].weight[place]  # type: ignore[index]
        elif config.positions in WAVES:
            x_BD = x_BD + self.waves[place]  # type: ignore[index]
        if config.entry != "plain":
            x_BD = self.norms["line"](x_BD)
        return x_BD, standing

    def step_biases(self, place: int, layers: int, device: torch.device) -> list[Tensor] | None:
        """Per block (H, P) biases of the keys at places 0 to `place` for a query at `place`."""
        if self.config.relative == "none":
            return None
        index_P = moved(self._buckets(place - torch.arange(place + 1)), device)
        tables = cast(nn.ModuleList, self.relative["line"])
        found = [F.embedding(index_P, _weight(each)).t() for each in tables]
        return found if len(found) == layers else found * layers


class _Where:
    """Rows of the tables and kinds of a stream's rows: of a run of tokens 0, of a grid 1."""

    def __init__(self, config: ModelConfig, runs: Runs, side: int, device: torch.device) -> None:
        rows, kinds = list[Tensor](), list[Tensor]()
        for count, grid in runs:
            kind = int(grid is not None and side > 0)
            if kind and grid is not None:
                _check_grid(grid, side)
                found = torch.arange(grid[1]).unsqueeze(1) * side + torch.arange(grid[2]) + 1
                rows.append(found.flatten().repeat(grid[0]))
            else:
                _check_place(count, config)
                rows.append(torch.arange(count))
            kinds.append(torch.full((count,), kind))
        nothing = torch.zeros(0, dtype=torch.long)
        self.rows_R = moved(torch.cat(rows) if rows else nothing, device)
        self.kinds_R = moved(torch.cat(kinds) if kinds else nothing, device)


def _check_place(count: int, config: ModelConfig) -> None:
    if config.places and count > config.places:
        raise ShapeError(
            f"a run of {count} tokens; this model knows {config.places} places",
            help="shorten what is read or written: max_length= of the slot",
        )


def _check_grid(grid: tuple[int, int, int], side: int) -> None:
    if grid[0] != 1 or max(grid) > side:
        raise ShapeError(
            f"a grid of {grid[0]} x {grid[1]} x {grid[2]} cells; this model reads one frame of {side} x {side} at most",
            help="make the picture smaller: size= or max_pixels= of the slot",
        )


def _sequences(lengths: Sequence[int], runs: Runs) -> Iterator[list[Run]]:
    """The runs of each sequence."""
    left = iter(runs)
    for length in lengths:
        held, rows = list[Run](), 0
        while rows < length:
            held.append(next(left))
            rows += held[-1][0]
        yield held


def log_buckets(distance: Tensor, buckets: int, span: int) -> Tensor:
    """OFA's: each distance below half of `buckets` by itself, then logarithmically up to `span`; from 0."""
    middle = buckets // 2
    near = (distance < middle) & (distance > -middle)
    far = torch.where(near, middle - 1, distance.abs())
    log = torch.ceil(torch.log(far / middle) / math.log((span - 1) / middle) * (middle - 1)) + middle
    found = torch.where(far <= middle, distance, log.to(torch.long) * distance.sign())
    return found + buckets - 1


def t5_buckets(distance: Tensor, buckets: int, span: int, both_ways: bool) -> Tensor:
    """T5's: half of the buckets for each distance by itself, half logarithmically up to `span`; from 0.

    Args:
        distance: Query less key; keys behind the query have buckets of their own where heads look `both_ways`.
    """
    offset = torch.zeros_like(distance)
    if both_ways:
        buckets //= 2
        offset = torch.where(distance < 0, buckets, 0)
        distance = distance.abs()
    else:
        distance = distance.clamp(min=0)
    exact = buckets // 2
    share = torch.log(distance.clamp(min=1).float() / exact) / math.log(span / exact)
    log = (exact + (share * (buckets - exact)).to(torch.long)).clamp(max=buckets - 1)
    return offset + torch.where(distance < exact, distance, log)


def sinusoids(rows: int, width: int) -> Tensor:
    """(N, D) sines of the even and cosines of the odd frequencies in two halves, as Marian and BART's library have it.

    Attention Is All You Need, arXiv 1706.03762.
    """
    half = (width + 1) // 2
    angle = torch.arange(rows, dtype=torch.float64).unsqueeze(1) / 10000 ** (
        2 * torch.arange(half, dtype=torch.float64) / width
    )
    return torch.cat([angle.sin(), angle.cos()[:, : width - half]], dim=1).float()


def sinusoids_t2t(rows: int, width: int) -> Tensor:
    """(N, D) sines and cosines in two halves whose slowest wave is 10000 times the fastest, from row 2 on.

    As tensor2tensor and fairseq have it, whose rows 0 and 1 belong to padding.
    """
    half = width // 2
    speeds = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(10000) / max(1, half - 1)))
    angle = torch.arange(2, rows + 2, dtype=torch.float32).unsqueeze(1) * speeds
    return torch.cat([angle.sin(), angle.cos(), torch.zeros(rows, width - 2 * half)], dim=1)


def _grid_buckets(grid: tuple[int, int, int], side: int) -> Tensor:
    """(L, L) row of the table for two cells: line and column distances."""
    lines = torch.arange(grid[1]).repeat_interleave(grid[2])
    columns = torch.arange(grid[2]).repeat(grid[1])
    down, right = (at.unsqueeze(1) - at + side - 1 for at in (lines, columns))
    return down * (2 * side - 1) + right


def _norm(config: ModelConfig) -> nn.Module:
    if config.norm == "layernorm":
        return nn.LayerNorm(config.width, eps=config.norm_epsilon, bias=config.bias)
    return nn.RMSNorm(config.width, eps=config.norm_epsilon)


def _weight(table: nn.Module) -> Tensor:
    return cast(nn.Embedding, table).weight


def _zeros(rows: int, heads: int) -> nn.Embedding:
    table = nn.Embedding(rows, heads)
    nn.init.zeros_(table.weight)
    return table
