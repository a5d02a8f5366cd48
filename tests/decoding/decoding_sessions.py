"""Sessions over small models: a toy recurrent one, with and without keeping its state, and the encoder-decoder."""

from __future__ import annotations

import torch
from decoding_grammars import SIZE
from torch import Tensor, nn

from ofasys_lite.model import EncoderDecoder


class Toy(nn.Module):
    """A random recurrent model; positions play a part, so that wrong ones are noticed."""

    def __init__(self, seed: int, size: int = SIZE, width: int = 16, sharp: float = 3.0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embedding = nn.Parameter(torch.randn(size, width, generator=generator))
        self.mix = nn.Parameter(torch.randn(width, width, generator=generator) / width**0.5)
        self.place = nn.Parameter(torch.randn(3, width, generator=generator) * 0.3)
        self.head = nn.Parameter(torch.randn(size, width, generator=generator) * sharp / width**0.5)

    def step(self, h_BD: Tensor, ids_B: Tensor, positions_B3: Tensor) -> Tensor:
        return torch.tanh(h_BD @ self.mix + self.embedding[ids_B] + positions_B3.float().sin() @ self.place)


class ToySession:
    """Keeps one state per row. `fed` and `scored` count work; `sources` differ from sample to sample."""

    def __init__(self, model: Toy, sources: Tensor) -> None:
        self.model = model
        self.h_BD = sources
        self.fed = 0
        self.scored = 0
        self.whole = 0
        self.most_rows = 0

    def advance(self, ids_B: Tensor, positions_B3: Tensor) -> Tensor:
        assert len(ids_B) == len(self.h_BD)
        self.fed += len(ids_B)
        self.most_rows = max(self.most_rows, len(ids_B))
        self.h_BD = self.model.step(self.h_BD, ids_B, positions_B3)
        return self.h_BD

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        self.scored += len(states_BD)
        self.whole += ids_W is None
        return states_BD @ (self.model.head if ids_W is None else self.model.head[ids_W]).T

    def select(self, rows: Tensor) -> None:
        self.h_BD = self.h_BD[rows]


def toy(seed: int, count: int, sharp: float = 3.0, size: int = SIZE) -> ToySession:
    sources = torch.randn(count, 16, generator=torch.Generator().manual_seed(seed + 1000))
    return ToySession(Toy(seed, sharp=sharp, size=size), sources)


class CachedSession:
    """The encoder-decoder with its cache."""

    def __init__(self, model: EncoderDecoder, embedding: Tensor, source: tuple[Tensor, Tensor, list[int]]) -> None:
        x_SD, positions_S3, lengths = source
        self.model, self.embedding = model, embedding
        self.cache = model.start(model.encode(x_SD, positions_S3, lengths), positions_S3, lengths)

    def advance(self, ids_B: Tensor, positions_B3: Tensor) -> Tensor:
        return self.model.step(self.embedding[ids_B], positions_B3, self.cache)

    def scores(self, states_BD: Tensor, ids_W: Tensor | None) -> Tensor:
        return states_BD @ (self.embedding if ids_W is None else self.embedding[ids_W]).T

    def select(self, rows: Tensor) -> None:
        self.cache.reorder(rows)


class WholeSession(CachedSession):
    """The encoder-decoder without a cache: every row's whole prefix goes through the decoder at every step."""

    def __init__(self, model: EncoderDecoder, embedding: Tensor, source: tuple[Tensor, Tensor, list[int]]) -> None:
        x_SD, self.positions_S3, self.lengths = source
        self.model, self.embedding = model, embedding
        self.states_SD = model.encode(x_SD, self.positions_S3, self.lengths)
        self.rows: list[tuple[int, list[int], list[list[int]]]] = [(n, [], []) for n in range(len(self.lengths))]

    def advance(self, ids_B: Tensor, positions_B3: Tensor) -> Tensor:
        last = []
        pairs = zip(ids_B.tolist(), positions_B3.tolist(), strict=True)
        self.rows = [(n, [*i, id], [*p, at]) for (n, i, p), (id, at) in zip(self.rows, pairs, strict=True)]
        for number, ids, positions in self.rows:
            low = sum(self.lengths[:number])
            span = slice(low, low + self.lengths[number])
            out_TD = self.model.decode(
                self.embedding[torch.tensor(ids)],
                torch.tensor(positions),
                self.states_SD[span],
                self.positions_S3[span],
                lengths=[len(ids)],
                cross_lengths=[(len(ids), self.lengths[number])],
            )
            last.append(out_TD[-1])
        return torch.stack(last)

    def select(self, rows: Tensor) -> None:
        self.rows = [self.rows[int(r)] for r in rows]
