"""Encoders of wav2vec 2.0 (arXiv 2006.11477) and HuBERT (arXiv 2106.07447) in Hugging Face's folders, for AUDIO."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.audio_wave import WaveAdapter
from ofasys_lite.adapters.base import Shared
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Origin, Part
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, folder_weights, licence_of
from ofasys_lite.interop.taking import Taking

#: `model_type` of config.json -> what messages call it.
WAVE_HOUSES = {"wav2vec2": "wav2vec 2.0", "hubert": "HuBERT"}
#: Our name within a block -> theirs.
_BLOCK = {
    "attention.qkv": "attention.q_proj attention.k_proj attention.v_proj",
    "attention.out": "attention.out_proj",
    "attention_norm": "layer_norm",
    "mlp.into": "feed_forward.intermediate_dense",
    "mlp.out": "feed_forward.output_dense",
    "mlp_norm": "final_layer_norm",
}
_POSITIONS = "encoder.pos_conv_embed.conv"
#: Names of the size and the direction of the weights of the convolution over states, of newer and older files.
_SPLIT = (
    (f"{_POSITIONS}.parametrizations.weight.original0", f"{_POSITIONS}.parametrizations.weight.original1"),
    (f"{_POSITIONS}.weight_g", f"{_POSITIONS}.weight_v"),
)


def wave_in_folder(source: str, config: Mapping[str, Any]) -> Part:
    """The encoder in a folder of Hugging Face.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, or the model has parts that are not known
            (adapters of languages, norms of batches).
    """
    folder = Path(source)
    said, house = Said(folder / "config.json", config), WAVE_HOUSES[str(config["model_type"])]
    settings = {"wav2vec2": _settings(said, folder / "preprocessor_config.json")}
    weights = folder_weights(folder)
    first = str(config["model_type"]) + "."
    tensors = {name.removeprefix(first): tensor for name, tensor in weights.tensors.items()}
    whole, parts = _whole(tensors)
    with torch.device("meta"):  # shapes alone
        adapter = WaveAdapter(settings, Shared(8, nn.Embedding(1, 8)))
    taking = Taking(str(weights.path), whole)
    _take(taking, dict(adapter.named_parameters()), bool(settings["wav2vec2"]["group"]))
    taking.check(house, never=("encoder.", "feature_extractor.", "feature_projection."))
    broken = [name for name, tensor in taking.state.items() if not torch.isfinite(tensor).all()]
    if broken:
        what = f"{broken[0]} would hold numbers that are not finite"
        raise CheckpointError(f"{taking.where}: {what}", help="copy it again")
    origins = {name: Origin(*origin) for name, origin in taking.origins.items()}
    split = origins.pop(f"{_POSITIONS}.weight")
    return Part(
        house=house,
        source=source,
        choice="wav2vec2",
        settings=settings,
        state=taking.state,
        origins={**origins, **dict.fromkeys(parts, split)},
        left=dict.fromkeys(taking.left(), "nothing here reads it"),
        fresh=("project.", "norm."),
        licence=licence_of(folder),
    )


def _settings(said: Said, path: Path) -> dict[str, Any]:
    """What config.json says, as AUDIO's setting `wav2vec2`; CheckpointError for parts that are not known."""
    values = said.values
    for key in ("add_adapter", "adapter_attn_dim", "conv_pos_batch_norm"):
        if values.get(key):
            raise CheckpointError(f"{said.path}: `{key}` is {values[key]}", help="encoders without it are known")
    if values.get("feat_proj_layer_norm") is False:
        raise CheckpointError(f"{said.path}: `feat_proj_layer_norm` is false", help="encoders with it are known")
    if values.get("feat_extract_activation", "gelu") != "gelu":
        what = f"`feat_extract_activation` is {values['feat_extract_activation']}"
        raise CheckpointError(f"{said.path}: {what}", help="known is gelu")
    norm = str(values.get("feat_extract_norm", "group"))
    if norm not in ("group", "layer"):
        raise CheckpointError(f"{said.path}: `feat_extract_norm` is {norm}", help="known are group and layer")
    lists = {}
    for ours, theirs in (("kernels", "conv_kernel"), ("strides", "conv_stride"), ("channels", "conv_dim")):
        found = values.get(theirs)
        if not isinstance(found, list) or not found or not all(isinstance(n, int) and n > 0 for n in found):
            raise CheckpointError(f"{said.path}: `{theirs}` is {found!r}", help="a list of whole numbers")
        lists[ours] = list(found)
    if len({len(each) for each in lists.values()}) != 1:
        raise CheckpointError(f"{said.path}: `conv_kernel`, `conv_stride` and `conv_dim` are of several lengths")
    return {
        **lists,
        "group": norm == "group",
        "conv_bias": bool(values.get("conv_bias", False)),
        "normalised": _normalised(path),
        "width": said.number("hidden_size"),
        "layers": said.number("num_hidden_layers"),
        "heads": said.number("num_attention_heads"),
        "ffn": said.number("intermediate_size"),
        "mlp": said.choice("hidden_act", ACTIVATIONS, "gelu"),
        "stable": bool(values.get("do_stable_layer_norm", False)),
        "positions": said.number("num_conv_pos_embeddings", 128),
        "groups": said.number("num_conv_pos_embedding_groups", 16),
        "epsilon": float(values.get("layer_norm_eps", 1e-5)),
    }


def _normalised(path: Path) -> bool:
    """Whether samples have mean 0 and deviation 1, by preprocessor_config.json; CheckpointError: another rate."""
    if not path.is_file():
        return True
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rate, normalised = found.get("sampling_rate", 16_000), found.get("do_normalize", True)
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}", help="copy it again") from None
    if rate != 16_000:
        raise CheckpointError(f"{path}: `sampling_rate` is {rate!r}", help="encoders of 16000 Hz are known")
    return bool(normalised)


def _whole(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors with the weights of the convolution over states made of size and direction, and what these were."""
    for size, direction in _SPLIT:
        if size in tensors and direction in tensors:
            v = tensors[direction].float()
            norm = v.norm(dim=(0, 1), keepdim=True) if v.ndim == 3 else v
            rest = {name: tensor for name, tensor in tensors.items() if name not in (size, direction)}
            return {**rest, f"{_POSITIONS}.weight": tensors[size].float() * v / norm}, (size, direction)
    return dict(tensors), (f"{_POSITIONS}.weight",)


def _take(taking: Taking, own: Mapping[str, Tensor], group: bool) -> None:
    """Fills the adapter's encoder; `own`: its tensors by name."""
    layers = {name.split(".")[3] for name in own if name.startswith("encoder.convolutions.layers.")}
    for number in sorted(map(int, layers)):
        theirs = f"feature_extractor.conv_layers.{number}"
        taking.layer(f"encoder.convolutions.layers.{number}", own, f"{theirs}.conv")
        if number == 0 or not group:
            taking.layer(f"encoder.convolutions.norms.{number}", own, f"{theirs}.layer_norm")
    taking.layer("encoder.entry_norm", own, "feature_projection.layer_norm")
    taking.layer("encoder.entry", own, "feature_projection.projection")
    taking.layer("encoder.around", own, _POSITIONS)
    taking.layer("encoder.norm", own, "encoder.layer_norm")
    blocks = {name.split(".")[2] for name in own if name.startswith("encoder.blocks.")}
    for block in sorted(map(int, blocks)):
        for ours, theirs in _BLOCK.items():
            each = (f"encoder.layers.{block}.{name}" for name in theirs.split())
            taking.layer(f"encoder.blocks.{block}.{ours}", own, *each)
