"""Checkpoints of fairseq: its transformer and its BART, read without fairseq (arXiv 1904.01038, 1910.13461).

Both are one network whose parts are switched: norms before or behind, places learned or by a formula, a norm where rows
enter. Its parts have the names that Hugging Face's BART took over.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.fairseq_dictionary import CONTROLS, read_symbols
from ofasys_lite.interop.hugging_face import bart_side
from ofasys_lite.interop.hugging_face_folder import Said
from ofasys_lite.interop.imported import Imported, empty_network, finished, text_spec
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.text_models import pieces_of, text_model_in
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary, load_vocabulary
from ofasys_lite.preprocess.vocabulary import Vocabulary

HOUSE = "fairseq"
#: File beside what `ofasys-lite export` wrote: which of our rows each of theirs is.
EXPORT_MARK = "ofasys_export.json"
#: fairseq's names of activations -> ours; its `swish` gives a class, not numbers, and nothing was trained with it.
ACTIVATIONS = {
    "relu": "relu",
    "gelu": "gelu",
    "gelu_accurate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
_OLD_NORMS = {
    "encoder": ("self_attn_layer_norm", "final_layer_norm"),
    "decoder": ("self_attn_layer_norm", "encoder_attn_layer_norm", "final_layer_norm"),
}
#: What may be left, and why.
_LEFT = {
    r"(en|de)coder\.version": "a number of the format",
    r"(en|de)coder\.embed_positions\._float_tensor": "a formula makes the places",
    r"classification_heads\..*": "heads of classes write no text",
    r"decoder\.(embed_tokens|output_projection)\.weight": "the same table as the encoder's",
    r"(en|de)coder\.layer_norm\..*": "checkpoints of this version do not use it",
}
_TABLES = (("encoder", "embed_tokens"), ("decoder", "embed_tokens"), ("decoder", "output_projection"))
#: Settings that change what is computed and have no counterpart here.
_REFUSED = ("adaptive_softmax_cutoff", "cross_self_attention", "no_cross_attention", "adaptive_input", "char_inputs")


def is_fairseq(names: Mapping[str, Any]) -> bool:
    """Whether weights are of fairseq's transformer or BART, by their names."""
    return "encoder.embed_tokens.weight" in names and any(n.startswith("decoder.layers.0.encoder_attn.") for n in names)


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Older checkpoints' names as fairseq spells them now: norms by number, products of attention in one."""
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        norm = re.fullmatch(r"(encoder|decoder)(\.layers\.\d+\.)layer_norms\.(\d)\.(\w+)", name)
        joined = re.fullmatch(r"(.*_attn\.)in_proj_(weight|bias)", name)
        if norm and int(norm[3]) < len(_OLD_NORMS[norm[1]]):
            found[f"{norm[1]}{norm[2]}{_OLD_NORMS[norm[1]][int(norm[3])]}.{norm[4]}"] = tensor
        elif joined and tensor.ndim and len(tensor) % 3 == 0:
            parts = zip("qkv", tensor.chunk(3), strict=True)
            found.update({f"{joined[1]}{each}_proj.{joined[2]}": part for each, part in parts})
        else:
            found["decoder.output_projection.weight" if name == "decoder.embed_out" else name] = tensor
    return found


def import_fairseq(weights: Weights, tokenizer: Path | None = None, dictionary: Path | None = None) -> Imported:
    """fairseq's model.

    Args:
        tokenizer: Folder of the text model: GPT-2's encoder.json and vocab.bpe, or a SentencePiece model; None looks
            beside the weights. Without one a text is symbols of the dictionary between spaces, as fairseq reads it.
        dictionary: dict.txt; None looks beside the weights.

    Raises:
        CheckpointError: Something lacks, has another shape or is not finite, the dictionary has another number of rows,
            or a setting has no counterpart here.
    """
    tensors = current_names(weights.tensors)
    ours = None if dictionary else _exported(weights.path, tensors)
    taking = Taking(str(weights.path), tensors)
    config, scale = _config(taking, weights.settings)
    table_VD = tensors["encoder.embed_tokens.weight"]
    vocabulary = ours or _vocabulary(weights, len(table_VD), tokenizer, dictionary)
    other = tensors.get("decoder.embed_tokens.weight")
    if other is not None and not (other.shape == table_VD.shape and other.equal(table_VD)):
        help = "tables of source and target that differ cannot be imported yet; nothing was written"
        raise CheckpointError(f"{weights.path}: `decoder.embed_tokens.weight` is not the encoder's table", help=help)
    head = tensors.get("decoder.output_projection.weight")
    tied = head is None or (head.shape == table_VD.shape and head.equal(table_VD))
    deviation = float(table_VD.float().std())
    more = {} if tied else {"tied": False}
    specs = text_spec(vocabulary, scale=scale, logit_scale=1.0, deviation=deviation, **more)
    network = empty_network(config, len(table_VD), specs)
    own: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    taking.put("embedding.weight", own["embedding.weight"], "encoder.embed_tokens.weight")
    if not tied:
        name = f"adapters.{TOKEN_ADAPTER}.head"
        taking.put(name, own[name], "decoder.output_projection.weight")
    for side in ("encoder", "decoder"):
        bart_side(taking, own, side, config)
    taking.check(HOUSE, never=("encoder.layers.", "decoder.layers.", "decoder.project_", "decoder.adaptive_softmax"))
    left = {name: _why(name) for name in taking.left()}
    return finished(HOUSE, network, taking, vocabulary, DataSettings(bins=vocabulary.bins), left)


def _exported(path: Path, tensors: dict[str, Tensor]) -> Vocabulary | None:
    """Our own vocabulary, where we wrote the checkpoint, and its tables in the order of its rows; None: we did not."""
    mark = path.parent / EXPORT_MARK
    if not mark.is_file():
        return None
    help = "do not mix files of two exports, or name a dictionary: --dictionary FILE; nothing was written"
    vocabulary = load_vocabulary(path.parent)
    try:
        rows = [int(row) for row in json.loads(mark.read_text(encoding="utf-8"))["rows"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{mark} is damaged: {error}", help=help) from None
    tables = [f"{side}.{name}.weight" for side, name in _TABLES if f"{side}.{name}.weight" in tensors]
    sizes = {tensors[name].shape[0] if tensors[name].ndim else 0 for name in tables}
    if sorted(rows) != list(range(len(vocabulary))) or sizes != {len(rows)}:
        said = f"{mark} has {len(rows)} rows, the vocabulary {len(vocabulary)}, the weights {sorted(sizes)}"
        raise CheckpointError(said, help=help)
    back = torch.tensor(rows).argsort()
    tensors.update({name: tensors[name][back] for name in tables})
    return vocabulary


def _why(name: str) -> str:
    return next((why for pattern, why in _LEFT.items() if re.fullmatch(pattern, name)), "nothing here reads it")


def _config(taking: Taking, said: Mapping[str, Any]) -> tuple[ModelConfig, float]:
    """The sizes, read off the tensors where they show, and what rows read are scaled by."""
    tensors, where = taking.source, taking.where
    for key in _REFUSED:
        if said.get(key):
            help = "fairseq's transformer and BART without it can be imported; nothing was written"
            raise CheckpointError(f"{where}: {key} is {said[key]}, which has no counterpart here", help=help)
    heads = said.get("encoder_attention_heads"), said.get("decoder_attention_heads")
    if not isinstance(heads[0], int) or isinstance(heads[0], bool) or heads[0] != heads[1]:
        help = "fairseq's checkpoints say so in `args` or `cfg`; encoder and decoder are of one size here"
        raise CheckpointError(f"{where}: heads of encoder and decoder are {heads[0]} and {heads[1]}", help=help)
    activation = str(said.get("activation_fn", "relu"))
    if activation not in ACTIVATIONS:
        help = f"known are {', '.join(ACTIVATIONS)}; nothing was written"
        raise CheckpointError(f"{where}: activation_fn is {activation}", help=help)
    width, inner = _shape(taking, "encoder.embed_tokens.weight")[1], _shape(taking, "encoder.layers.0.fc1.weight")[0]
    learned = "encoder.embed_positions.weight" in tensors
    positions = "none" if said.get("no_token_positional_embeddings") else "learned" if learned else "sinusoidal_t2t"
    final = {side: _normed(tensors, side) for side in ("encoder", "decoder")}
    before = {side: bool(said.get(f"{side}_normalize_before", final[side])) for side in final}
    for what, values in (("norms stand before", before), ("a norm stands behind the last block", final)):
        if values["encoder"] != values["decoder"]:
            help = "both sides are built alike here; nothing was written"
            raise CheckpointError(f"{where}: {what} of one side only", help=help)
    config = ModelConfig(
        width=width,
        encoder_layers=_count(tensors, "encoder"),
        decoder_layers=_count(tensors, "decoder"),
        heads=heads[0],
        ffn=inner,
        norm="layernorm",
        norm_epsilon=1e-5,
        norm_place="before" if before["encoder"] else "after",
        final_norm=final["encoder"],
        mlp=ACTIVATIONS[activation],
        bias=True,
        dropout=Said(Path(where), said).share("dropout", 0.1),
        positions=positions,
        places=0 if positions == "none" else _places(taking, said, learned),
        entry="norm" if "encoder.layernorm_embedding.weight" in tensors else "plain",
    )
    return config, 1.0 if said.get("no_scale_embedding", False) else width**0.5


def _places(taking: Taking, said: Mapping[str, Any], learned: bool) -> int:
    """Rows of the places of both sides; of the longer side the rest is never read."""
    if learned:
        return min(_shape(taking, f"{side}.embed_positions.weight")[0] for side in ("encoder", "decoder")) - 2
    most = [said.get(f"max_{side}_positions", 1024) for side in ("source", "target")]
    if not all(isinstance(each, int) and each > 1 for each in most):
        raise CheckpointError(f"{taking.where}: max_source_positions, max_target_positions are {most}", help="numbers")
    return int(min(most))


def _normed(tensors: Mapping[str, Tensor], side: str) -> bool:
    """Whether a norm stands behind the last block: earlier versions kept one and did not use it."""
    version = tensors.get(f"{side}.version", torch.ones(1))
    least = 2.0 if side == "encoder" else 3.0
    return f"{side}.layer_norm.weight" in tensors and version.numel() > 0 and float(version.flatten()[0]) >= least


def _shape(taking: Taking, name: str) -> tuple[int, ...]:
    if name not in taking.source or taking.source[name].ndim != 2:
        help = "these are no weights of fairseq's transformer or BART; nothing was written"
        raise CheckpointError(f"{taking.where} lacks `{name}`", help=help)
    return tuple(taking.source[name].shape)


def _count(tensors: Mapping[str, Tensor], side: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(rf"{side}\.layers\.(\d+)\.", name))})


def _vocabulary(weights: Weights, rows: int, tokenizer: Path | None, dictionary: Path | None) -> ForeignVocabulary:
    """The dictionary, and the text model beside the weights."""
    path, said = weights.path, weights.settings
    place = dictionary or next(iter(sorted(path.parent.glob("dict*.txt"))), None)
    if place is None:
        help = "put dict.txt (or dict.en.txt) beside the weights, or --dictionary FILE"
        raise CheckpointError(f"{path}: there is no dictionary beside it", help=help)
    names = read_symbols(place)
    if len(names) == rows - 1:  # the tasks of BART put it behind all others
        names.append("<mask>")
    if len(names) != rows:
        help = "it is the dictionary of another model, or the task appended rows to it: write them into dict.txt"
        raise CheckpointError(f"{place} has {len(names)} rows, the weights of {path} have {rows}", help=help)
    known = {name: row for row, name in enumerate(names)}
    kind, model = text_model_in(tokenizer or path.parent, named=tokenizer is not None)
    text: dict[int, int] | None = None
    if kind == "none":
        kind, last = "symbols", rows - (names[-1] == "<mask>")
        low = len(CONTROLS)
    else:
        text = _text_rows(known, kind, model)
        if not text:
            help = "it belongs to another dictionary; without one a text is symbols between spaces"
            raise CheckpointError(f"{place} names no piece of the text model of {tokenizer or path.parent}", help=help)
        low, last = min(text.values()), max(text.values()) + 1
    controls = {"start": 2, "pad": 1, "close": 2, **({"mask": known["<mask>"]} if "<mask>" in known else {})}
    house = {
        "house": HOUSE,
        "names": names,
        "controls": controls,
        "unknown": 3,
        "text": [low, last],
        "bins": None,
        "around": [[0] if "bart" in str(said.get("arch", said.get("_name", ""))) else [], [2]],
        "kind": kind,
        "space": False,
        "rows": None if text is None else {str(id): row for id, row in text.items()},
    }
    return ForeignVocabulary(house, model)


def _text_rows(known: Mapping[str, int], kind: str, model: bytes) -> dict[int, int]:
    """Id of the text model -> row: by the piece, or, as fairseq's GPT-2 has it, by the number that spells it."""
    pieces = pieces_of(kind, model)
    found = {id: known[piece] for piece, id in pieces.items() if piece in known and known[piece] >= len(CONTROLS)}
    numbers = {int(name): row for name, row in known.items() if re.fullmatch(r"\d+", name)}
    by_number = {id: row for id, row in numbers.items() if id < len(pieces)}
    return by_number if len(by_number) > len(found) else found
