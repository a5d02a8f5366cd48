"""Codec folders: codec.json + model.safetensors, identified by the hash of their content."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ofasys_lite.adapters.image_codec import CodecConfig, ImageCodec
from ofasys_lite.errors import CardError, CheckpointError

__all__ = ["codec_hash", "load_codec", "save_codec"]

_FORMAT = 1


def save_codec(codec: ImageCodec, folder: Path) -> Path:
    """Writes codec.json and model.safetensors into `folder`, each whole or not at all; the weights first."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / ".model.part"
    partial.touch()
    allowed = partial.stat().st_mode
    save_file({n: t.detach().cpu().contiguous() for n, t in codec.state_dict().items()}, partial)
    partial.chmod(allowed)
    os.replace(partial, folder / "model.safetensors")
    text = json.dumps({"format": _FORMAT, "kind": "image", "codec": codec.config.to_dict()}, indent=1)
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, folder / "codec.json")
    return folder


def load_codec(folder: str | Path) -> ImageCodec:
    """The codec saved in `folder`, in evaluation mode.

    Raises:
        CheckpointError: The folder is missing, damaged or of another kind.
    """
    place = Path(folder)
    try:
        content = json.loads((place / "codec.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(
            f"no codec in {place}", help="train one: ofasys-lite codec train TASK --out FOLDER"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{place}/codec.json is not JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != _FORMAT or content.get("kind") != "image":
        raise CheckpointError(f"{place}/codec.json is of another version or kind", help="train the codec again")
    try:
        codec = ImageCodec(CodecConfig.from_dict(content["codec"]))
        codec.load_state_dict(load_file(place / "model.safetensors"))
    except FileNotFoundError:
        raise CheckpointError(
            f"{place}/model.safetensors is missing", help="copy it, or train the codec again"
        ) from None
    except (SafetensorError, RuntimeError, KeyError, TypeError, CardError) as error:
        raise CheckpointError(f"{place} is damaged: {error}", help="copy it again, or train the codec again") from None
    return codec.eval()


def codec_hash(folder: str | Path) -> str:
    """First 16 hex digits of the sha256 of the codec's sizes and weights."""
    digest = hashlib.sha256()
    for name in ("codec.json", "model.safetensors"):
        try:
            digest.update((Path(folder) / name).read_bytes())
        except FileNotFoundError:
            raise CheckpointError(f"no codec in {folder}: {name} is missing") from None
    return digest.hexdigest()[:16]
