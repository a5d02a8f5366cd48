"""What an import makes, whatever the house: a generalist, and an account of where its weights came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.parts import Origin
from ofasys_lite.interop.taking import Taking
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.plan.language import TEXT_ADAPTER
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.vocabulary import Vocabulary


@dataclass(frozen=True, slots=True)
class Imported:
    """A model of another house.

    Attributes:
        house: Its name.
        origins: Per name of the house, where the tensor went.
        left: Per name of the house that went nowhere, why.
        fresh: Our weights that the house has not; they begin as they are drawn.
    """

    house: str
    generalist: Generalist
    origins: Mapping[str, Origin]
    left: Mapping[str, str] = field(default_factory=dict)
    fresh: tuple[str, ...] = ()


def empty_network(config: ModelConfig, rows: int, adapters: Mapping[str, AdapterSpec]) -> Network:
    """A network whose weights are about to be filled, in evaluation mode."""
    return Network(config, rows, adapters).eval()


def text_spec(vocabulary: Vocabulary, **settings: Any) -> dict[str, AdapterSpec]:
    """The adapter of token ids with the settings of a house."""
    blank = vocabulary.row_of("blank")
    return {TOKEN_ADAPTER: AdapterSpec(TEXT_ADAPTER, {"blank": blank, **settings})}


def finished(
    house: str,
    network: Network,
    taking: Taking,
    vocabulary: Vocabulary,
    data: DataSettings,
    left: Mapping[str, str],
    may_be_fresh: tuple[str, ...] = (),
) -> Imported:
    """The network filled with what was taken.

    Raises:
        CheckpointError: A weight of ours got nothing, or not a finite number.
    """
    own: dict[str, torch.Tensor] = dict(network.named_parameters())
    own.update((n, b) for n, b in network.named_buffers() if n in network.state_dict())
    absent = sorted(set(own) - set(taking.state))
    fresh = tuple(n for n in absent if n.startswith(may_be_fresh) or n.endswith("num_batches_tracked"))
    if set(absent) - set(fresh):
        raise CheckpointError(
            f"{taking.where}: nothing fills {sorted(set(absent) - set(fresh))[:3]}",
            help=f"are these weights of {house}? nothing was written",
        )
    broken = [name for name, tensor in taking.state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"{taking.where}: {broken[0]} would hold numbers that are not finite ({len(broken)} tensors)",
            help="the file is damaged, or the training it comes from failed",
        )
    network.load_state_dict(taking.state, strict=False)
    generalist = Generalist(network, vocabulary, {}, modalities(), data)
    return Imported(house, generalist, dict(taking.origins), dict(left), fresh)
