"""Checkpoints of OFASys (arXiv 2212.04408) and of OFA before it (arXiv 2202.03052).

Both are one network; OFA calls its parts otherwise. It is made of this package's named choices: norms before and behind
sublayers with gains of heads (`sublayer_norms`), untied positions, biases by distance per layer, a norm and a vector
for each kind of rows (`entry: kinds`), a ResNet's third stage for pictures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.imported import Imported, empty_network, finished, text_spec
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.text_models import text_model_in
from ofasys_lite.layout.ready import DataSettings
from ofasys_lite.model import ModelConfig
from ofasys_lite.preprocess.foreign_vocabulary import ForeignVocabulary

HOUSE = "OFASys"
#: The adapter of pictures, as the card that has it calls it.
_ADAPTER = "resnet_c4"
_TEXT, _PICTURE = "adaptor.text", "adaptor.image_resnet"
#: OFA's name -> OFASys' name, by beginnings; `{}`: encoder or decoder.
_OLDER = {
    "encoder.patch_layernorm_embedding": f"encoder.{_PICTURE}.layernorm_embedding",
    "encoder.embed_images": f"encoder.{_PICTURE}.embed_images",
    "encoder.image_proj": f"encoder.{_PICTURE}.image_proj",
    "encoder.pos_q_linear": "encoder.adaptor.pos_q_linear",
    "encoder.pos_k_linear": "encoder.adaptor.pos_k_linear",
    "decoder.self_pos_q_linear": "decoder.adaptor.pos_q_linear",
    "decoder.self_pos_k_linear": "decoder.adaptor.pos_k_linear",
    "{}.embed_tokens": "{}.adaptor.embed_tokens",
    "{}.embed_positions": f"{{}}.{_TEXT}.embed_positions",
    "{}.pos_ln": f"{{}}.{_TEXT}.layernorm_position",
    "{}.layernorm_embedding": f"{{}}.{_TEXT}.layernorm_embedding",
    "{}.token_rel_pos_table_list": f"{{}}.{_TEXT}.token_rel_pos_table_list",
    "{}.token_rp_bucket": f"{{}}.{_TEXT}.token_rp_bucket",
    "{}.image_rp_bucket": f"{{}}.{_PICTURE}.image_rp_bucket",
    "{}.embed_image_positions": f"{{}}.{_PICTURE}.embed_image_positions",
    "{}.image_pos_ln": f"{{}}.{_PICTURE}.layernorm_position",
    "{}.image_rel_pos_table_list": f"{{}}.{_PICTURE}.image_rel_pos_table_list",
}
#: What may be left, and why.
_LEFT = {
    r"(en|de)coder\.version": "a number of the format",
    r".*_rp_bucket": "a formula makes it",
    r".*num_batches_tracked": "BatchNorm keeps its statistics",
    r"decoder\.adaptor\.embed_tokens\.weight": "the same table as the encoder's",
    r"decoder\.(adaptor\.embed_tokens|output_projection)\.weight": "the same table as the encoder's",
    r"decoder\.adaptor\.\w+\.type_embedding\.weight": "OFASys' decoder has it and does not use it",
    rf"decoder\.{re.escape(_PICTURE)}\..*": "pictures are not written from left to right here",
    r"(en|de)coder\.adaptor\.\w+\..*": "its adapter has no counterpart here yet",
    r"decoder\.code_layernorm_embedding\..*": "pictures are not written from left to right here",
}


def is_ofasys(names: Mapping[str, Any]) -> bool:
    """Whether weights are of OFASys or OFA, by their names."""
    return any(n.startswith(("encoder.adaptor.", "encoder.token_rel_pos_table_list.")) for n in names)


def current_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OFA's names as OFASys spells them; OFASys' own stay."""
    if any(name.startswith("encoder.adaptor.") for name in tensors):
        return dict(tensors)
    pairs = [(old.format(s), new.format(s)) for old, new in _OLDER.items() for s in ("encoder", "decoder")]
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        old, new = next(((o, n) for o, n in pairs if name == o or name.startswith(f"{o}.")), ("", ""))
        found[new + name[len(old) :] if old else name] = tensor
    types = found.pop("encoder.type_embedding.weight", None)
    if types is not None:  # one table: text, picture
        found[f"encoder.{_TEXT}.type_embedding.weight"] = types[:1]
        if len(types) > 1:
            found[f"encoder.{_PICTURE}.type_embedding.weight"] = types[1:2]
    return found


def import_ofasys(weights: Weights, tokenizer: Path | None = None, dictionary: Path | None = None) -> Imported:
    """OFASys' model.

    Args:
        tokenizer: Folder with GPT-2's encoder.json and vocab.bpe (or a tokenizer.json); None looks beside the weights.
        dictionary: dict.txt, a symbol a line; None looks beside the weights.

    Raises:
        CheckpointError: They are no weights of OFASys, something lacks, has another shape or is not finite, or the
            dictionary has another number of rows.
    """
    tensors = current_names(weights.tensors)
    taking = Taking(str(weights.path), tensors)
    config, settings = _config(taking, weights.settings)
    table = tensors["encoder.adaptor.embed_tokens.weight"]
    vocabulary = _vocabulary(weights.path, len(table), tokenizer, dictionary)
    specs = text_spec(vocabulary, scale=1.0, logit_scale=1.0, deviation=config.width**-0.5)
    data, pictures = DataSettings(bins=vocabulary.bins), ""
    if config.grid_side:
        card = next(card for card in modalities().values() if _ADAPTER in card.adapter)
        pictures = card.adapter_name or card.name.lower()
        data = DataSettings(bins=vocabulary.bins, modalities={card.name: settings})
        specs[pictures] = AdapterSpec(card.adapter[_ADAPTER], {**card.settings, **settings})
    network = empty_network(config, len(vocabulary), specs)
    _fill(taking, network, pictures)
    taking.check(HOUSE, never=("encoder.layers.", "decoder.layers."))
    for name in ("decoder.adaptor.embed_tokens.weight", "decoder.output_projection.weight"):
        if name in tensors and not (tensors[name].shape == table.shape and tensors[name].equal(table)):
            help = "OFASys' published models have one table; other ones cannot be imported yet; nothing was written"
            raise CheckpointError(f"{weights.path}: `{name}` is not the encoder's table", help=help)
    left = {name: _why(name) for name in taking.left()}
    return finished(HOUSE, network, taking, vocabulary, data, left, (f"adapters.{pictures}.mask",))


def _why(name: str) -> str:
    return next((why for pattern, why in _LEFT.items() if re.fullmatch(pattern, name)), "nothing here reads it")


def _config(taking: Taking, said: Mapping[str, Any]) -> tuple[ModelConfig, dict[str, Any]]:
    """The sizes, read off the tensors, and settings of IMAGE."""
    tensors, where = taking.source, taking.where

    def shape(name: str) -> tuple[int, ...]:
        if name not in tensors:
            help = "these are no weights of OFASys or OFA, or of a model without it; nothing was written"
            raise CheckpointError(f"{where} lacks `{name}`", help=help)
        return tuple(tensors[name].shape)

    factor = said.get("attn_scale_factor", 2)
    if float(factor) != 2.0:
        help = "OFA's published models have 2; other ones cannot be imported yet"
        raise CheckpointError(f"{where}: attn_scale_factor is {factor}", help=help)
    _, width = shape("encoder.adaptor.embed_tokens.weight")
    places, _ = shape(f"encoder.{_TEXT}.embed_positions.weight")
    distances, heads = shape(f"encoder.{_TEXT}.token_rel_pos_table_list.0.weight")
    if shape("encoder.layers.0.self_attn.c_attn") != (heads,):
        raise CheckpointError(f"{where}: gains of heads do not fit {heads} heads", help="nothing was written")
    picture = f"encoder.{_PICTURE}.embed_image_positions.weight"
    side = math.isqrt(shape(picture)[0] - 1) if picture in tensors else 0
    config = ModelConfig(
        width=width,
        encoder_layers=_count(tensors, r"encoder\.layers\.(\d+)\."),
        decoder_layers=_count(tensors, r"decoder\.layers\.(\d+)\."),
        heads=heads,
        ffn=shape("encoder.layers.0.fc1.weight")[0],
        norm="layernorm",
        norm_epsilon=1e-5,
        sublayer_norms=True,
        mlp="gelu",
        bias=True,
        positions="untied",
        places=places,
        grid_side=side,
        relative="log",
        relative_buckets=(distances + 1) // 2,
        relative_span=places - 2,
        entry="kinds",
    )
    base = f"encoder\\.{re.escape(_PICTURE)}\\.embed_images\\.layer"
    depths = [_count(tensors, rf"{base}{n}\.(\d+)\.") for n in (1, 2, 3)]
    return config, {"patch": 8, "coordinates": False, "depths": depths, "max_pixels": 16 * 16 * min(side, 24) ** 2}


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({found[1] for name in tensors if (found := re.match(pattern, name))})


def _fill(taking: Taking, network: Network, pictures: str) -> None:
    """Every weight of the network from OFASys' names; `pictures`: name of their adapter."""
    own: dict[str, Tensor] = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    taking.put("embedding.weight", own["embedding.weight"], "encoder.adaptor.embed_tokens.weight")
    for side in ("encoder", "decoder"):
        _places(taking, own, side, network.config)
        for layer in range(getattr(network.config, f"{side}_layers")):
            _block(taking, own, side, layer)
        taking.layer(f"body.{side}_norm", own, f"{side}.layer_norm")
    if network.config.grid_side:
        base, ours = f"encoder.{_PICTURE}", f"adapters.{pictures}"
        taking.layer(f"{ours}.project", own, f"{base}.image_proj")
        for name, tensor in own.items():
            if name.startswith(f"{ours}.backbone.") and not name.endswith("num_batches_tracked"):
                taking.put(name, tensor, f"{base}.embed_images.{name.removeprefix(f'{ours}.backbone.')}")


def _places(taking: Taking, own: Mapping[str, Tensor], side: str, config: ModelConfig) -> None:
    ours = f"body.{side}_places"
    kinds = {"line": (_TEXT, "embed_positions", "token_rel_pos_table_list")}
    if config.grid_side and side == "encoder":
        kinds["grid"] = (_PICTURE, "embed_image_positions", "image_rel_pos_table_list")
    for kind, (adaptor, table, relative) in kinds.items():
        base = f"{side}.{adaptor}"
        taking.put(f"{ours}.tables.{kind}.weight", own[f"{ours}.tables.{kind}.weight"], f"{base}.{table}.weight")
        taking.layer(f"{ours}.norms.{kind}", own, f"{base}.layernorm_embedding")
        taking.layer(f"{ours}.place_norms.{kind}", own, f"{base}.layernorm_position")
        if side == "encoder":
            taking.put(f"{ours}.types.{kind}", own[f"{ours}.types.{kind}"], f"{base}.type_embedding.weight")
        for layer in range(getattr(config, f"{side}_layers")):
            name = f"{ours}.relative.{kind}.{layer}.weight"
            # of a grid's table the last three rows belong to a token of the class, which nobody has
            taking.put(name, own[name], f"{base}.{relative}.{layer}.weight", first_rows=kind == "grid")
    for which in ("q", "k"):
        taking.layer(f"{ours}.{which}", own, f"{side}.adaptor.pos_{which}_linear")
        if side == "decoder":
            taking.layer(f"{ours}.cross_{which}", own, f"decoder.cross_pos_{which}_linear")


def _block(taking: Taking, own: Mapping[str, Tensor], side: str, layer: int) -> None:
    theirs, ours = f"{side}.layers.{layer}", f"body.{side}.{layer}"
    attention = f"{theirs}.self_attn"
    taking.layer(f"{ours}.attention.qkv", own, *(f"{attention}.{x}_proj" for x in "qkv"))
    taking.layer(f"{ours}.attention.out.out", own, f"{attention}.out_proj")
    taking.put(f"{ours}.attention.out.gains", own[f"{ours}.attention.out.gains"], f"{attention}.c_attn")
    taking.layer(f"{ours}.attention_norm", own, f"{theirs}.self_attn_layer_norm")
    out_norm = "attn_ln" if side == "encoder" else "self_attn_ln"
    taking.layer(f"{ours}.attention.out.norm", own, f"{theirs}.{out_norm}")
    if side == "decoder":
        crossing = f"{theirs}.encoder_attn"
        taking.layer(f"{ours}.cross.q", own, f"{crossing}.q_proj")
        taking.layer(f"{ours}.cross.kv", own, f"{crossing}.k_proj", f"{crossing}.v_proj")
        taking.layer(f"{ours}.cross.out.out", own, f"{crossing}.out_proj")
        taking.put(f"{ours}.cross.out.gains", own[f"{ours}.cross.out.gains"], f"{crossing}.c_attn")
        taking.layer(f"{ours}.cross_norm", own, f"{theirs}.encoder_attn_layer_norm")
        taking.layer(f"{ours}.cross.out.norm", own, f"{theirs}.cross_attn_ln")
    taking.layer(f"{ours}.mlp_norm", own, f"{theirs}.final_layer_norm")
    taking.layer(f"{ours}.mlp.into", own, f"{theirs}.fc1")
    taking.layer(f"{ours}.mlp.norm", own, f"{theirs}.ffn_layernorm")
    taking.layer(f"{ours}.mlp.out", own, f"{theirs}.fc2")


def _vocabulary(path: Path, rows: int, tokenizer: Path | None, dictionary: Path | None) -> ForeignVocabulary:
    """The dictionary: a symbol a line, `<text>_ID` for GPT-2's pieces, `<bin>_N` for boxes."""
    place = dictionary or next((p for n in ("dict.txt", "dictionary.txt") if (p := path.parent / n).is_file()), None)
    if place is None:
        help = "OFASys' dictionary is dict.txt, a symbol a line: put it beside the weights, or dictionary=FILE"
        raise CheckpointError(f"{path}: there is no dictionary beside it", help=help)
    names = read_dictionary(place)
    if len(names) != rows:
        help = "it is the dictionary of another model; counts of fairseq are left out, its four controls counted"
        raise CheckpointError(f"{place} has {len(names)} rows, the weights of {path} have {rows}", help=help)
    known = {name: row for row, name in enumerate(names)}
    lacking = [s for s in ("<s>", "<pad>", "</s>", "<unk>") if s not in known]
    if lacking:
        raise CheckpointError(f"{place} lacks {', '.join(lacking)}", help="is it a dictionary of fairseq?")
    controls = {"start": known["<s>"], "pad": known["<pad>"], "close": known["</s>"]}
    if "<mask>" in known:
        controls["mask"] = known["<mask>"]
    text = {int(n[7:]): row for n, row in known.items() if re.fullmatch(r"<text>_\d+", n)}
    if not text:
        raise CheckpointError(f"{place} has no rows of text (`<text>_ID`)", help="is it a dictionary of OFASys?")
    bins = sorted(row for n, row in known.items() if re.fullmatch(r"<bin>_\d+", n))
    kind, model = text_model_in(tokenizer or path.parent, named=tokenizer is not None)
    house = {
        "house": HOUSE,
        "names": names,
        "controls": controls,
        "unknown": known["<unk>"],
        "text": [min(text.values()), max(text.values()) + 1],
        "bins": [bins[0], bins[-1] + 1] if bins else None,
        "around": [["start"], ["close"]],
        "kind": kind,
        "space": True,
        "rows": text,
    }
    return ForeignVocabulary({**house, "rows": {str(k): v for k, v in text.items()}}, model)


def read_dictionary(path: Path) -> list[str]:
    """Symbols of a dict.txt by row: one a line, with fairseq's count behind it or without, its controls first."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read: {error}", help="a dictionary is UTF-8, a symbol a line"
        ) from None
    names = [re.sub(r" \d+( #fairseq:overwrite)?$", "", line) for line in lines if line]
    controls = ["<s>", "<pad>", "</s>", "<unk>"]
    return names if "<s>" in names else [*controls, *names]
