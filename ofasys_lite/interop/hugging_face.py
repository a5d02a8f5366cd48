"""Encoder-decoders of text in Hugging Face's format: BART, mBART, Marian, T5. transformers itself is not needed.

Encoders alone are read by interop/encoders.py.

BART, arXiv 1910.13461; mBART, arXiv 2001.08210; Marian, arXiv 1804.00344; T5, arXiv 1910.10683.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.encoders import ENCODERS, import_encoder
from ofasys_lite.interop.giving import Naming
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, folder_weights
from ofasys_lite.interop.imported import Imported, empty_network, finished, text_spec
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.text_models import check_text_model, text_model_in
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary, load_vocabulary
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: `model_type` of config.json -> what messages call it.
HOUSES = {"bart": "BART", "mbart": "mBART", "marian": "Marian", "t5": "T5", **ENCODERS}
GATED = {"gated-gelu": "geglu", "gated-relu": "reglu", "gated-silu": "swiglu", "relu": "relu", "gelu": "gelu"}
#: Key of config.json of a folder that `ofasys-lite export` wrote; our vocabulary lies beside it.
EXPORTED = "exported_by"
_TABLES = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")


def import_hugging_face(folder: Path, config: Mapping[str, Any], tokenizer: Path | None = None) -> Imported:
    """The model in a folder of `save_pretrained`.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, or the model has a part that no named
            choice covers.
    """
    kind = str(config["model_type"])
    if kind in ENCODERS:
        return import_encoder(folder, config, tokenizer)
    house = HOUSES[kind]
    weights = folder_weights(folder)
    tensors = {name.removeprefix("model."): tensor for name, tensor in weights.tensors.items()}
    said = Said(folder / "config.json", config)
    sizes, scale, logits = _t5_sizes(said) if kind == "t5" else _bart_sizes(said, kind)
    if "shared.weight" not in tensors:  # one table, stored under the name of one of its users
        other = next((name for name in _TABLES if name in tensors), None)
        if other is None:
            raise CheckpointError(f"{weights.path} lacks `shared.weight`", help="nothing was written")
        tensors["shared.weight"] = tensors[other]
    rows = len(tensors["shared.weight"])
    vocabulary = _vocabulary(said, rows, folder, tokenizer)
    bias, tied = "final_logits_bias" in tensors, kind != "t5" or bool(config.get("tie_word_embeddings", True))
    more = {**({"bias": True} if bias else {}), **({} if tied else {"tied": False})}
    deviation = float(tensors["shared.weight"].float().std())
    specs = text_spec(vocabulary, scale=scale, logit_scale=logits, deviation=deviation, **more)
    network = empty_network(sizes, rows, specs)
    taking = Taking(str(weights.path), tensors)
    own: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    taking.put("embedding.weight", own["embedding.weight"], "shared.weight")
    text = f"adapters.{TOKEN_ADAPTER}"
    if bias:
        taking.put(f"{text}.bias", own[f"{text}.bias"], "final_logits_bias")
    if not tied:
        taking.put(f"{text}.head", own[f"{text}.head"], "lm_head.weight")
    for side in ("encoder", "decoder"):
        (t5_side if kind == "t5" else bart_side)(taking, own, side, sizes)
    never = ("encoder.layers.", "decoder.layers.", "encoder.block.", "decoder.block.")
    tables = [name for name in _TABLES if name in taking.left()]
    for name in tables:
        if tensors[name].shape != tensors["shared.weight"].shape or not tensors[name].equal(tensors["shared.weight"]):
            help = "tables of source and target that differ cannot be imported yet; nothing was written"
            raise CheckpointError(f"{weights.path}: `{name}` is not the shared table", help=help)
    unused = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias"
    taking.check(house, never=tuple(n for n in never if n != unused))
    left = {name: "the same table" if name in tables else _why(name) for name in taking.left()}
    return finished(house, network, taking, vocabulary, DataSettings(bins=vocabulary.bins), left)


def _why(name: str) -> str:
    return "a formula makes it" if "embed_positions" in name else "nothing here reads it"


def _bart_sizes(said: Said, kind: str) -> tuple[ModelConfig, float, float]:
    """Sizes, what rows read are scaled by, what states that are scored are scaled by."""
    width = said.number("d_model")
    after = kind != "mbart"
    config = ModelConfig(
        width=width,
        encoder_layers=said.number("encoder_layers"),
        decoder_layers=said.number("decoder_layers"),
        heads=said.same("encoder_attention_heads", "decoder_attention_heads"),
        ffn=said.same("encoder_ffn_dim", "decoder_ffn_dim"),
        norm="layernorm",
        norm_epsilon=1e-5,
        norm_place="after" if after else "before",
        final_norm=not after,
        mlp=said.choice("activation_function", ACTIVATIONS, "gelu"),
        bias=True,
        dropout=said.share("dropout", 0.1),
        positions="sinusoidal" if kind == "marian" else "learned",
        places=said.number("max_position_embeddings", 1024),
        entry="plain" if kind == "marian" else "norm",
    )
    return config, width**0.5 if said.values.get("scale_embedding", False) else 1.0, 1.0


def _t5_sizes(said: Said) -> tuple[ModelConfig, float, float]:
    width, heads, channels = said.number("d_model"), said.number("num_heads"), said.number("d_kv")
    if heads * channels != width:
        help = "heads that are not width / num_heads wide cannot be imported yet; nothing was written"
        raise CheckpointError(f"{said.path}: {heads} heads of {channels} channels and a width of {width}", help=help)
    layers = said.number("num_layers")
    config = ModelConfig(
        width=width,
        encoder_layers=layers,
        decoder_layers=said.number("num_decoder_layers", layers),
        heads=heads,
        ffn=said.number("d_ff"),
        norm="rmsnorm",
        norm_epsilon=float(said.values.get("layer_norm_epsilon", 1e-6)),
        mlp=said.choice("feed_forward_proj", GATED, "relu"),
        bias=False,
        dropout=said.share("dropout_rate", 0.1),
        positions="none",
        query_gain=channels**0.5,
        relative="t5",
        relative_buckets=said.number("relative_attention_num_buckets", 32),
        relative_span=said.number("relative_attention_max_distance", 128),
    )
    tied = bool(said.values.get("tie_word_embeddings", True))
    scaled = bool(said.values.get("scale_decoder_outputs", tied))
    return config, 1.0, width**-0.5 if scaled else 1.0


def bart_side(taking: Naming, own: Mapping[str, Tensor], side: str, config: ModelConfig) -> None:
    """Names a side of BART, mBART or Marian; `own`: our tensors."""
    places = f"body.{side}_places"
    if config.positions == "learned":  # the first two rows belong to padding
        name = f"{places}.tables.line.weight"
        taking.put(name, own[name], f"{side}.embed_positions.weight", skip=2)
    if config.entry == "norm":
        taking.layer(f"{places}.norms.line", own, f"{side}.layernorm_embedding")
    if config.final_norm:
        taking.layer(f"body.{side}_norm", own, f"{side}.layer_norm")
    for layer in range(getattr(config, f"{side}_layers")):
        theirs, ours = f"{side}.layers.{layer}", f"body.{side}.{layer}"
        taking.layer(f"{ours}.attention.qkv", own, *(f"{theirs}.self_attn.{x}_proj" for x in "qkv"))
        taking.layer(f"{ours}.attention.out", own, f"{theirs}.self_attn.out_proj")
        taking.layer(f"{ours}.attention_norm", own, f"{theirs}.self_attn_layer_norm")
        if side == "decoder":
            crossing = f"{theirs}.encoder_attn"
            taking.layer(f"{ours}.cross.q", own, f"{crossing}.q_proj")
            taking.layer(f"{ours}.cross.kv", own, f"{crossing}.k_proj", f"{crossing}.v_proj")
            taking.layer(f"{ours}.cross.out", own, f"{crossing}.out_proj")
            taking.layer(f"{ours}.cross_norm", own, f"{theirs}.encoder_attn_layer_norm")
        taking.layer(f"{ours}.mlp_norm", own, f"{theirs}.final_layer_norm")
        taking.layer(f"{ours}.mlp.into", own, f"{theirs}.fc1")
        taking.layer(f"{ours}.mlp.out", own, f"{theirs}.fc2")


def t5_side(taking: Naming, own: Mapping[str, Tensor], side: str, config: ModelConfig) -> None:
    """Names a side of T5."""
    relative = f"body.{side}_places.relative.line.0.weight"
    taking.put(relative, own[relative], f"{side}.block.0.layer.0.SelfAttention.relative_attention_bias.weight")
    taking.layer(f"body.{side}_norm", own, f"{side}.final_layer_norm")
    for layer in range(getattr(config, f"{side}_layers")):
        theirs, ours = f"{side}.block.{layer}.layer", f"body.{side}.{layer}"
        taking.layer(f"{ours}.attention.qkv", own, *(f"{theirs}.0.SelfAttention.{x}" for x in "qkv"))
        taking.layer(f"{ours}.attention.out", own, f"{theirs}.0.SelfAttention.o")
        taking.layer(f"{ours}.attention_norm", own, f"{theirs}.0.layer_norm")
        last = 1
        if side == "decoder":
            taking.layer(f"{ours}.cross.q", own, f"{theirs}.1.EncDecAttention.q")
            taking.layer(f"{ours}.cross.kv", own, f"{theirs}.1.EncDecAttention.k", f"{theirs}.1.EncDecAttention.v")
            taking.layer(f"{ours}.cross.out", own, f"{theirs}.1.EncDecAttention.o")
            taking.layer(f"{ours}.cross_norm", own, f"{theirs}.1.layer_norm")
            last = 2
        taking.layer(f"{ours}.mlp_norm", own, f"{theirs}.{last}.layer_norm")
        into = ("wi_0", "wi_1") if config.mlp in ("geglu", "reglu", "swiglu") else ("wi",)
        taking.layer(f"{ours}.mlp.into", own, *(f"{theirs}.{last}.DenseReluDense.{x}" for x in into))
        taking.layer(f"{ours}.mlp.out", own, f"{theirs}.{last}.DenseReluDense.wo")


def _vocabulary(said: Said, rows: int, folder: Path, tokenizer: Path | None) -> Vocabulary:
    """Their ids, and the text model beside the weights; of a folder that we wrote the vocabulary as it was."""
    if EXPORTED in said.values:
        own = load_vocabulary(folder)
        if len(own) != rows:
            help = "do not mix files of two exports; nothing was written"
            raise CheckpointError(f"{folder}: a vocabulary of {len(own)} rows, the weights have {rows}", help=help)
        return own
    pad, close = said.number("pad_token_id"), said.number("eos_token_id")
    start = said.number("decoder_start_token_id")
    bos = said.values.get("bos_token_id")
    special = {pad, close, start, *([bos] if isinstance(bos, int) else [])}
    if not all(0 <= id < rows for id in special):
        raise CheckpointError(f"{said.path}: special ids {sorted(special)} of {rows} rows", help="nothing was written")
    kind, model = text_model_in(tokenizer or folder, named=tokenizer is not None)
    check_text_model(kind, model, rows, tokenizer or folder)
    behind = [id for id in special if id >= rows // 2]
    house = {
        "house": HOUSES[said.values["model_type"]],
        "names": rows,
        "controls": {"start": start, "pad": pad, "close": close},
        "unknown": 0,
        "text": [1 + max((id for id in special if id < rows // 2), default=-1), min(behind, default=rows)],
        "bins": None,
        "around": [[bos] if said.values["model_type"] == "bart" and isinstance(bos, int) else [], [close]],
        "kind": kind,
        "space": False,
        "rows": None,
    }
    return ForeignVocabulary(house, model)
