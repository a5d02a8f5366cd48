"""Files of weights from elsewhere, read without running anything in them.

Pickles go through torch's restricted reader, which makes tensors, plain containers and what is on its list; this list
has one more entry, argparse.Namespace, which holds values and runs no code of its own.
"""

from __future__ import annotations

import argparse
import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ofasys_lite.errors import CheckpointError

_PICKLES = (".pt", ".pth", ".bin", ".ckpt")
#: Where fairseq, OFA and OFASys, Whisper's authors, and others keep the weights within a checkpoint.
_WEIGHTS = ("model", "state_dict", "model_state_dict", "ema_model")
_TRUNCATED = "copy it again: compare its size with the one at its source"


@dataclass(frozen=True, slots=True)
class Weights:
    """What a file holds.

    Attributes:
        path: Where it was read.
        tensors: By name.
        settings: What it says of the model, plain values; of fairseq its `args` or `cfg.model`, of Whisper its `dims`.
        left: Names of what else it holds (the optimizer's state and the like).
    """

    path: Path
    tensors: Mapping[str, Tensor]
    settings: Mapping[str, Any] = field(default_factory=dict)
    left: tuple[str, ...] = ()


def read_weights(path: Path) -> Weights:
    """The weights in a `.pt`, `.bin` or `.safetensors` file.

    Raises:
        CheckpointError: There is none, it is cut or damaged, holds objects of other classes, or no weights.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file", help="name a file of weights (.pt, .bin, .safetensors)")
    if path.suffix == ".safetensors":
        try:
            return Weights(path, load_file(path))
        except SafetensorError as error:
            raise CheckpointError(f"{path} is cut or damaged: {error}", help=_TRUNCATED) from None
    if path.suffix not in _PICKLES:
        help = f"weights are read from {', '.join(_PICKLES)} and .safetensors"
        raise CheckpointError(f"{path} is no file of weights by its name", help=help)
    return _weights_in(path, _unpickled(path))


def _unpickled(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"(?:GLOBAL|class|function)\s+[`'\"]?([\w.]+)", str(error))
        if "Weights only load failed" not in str(error) or named is None:
            raise CheckpointError(f"{path} is cut or damaged: {str(error).splitlines()[0]}", help=_TRUNCATED) from None
        raise CheckpointError(
            f"{path} holds an object of `{named[1]}`, and reading it could run code; nothing was run",
            help="where it comes from, save the weights alone: torch.save({'model': model.state_dict()}, 'weights.pt')",
        ) from None
    except Exception as error:  # a stream that is cut, or made to harm, has the restricted reader raise anything
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path} is cut or damaged: {said}", help=_TRUNCATED) from None


def _weights_in(path: Path, content: Any) -> Weights:
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path} holds {type(content).__name__}, not weights by name", help="save a state_dict: model.state_dict()"
        )
    key = next((k for k in _WEIGHTS if isinstance(content.get(k), Mapping)), None)
    held = content if key is None else content[key]
    tensors = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if not tensors:
        found = ", ".join(map(str, list(content)[:8])) or "nothing"
        raise CheckpointError(f"{path} holds no weights (found: {found})", help="save a state_dict: model.state_dict()")
    others = tuple(str(k) for k in content if k != key) if key is not None else ()
    return Weights(path, tensors, _settings(content) if key is not None else {}, others)


def _settings(content: Mapping[str, Any]) -> dict[str, Any]:
    """What fairseq's `args` (older) or `cfg`, or Whisper's `dims` says of the model."""
    args, cfg = content.get("args"), content.get("cfg")
    model = cfg.get("model") if isinstance(cfg, Mapping) else None
    for found in (model, args, content.get("dims")):
        if isinstance(found, argparse.Namespace):
            return dict(vars(found))
        if isinstance(found, Mapping):
            return dict(found)
    return {}
