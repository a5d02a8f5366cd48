"""Which weights a pack needs: those that no pack of a step needed are left alone by the optimizer.

AdamW moves a weight on a gradient of zeros: its moments still push, and decay pulls. What idles must have no gradient.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import cast

from torch import nn

from ofasys_lite.adapters.base import Adapter, Asked, Section
from ofasys_lite.generalist.network import Network
from ofasys_lite.layout.learned import LossRows
from ofasys_lite.layout.pack import Batch, Part
from ofasys_lite.model.layers import DecoderBlock


@dataclass(frozen=True, slots=True)
class NetworkSection:
    """Weights that idle together.

    Attributes:
        count: How much of a pack, and of what it asks of the adapter, goes through them; in a step of zeros alone they
            stay.
        adapter: Whose weights they are; empty: the encoder-decoder's.
    """

    parameters: tuple[nn.Parameter, ...]
    count: Callable[[Batch, Asked], int]
    adapter: str = ""


def used(sections: Sequence[NetworkSection], pack: Batch) -> list[int]:
    """How much of a pack goes through each section."""
    parts, losses = defaultdict[str, list[Part]](list), defaultdict[str, list[LossRows]](list)
    for part in (*pack.source.parts, *pack.target.parts):
        parts[part.adapter].append(part)
    for rows in pack.losses:
        losses[rows.adapter].append(rows)
    asked = {name: Asked(tuple(parts[name]), tuple(losses[name])) for name in {*parts, *losses}}
    nothing = Asked(())
    return [section.count(pack, asked.get(section.adapter, nothing)) for section in sections]


def sections_of(network: Network) -> tuple[NetworkSection, ...]:
    """All sections of a network, in an order that follows from its construction; a weight may be in several."""
    body = network.body
    crosses = [b for b in body.decoder if isinstance(b, DecoderBlock) and b.cross is not None]
    cross = tuple(p for b in crosses for m in (b.cross, b.cross_norm) if m is not None for p in m.parameters())
    found = [
        NetworkSection(
            _all(body.encoder, body.encoder_norm),
            lambda pack, _: (
                sum(read for written, read in pack.cross if written)
                + sum(len(rows.rows_R) for rows in pack.losses if rows.side == "source")
            ),
        ),
        NetworkSection(_all(body.decoder), lambda pack, _: sum(pack.target.lengths)),
        NetworkSection(
            _all(body.decoder_norm),
            lambda pack, _: sum(
                len(rows.rows_R) for rows in pack.losses if rows.side == "target" and not rows.objective.tapped
            ),
        ),
        NetworkSection(cross, lambda pack, _: sum(written for written, read in pack.cross if read)),
    ]
    for name, module in network.adapters.items():
        adapter = cast(Adapter, module)
        whole = Section(tuple(adapter.parameters()), lambda asked: len(asked.parts) + len(asked.losses))
        for each in (whole, *adapter.sections()):
            found.append(NetworkSection(each.parameters, lambda _, asked, count=each.count: count(asked), name))  # type: ignore[misc]
    return tuple(each for each in found if each.parameters)


def _all(*modules: nn.Module | None) -> tuple[nn.Parameter, ...]:
    given: Iterable[nn.Module] = (module for module in modules if module is not None)
    return tuple(chain.from_iterable(module.parameters() for module in given))
