"""A text model here -> a folder that transformers loads as BART, mBART, Marian or T5, written without transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.interop.export_shapes import Shape, fitting, scaled_table
from ofasys_lite.interop.giving import Giving
from ofasys_lite.interop.hugging_face import EXPORTED, GATED, bart_side, t5_side
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS
from ofasys_lite.interop.tokenizer_json import tokenizer_files
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.version import __version__

_CLASSES = {
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "marian": "MarianMTModel",
    "t5": "T5ForConditionalGeneration",
}
#: What a config of ours calls an activation -> what theirs does.
_ACTIVATION = {own: theirs for theirs, own in reversed(ACTIVATIONS.items())}
_FEED_FORWARD = {own: theirs for theirs, own in GATED.items()}


def shapes(config: ModelConfig) -> tuple[Shape, ...]:
    """The architectures, as a model of these sizes would have them."""
    # their places do not turn, where fresh biases could not score what lies near: the advice must say so
    heads = {"kv_heads": (config.heads,), "qk_norm": (False,), "sublayer_norms": (False,), "near_bias": (0.0,)}
    bart = {
        "positions": ("learned",), "relative": ("none",), "entry": ("norm",), "norm": ("layernorm",),
        "norm_epsilon": (1e-5,), "norm_place": ("after",), "final_norm": (False,), "bias": (True,),
        "mlp": tuple(dict.fromkeys(ACTIVATIONS.values())), "query_gain": (1.0,), **heads,
    }  # fmt: skip
    t5 = {
        "positions": ("none",), "relative": ("t5",), "entry": ("plain",), "norm": ("rmsnorm",),
        "norm_place": ("before",), "final_norm": (True,), "bias": (False,), "qkv_bias": (False,),
        "mlp": tuple(GATED.values()), "query_gain": (config.head_width**0.5,), **heads,
    }  # fmt: skip
    return (
        Shape("bart", "BART", bart),
        Shape("mbart", "mBART", {**bart, "norm_place": ("before",), "final_norm": (True,)}),
        Shape("marian", "Marian", {**bart, "positions": ("sinusoidal",), "entry": ("plain",)}),
        Shape("t5", "T5", t5, biased=False, untied=True),
    )


def write_hugging_face(model: Generalist, folder: Path) -> list[str]:
    """Writes config.json, model.safetensors, the tokenizer's files and our vocabulary; what was done, a line each.

    Raises:
        CheckpointError: The stack is none of BART, mBART, Marian and T5; nothing is written.
    """
    network = model.network
    shape = fitting(network, shapes(network.config), "hf")
    config, tensors = _t5(model) if shape.name == "t5" else _bart(model, shape.name)
    files, notes = tokenizer_files(model.vocabulary)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    model.vocabulary.save(folder)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False), encoding="utf-8")
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return [f"{shape.house}: {len(tensors)} tensors, {numbers:,} numbers; class {_CLASSES[shape.name]}", *notes]


def _common(model: Generalist, kind: str) -> dict[str, Any]:
    vocabulary = model.vocabulary
    before, _ = vocabulary.around
    return {
        "architectures": [_CLASSES[kind]],
        "model_type": kind,
        "is_encoder_decoder": True,
        "dtype": "float32",
        "d_model": model.network.config.width,
        "vocab_size": len(vocabulary),
        "pad_token_id": vocabulary.row_of("pad"),
        "eos_token_id": vocabulary.row_of("close"),
        "bos_token_id": before[0] if before else None,
        "decoder_start_token_id": vocabulary.row_of("start"),
        "forced_bos_token_id": None,
        "forced_eos_token_id": None,
        EXPORTED: f"ofasys_lite {__version__}",
    }


def _own(model: Generalist) -> Mapping[str, Tensor]:
    return model.network.plain_weights()


def _bart(model: Generalist, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, text, giving, own = model.network.config, model.network.text, Giving(), _own(model)
    table_VD, entry, _ = scaled_table(text, (1.0, config.width**0.5), (1.0,))
    giving.put("embedding.weight", table_VD, "shared.weight")
    for side in ("encoder", "decoder"):
        bart_side(giving, own, side, config)
    tensors = {f"model.{name}": tensor for name, tensor in giving.state.items()}
    bias_V = own.get(f"adapters.{TOKEN_ADAPTER}.bias")
    # transformers holds one in any case
    tensors["final_logits_bias"] = torch.zeros(1, len(table_VD)) if bias_V is None else bias_V.cpu().reshape(1, -1)
    sizes = {
        "encoder_layers": config.encoder_layers,
        "decoder_layers": config.decoder_layers,
        "encoder_attention_heads": config.heads,
        "decoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.inner,
        "decoder_ffn_dim": config.inner,
        "max_position_embeddings": config.places,
        "activation_function": _ACTIVATION[config.mlp],
        "scale_embedding": entry != 1.0,
        "dropout": config.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
    }
    return {**_common(model, kind), **sizes}, tensors


def _t5(model: Generalist) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, text, giving, own = model.network.config, model.network.text, Giving(), _own(model)
    tied = text.head is None
    table_VD, _, out = scaled_table(text, (1.0,), (config.width**-0.5, 1.0) if tied else (1.0,))
    giving.put("embedding.weight", table_VD, "shared.weight")
    if text.head is not None:
        scale = text.logit_scale
        giving.put(f"adapters.{TOKEN_ADAPTER}.head", text.head if scale == 1.0 else text.head * scale, "lm_head.weight")
    for side in ("encoder", "decoder"):
        t5_side(giving, own, side, config)
    sizes = {
        "num_layers": config.encoder_layers,
        "num_decoder_layers": config.decoder_layers,
        "num_heads": config.heads,
        "d_kv": config.head_width,
        "d_ff": config.inner,
        "feed_forward_proj": _FEED_FORWARD[config.mlp],
        "layer_norm_epsilon": config.norm_epsilon,
        "relative_attention_num_buckets": config.relative_buckets,
        "relative_attention_max_distance": config.relative_span,
        "tie_word_embeddings": tied,
        "scale_decoder_outputs": out != 1.0,
        "dropout_rate": config.dropout,
    }
    return {**_common(model, "t5"), **sizes}, giving.state
