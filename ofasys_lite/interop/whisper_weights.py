"""Whisper's encoder (arXiv 2212.04356), of a folder of Hugging Face or a file of its authors, for `adapter=whisper`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.audio_whisper import WhisperAdapter
from ofasys_lite.adapters.base import Shared
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Origin, Part
from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, folder_weights, licence_of
from ofasys_lite.interop.taking import Taking

_HOUSE = "Whisper"
#: What the frames of `preprocess=whisper` are made with, as a folder's preprocessor_config.json says it.
_FRAMES = {"sampling_rate": 16_000, "n_fft": 400, "hop_length": 160, "dither": 0.0}
#: Our name within the encoder -> theirs.
_FOLDER = {
    "places": "embed_positions.weight",
    "norm": "layer_norm",
    "block": "layers",
    "attention.qkv": "self_attn.q_proj self_attn.k_proj self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "mlp.into": "fc1",
    "mlp.out": "fc2",
    "mlp_norm": "final_layer_norm",
}
_FILE = {
    "places": "positional_embedding",
    "norm": "ln_post",
    "block": "blocks",
    "attention.qkv": "attn.query attn.key attn.value",
    "attention.out": "attn.out",
    "attention_norm": "attn_ln",
    "mlp.into": "mlp.0",
    "mlp.out": "mlp.2",
    "mlp_norm": "mlp_ln",
}
#: The files' `dims` -> config.json.
_DIMS = {
    "n_mels": "num_mel_bins",
    "n_audio_ctx": "max_source_positions",
    "n_audio_state": "d_model",
    "n_audio_head": "encoder_attention_heads",
    "n_audio_layer": "encoder_layers",
}


class _Found(NamedTuple):
    source: str
    said: Said
    weights: Weights
    names: Mapping[str, str]
    licence: str | None


def is_whisper_file(weights: Weights) -> bool:
    """Whether a file is one of Whisper's authors."""
    return _DIMS.keys() <= weights.settings.keys() and "encoder.conv1.weight" in weights.tensors


def whisper_in_file(source: str, weights: Weights) -> Part:
    """The encoder in a file of Whisper's authors; CheckpointError as `whisper_in_folder`."""
    config: dict[str, Any] = {theirs: weights.settings[dim] for dim, theirs in _DIMS.items()}
    config["encoder_ffn_dim"] = config["d_model"] * 4 if isinstance(config["d_model"], int) else None
    return _part(_Found(source, Said(weights.path, config), weights, _FILE, None))


def whisper_in_folder(source: str, config: Mapping[str, Any]) -> Part:
    """The encoder in a folder of Hugging Face.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, or frames are made in another way.
    """
    folder = Path(source)
    said = Said(folder / "config.json", config)
    _check_frames(folder / "preprocessor_config.json", said.number("num_mel_bins", 80))
    return _part(_Found(source, said, folder_weights(folder), _FOLDER, licence_of(folder)))


def _check_frames(path: Path, mels: int) -> None:
    """Raises CheckpointError where a folder says that its frames are made in another way than Whisper's are."""
    if not path.is_file():
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        values = {key: found.get(key, value) for key, value in _FRAMES.items()}
        bands = found.get("feature_size", mels)
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", help="copy it again") from None
    for key, value in {**values, "feature_size": bands}.items():
        wanted = {**_FRAMES, "feature_size": mels}[key]
        if value != wanted:
            help = f"Whisper's encoder is read with {wanted} here"
            raise CheckpointError(f"{path}: `{key}` is {value!r}", help=help)


def _part(found: _Found) -> Part:
    said = found.said
    places = said.number("max_source_positions", 1500)
    own: dict[str, Any] = {
        "mels": said.number("num_mel_bins", 80),
        "places": places,
        "width": said.number("d_model"),
        "layers": said.number("encoder_layers"),
        "heads": said.number("encoder_attention_heads"),
        "ffn": said.number("encoder_ffn_dim"),
        "mlp": said.choice("activation_function", ACTIVATIONS, "gelu"),
    }
    settings = {"whisper": own, "max_seconds": places * 0.02}
    with torch.device("meta"):  # shapes alone
        adapter = WhisperAdapter(settings, Shared(8, nn.Embedding(1, 8)))
    like: dict[str, Tensor] = {**dict(adapter.named_parameters()), **dict(adapter.named_buffers())}
    tensors = {name.removeprefix("model."): tensor for name, tensor in found.weights.tensors.items()}
    keys = [f"encoder.{found.names['block']}.{i}.{_key(found.names)}.bias" for i in range(own["layers"])]
    silent = {name: torch.zeros(own["width"]) for name in keys if name not in tensors}
    taking = Taking(str(found.weights.path), {**tensors, **silent})
    _take(taking, like, found.names, own["layers"])
    taking.check(_HOUSE, never=("encoder.",))
    broken = [name for name, tensor in taking.state.items() if not torch.isfinite(tensor).all()]
    if broken:
        raise CheckpointError(
            f"{taking.where}: {broken[0]} would hold numbers that are not finite", help="copy it again"
        )
    return Part(
        house=_HOUSE,
        source=found.source,
        choice="whisper",
        settings=settings,
        state=taking.state,
        origins={name: Origin(*origin) for name, origin in taking.origins.items() if name not in silent},
        left=dict.fromkeys(taking.left(), "the decoder is not read"),
        fresh=("project.", "norm."),
        free=("max_seconds",),
        licence=found.licence,
    )


def _key(names: Mapping[str, str]) -> str:
    return names["attention.qkv"].split()[1]


def _take(taking: Taking, like: Mapping[str, Tensor], names: Mapping[str, str], layers: int) -> None:
    """Fills the adapter's encoder; `like`: its tensors by name."""
    taking.put("encoder.places", like["encoder.places"], f"encoder.{names['places']}")
    for ours, theirs in (("first", "conv1"), ("second", "conv2"), ("norm", names["norm"])):
        taking.layer(f"encoder.{ours}", like, f"encoder.{theirs}")
    for layer in range(layers):
        for ours in ("attention.qkv", "attention.out", "attention_norm", "mlp.into", "mlp.out", "mlp_norm"):
            each = (f"encoder.{names['block']}.{layer}.{name}" for name in names[ours].split())
            taking.layer(f"encoder.blocks.{layer}.{ours}", like, *each)
