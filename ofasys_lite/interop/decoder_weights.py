"""Decoders of text in Hugging Face's format, Qwen2 and kin: their source is a prefix. transformers is not needed.

Qwen2, arXiv 2407.10671; Llama, arXiv 2302.13971; Mistral, arXiv 2310.06825.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, folder_weights
from ofasys_lite.interop.imported import Imported, empty_network, finished, text_spec
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.text_models import text_model_in
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary

#: `model_type` of config.json -> what messages call it.
DECODERS = {"qwen2": "Qwen2", "llama": "Llama", "mistral": "Mistral"}


def import_decoder(folder: Path, config: Mapping[str, Any], tokenizer: Path | None = None) -> Imported:
    """The model in a folder of `save_pretrained`.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, or the model has a part that no named
            choice covers (a sliding window, stretched positions, heads of another size).
    """
    kind = str(config["model_type"])
    said = Said(folder / "config.json", config)
    sizes = _sizes(said, kind)
    weights = folder_weights(folder)
    tensors = {name.removeprefix("model."): tensor for name, tensor in weights.tensors.items()}
    if "embed_tokens.weight" not in tensors:
        raise CheckpointError(f"{weights.path} lacks `embed_tokens.weight`", help="nothing was written")
    table = tensors["embed_tokens.weight"]
    tied = bool(config.get("tie_word_embeddings", False))
    vocabulary = _vocabulary(said, kind, len(table), folder, tokenizer)
    more = {} if tied else {"tied": False}
    specs = text_spec(vocabulary, scale=1.0, logit_scale=1.0, deviation=float(table.float().std()), **more)
    network = empty_network(sizes, len(table), specs)
    taking = Taking(str(weights.path), tensors)
    own: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    taking.put("embedding.weight", own["embedding.weight"], "embed_tokens.weight")
    if not tied:
        head = f"adapters.{TOKEN_ADAPTER}.head"
        taking.put(head, own[head], "lm_head.weight")
    taking.layer("body.decoder_norm", own, "norm")
    for layer in range(sizes.decoder_layers):
        theirs, ours = f"layers.{layer}", f"body.decoder.{layer}"
        taking.layer(f"{ours}.attention.qkv", own, *(f"{theirs}.self_attn.{x}_proj" for x in "qkv"))
        taking.layer(f"{ours}.attention.out", own, f"{theirs}.self_attn.o_proj")
        taking.layer(f"{ours}.attention_norm", own, f"{theirs}.input_layernorm")
        taking.layer(f"{ours}.mlp_norm", own, f"{theirs}.post_attention_layernorm")
        taking.layer(f"{ours}.mlp.into", own, *(f"{theirs}.mlp.{x}_proj" for x in ("gate", "up")))
        taking.layer(f"{ours}.mlp.out", own, f"{theirs}.mlp.down_proj")
    formed = [name for name in taking.left() if name.endswith("rotary_emb.inv_freq")]
    same = [name for name in taking.left() if tied and name == "lm_head.weight" and tensors[name].equal(table)]
    taking.source = {name: tensor for name, tensor in tensors.items() if name not in (*formed, *same)}
    taking.check(DECODERS[kind], never=("layers.", "norm", "embed_tokens", "lm_head"))
    left = dict.fromkeys(taking.left(), "nothing here reads it")
    left |= dict.fromkeys(formed, "a formula makes it") | dict.fromkeys(same, "the same table")
    return finished(DECODERS[kind], network, taking, vocabulary, DataSettings(), left)


def _sizes(said: Said, kind: str) -> ModelConfig:
    width, heads = said.number("hidden_size"), said.number("num_attention_heads")
    channels = said.values.get("head_dim")
    if channels is not None and channels * heads != width:
        help = "heads that are not hidden_size / num_attention_heads wide cannot be imported yet; nothing was written"
        raise CheckpointError(f"{said.path}: {heads} heads of {channels} channels and a width of {width}", help=help)
    activation = said.choice("hidden_act", ACTIVATIONS, "silu")
    if activation != "silu":
        what = f"`hidden_act` is {said.values['hidden_act']}"
        raise CheckpointError(f"{said.path}: {what}", help="known is silu; nothing was written")
    for key in ("attention_bias", "mlp_bias"):
        if said.values.get(key):
            help = "biases are known of Qwen2's queries, keys and values alone; nothing was written"
            raise CheckpointError(f"{said.path}: `{key}` is {said.values[key]}", help=help)
    _no_window(said)
    return ModelConfig(
        width=width,
        encoder_layers=0,
        decoder_layers=said.number("num_hidden_layers"),
        source="prefix",
        heads=heads,
        kv_heads=said.number("num_key_value_heads", heads),
        ffn=said.number("intermediate_size"),
        norm="rmsnorm",
        norm_epsilon=float(said.values.get("rms_norm_eps", 1e-6)),
        mlp="swiglu",
        qkv_bias=kind == "qwen2",
        rotary_theta=_theta(said),
    )


def _no_window(said: Said) -> None:
    """Raises CheckpointError where rows do not see all rows before them."""
    values = said.values
    sliding = values.get("sliding_window") if values.get("use_sliding_window", True) else None
    kinds = set(values.get("layer_types") or ("full_attention",))
    if sliding is not None or kinds != {"full_attention"}:
        what = f"a window of {sliding} rows" if sliding is not None else f"layers of the kinds {sorted(kinds)}"
        raise CheckpointError(f"{said.path}: {what}", help="attention sees all rows here; nothing was written")


def _theta(said: Said) -> float:
    """Base of the ladder of frequencies, as older and newer files say it."""
    found = said.values.get("rope_parameters") or said.values.get("rope_scaling") or {}
    kind = found.get("rope_type", found.get("type", "default")) if isinstance(found, Mapping) else repr(found)
    if kind != "default":
        help = "positions are turned by one plain ladder here; nothing was written"
        raise CheckpointError(f"{said.path}: positions of the kind `{kind}`", help=help)
    return float(found.get("rope_theta", said.values.get("rope_theta", 10_000.0)))


def _vocabulary(said: Said, kind: str, rows: int, folder: Path, tokenizer: Path | None) -> ForeignVocabulary:
    """Their ids, and the text model beside the weights."""
    close = _first(said, "eos_token_id")
    if close is None:
        raise CheckpointError(f"{said.path}: `eos_token_id` is missing", help="it ends what is written")
    start, pad = _first(said, "bos_token_id"), _first(said, "pad_token_id")
    model_kind, model = text_model_in(tokenizer or folder, named=tokenizer is not None)
    marks = _marks(model) if model_kind == "tokenizers" else {}
    special = {id for id in (close, start, pad, *marks.values()) if id is not None}
    if not all(0 <= id < rows for id in special):
        raise CheckpointError(f"{said.path}: special ids {sorted(special)} of {rows} rows", help="nothing was written")
    first = close if start is None else start
    behind = [id for id in special if id >= rows // 2]
    house = {
        "house": DECODERS[kind],
        "names": rows,
        "controls": {"start": first, "pad": close if pad is None else pad, "close": close},
        "unknown": 0,
        "text": [1 + max((id for id in special if id < rows // 2), default=-1), min(behind, default=rows)],
        "bins": None,
        "around": [[], []] if kind == "qwen2" else [[first], []],
        "kind": model_kind,
        "space": False,
        "rows": None,
        "seamless": True,
        "marks": marks,
    }
    return ForeignVocabulary(house, model)


def _first(said: Said, key: str) -> int | None:
    """An id, of several the first; None where there is none."""
    value = said.values.get(key)
    value = value[0] if isinstance(value, list) and value else value
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise CheckpointError(f"{said.path}: `{key}` is {value!r}", help="a whole number, or a list of them")


def _marks(model: bytes) -> dict[str, int]:
    """Rows that words do not spell, of a `tokenizer.json`."""
    try:
        added = json.loads(model)["added_tokens"]
        return {str(each["content"]): int(each["id"]) for each in added if each.get("special")}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"tokenizer.json is damaged: {error}", help="copy it again") from None
