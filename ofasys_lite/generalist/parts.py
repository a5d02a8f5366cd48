"""Weights of others for parts of a generalist: an adapter of one modality, or its body with vocabulary and token table.

They are put into the fresh network of a run; what house they are of stays with the run and its export.
Shapes: V rows of a vocabulary, D width.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.model import ModelConfig
from ofasys_lite.plan.language import TEXT_ADAPTER
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.vocabulary import Vocabulary


class Origin(NamedTuple):
    """Where a house's tensor went: ours, and which of its rows."""

    ours: str
    first: int
    rows: int


@dataclass(frozen=True, slots=True)
class Part:
    """Weights of another house for the adapter of one modality.

    Attributes:
        house: Its name (`CLIP`).
        source: Where they lie, as the user wrote it.
        choice: Name under `adapter` of the modality's card (and under `preprocess`, where it has one of its own): what
            a run takes where a line names none.
        settings: Settings of the modality's card that belong to the weights (sizes, mean and deviation of pixels ...).
        free: Names of those that a user may choose otherwise (how large pictures are): what he writes himself is taken.
        state: The adapter's weights, by the names of its own parameters and stored buffers.
        origins: Per name of the house, where the tensor went.
        left: Per name of the house that went nowhere, why.
        fresh: Beginnings of names of the adapter that the house has not; they begin as they are drawn.
        licence: What their folder says of it, None where it says nothing.
        sometimes: Beginnings of names that only some runs have (of clips, of masks); they begin fresh, too.
    """

    house: str
    source: str
    choice: str
    settings: Mapping[str, Any]
    state: Mapping[str, Tensor]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    licence: str | None = None
    free: tuple[str, ...] = ()
    sometimes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Body:
    """Weights of another house for the encoder-decoder, or its encoder alone, with their vocabulary and token table.

    Attributes:
        house: Its name (`BERT`).
        source: Where they lie, as the user wrote it.
        config: Sizes and choices that belong to the weights.
        free: Fields of `config` that do not: the run's own are taken (layers of a decoder that begins fresh).
        advised: Fields of `config` that a user may choose otherwise (dropout): what he writes himself is taken.
        settings: Of the adapter of token ids (scales, deviation of fresh rows).
        vocabulary: Its ids keep their meaning, what a run needs is appended. None where a run goes on, which has it.
        state: Weights by the names of a network's parameters; the first rows of `embedding.weight`, (V, D), are theirs.
        origins: Per name of the house, where the tensor went.
        left: Per name of the house that went nowhere, why.
        fresh: Beginnings of names of the network that the house has not; they begin as they are drawn.
        licence: What their folder says of it, None where it says nothing.
        notes: What a user should know of the vocabulary.
    """

    house: str
    source: str
    config: ModelConfig
    free: tuple[str, ...]
    settings: Mapping[str, Any]
    vocabulary: Vocabulary | None
    state: Mapping[str, Tensor]
    origins: Mapping[str, Origin] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()
    licence: str | None = None
    notes: tuple[str, ...] = ()
    advised: tuple[str, ...] = ()

    def sizes(self, asked: ModelConfig, chosen: Collection[str] = ()) -> ModelConfig:
        """The weights' own sizes, with what is free, and the switches, as it is asked for.

        Args:
            chosen: Fields that the user wrote himself.
        """
        given = {*self.free, *(key for key in self.advised if key in chosen)}
        own = {key: value for key, value in self.config.stored().items() if key not in given}
        return ModelConfig.from_dict({**asked.to_dict(), **own})

    def specs(self, adapters: Mapping[str, AdapterSpec]) -> dict[str, AdapterSpec]:
        """The adapters of a network with this body: its own of token ids, and the others."""
        return {**adapters, TOKEN_ADAPTER: AdapterSpec(TEXT_ADAPTER, dict(self.settings))}

    def network(self, config: ModelConfig, vocabulary: Vocabulary, adapters: Mapping[str, AdapterSpec]) -> Network:
        """A network of these weights, rows of the vocabulary that they lack appended, further adapters fresh.

        Without weights (a run that goes on, whose checkpoint holds them) all of it is as it is drawn.

        Raises:
            CheckpointError: They do not fill the body, or have other shapes.
        """
        rows = len(self.state["embedding.weight"]) if self.state else len(vocabulary)
        network = Network(config, rows, self.specs(adapters))
        if self.state:
            rest = tuple(f"adapters.{name}." for name in network.adapters if name != TOKEN_ADAPTER)
            fill(network, self, self.state, (*self.fresh, *rest))
        network.grow(len(vocabulary))
        network.know(vocabulary)
        return network


def fill(module: nn.Module, part: Part | Body, state: Mapping[str, Tensor], fresh: Iterable[str]) -> None:
    """Puts the weights of a part where they belong.

    Args:
        module: What `state` has the names of.
        fresh: Beginnings of names that the part need not have.

    Raises:
        CheckpointError: A weight is missing, unknown, or of another shape.
    """
    own = dict(module.state_dict(keep_vars=True))
    needed = {n for n, _ in module.named_parameters()} | {n for n, _ in module.named_buffers() if n in own}
    where, beginnings = f"{part.house} ({part.source})", tuple(fresh)
    help = "are these weights of that house, whole, and its settings their own?"
    missing = sorted(n for n in needed - set(state) if not n.startswith(beginnings))
    unknown = sorted(set(state) - set(own))
    if missing or unknown:
        what = f"nothing fills {missing[:3]}" if missing else f"there is no place for {unknown[:3]}"
        raise CheckpointError(f"{where}: {what}", help=help)
    for name, tensor in state.items():
        if own[name].shape != tensor.shape:
            found, wanted = list(tensor.shape), list(own[name].shape)
            raise CheckpointError(f"{where}: `{name}` has the shape {found}, wanted is {wanted}", help=help)
    module.load_state_dict(dict(state), strict=False)


def check_finite(part: Part | Body) -> None:
    """CheckpointError where weights of a part hold numbers that are not finite, whether a task reads them or not."""
    for name, tensor in part.state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise CheckpointError(f"`{name}` would hold numbers that are not finite", help="copy the file again")


def put(network: Network, part: Part, card: ModalityCard) -> None:
    """Puts the weights of a part into the adapter of its modality, whose default they are; none where it has none.

    Raises:
        CheckpointError: No task has the modality read by that adapter, or they do not fit it.
    """
    name = card.adapter_name or card.name.lower()
    if name not in network.specs or network.specs[name].path != card.adapter["default"]:
        raise CheckpointError(
            f"no task of the run reads {card.name} by the adapter `{part.choice}`, which begins with {part.house}",
            help=f"train a task with {card.name}, without `adapter=`; or leave start.{card.name.lower()} out",
        )
    if part.state:
        fill(network.adapters[name], part, part.state, (*part.fresh, *part.sometimes))


def begun_with(name: str, part: Part | Body) -> str:
    """What a run says of a part before its first step.

    Args:
        name: Of the modality, in capitals.
    """
    numbers = sum(tensor.numel() for tensor in part.state.values())
    fresh = ", ".join(each.strip(".") for each in part.fresh)
    licence = f"; licence: {part.licence}" if part.licence else "; its folder names no licence"
    return (
        f"{name} begins with {part.house} ({part.source}), {numbers:,} numbers; fresh: {fresh or 'nothing'}"
        f"{f'; left: {len(part.left)} tensors' if part.left else ''}{licence}"
    )


def house_of(part: Part | Body) -> dict[str, Any]:
    """What an export says of a part; of an absolute path its last name alone, which tells nothing of the machine."""
    source = Path(part.source).name if Path(part.source).is_absolute() else part.source
    return {"house": part.house, "source": source, "licence": part.licence}


def stored_part(part: Part | Body) -> dict[str, Any]:
    """What a run keeps of a part to go on without its folder; plain values."""
    facts: dict[str, Any] = {"house": part.house, "source": part.source, "licence": part.licence}
    facts["settings"] = dict(part.settings)
    if isinstance(part, Part):
        return {**facts, "choice": part.choice, "free": list(part.free)}
    return {**facts, "model": part.config.stored(), "free": list(part.free), "advised": list(part.advised)}


def part_from(stored: Mapping[str, Any]) -> Part | Body:
    """A part without weights, of what `stored_part` gave; KeyError, TypeError or CardError where it is damaged."""
    who = (str(stored["house"]), str(stored["source"]))
    if "choice" in stored:
        free = tuple(map(str, stored.get("free", ())))
        return Part(*who, str(stored["choice"]), dict(stored["settings"]), {}, licence=stored["licence"], free=free)
    config = ModelConfig.from_dict(stored["model"])
    named = {"licence": stored["licence"], "advised": tuple(stored.get("advised", ()))}
    return Body(*who, config, tuple(stored["free"]), dict(stored["settings"]), None, {}, **named)
