"""The generalist's network: adapters fill two flat streams, one encoder-decoder reads and writes them, the head judges.

Shapes: S source rows, T target rows, U loss values, D width, V vocabulary; B live rows of a search, W ids asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.base import TABLE_STD, Adapter, Encoded, Reading, Shared
from ofasys_lite.adapters.codes import CodesAdapter
from ofasys_lite.adapters.depth_heads import Choose, DepthWriter, Score
from ofasys_lite.adapters.pair_losses import compared, likelihoods
from ofasys_lite.adapters.text import TextAdapter
from ofasys_lite.adapters.whole_step import WholeStep
from ofasys_lite.cards.classes import load_class
from ofasys_lite.decoding.session import CodeStep
from ofasys_lite.errors import CheckpointError, ShapeError
from ofasys_lite.generalist.converters import Converter, check_plain
from ofasys_lite.generalist.shown import ShownRows
from ofasys_lite.layout.learned import LossKey, LossRows
from ofasys_lite.layout.pack import Batch, Stream
from ofasys_lite.layout.preference import Preference
from ofasys_lite.model import EncoderDecoder, ModelConfig, Taps
from ofasys_lite.plan.language import TEXT_ADAPTER
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.vocabulary import Vocabulary


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
    """What a pack costs.

    Attributes:
        values_U: Each loss value, in the order of `Batch.losses`, fp32.
        touch: Zero; keeps every parameter in the graph.
    """

    values_U: Tensor
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


def _as_named_now(network: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Older checkpoints hold the adapter of token ids beside the others."""
    table = state.pop(f"{prefix}text.embedding.weight", None)
    if table is not None:
        state[f"{prefix}adapters.{TOKEN_ADAPTER}.embedding.weight"] = table


class Network(nn.Module):
    """All weights of a generalist; `adapters`: adapter by name; that of token ids is always there."""

    def __init__(self, config: ModelConfig, rows: int, adapters: Mapping[str, AdapterSpec]) -> None:
        super().__init__()
        self.config = config
        self.specs = {TOKEN_ADAPTER: AdapterSpec(TEXT_ADAPTER, {}), **dict(sorted(adapters.items()))}
        self.embedding = nn.Embedding(rows, config.width)
        nn.init.normal_(self.embedding.weight, std=TABLE_STD)
        shared = Shared(config.width, self.embedding, config.dropout, config.decoder_layers)
        self.adapters = nn.ModuleDict()
        for name, spec in self.specs.items():
            self.adapters[name] = load_class(spec.path, Adapter, "adapter")(spec.settings, shared)
        #: Adapters with heads of their own, which may idle in a pack that they are in; the token table is its own head.
        self.learning = {
            name
            for name, adapter in self.adapters.items()
            if cast(Adapter, adapter).objectives() and any(p is not self.embedding.weight for p in adapter.parameters())
        }
        self.dropout = nn.Dropout(config.dropout)
        self.body = EncoderDecoder(config)
        #: What a training put into the network, in this order; exports are without it.
        self.converters: list[Converter] = []
        self.register_load_state_dict_pre_hook(_as_named_now)  # type: ignore[no-untyped-call]

    def plain_weights(self) -> dict[str, Tensor]:
        """Parameters and stored buffers by name, detached, as they are without converters."""
        # the head is the token table: one tensor, stored once
        tensors = {n: p.detach() for n, p in self.named_parameters()}
        kept = self.state_dict()  # without buffers that a module makes of its settings
        tensors.update({n: b.detach() for n, b in self.named_buffers() if n in kept})
        for converter in reversed(self.converters):
            tensors = converter.plain(self, tensors)
        return tensors

    def convert(self, converter: Converter, name: str) -> None:
        """Puts a converter into the network, behind those that are there; `name` is for messages.

        Raises:
            CardError: What it leaves could not be exported.
        """
        before = self.plain_weights()
        converter.convert(self)
        self.converters.append(converter)
        check_plain(name, before, self.plain_weights())

    def unconverted(self) -> Network:
        """A network of the plain weights, on the host; this one where nothing was converted."""
        if not self.converters:
            return self
        specs = {name: spec.stored() for name, spec in self.specs.items()}
        plain = Network(self.config, self.embedding.num_embeddings, specs)
        plain.load_state_dict({n: v.cpu() for n, v in self.plain_weights().items()}, strict=False)
        return plain

    def grow(self, rows: int, zeros: bool = False) -> None:
        """Appends vocabulary rows, drawn like the first ones or zero; existing rows never move."""
        old = self.embedding.weight
        if rows < len(old):
            raise CheckpointError(f"a vocabulary of {rows} rows is smaller than the {len(old)} rows trained")
        if rows > len(old):
            fresh = torch.empty(rows - len(old), old.shape[1], device=old.device, dtype=old.dtype)
            nn.init.normal_(fresh, std=0.0 if zeros else self.text.deviation)
            self.embedding.weight = nn.Parameter(torch.cat([old.detach(), fresh]))
            self.embedding.num_embeddings = rows
            self.text.grow(rows)

    def know(self, vocabulary: Vocabulary) -> None:
        """Vectors of names know their words, where the vocabulary says so; of rows that were appended, too."""
        words = vocabulary.words_of_names()
        if words is not None:
            self.text.know(words)
            self.specs[TOKEN_ADAPTER] = AdapterSpec(TEXT_ADAPTER, dict(self.text.settings))

    def embed(self, stream: Stream) -> Tensor:
        """(S, D) embeddings of a stream; each adapter sees all its pieces of the pack at once."""
        weight = self.embedding.weight
        x_SD = weight.new_zeros(len(stream.positions_S3), self.config.width)
        for part in stream.parts:
            x_PD = self.adapter(part.adapter).embed(part)
            if len(x_PD) != len(part.rows_P):
                raise ShapeError(
                    f"{part.adapter} adapter returned {len(x_PD)} rows, the plan counts {len(part.rows_P)}"
                )
            x_SD = x_SD.index_copy(0, part.rows_P, x_PD.to(x_SD.dtype))
        dropped: Tensor = self.dropout(x_SD)
        return dropped

    def adapter(self, name: str) -> Adapter:
        """The adapter called `name`; CheckpointError if this model has none."""
        if name not in self.adapters:
            known = ", ".join(self.adapters)
            raise CheckpointError(
                f"this model has no adapter `{name}`", help=f"it was trained with: {known}; train it with such a task"
            )
        return cast(Adapter, self.adapters[name])

    @property
    def text(self) -> TextAdapter:
        """The adapter of token ids."""
        return cast(TextAdapter, self.adapters[TOKEN_ADAPTER])

    def touch(self, batch: Batch, states_TD: Tensor) -> Tensor:
        """A zero that touches what the pack does not use, so that every rank has the same graph."""
        used = {p.adapter for stream in (batch.source, batch.target) for p in stream.parts}
        total = self.embedding.weight.new_zeros(())
        for name, adapter in self.adapters.items():
            if name not in used or name in self.learning:
                total = total + cast(Adapter, adapter).touch()
        if not any(rows.side == "target" and not rows.objective.tapped for rows in batch.losses):
            total = total + states_TD.reshape(-1)[:0].sum()
        return total

    def encode(self, source: Stream) -> Tensor:
        """(S, D) states of the source stream."""
        return self.body.encode(self.embed(source), source.positions_S3, source.lengths, source.runs)

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
            runs=batch.target.runs,
            source_runs=batch.source.runs,
        )

    def coder(self, name: str) -> CodesAdapter:
        """The adapter called `name`, which learns and writes codes."""
        found = self.adapter(name)
        if not found.coded:
            raise CheckpointError(
                f"adapter `{name}` of this model writes no codes", help="it was trained without codec"
            )
        return cast(CodesAdapter, found)

    def classes(self, rows: LossRows, batch: Batch) -> tuple[Tensor, tuple[float, ...]] | None:
        """What an objective has rows choose, if it does (`Adapter.classes`)."""
        return None if rows.objective.base is not None else self.adapter(rows.adapter).classes(rows, batch)

    def forward(
        self,
        batch: Batch,
        smoothing: float = 0.0,
        steps: Mapping[LossKey, WholeStep] | None = None,
        reference: Mapping[LossKey, Tensor] | None = None,
    ) -> Losses:
        """The losses of a pack, value by value; weights and means are the accounting's business.

        Args:
            steps: What `look` found in all packs of the step, for objectives that ask for it.
            reference: What frozen weights say of the pack's answers (`likelihoods`).
        """
        readings, states = self._read(batch, smoothing, steps or {}, reference or {})
        found = [r.loss(states[rows.side]).float() for r, rows in zip(readings, batch.losses, strict=True)]
        nothing = torch.zeros(0, device=states["source"].device)
        values_U = found[0] if len(found) == 1 else torch.cat([nothing, *found])
        return Losses(values_U, self.touch(batch, states["target"]))

    @torch.no_grad()
    def look(self, batch: Batch, reference: Mapping[LossKey, Tensor] | None = None) -> dict[LossKey, Tensor]:
        """(U, F) per objective over the whole step, what it is to know of this pack; draws as `forward` does."""
        asking = [rows for rows in batch.losses if rows.objective.whole_step]
        known = [rows for rows in asking if rows.objective.on_host]
        found = {rows.key: self.embedding.weight.new_zeros(len(rows.terms_U), 0) for rows in known}
        if len(known) == len(asking):
            return found
        decoded = any(rows.side == "target" for rows in asking if not rows.objective.on_host)
        readings, states = self._read(batch, 0.0, {}, reference or {}, decoded)
        pairs = zip(readings, batch.losses, strict=True)
        seen = {rows.key: r.look(states[rows.side]) for r, rows in pairs if r.look and rows.objective.whole_step}
        return {**found, **seen}

    @torch.no_grad()
    def likelihoods(self, batch: Batch) -> dict[LossKey, Tensor]:
        """(J,) per objective that compares answers, the log of the probability of each answer of the pack."""
        pairs = [rows for rows in batch.losses if rows.objective.base is not None]
        bare = [replace(rows, objective=base) for rows in pairs if (base := rows.objective.base) is not None]
        readings, states = self._read(replace(batch, losses=tuple(bare)), 0.0, {}, {})
        found = zip(pairs, readings, strict=True)
        return {rows.key: likelihoods(reading, rows, states[rows.side]) for rows, reading in found}

    def _read(
        self,
        batch: Batch,
        smoothing: float,
        steps: Mapping[LossKey, WholeStep],
        reference: Mapping[LossKey, Tensor],
        decoded: bool = True,
    ) -> tuple[list[Reading], dict[str, Tensor]]:
        """Objectives begun on a pack, and the states of both streams."""
        source_SD = self.encode(batch.source)
        encoded = Encoded(batch, self.body, source_SD, smoothing, steps, reference)
        readings = []
        for rows in batch.losses:
            known = self.adapter(rows.adapter).objectives()
            objective = rows.objective
            if objective.likelihood not in known:
                raise CheckpointError(
                    f"adapter `{rows.adapter}` has no objective `{objective.likelihood}`",
                    help=f"its `objectives()` has: {', '.join(known) or 'none'}",
                )
            begin = known[objective.likelihood]
            if isinstance(objective, Preference):
                readings.append(compared(begin, objective, rows, encoded))
            else:
                readings.append(begin(rows, encoded))
        states = {"source": source_SD}
        if decoded:
            taps = [reading.taps for reading in readings if reading.taps]
            states["target"] = self.decode(batch, source_SD, merge_taps(taps) if taps else None)
        return readings, states


class NetworkSession:
    """The network as search sees it, with cached keys and values; a `ofasys_lite.decoding.Session`.

    Args:
        steps: Steps that are expected, if known: the cache is made for them.
        shown: What targets show that is no ids.
    """

    def __init__(
        self,
        network: Network,
        source: Stream,
        states_SD: Tensor,
        steps: int | None = None,
        shown: ShownRows | None = None,
    ) -> None:
        self.network, self.text, self.steps = network, network.text, steps
        self.scores, self.vectors = self.text.scores, self.text.lookup
        self.cache = network.body.start(states_SD, source.positions_S3, source.lengths, steps, source.runs)
        self.shown = shown
        self._scorers: dict[str, list[Score] | None] = {}

    def advance(self, ids_B: Tensor, positions_B3: Tensor, codes: CodeStep | None = None) -> Tensor:
        """States (B, D) behind one more element per live row."""
        network = self.network
        x_BD = self.text.lookup(ids_B)
        if codes is None:
            return network.body.step(x_BD, positions_B3, self.cache)
        for name, (rows_R, codes_RK, places_R) in codes.fed.items():
            x_BD = x_BD.index_copy(0, rows_R, network.coder(name).fed(codes_RK, places_R).to(x_BD.dtype))
        if codes.shown is not None and self.shown is not None:
            rows_R, samples_R, numbers_R = codes.shown
            x_BD = x_BD.index_copy(0, rows_R, self.shown.of(samples_R, numbers_R).to(x_BD.dtype))
        writers = {name: self._writer(name, *said) for name, said in codes.write.items()}
        taps = merge_taps([writer.taps for writer in writers.values()])
        writing = sum(len(rows_R) for rows_R, _ in codes.write.values())
        states_BD = network.body.step(x_BD, positions_B3, self.cache, taps, normed=writing < len(ids_B))
        codes.written = {name: writer.codes() for name, writer in writers.items()}
        return states_BD

    def _writer(self, name: str, rows_R: Tensor, choose: Choose) -> DepthWriter:
        coder = self.network.coder(name)
        if name not in self._scorers:
            self._scorers[name] = coder.heads.scorers(self.steps)
        return coder.writer(None if len(rows_R) == self.cache.rows else rows_R, choose, self._scorers[name])

    def select(self, rows: Tensor) -> None:
        """Row i becomes the continuation of row `rows[i]`."""
        self.cache.reorder(rows)
