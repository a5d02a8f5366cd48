"""Targets that are written all at once: what their writer is asked, what it is given, and what it gives.

A writer is a function of an adapter (`Adapter.write`): it starts from nothing or from noise, passes all rows through
the decoder as often as it needs (mask-predict, flow, diffusion), and gives what it made of them.
Shapes: M sequences of L rows, D width, S source rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.layout.pack import Stream
from ofasys_lite.model import DecodeCache, EncoderDecoder, Taps, moved
from ofasys_lite.plan.constraints import Codes, Whole


class Passes:
    """The decoder over whole sequences, all of one length, each with the source rows it belongs to.

    Args:
        spans: (first row, rows) of the source of each sequence.
        positions_ML3: Positions of each sequence's rows.
    """

    def __init__(
        self,
        body: EncoderDecoder,
        states_SD: Tensor,
        source: Stream,
        spans: Sequence[tuple[int, int]],
        positions_ML3: Tensor,
    ) -> None:
        rows = [np.arange(first, first + count) for first, count in spans]
        index = moved(np.concatenate(rows) if rows else np.zeros(0, np.int64), states_SD.device)
        self.body = body
        self.states_SD = states_SD.index_select(0, index)
        self.source_S3 = source.positions_S3.index_select(0, index)
        self.positions_ML3 = positions_ML3
        self.cross = tuple((positions_ML3.shape[1], count) for _, count in spans)

    def __call__(self, x_MLD: Tensor, taps: Taps | None = None) -> Tensor:
        """(M, L, D) states behind the last layer; all rows of a sequence see each other."""
        states_TD = self.body.decode(
            x_MLD.flatten(0, 1),
            self.positions_ML3.flatten(0, 1),
            self.states_SD,
            self.source_S3,
            lengths=(x_MLD.shape[1],) * len(x_MLD),
            cross_lengths=self.cross,
            causal_rows=0,
            taps=taps,
        )
        return states_TD.view(x_MLD.shape)


@dataclass(frozen=True, slots=True)
class ToWrite:
    """One sample's target.

    Attributes:
        key: A number of the sample that its draws depend on, beside the seed.
        sequences: Source sequences: its own, then the emptied one of a guided sample (`cfg`).
    """

    what: Whole | Codes
    options: DecodeOptions
    key: int
    sequences: Sequence[int]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Options of the writer by name, as the modality's card declares them; `options.method` is the writer's."""
        return dict(self.options.settings or ())

    def rng(self) -> np.random.Generator:
        """The sample's generator: its draws do not depend on what it is written with."""
        return np.random.default_rng([self.options.seed, self.key])


@dataclass(frozen=True, slots=True)
class Written:
    """What was made of one target.

    Attributes:
        value: What the modality's Preprocess decodes: an array of any shape; for `Codes` the element of each position.
        score: Higher is better.
    """

    value: Any
    score: float = 0.0


class Ids(Protocol):
    """How the model reads token ids and scores them."""

    def lookup(self, ids_P: Tensor) -> Tensor:
        """(P, D) vectors of ids."""

    def scores(self, states_BD: Tensor, ids_W: Tensor | None = None) -> Tensor:
        """Logits (B, V), or (B, W) of some ids only."""


class Walk:
    """The decoder from left to right over some sources, a row each."""

    def __init__(self, body: EncoderDecoder, cache: DecodeCache) -> None:
        self._body, self._cache = body, cache

    def __call__(self, x_BD: Tensor, positions_B3: Tensor) -> Tensor:
        """(B, D) states behind one more element of every row."""
        return self._body.step(x_BD, positions_B3, self._cache)

    def keep(self, rows: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        self._cache.keep(rows)


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of a chunk of samples, as the encoder read them.

    Attributes:
        ids: For those who write token ids.
        start: The id that opens what is written from left to right.
    """

    body: EncoderDecoder
    stream: Stream
    states_SD: Tensor
    ids: Ids | None = None
    start: int = 0

    def session(self, sequences: Sequence[int]) -> Walk:
        """The decoder from left to right, a row for each of these source sequences."""
        spans = self.spans(sequences)
        rows = np.concatenate([np.arange(first, first + count) for first, count in spans])
        index = moved(rows.astype(np.int64), self.states_SD.device)
        read = (self.states_SD.index_select(0, index), self.stream.positions_S3.index_select(0, index))
        return Walk(self.body, self.body.start(*read, [count for _, count in spans]))

    def spans(self, sequences: Sequence[int]) -> list[tuple[int, int]]:
        """(first row, rows) of some source sequences."""
        first = np.cumsum([0, *self.stream.lengths]).tolist()
        return [(first[s], self.stream.lengths[s]) for s in sequences]

    def passes(self, asked: Sequence[ToWrite], emptied: bool = False) -> Passes:
        """The decoder over the rows of samples that write alike, each with its own source or the emptied (`cfg`)."""
        positions_L3 = torch.tensor(asked[0].what.positions, device=self.states_SD.device)
        spans = self.spans([each.sequences[int(emptied)] for each in asked])
        return Passes(self.body, self.states_SD, self.stream, spans, positions_L3.expand(len(asked), -1, -1))
