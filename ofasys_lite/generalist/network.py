"""The generalist's network: adapters fill two flat streams, one encoder-decoder reads and writes them, the head judges.

Shapes: S source rows, T target rows, L target rows with loss, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.base import TABLE_STD, Adapter, Embedded, Shared
from ofasys_lite.adapters.codes import CodesAdapter
from ofasys_lite.adapters.depth_heads import DepthLogits
from ofasys_lite.adapters.text import TextAdapter
from ofasys_lite.cards.classes import load_class
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.judging import show_judged, verdict_losses
from ofasys_lite.layout.pack import Batch, SideRows, Stream
from ofasys_lite.model import EncoderDecoder, ModelConfig, Taps

__all__ = ["AdapterSpec", "Losses", "Network", "merge_taps"]


@dataclass(frozen=True, slots=True)
class AdapterSpec:
    """What is needed to build an adapter again: dotted path and plain settings."""

    path: str
    settings: Mapping[str, Any]

    def stored(self) -> AdapterSpec:
        """The same for an adapter whose own weights are about to be read: it fetches none from elsewhere."""
        return AdapterSpec(self.path, load_class(self.path, Adapter, "adapter").stored(self.settings))


@dataclass(frozen=True, slots=True)
class Losses:
    """What a pack costs, unit by unit.

    Attributes:
        token_L: Cross entropy of each target row with loss, and of verdicts: token ids, codes, then verdicts, as the
            pack lists their terms.
        side: One scalar per objective on the encoder, summed over its units.
        touch: Zero; keeps every parameter in the graph.
    """

    token_L: Tensor
    side: tuple[Tensor, ...]
    touch: Tensor


def merge_taps(taps: Sequence[Taps]) -> Taps | None:
    """One tap per layer that calls those of all adapters; None without any."""
    if len(taps) <= 1:
        return taps[0] if taps else None
    layers = dict.fromkeys(layer for each in taps for layer in each)
    return {layer: _together([each[layer] for each in taps if layer in each]) for layer in layers}


def _together(taps: Sequence[Callable[[Tensor], Tensor | None]]) -> Callable[[Tensor], Tensor | None]:
    def tap(x_TD: Tensor) -> Tensor | None:
        # every adapter sees the same states: rows belong to one adapter only
        added = [found for each in taps if (found := each(x_TD)) is not None]
        return torch.stack(added).sum(0) if added else None

    return tap


class Network(nn.Module):
    """All weights of a generalist.

    Args:
        config: Sizes of the encoder-decoder.
        rows: Vocabulary rows V.
        adapters: Adapter by name; `text` is always there.
    """

    def __init__(self, config: ModelConfig, rows: int, adapters: Mapping[str, AdapterSpec]) -> None:
        super().__init__()
        self.config = config
        self.specs = dict(adapters)
        self.embedding = nn.Embedding(rows, config.width)
        nn.init.normal_(self.embedding.weight, std=TABLE_STD)
        shared = Shared(config.width, self.embedding, config.dropout, config.decoder_layers)
        self.text = TextAdapter({}, shared)
        self.adapters = nn.ModuleDict()
        for name, spec in sorted(adapters.items()):
            if name != "text":
                self.adapters[name] = load_class(spec.path, Adapter, "adapter")(spec.settings, shared)
        self.dropout = nn.Dropout(config.dropout)
        self.body = EncoderDecoder(config)

    def grow(self, rows: int) -> None:
        """Appends vocabulary rows, drawn like the first ones; existing rows never move."""
        old = self.embedding.weight
        if rows < len(old):
            raise CheckpointError(f"a vocabulary of {rows} rows is smaller than the {len(old)} rows trained")
        if rows > len(old):
            fresh = torch.empty(rows - len(old), old.shape[1], device=old.device, dtype=old.dtype)
            nn.init.normal_(fresh, std=TABLE_STD)
            self.embedding.weight = nn.Parameter(torch.cat([old.detach(), fresh]))
            self.embedding.num_embeddings = rows

    def embed(self, stream: Stream) -> Tensor:
        """(S, D) embeddings of a stream; each adapter sees all its pieces of the pack at once."""
        weight = self.embedding.weight
        x_SD = weight.new_zeros(stream.count, self.config.width)
        for part in stream.parts:
            embedded = Embedded(self._adapter(part.adapter).embed(part), part.rows_P, part.adapter)
            x_SD = x_SD.index_copy(0, embedded.rows_P, embedded.x_PD.to(x_SD.dtype))
        dropped: Tensor = self.dropout(x_SD)
        return dropped

    def _adapter(self, name: str) -> Adapter:
        if name == "text":
            return self.text
        if name not in self.adapters:
            known = ", ".join(["text", *self.adapters])
            raise CheckpointError(
                f"this model has no adapter `{name}`", help=f"it was trained with: {known}; train it with such a task"
            )
        return cast(Adapter, self.adapters[name])

    def touch(self, batch: Batch) -> Tensor:
        """A zero that touches the adapters the pack does not use, so that every rank has the same graph."""
        used = {p.adapter for stream in (batch.source, batch.target) for p in stream.parts}
        total = self.embedding.weight.new_zeros(())
        for name, adapter in self.adapters.items():
            # of one that writes codes, parts may idle in a pack that it is in
            if name not in used or isinstance(adapter, CodesAdapter):
                total = total + cast(Adapter, adapter).touch()
        return total

    def encode(self, source: Stream) -> Tensor:
        """(S, D) states of the source stream."""
        return self.body.encode(self.embed(source), source.positions_S3, source.lengths)

    def decode(self, batch: Batch, states_SD: Tensor, taps: Taps | None = None) -> Tensor:
        """(T, D) states of the target stream; `taps` are called behind layers of the decoder."""
        return self.body.decode(
            self.embed(batch.target),
            batch.target.positions_S3,
            states_SD,
            batch.source.positions_S3,
            lengths=batch.target.lengths,
            cross_lengths=batch.cross,
            causal_rows=batch.causal_rows,
            taps=taps,
        )

    def coder(self, name: str) -> CodesAdapter:
        """The adapter called `name`, which learns and writes codes."""
        found = self._adapter(name)
        if not isinstance(found, CodesAdapter):
            raise CheckpointError(
                f"adapter `{name}` of this model writes no codes", help="it was trained without codec"
            )
        return found

    def readings(self, batch: Batch) -> dict[str, DepthLogits]:
        """Per adapter that learns by heads of its own, what collects its logits while the decoder runs."""
        parts = {part.adapter: part for part in batch.target.parts}
        return {c.adapter: self.coder(c.adapter).reading(parts[c.adapter], c.rows, c.picked) for c in batch.codes}

    def forward(self, batch: Batch, smoothing: float = 0.0) -> Losses:
        """The losses of a pack, unit by unit; weights and means are the accounting's business."""
        states_SD = self.encode(batch.source)
        readings = self.readings(batch)
        for judged in batch.judged:
            show_judged(self.body, self.coder(judged.adapter), batch, states_SD, judged)
        states_TD = self.decode(batch, states_SD, merge_taps([r.taps for r in readings.values()]))
        token_L = self.text.loss(states_TD[batch.loss_rows_L], batch.labels_L, smoothing)
        if readings:
            coded = [self.coder(name).loss(reading, smoothing) for name, reading in readings.items()]
            coded += [verdict_losses(self.coder(j.adapter), batch, states_TD, j) for j in batch.judged]
            token_L = torch.cat([token_L, *(loss.to(token_L.dtype) for loss in coded)])
        return Losses(token_L, self._sides(states_SD, batch.side), self.touch(batch))

    def _sides(self, states_SD: Tensor, side: Sequence[SideRows]) -> tuple[Tensor, ...]:
        if not side:
            return ()
        states_RD = states_SD[torch.cat([each.rows for each in side])]
        return self.text.ctc(states_RD, [len(each.rows) for each in side], [each.labels for each in side]).unbind(0)
