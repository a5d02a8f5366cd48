"""Codec folders: codec.json + model.safetensors, identified by the hash of their content."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ofasys_lite.codec.image_codec import CodecConfig, ImageCodec
from ofasys_lite.data.codec_facts import FORMAT, read_codec
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.model import pick_device
from ofasys_lite.writing import atomic, current, staged, write_atomic


def save_codec(codec: ImageCodec, folder: Path, losses: Mapping[str, object] | None = None) -> Path:
    """Writes codec.json and model.safetensors into `folder`, both or none; other files there stay.

    Args:
        losses: What it was trained by beside the error of its pictures, kept in codec.json for the reader.
    """
    told = {"losses": dict(losses)} if losses else {}
    text = json.dumps({"format": FORMAT, "kind": "image", "codec": codec.config.to_dict(), **told}, indent=1)
    with staged(folder) as stage:
        with atomic(stage / "model.safetensors") as partial:
            save_file({n: t.detach().cpu().contiguous() for n, t in codec.state_dict().items()}, partial)
        write_atomic(stage / "codec.json", text)
    return folder


def load_codec(folder: str | Path, device: str | torch.device = "cpu") -> ImageCodec:
    """The codec saved in `folder`, in evaluation mode, on a device (`pick_device`).

    Raises:
        CheckpointError: The folder is missing, damaged or of another kind.
    """
    place = Path(folder)
    sizes = read_codec(place)
    with _whole(place):
        codec = ImageCodec(CodecConfig.from_dict(sizes))
        codec.load_state_dict(load_file(current(place, "model.safetensors")))
    return codec.eval().to(pick_device(device))


@contextmanager
def _whole(folder: Path) -> Iterator[None]:
    """Tells what is wrong with the weights that are read inside as a CheckpointError of the codec folder."""
    try:
        yield
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}/model.safetensors is missing", help="copy it, or train the codec again"
        ) from None
    except (SafetensorError, RuntimeError, KeyError, TypeError, CardError) as error:
        raise CheckpointError(f"{folder} is damaged: {error}", help="copy it again, or train the codec again") from None


class Filled(Protocol):
    """What holds a codec, such as an adapter that writes with it."""

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes the weights of a trained codec, by name."""


def fill_codecs(coder: Callable[[str], Filled], folders: Mapping[str, Path]) -> None:
    """Puts the trained codecs into the adapters that write with them; `coder` gives an adapter by its name."""
    for name, folder in folders.items():
        with _whole(folder):
            coder(name).fill(load_file(current(folder, "model.safetensors")))
