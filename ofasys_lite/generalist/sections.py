"""Which weights a pack needs: those that no pack of a step needed are left alone by the optimizer.

AdamW moves a weight on a gradient of zeros: its moments still push, and decay pulls. What idles must have no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import cast

from torch import nn

from ofasys_lite.adapters.base import Adapter, Asked, Section
from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.pack import Batch
from ofasys_lite.model.layers import DecoderBlock

__all__ = ["NetworkSection", "sections_of"]


@dataclass(frozen=True, slots=True)
class NetworkSection:
    """Weights that idle together.

    Attributes:
        parameters: The weights.
        count: How much of a pack goes through them; in a step of zeros alone they stay.
    """

    parameters: tuple[nn.Parameter, ...]
    count: Callable[[Batch], int]


def sections_of(network: Network) -> tuple[NetworkSection, ...]:
    """All sections of a network, in an order that follows from its construction; a weight may be in several."""
    body = network.body
    crosses = [b for b in body.decoder if isinstance(b, DecoderBlock) and b.cross is not None]
    cross = tuple(p for b in crosses for m in (b.cross, b.cross_norm) if m is not None for p in m.parameters())
    found = [
        NetworkSection(_all(body.encoder, body.encoder_norm), _read),
        NetworkSection(_all(body.decoder), lambda pack: pack.target.count),
        NetworkSection(_all(body.decoder_norm), _judged_at_the_end),
        NetworkSection(cross, lambda pack: sum(written for written, read in pack.cross if read)),
    ]
    for name, module in network.adapters.items():
        found += _of_adapter(name, cast(Adapter, module))
    return tuple(each for each in found if each.parameters)


def _of_adapter(name: str, adapter: Adapter) -> list[NetworkSection]:
    def used(asked: Asked) -> int:
        return len(asked.parts) + len(asked.losses)

    inner = [Section(tuple(adapter.parameters()), used), *adapter.sections()]
    return [
        NetworkSection(tuple(each.parameters), lambda pack, count=each.count: count(_asked(pack, name)))  # type: ignore[misc]
        for each in inner
    ]


def _all(*modules: nn.Module | None) -> tuple[nn.Parameter, ...]:
    given: Iterable[nn.Module] = (module for module in modules if module is not None)
    return tuple(chain.from_iterable(module.parameters() for module in given))


def _read(pack: Batch) -> int:
    """Source rows that something is learned from."""
    own = sum(len(rows.rows_R) for rows in pack.losses if rows.side == "source")
    return sum(read for written, read in pack.cross if written) + own


def _judged_at_the_end(pack: Batch) -> int:
    """Target rows whose states are read behind the last layer: codes are read by heads of their own."""
    return sum(len(rows.rows_R) for rows in pack.losses if rows.side == "target" and not rows.objective.tapped)


def _asked(pack: Batch, name: str) -> Asked:
    return Asked(
        tuple(part for stream in (pack.source, pack.target) for part in stream.parts if part.adapter == name),
        tuple(rows for rows in pack.losses if rows.adapter == name),
    )
