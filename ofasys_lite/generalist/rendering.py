"""Codes at the borders of decoding: those that a row gives, and decoded ones -> what Preprocess makes values of.

Shapes: L positions, K depth, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.pack import Part, Rendered
from ofasys_lite.plan.constraints import Codes, Constraint, Optional, Repeat, Series, Slotted
from ofasys_lite.plan.segments import SlotSegment
from ofasys_lite.preprocess.base import Piece


class Rendering:
    """Collects the codes of split outputs, and puts rendered arrays in their place."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self._waiting: dict[str, list[tuple[dict[str, Any], str, npt.NDArray[np.int64]]]] = {}

    def add(
        self, splits: Sequence[dict[str, Any]], constraint: Constraint, slots: Sequence[SlotSegment]
    ) -> dict[str, npt.NDArray[np.int64]]:
        """Notes the codes of outputs of one sample; returns those of the first, by slot.

        A slot has (L, K); one of a group, whose key names the group's column first (`pages.img`), has (N, L, K), its N
        pictures in the order of the elements.
        """
        known = dict(codes_in(constraint))
        optional = {s.key for s in slots if s.optional}
        found: dict[str, npt.NDArray[np.int64]] = {}
        grouped: dict[str, list[npt.NDArray[np.int64]]] = {}
        for number, split in enumerate(splits):
            for key, codes, inner in self._add(split, known, optional):
                if not number and inner:
                    grouped.setdefault(key, []).append(codes)
                elif not number:
                    found[key] = codes
        return {**found, **{key: np.stack(codes) for key, codes in grouped.items()}}

    def _add(
        self, split: dict[str, Any], known: Mapping[str, Codes], optional: Set[str], inner: bool = False
    ) -> Iterator[tuple[str, npt.NDArray[np.int64], bool]]:
        for key, content in split.items():
            if isinstance(content, list):
                for _, element in content:
                    yield from self._add(element, known, optional, True)
            elif key in known:
                # an optional slot opens with a control, and is that alone where it is absent
                elements = content[int(key in optional) :]
                if len(elements):
                    codes = np.array([known[key].unpack(int(e)) for e in elements], dtype=np.int64)
                    self._waiting.setdefault(known[key].adapter, []).append((split, key, codes))
                    yield key, codes, inner

    def run(self) -> None:
        """Renders what was noted, in place."""
        for name, waiting in self._waiting.items():
            device = self.network.embedding.weight.device
            codes_NLK = torch.from_numpy(np.stack([codes for _, _, codes in waiting])).to(device)
            arrays = self.network.coder(name).pictures(codes_NLK).cpu().numpy()
            for (split, key, _), array in zip(waiting, arrays, strict=True):
                split[key] = Rendered(array)
        self._waiting = {}


def codes_in(constraint: Constraint) -> Iterator[tuple[str, Codes]]:
    """The slots of a constraint that are written in codes."""
    match constraint:
        case Slotted(key, Codes() as codes):
            yield key, codes
        case Slotted(key, Optional(Codes() as codes)):
            yield key, codes
        case Slotted(_, part) | Optional(part):
            yield from codes_in(part)
        case Series(parts):
            for part in parts:
                yield from codes_in(part)
        case Repeat(alternatives, elements=elements):
            for part in (*alternatives, *(each for _, each in elements)):
                yield from codes_in(part)


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
