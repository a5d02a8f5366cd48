"""Pictures that are written in part: what is given of them becomes codes.

Shapes: N samples, L positions, K depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.pack import Part
from ofasys_lite.plan.constraints import Codes, Constraint, Series, Slotted
from ofasys_lite.preprocess.base import Piece


def given_elements(network: Network, pieces: Sequence[Mapping[str, Piece]]) -> list[dict[str, tuple[int, ...]]]:
    """Per sample: slot key -> element of each position, -1 where it is to be written.

    Args:
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
