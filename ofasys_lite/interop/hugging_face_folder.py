"""A folder of `save_pretrained`: its config.json, its weights, its licence. transformers itself is not needed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.checkpoint_files import Weights, read_weights

#: What a model can be imported from.
FORMS = "a .pt of OFASys, OFA or fairseq beside its dict.txt, or a folder of Hugging Face (config.json and weights)"
#: Activations by their names there -> ours.
ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "swish": "silu",
    "silu": "silu",
}


def read_config(folder: Path) -> Mapping[str, Any]:
    """config.json of a Hugging Face folder."""
    path = folder / "config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise CheckpointError(f"{folder} holds no config.json (found: {held})", help=FORMS) from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", help="copy it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} is damaged: it holds no mapping", help="copy it again")
    if "ofasys_lite" in found:
        raise CheckpointError(
            f"{folder} is a model of this package already", help=f"it needs no import: start={folder}"
        )
    return found


def folder_weights(folder: Path) -> Weights:
    """The weights, in one file or in several that an index names.

    Raises:
        CheckpointError: There are none, or they are cut or damaged.
    """
    parts = [read_weights(file) for file in folder_files(folder)]
    if len(parts) == 1:
        return parts[0]
    tensors = {name: tensor for part in parts for name, tensor in part.tensors.items()}
    return replace(parts[0], path=folder, tensors=tensors)


def folder_files(folder: Path) -> list[Path]:
    """The files that the weights lie in: one, or several that an index names.

    Raises:
        CheckpointError: There are none, or the index is damaged or names files elsewhere.
    """
    for name in ("model.safetensors", "pytorch_model.bin"):
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return [folder / name]
        if index.is_file():
            try:
                named = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
                files = sorted({str(file) for file in named.values()})
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise CheckpointError(f"{index} is damaged: {error}", help="copy it again") from None
            if any(Path(file).name != file for file in files):
                raise CheckpointError(f"{index} names files outside of its folder", help="do not load it")
            return [folder / file for file in files]
    held = ", ".join(sorted(p.name for p in folder.iterdir())[:8])
    raise CheckpointError(f"{folder} holds no weights (found: {held})", help="model.safetensors or pytorch_model.bin")


def licence_of(folder: Path) -> str | None:
    """The licence that the model card (README.md) names in its head, None where it names none."""
    try:
        lines = (folder / "README.md").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    if not lines or lines[0].strip() != "---":
        return None
    for line in lines[1:]:
        key, _, value = line.partition(":")
        if line.strip() == "---":
            break
        if key in ("license", "licence") and value.strip():
            return value.strip().strip("'\"")
    return None


class Said:
    """config.json, asked for one value after another; what it does not say well is a CheckpointError."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def number(self, key: str, default: int | None = None) -> int:
        """The whole number at `key`."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise CheckpointError(f"{self.path}: `{key}` is {value!r}", help="a whole number; nothing was written")
        return value

    def share(self, key: str, default: float) -> float:
        """The share from 0 to below 1 at `key`."""
        value = self.values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
            help = "a number from 0 to below 1; nothing was written"
            raise CheckpointError(f"{self.path}: `{key}` is {value!r}", help=help)
        return float(value)

    def choice(self, key: str, known: Mapping[str, str], default: str) -> str:
        """What we call the choice at `key`."""
        value = str(self.values.get(key, default))
        if value not in known:
            help = f"known are {', '.join(known)}; nothing was written"
            raise CheckpointError(f"{self.path}: `{key}` is {value}", help=help)
        return known[value]

    def same(self, one: str, two: str) -> int:
        """A size that encoder and decoder share here."""
        found = self.number(one), self.number(two)
        if found[0] != found[1]:
            help = "encoder and decoder are of one size here; nothing was written"
            raise CheckpointError(f"{self.path}: {one} is {found[0]}, {two} is {found[1]}", help=help)
        return found[0]
