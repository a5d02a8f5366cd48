"""Pictures that are written in part: what is given becomes codes, what is hidden is written, alone or in rounds.

Shapes: N samples of equal grid, M candidates of these, L positions, K depth, R hidden rows, S source rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ofasys_lite.adapters.judging import Reader
from ofasys_lite.decoding.mask_predict import Choose, mask_predict
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.decoding.search import Hypothesis
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.network import Network
from ofasys_lite.generalist.rendering import codes_in
from ofasys_lite.layout.pack import Part, Stream
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
        sequences: Source sequences of each sample: its own, then the emptied one of a guided sample.
        codes: What is written; alike for all.
    """

    def __init__(
        self, network: Network, source: Stream, states_SD: Tensor, sequences: Sequence[Sequence[int]], codes: Codes
    ) -> None:
        self.network, self.source, self.states_SD = network, source, states_SD
        self.coder = network.coder(codes.adapter)
        starts = np.cumsum([0, *source.lengths]).tolist()
        self.spans = [[(starts[s], source.lengths[s]) for s in each] for each in sequences]
        self.positions_1L3 = torch.tensor(codes.positions, device=states_SD.device).unsqueeze(0)

    def write(self, samples_M: Tensor, codes_MLK: Tensor, hidden_ML: Tensor, choose: Choose) -> Tensor:
        """(R, K) codes of the hidden positions; `choose` draws for all with their sources, then for the emptied."""
        repeats = len(self.spans[0])
        reader = self._reader(samples_M, repeats)
        hidden_ML = hidden_ML.repeat(repeats, 1)
        rows_R = hidden_ML.flatten().nonzero().squeeze(1)
        written = reader.write(codes_MLK.repeat(repeats, 1, 1), hidden_ML, rows_R, choose)
        return written[: len(written) // repeats]

    def judge(self, samples_M: Tensor, codes_MLK: Tensor, written_ML: Tensor) -> Tensor:
        """(M,) log of the probability that a filling belongs to its source and is real."""
        if self.coder.judges is None:
            raise CardError(
                "candidates, patience: this line was learned without judges",
                help="train it with codec=dnd(...,judges=0.1), or leave them out",
            )
        return self.coder.judges.scores(self._reader(samples_M, 1).states(codes_MLK), written_ML)

    def _reader(self, samples_M: Tensor, repeats: int) -> Reader:
        asked = samples_M.tolist()
        spans = [self.spans[n][k] for k in range(repeats) for n in asked]
        positions_ML3 = self.positions_1L3.expand(len(spans), -1, -1)
        return Reader(self.network.body, self.coder, self.states_SD, self.source, spans, positions_ML3)


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
    given = [c.given or (-1,) * len(c.positions) for c in codes]
    codes_NLK = torch.tensor(
        [[c.unpack(max(0, e)) for e in g] for c, g in zip(codes, given, strict=True)], device=device
    )
    hidden_NL = torch.tensor([[e < 0 for e in g] for g in given], device=device)
    rngs = [np.random.default_rng([o.seed, key]) for _, o, key, _ in samples]
    together = Together(network, source, states_SD, [s for *_, s in samples], codes[0])
    judge = together.judge if options.judged else None
    filled = mask_predict(together.write, codes_NLK, hidden_NL, options, rngs, judge)
    elements = [tuple(c.pack(x) for x in rows) for c, rows in zip(codes, filled.codes_NLK.tolist(), strict=True)]
    return [Hypothesis(ids, score) for ids, score in zip(elements, filled.score_N.tolist(), strict=True)]
