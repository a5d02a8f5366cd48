"""Pictures that are written in part: what is given becomes codes, what is hidden is written, alone or in rounds.

Shapes: N samples of equal grid, M sequences (twice N with guidance), L positions, K depth, R hidden rows, S source
rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.data.types import Part, Stream
from ofasys_lite.decoding.mask_predict import Choose, mask_predict
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import Hypothesis
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.rendering import codes_in
from ofasys_lite.plan.constraints import Codes, Constraint, Series, Slotted
from ofasys_lite.preprocess.base import Piece

__all__ = ["Together", "give", "given_elements", "in_rounds"]


def given_elements(network: Network, pieces: Sequence[Mapping[str, Piece]]) -> list[dict[str, tuple[int, ...]]]:
    """Per sample: slot key -> element of each position, -1 where it is to be written.

    Args:
        network: Holds the codecs.
        pieces: Per sample, the pictures of its slots, `learn_P` True at hidden positions.
    """
    found: list[dict[str, tuple[int, ...]]] = [{} for _ in pieces]
    waiting: dict[str, list[tuple[int, str, Piece]]] = {}
    for number, each in enumerate(pieces):
        for key, piece in each.items():
            waiting.setdefault(piece.adapter, []).append((number, key, piece))
    device = network.embedding.weight.device
    for name, items in waiting.items():
        coder = network.coder(name)
        arrays = {n: np.concatenate([p.arrays[n] for _, _, p in items]) for n in ("pixels", "key")}
        sizes = {n: (0,) * len(items) for n in ("order", "hidden")}
        part = Part(
            name, None, (0,) * len(items), {n: torch.from_numpy(a).to(device) for n, a in arrays.items()}, sizes
        )
        codes_NLK = coder.codes(part)[0].cpu().numpy()
        for (number, key, piece), codes_LK in zip(items, codes_NLK, strict=True):
            packed = Codes(name, coder.heads.size, coder.heads.depth, ())
            hidden_L = piece.learn_P if piece.learn_P is not None else np.ones(len(codes_LK), dtype=np.bool_)
            pairs = zip(codes_LK.tolist(), hidden_L.tolist(), strict=True)
            found[number][key] = tuple(-1 if hidden else packed.pack(codes) for codes, hidden in pairs)
    return found


def give(constraint: Constraint, given: Mapping[str, tuple[int, ...]]) -> Constraint:
    """The constraint with the known elements of its slots of codes."""
    match constraint:
        case Series(parts):
            return Series(tuple(give(part, given) for part in parts))
        case Slotted(key, Codes() as codes) if key in given:
            return Slotted(key, replace(codes, given=given[key]))
    return constraint


class Together:
    """The network as mask-predict sees it: whole pictures in one pass, some of their positions hidden.

    Args:
        network: The weights, in evaluation mode.
        source: Source stream of a chunk.
        states_SD: What the encoder made of it.
        sequences: Source sequence of each target sequence: those with their source, then the emptied ones.
        codes: What is written; alike for all.
    """

    def __init__(
        self, network: Network, source: Stream, states_SD: Tensor, sequences: Sequence[int], codes: Codes
    ) -> None:
        device = states_SD.device
        starts = np.cumsum([0, *source.lengths])
        rows = [np.arange(starts[s], starts[s + 1]) for s in sequences]
        index = torch.from_numpy(np.concatenate(rows)).to(device)
        self.network = network
        self.coder = network.coder(codes.adapter)
        self.count, self.length = len(sequences), len(codes.positions)
        self.states_SD = states_SD.index_select(0, index)
        self.source_S3 = source.positions_S3.index_select(0, index)
        self.cross = tuple((self.length, len(r)) for r in rows)
        self.positions_T3 = torch.tensor(codes.positions, device=device).repeat(self.count, 1)

    def __call__(self, codes_NLK: Tensor, hidden_NL: Tensor, choose: Choose) -> Tensor:
        """(R, K) codes of the hidden positions; `choose` draws for the sequences in their order."""
        repeats = self.count // len(codes_NLK)
        x_MLD = self.coder.masked(codes_NLK, hidden_NL).repeat(repeats, 1, 1)
        rows_R = hidden_NL.repeat(repeats, 1).flatten().nonzero().squeeze(1)
        writer = self.coder.writer(rows_R, choose)
        self.network.body.decode(
            x_MLD.flatten(0, 1),
            self.positions_T3,
            self.states_SD,
            self.source_S3,
            lengths=(self.length,) * self.count,
            cross_lengths=self.cross,
            causal_rows=0,
            taps=writer.taps,
        )
        return writer.codes()[: len(rows_R) // repeats]


def in_rounds(
    network: Network,
    source: Stream,
    states_SD: Tensor,
    samples: Sequence[tuple[Constraint, DecodeOptions, int, Sequence[int]]],
) -> list[Hypothesis]:
    """Hypotheses of samples that are written by mask-predict, all with one grid and equal options.

    Args:
        network: The weights.
        source: Source stream of the chunk.
        states_SD: What the encoder made of it.
        samples: Constraint, options, key and source sequences of each; a guided one has its emptied source second.
    """
    device = states_SD.device
    codes = [next(c for _, c in codes_in(constraint)) for constraint, *_ in samples]
    options = samples[0][1]
    sequences = [s[n] for n in range(2 if options.guided else 1) for *_, s in samples]
    given = [c.given or (-1,) * len(c.positions) for c in codes]
    codes_NLK = torch.tensor(
        [[c.unpack(max(0, e)) for e in g] for c, g in zip(codes, given, strict=True)], device=device
    )
    hidden_NL = torch.tensor([[e < 0 for e in g] for g in given], device=device)
    rngs = [np.random.default_rng([o.seed, key]) for _, o, key, _ in samples]
    filled = mask_predict(
        Together(network, source, states_SD, sequences, codes[0]), codes_NLK, hidden_NL, options, rngs
    )
    elements = [tuple(c.pack(x) for x in rows) for c, rows in zip(codes, filled.codes_NLK.tolist(), strict=True)]
    return [Hypothesis(ids, score) for ids, score in zip(elements, filled.score_N.tolist(), strict=True)]
