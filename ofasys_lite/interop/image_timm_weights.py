"""A backbone of timm with timm's own weights, or with those of a file, as a part of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ofasys_lite.adapters.image_timm import check_backbone, timm_backbone
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Part
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.image_processors import FRESH, SOMETIMES
from ofasys_lite.interop.taking import Taking


def timm_part(source: str, name: str, file: Path | None) -> Part:
    """The backbone `name`, with the weights that timm fetches, or with those of a file.

    Raises:
        CardError: timm is missing, or does not know the name.
        CheckpointError: timm cannot fetch the weights, or the file is missing, damaged or of another network.
    """
    check_backbone(name)
    try:
        backbone = timm_backbone({"backbone": name, "pretrained": file is None})
    except Exception as error:  # hubs and networks raise what they like
        said = str(error).strip().splitlines()
        told = f"timm cannot fetch the weights of {name}: {type(error).__name__} {said[0] if said else ''}".rstrip()
        help = f"fetch the file where there is a network, and write timm:{name}@FILE"
        raise CheckpointError(told, help=help) from None
    own = dict(backbone.network.state_dict())
    taking = Taking(name if file is None else str(file), own if file is None else read_weights(file).tensors)
    for key, tensor in own.items():
        taking.put(f"backbone.{key}", tensor, key if file is None else _spelled(key, taking.source))
    taking.check(f"timm's {name}")
    settings = {"backbone": name, "pretrained": False, "checkpoint": None, "patch": max(1, backbone.stride // 2)}
    left = dict.fromkeys(taking.left(), "behind the last map")
    licence = backbone.licence if file is None else None
    return Part(
        f"timm's {name}", source, "timm", settings, taking.state, taking.origins, left, FRESH, licence, (), SOMETIMES
    )


def _spelled(key: str, tensors: Mapping[str, Tensor]) -> str:
    """How a file of the whole network spells a name of its backbone, which timm wraps or flattens."""
    spellings = (key, key.removeprefix("model."), re.sub(r"^([a-z]+)_(\d+)\.", r"\1.\2.", key))
    return next((name for name in spellings if name in tensors), key)
