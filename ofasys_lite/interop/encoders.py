"""Encoders of text alone in Hugging Face's format: BERT and RoBERTa. transformers itself is not needed.

BERT, arXiv 1810.04805; RoBERTa, arXiv 1907.11692; MiniLM, arXiv 2002.10957, has BERT's form. Their tables of places and
of kinds of text are one here: a source is of one kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Origin
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, folder_weights
from ofasys_lite.interop.imported import Imported, empty_network, finished, text_spec
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.text_models import check_text_model, pieces_of, text_model_in
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary

#: `model_type` of config.json -> what messages call it.
ENCODERS = {"bert": "BERT", "roberta": "RoBERTa", "xlm-roberta": "XLM-RoBERTa", "camembert": "CamemBERT"}
#: Controls -> how tokens for them are spelt: BERT's way, RoBERTa's.
_SPELT = {
    "start": ("[CLS]", "<s>"),
    "close": ("[SEP]", "</s>"),
    "pad": ("[PAD]", "<pad>"),
    "mask": ("[MASK]", "<mask>"),
}
_UNKNOWN = ("[UNK]", "<unk>")
_WORDS, _PLACES, _KINDS = (f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type"))
_TABLE = "body.encoder_places.tables.line.weight"
#: Beginnings of names that go nowhere -> why.
_LEFT = {
    "pooler.": "the vector of the first token has heads of its own there; tasks read all states here",
    "cls.": "a head for masked words; what a task writes has a decoder here",
    "lm_head.": "a head for masked words; what a task writes has a decoder here",
    "classifier.": "the head of another task",
    "qa_outputs.": "the head of another task",
    "embeddings.position_ids": "a formula makes it",
}


def import_encoder(folder: Path, config: Mapping[str, Any], tokenizer: Path | None = None) -> Imported:
    """The encoder in a folder of `save_pretrained`, as a model without decoder.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, or the model has a part that no named
            choice covers.
    """
    kind = str(config["model_type"])
    house, said = ENCODERS[kind], Said(folder / "config.json", config)
    weights = folder_weights(folder)
    tensors = {_renamed(name): tensor for name, tensor in weights.tensors.items()}
    taking = Taking(str(weights.path), tensors)
    lacking = [name for name in (_WORDS, _PLACES, _KINDS) if name not in tensors]
    if lacking:
        raise CheckpointError(f"{weights.path} lacks `{lacking[0]}`", help=f"are these weights of {house}, whole?")
    skip = 0 if kind == "bert" else said.number("pad_token_id", 1) + 1
    sizes = _sizes(said, skip)
    if tensors[_PLACES].shape[-1] == tensors[_KINDS].shape[-1]:
        tensors[_PLACES] = tensors[_PLACES] + tensors[_KINDS][:1]
    rows = len(tensors[_WORDS])
    vocabulary = _vocabulary(house, rows, folder, tokenizer)
    deviation = float(tensors[_WORDS].float().std())
    # rows are normed where they enter; what is written is scored by the same table, its first logits of deviation 1
    specs = text_spec(vocabulary, scale=1.0, logit_scale=1 / (deviation * sizes.width**0.5), deviation=deviation)
    network = empty_network(sizes, rows, specs)
    _fill(taking, dict(network.named_parameters()), sizes, skip)
    taking.check(house, never=("encoder.", "decoder."))
    left = {name: _why(name) for name in taking.left()}
    return finished(house, network, taking, vocabulary, DataSettings(), left)


def _renamed(name: str) -> str:
    """A name without the model's own in front, and without TensorFlow's words for norms."""
    for prefix in ("bert.", "roberta."):
        name = name.removeprefix(prefix)
    return name.replace(".LayerNorm.gamma", ".LayerNorm.weight").replace(".LayerNorm.beta", ".LayerNorm.bias")


def _why(name: str) -> str:
    return next((why for beginning, why in _LEFT.items() if name.startswith(beginning)), "nothing here reads it")


def _sizes(said: Said, skip: int) -> ModelConfig:
    """Sizes of the encoder; the decoder has no layers.

    Args:
        skip: Rows of the table of places that are never read.
    """
    help = "it cannot be imported; nothing was written"
    if said.values.get("is_decoder") or said.values.get("add_cross_attention"):
        raise CheckpointError(f"{said.path}: it is a decoder", help=help)
    positions = said.values.get("position_embedding_type") or "absolute"
    if positions != "absolute":
        raise CheckpointError(f"{said.path}: `position_embedding_type` is {positions}", help=help)
    return ModelConfig(
        width=said.number("hidden_size"),
        encoder_layers=said.number("num_hidden_layers"),
        decoder_layers=0,
        heads=said.number("num_attention_heads"),
        ffn=said.number("intermediate_size"),
        norm="layernorm",
        norm_epsilon=float(said.values.get("layer_norm_eps", 1e-12)),
        norm_place="after",
        final_norm=False,
        mlp=said.choice("hidden_act", ACTIVATIONS, "gelu"),
        bias=True,
        dropout=said.share("hidden_dropout_prob", 0.1),
        positions="learned",
        places=said.number("max_position_embeddings") - skip,
        entry="norm",
    )


def _fill(taking: Taking, own: Mapping[str, Tensor], sizes: ModelConfig, skip: int) -> None:
    """Every weight of the encoder from their names."""
    taking.put("embedding.weight", own["embedding.weight"], _WORDS)
    taking.put(_TABLE, own[_TABLE], _PLACES, skip=skip)
    taking.origins[_KINDS] = Origin(_TABLE, 0, sizes.places)
    taking.layer("body.encoder_places.norms.line", own, "embeddings.LayerNorm")
    for layer in range(sizes.encoder_layers):
        theirs, ours = f"encoder.layer.{layer}", f"body.encoder.{layer}"
        heads = (f"{theirs}.attention.self.{x}" for x in ("query", "key", "value"))
        taking.layer(f"{ours}.attention.qkv", own, *heads)
        taking.layer(f"{ours}.attention.out", own, f"{theirs}.attention.output.dense")
        taking.layer(f"{ours}.attention_norm", own, f"{theirs}.attention.output.LayerNorm")
        taking.layer(f"{ours}.mlp_norm", own, f"{theirs}.output.LayerNorm")
        taking.layer(f"{ours}.mlp.into", own, f"{theirs}.intermediate.dense")
        taking.layer(f"{ours}.mlp.out", own, f"{theirs}.output.dense")


def _vocabulary(house: str, rows: int, folder: Path, tokenizer: Path | None) -> ForeignVocabulary:
    """Their ids, and the text model beside the weights; without one nothing stands around a text."""
    kind, model = text_model_in(tokenizer or folder, named=tokenizer is not None)
    check_text_model(kind, model, rows, tokenizer or folder)
    ids = {} if kind == "none" else pieces_of(kind, model)
    way = next((way for way, token in enumerate(_UNKNOWN) if token in ids), 0)
    controls = {name: ids[tokens[way]] for name, tokens in _SPELT.items() if tokens[way] in ids}
    lacking = [_SPELT[name][way] for name in ("start", "close") if name not in controls]
    if ids and lacking:
        raise CheckpointError(
            f"the text model in {tokenizer or folder} has no token {' and '.join(lacking)}",
            help=f"is it the text model of other weights than {house}?",
        )
    unknown = ids.get(_UNKNOWN[way], 0)
    special = {*controls.values(), *([unknown] if ids else [])}
    first = 1 + max((id for id in special if id < rows // 2), default=-1)
    held = {
        "house": house,
        "names": rows,
        "controls": controls,
        "unknown": unknown,
        "text": [first, min((id for id in special if id >= rows // 2), default=rows)],
        "bins": None,
        "around": [["start"], ["close"]] if ids else [[], []],
        "kind": kind,
        "space": False,
        "rows": None,
    }
    return ForeignVocabulary(held, model)
