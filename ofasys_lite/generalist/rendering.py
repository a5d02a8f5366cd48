"""Decoded codes -> what the modality's Preprocess makes values of, all of a chunk in one call per adapter.

Shapes: L positions, K depth, S pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.pack import Rendered
from ofasys_lite.plan.constraints import Codes, Constraint, Optional, Repeat, Series, Slotted
from ofasys_lite.plan.segments import SlotSegment


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
        case Repeat(alternatives):
            for part in alternatives:
                yield from codes_in(part)
