"""The contract of a modality's model side: `Adapter` fills rows of a stream from a `Part`.

Shapes: P rows of the part, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.pack import Part

__all__ = ["TABLE_STD", "Adapter", "Asked", "Embedded", "Section", "Shared"]

# Deviation of a fresh token table. Rows read are divided by it, logits too (adapters/text.py tells why it matters).
TABLE_STD = 0.25


@dataclass(frozen=True, slots=True)
class Shared:
    """What the generalist hands to every adapter.

    Attributes:
        width: D.
        embedding: The token table, shared by handing over the same module.
        dropout: Dropout probability of the preset.
        decoder_layers: Layers of the decoder.
    """

    width: int
    embedding: nn.Embedding
    dropout: float = 0.0
    decoder_layers: int = 0


@dataclass(frozen=True, slots=True)
class Embedded:
    """Embeddings and the stream rows they fill; checks itself against the plan's count.

    Attributes:
        x_PD: (P, D).
        rows_P: (P,) stream rows.
        adapter: Name for the message.
    """

    x_PD: Tensor
    rows_P: Tensor
    adapter: str

    def __post_init__(self) -> None:
        if len(self.x_PD) != len(self.rows_P):
            raise ShapeError(
                f"{self.adapter} adapter returned {len(self.x_PD)} rows, the plan counts {len(self.rows_P)}"
            )


@dataclass(frozen=True, slots=True)
class Asked:
    """What a pack asks of one adapter, in counts that are known on the host.

    Attributes:
        parts: Its parts of the source stream and of the target stream.
        learned: Rows that heads of its own learn.
        judged: Pieces that its judges learn from.
    """

    parts: tuple[Part, ...]
    learned: int = 0
    judged: int = 0

    def marked(self, array: str) -> int:
        """How much of the pieces' `array`, a mask, is set."""
        return sum(int(np.asarray(part.arrays[array]).sum()) for part in self.parts if array in part.arrays)


@dataclass(frozen=True, slots=True)
class Section:
    """Weights of an adapter that not every one of its pieces needs; in a step without such pieces they do not move.

    Attributes:
        parameters: The weights.
        count: How many pieces or rows of a pack need them.
    """

    parameters: tuple[nn.Parameter, ...]
    count: Callable[[Asked], int]


class Adapter(nn.Module):
    """Base of all adapters; subclasses are named by dotted path in a modality card.

    Args:
        settings: The modality card's settings, with the preset's overrides merged in.
        shared: Width and shared modules.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__()
        self.settings = dict(settings)
        self.width = shared.width

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings with which an exported adapter is built again, just before its own weights are read.

        Override where the constructor fetches weights from elsewhere: an export needs nothing but itself.
        """
        return settings

    def embed(self, part: Part) -> Tensor:
        """(P, D) embeddings of all pieces of the part, in order. Arrays are tensors on the model's device.

        Pieces must not see each other: the result for a piece may not depend on what else is in the pack.
        """
        raise TypeError(f"{type(self).__name__} does not say how to embed")

    def touch(self) -> Tensor:
        """A zero-valued scalar that touches all parameters, for packs without this adapter's pieces.

        Every rank then has the same graph. Override only where summing empty slices of the parameters will not do.
        """
        parts = [parameter.reshape(-1)[:0].sum() for parameter in self.parameters()]
        return torch.stack(parts).sum() if parts else torch.zeros(())

    def sections(self) -> tuple[Section, ...]:
        """Weights that only some pieces need (a mask's vector, heads, judges). The others move with any piece."""
        return ()
