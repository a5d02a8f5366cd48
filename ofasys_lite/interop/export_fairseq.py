"""A text model here -> a checkpoint of fairseq's transformer or BART and its dict.txt, written without fairseq."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.interop.export_shapes import Shape, fitting, scaled_table
from ofasys_lite.interop.fairseq_dictionary import CONTROLS, distinct_symbols, symbols_text
from ofasys_lite.interop.fairseq_weights import ACTIVATIONS, EXPORT_MARK
from ofasys_lite.interop.giving import Giving
from ofasys_lite.interop.hugging_face import bart_side
from ofasys_lite.interop.text_models import pieces_of
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.base import TOKEN_ADAPTER
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary
from ofasys_lite.preprocess.vocabulary import Vocabulary

_ACTIVATION = {own: theirs for theirs, own in reversed(ACTIVATIONS.items())}


def shapes(config: ModelConfig) -> tuple[Shape, ...]:
    """fairseq's transformer with norms behind or before, as a model of these sizes would have it."""
    common = {
        "positions": ("learned", "sinusoidal_t2t", "sinusoidal", "none"),
        "relative": ("none",),
        "entry": ("plain", "norm"),
        "norm": ("layernorm",),
        "norm_epsilon": (1e-5,),
        "bias": (True,),
        "mlp": tuple(dict.fromkeys(ACTIVATIONS.values())),
        "query_gain": (1.0,),
        "kv_heads": (config.heads,),
        "qk_norm": (False,),
        "near_bias": (0.0,),
        "sublayer_norms": (False,),
    }
    behind = {**common, "norm_place": ("after",), "final_norm": (False,)}
    before = {**common, "norm_place": ("before",), "final_norm": (True,)}
    return tuple(Shape("transformer", "fairseq", wanted, untied=True) for wanted in (behind, before))


def write_fairseq(model: Generalist, folder: Path) -> list[str]:
    """Writes model.pt, dict.txt and our vocabulary; what was done, a line each.

    Raises:
        CheckpointError: The stack is none of fairseq's, scores have biases, or the vocabulary lacks one of fairseq's
            four controls; nothing is written.
    """
    network, vocabulary = model.network, model.vocabulary
    config, text = network.config, network.text
    fitting(network, shapes(config), "fairseq")
    if text.bias is not None and bool(text.bias.detach().any()):
        help = "export it as hf; a bias of zeros would be left out"
        raise CheckpointError("fairseq: scores have a bias a row, which fairseq has not", help=help)
    rows = _rows(vocabulary)
    table_VD, entry, out = scaled_table(text, (1.0, config.width**0.5), (1.0,))
    order = torch.tensor(rows)
    giving, own = Giving(), network.plain_weights()
    giving.put("embedding.weight", table_VD.cpu()[order], "encoder.embed_tokens.weight")
    tensors = giving.state
    tensors["decoder.embed_tokens.weight"] = tensors["encoder.embed_tokens.weight"]
    head_VD = tensors["encoder.embed_tokens.weight"]
    if text.head is not None:
        kept = own[f"adapters.{TOKEN_ADAPTER}.head"]
        head_VD = (kept if text.logit_scale == out else kept * text.logit_scale).float().cpu()[order].contiguous()
    tensors["decoder.output_projection.weight"] = head_VD
    for side in ("encoder", "decoder"):
        bart_side(giving, own, side, config)
        if config.positions == "sinusoidal":  # waves of another formula: as a table
            waves = cast(Tensor, getattr(network.body, f"{side}_places").waves)
            giving.put("waves", waves, f"{side}.embed_positions.weight", skip=2)
        tensors[f"{side}.version"] = torch.tensor([3.0])
    args = _args(config, text.head is None, entry)
    history = [{"criterion_name": "CrossEntropyCriterion", "best_loss": None, "optimizer_name": "", "num_updates": 0}]
    content = {"args": args, "model": tensors, "optimizer_history": history, "extra_state": {}}
    torch.save(content, folder / "model.pt")
    for name in ("dict.txt", "dict.source.txt", "dict.target.txt"):
        (folder / name).write_text(symbols_text(_symbols(vocabulary, rows)), encoding="utf-8", newline="\n")
    vocabulary.save(folder)
    (folder / EXPORT_MARK).write_text(json.dumps({"rows": rows}), encoding="utf-8")
    made = ["places: sinusoids of another formula than fairseq's, as a learned table"]
    return [
        f"fairseq: {args.arch}, {len(tensors)} tensors; dict.txt of {len(rows)} rows",
        *_text_files(vocabulary, folder),
        *(made if config.positions == "sinusoidal" else ()),
        _first(vocabulary),
    ]


def _first(vocabulary: Vocabulary) -> str:
    if vocabulary.row_of("start") == vocabulary.row_of("close"):
        return "the decoder is fed `</s>` first, as fairseq does by itself"
    return "the decoder is fed `<s>` first: generate(..., bos_token=dictionary.bos())"


def _text_files(vocabulary: Vocabulary, folder: Path) -> list[str]:
    """The text model under the name that fairseq's recipes give it."""
    if not isinstance(vocabulary, ForeignVocabulary) or vocabulary.house["kind"] == "sentencepiece":
        (folder / "sentencepiece.bpe.model").write_bytes(vocabulary.model)
        return ["text: sentencepiece.bpe.model cuts it; dict.txt has the pieces"]
    if vocabulary.house["kind"] == "symbols":
        return ["text: symbols of dict.txt between spaces"]
    return [f"text: fairseq cuts none by its text model ({vocabulary.house['kind']})"]


def _rows(vocabulary: Vocabulary) -> list[int]:
    """Our row of each of fairseq's: its four controls, then the others in our order."""
    start, pad, close = (vocabulary.row_of(name) for name in ("start", "pad", "close"))
    if start == pad:
        help = "fairseq hides padding from attention, so nothing can begin with it; export it as hf"
        raise CheckpointError("fairseq: the row that targets begin with is the row of padding", help=help)
    named = _named(vocabulary)
    first = start
    if start == close:
        before, _ = vocabulary.around
        found = before[0] if before else named.get(CONTROLS[0])
        if found is None:
            raise CheckpointError("fairseq: no row of this vocabulary is `<s>`", help="export it as hf")
        first = found
    held = [first, pad, close]
    unknown = named.get(CONTROLS[3])
    if unknown is None and held == [0, 1, 2]:  # rows of BART, imported without its text model
        unknown = 3
    if unknown is None or unknown in held or len(set(held)) < 3:
        help = "fairseq's dictionary begins with <s>, <pad>, </s>, <unk>; export it as hf"
        raise CheckpointError(f"fairseq: rows {[*held, unknown]} are not its four controls", help=help)
    held.append(unknown)
    return [*held, *(row for row in range(len(vocabulary)) if row not in held)]


def _named(vocabulary: Vocabulary) -> dict[str, int]:
    """Rows by the spelling that their text model or dictionary has for them."""
    if isinstance(vocabulary, ForeignVocabulary) and vocabulary.house["kind"] == "tokenizers" and not vocabulary.names:
        return pieces_of("tokenizers", vocabulary.model)
    return {vocabulary.name(row): row for row in reversed(range(len(vocabulary)))}


def _symbols(vocabulary: Vocabulary, rows: Sequence[int]) -> list[str]:
    spelled = {row: name for name, row in _named(vocabulary).items()}
    return distinct_symbols([spelled.get(row, vocabulary.name(row)) for row in rows[len(CONTROLS) :]])


def _args(config: ModelConfig, tied: bool, entry: float) -> Namespace:
    """What fairseq builds the model of."""
    before, learned = config.norm_place == "before", config.positions in ("learned", "sinusoidal")
    bart = learned and not before and config.entry == "norm" and entry == 1.0
    # without places fairseq asks for no limit; its own default is 1024
    places = config.places or 1024
    sides: dict[str, Any] = {}
    for side in ("encoder", "decoder"):
        sides |= {
            f"{side}_embed_path": None,
            f"{side}_embed_dim": config.width,
            f"{side}_ffn_embed_dim": config.inner,
            f"{side}_layers": getattr(config, f"{side}_layers"),
            f"{side}_attention_heads": config.heads,
            f"{side}_normalize_before": before,
            f"{side}_learned_pos": learned,
            f"{side}_layerdrop": 0.0,
        }
    return Namespace(
        arch="bart_large" if bart else "transformer",
        task="translation",
        criterion="label_smoothed_cross_entropy",
        source_lang="source",
        target_lang="target",
        data=".",
        left_pad_source=False,
        left_pad_target=False,
        max_source_positions=places,
        max_target_positions=places,
        **sides,
        decoder_input_dim=config.width,
        decoder_output_dim=config.width,
        activation_fn=_ACTIVATION[config.mlp],
        dropout=config.dropout,
        attention_dropout=0.0,
        activation_dropout=0.0,
        relu_dropout=0.0,
        share_all_embeddings=tied,
        share_decoder_input_output_embed=tied,
        no_scale_embedding=entry == 1.0,
        layernorm_embedding=config.entry == "norm",
        no_token_positional_embeddings=config.positions == "none",
        adaptive_softmax_cutoff=None,
        adaptive_softmax_dropout=0,
    )
