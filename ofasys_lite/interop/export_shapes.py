"""Which architecture of others a model here is, setting by setting; if none, which settings would make it one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ofasys_lite.adapters.text import TextAdapter
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.network import Network
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """An architecture of others.

    Attributes:
        name: What files call it (`bart`).
        house: What messages call it.
        wanted: Fields of `model` -> values that it has; the first is what the advice names.
        biased: Whether its scores may have a bias a row.
        untied: Whether its head may be a table of its own.
    """

    name: str
    house: str
    wanted: Mapping[str, tuple[Any, ...]]
    biased: bool = True
    untied: bool = False

    def differences(self, config: ModelConfig) -> dict[str, tuple[Any, tuple[Any, ...]]]:
        """Fields that do not fit: what they are, what they may be."""
        fields = {name: (getattr(config, name), values) for name, values in self.wanted.items()}
        return {name: pair for name, pair in fields.items() if not any(_equal(pair[0], value) for value in pair[1])}


def fitting(network: Network, shapes: Sequence[Shape], target: str) -> Shape:
    """The shape that the network has.

    Raises:
        CheckpointError: It has none: says what does not fit, and the settings of `model` with which a training makes
            one that does.
    """
    config, text = network.config, network.text
    others = [name for name in network.adapters if name != TOKEN_ADAPTER]
    if others:
        raise CheckpointError(
            f"{target}: the adapter `{others[0]}` of this model has no counterpart in {_listed(shapes)}, which read "
            "and write text alone",
            help="export a model of text tasks; pictures and sound stay with this package (save_pretrained)",
        )
    if not config.encoder_layers or not config.decoder_layers:
        raise CheckpointError(
            f"{target}: {_listed(shapes)} have an encoder and a decoder; this model has {config.encoder_layers} "
            f"and {config.decoder_layers} layers",
            help="train with model.encoder_layers and model.decoder_layers above 0",
        )
    found = {shape: shape.differences(config) for shape in shapes}
    shape = min(shapes, key=lambda each: len(found[each]))
    if found[shape]:
        pairs = found[shape].items()
        told = "; ".join(f"{name} is {own} ({shape.house}: {_either(values)})" for name, (own, values) in pairs)
        raise CheckpointError(
            f"{target}: the stack of this model is none of {_listed(shapes)}: {told}",
            help=f"a model trained with {_advice(found[shape])} can be exported",
        )
    for given, allowed, what in (
        (text.bias is not None, shape.biased, "scores have a bias a row"),
        (text.head is not None, shape.untied, "the head is a table of its own"),
    ):
        if given and not allowed:
            raise CheckpointError(f"{target}: {what}, which {shape.house} has not", help="it cannot be exported")
    return shape


def scaled_table(text: TextAdapter, entries: Sequence[float], exits: Sequence[float]) -> tuple[Tensor, float, float]:
    """(table (V, D), entry, exit): its rows times `entry` are what we read, states times `exit` score on it as ours do.

    Raises:
        CheckpointError: No pair of the house's factors does.
    """
    table_VD = text.table.detach()
    if text.head is not None:
        entry = next((e for e in entries if _equal(e, text.scale)), entries[0])
        return _times(table_VD, text.scale / entry), entry, exits[0]
    for entry in entries:
        for out in exits:
            if _equal(text.logit_scale * entry / text.scale, out):
                return _times(table_VD, text.scale / entry), entry, out
    raise CheckpointError(
        f"rows are read times {text.scale:g} and scored times {text.logit_scale:g}; one table cannot do both there",
        help="it cannot be exported",
    )


def _times(table_VD: Tensor, factor: float) -> Tensor:
    # an imported table goes out as it came in
    return table_VD if _equal(factor, 1.0) else table_VD * factor


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) or isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-6)
    return bool(one == two)


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(dict.fromkeys(shape.house for shape in shapes))


def _either(values: Sequence[Any]) -> str:
    return " or ".join(f"{value}" for value in values)


def _advice(differences: Mapping[str, tuple[Any, tuple[Any, ...]]]) -> str:
    """Settings as the command takes them, with the sizes that some of them ask for."""
    found = {name: values[0] for name, (_, values) in differences.items()}
    if found.get("positions") in ("learned", "sinusoidal"):
        found["places"] = 512
    if found.get("relative") == "t5":
        found |= {"relative_buckets": 32, "relative_span": 128}
    return " ".join(
        f"model.{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in found.items()
    )
