"""Files that a part of a larger model lies in: only its tensors are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.hugging_face_folder import folder_files


@dataclass(frozen=True, slots=True)
class PartTensors:
    """Tensors of a part.

    Attributes:
        prefix: What stands before their names in the files.
        own: By name, without it.
        others: Names of what else lies there, with it.
    """

    prefix: str
    own: Mapping[str, Tensor]
    others: tuple[str, ...]

    def spelled(self, name: str) -> str:
        """A name as the files have it."""
        return f"{self.prefix}{name}"


def tensors_in(path: Path, prefixes: Sequence[str], mark: str) -> PartTensors:
    """The tensors of a file, or of the files of a folder, that have one of the prefixes; of safetensors nothing else.

    Args:
        mark: A name that the part has, by which its prefix is found.

    Raises:
        CheckpointError: No weights, cut or damaged ones, or an index that names files elsewhere.
    """
    files = [path] if path.is_file() else folder_files(path)
    names = {file: _names(file) for file in files}
    every = [name for each in names.values() for name in each]
    prefix = next((p for p in prefixes if f"{p}{mark}" in every), None)
    if prefix is None:
        help = f"such a part has `{prefixes[0]}{mark}`"
        raise CheckpointError(
            f"{path} lacks the part that is looked for (it holds {', '.join(every[:3])} ...)", help=help
        )
    own: dict[str, Tensor] = {}
    for file, listed in names.items():
        wanted = [name for name in listed if name.startswith(prefix)]
        own |= {name.removeprefix(prefix): tensor for name, tensor in _read(file, wanted).items()}
    return PartTensors(prefix, own, tuple(name for name in every if not name.startswith(prefix)))


def _names(file: Path) -> list[str]:
    if file.suffix != ".safetensors" or not file.is_file():
        return list(read_weights(file).tensors)
    try:
        with safe_open(file, "pt") as opened:
            return list(opened.keys())
    except SafetensorError as error:
        help = "copy it again: compare its size with the one at its source"
        raise CheckpointError(f"{file} is cut or damaged: {error}", help=help) from None


def _read(file: Path, names: Sequence[str]) -> dict[str, Tensor]:
    if file.suffix != ".safetensors":
        tensors = read_weights(file).tensors
        return {name: tensors[name] for name in names}
    with safe_open(file, "pt") as opened:
        return {name: opened.get_tensor(name) for name in names}
