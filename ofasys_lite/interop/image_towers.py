"""Vision towers in Hugging Face's format as weights of the adapter `tower`. transformers itself is not needed.

ViT, arXiv 2010.11929; CLIP, arXiv 2103.00020; SigLIP, arXiv 2303.15343; Qwen2-VL, arXiv 2409.12191.
Each house is a table: what its config.json calls a size, how it spells a layer, what it has that others have not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from ofasys_lite.adapters.image_tower_layers import THETA, Tower, TowerSizes
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.generalist.parts import Part
from ofasys_lite.interop.hugging_face_folder import ACTIVATIONS, Said, licence_of
from ofasys_lite.interop.image_processors import FRESH, SOMETIMES, Pictures, pictures_of
from ofasys_lite.interop.taking import Taking
from ofasys_lite.interop.tower_files import tensors_in

_ACTIVATIONS = {**ACTIVATIONS, "quick_gelu": "quick_gelu"}
#: How pictures are brought to a tower is its own way; another size or cut is the user's business.
FREE = ("size", "crop", "resample", "min_pixels", "max_pixels")
_HALF, _CLIP = (0.5, 0.5, 0.5), ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclass(frozen=True, slots=True)
class House:
    """What one house calls its things.

    Attributes:
        name: For messages.
        prefixes: What stands before the tower's names in a file, the longest first.
        keys: Size of ours -> (key of config.json, its default).
        layers: Layer of ours -> the house's; `{}` is the number of a block. Several are one behind the other.
        fixed: Sizes that all its towers have.
        pictures: How pictures are brought to it where nothing says it.
        left: Beginning of a name that is not taken -> why.
    """

    name: str
    prefixes: tuple[str, ...]
    keys: Mapping[str, tuple[str, Any]]
    layers: Mapping[str, tuple[str, ...]]
    fixed: Mapping[str, Any]
    pictures: Pictures
    left: Mapping[str, str] = field(default_factory=dict)


_VIT = House(
    "ViT",
    ("vit.", ""),
    {
        "width": ("hidden_size", 768),
        "depth": ("num_hidden_layers", 12),
        "heads": ("num_attention_heads", 12),
        "ffn": ("intermediate_size", 3072),
        "activation": ("hidden_act", "gelu"),
        "epsilon": ("layer_norm_eps", 1e-12),
    },
    {
        "patch": ("embeddings.patch_embeddings.projection",),
        "first": ("embeddings.cls_token",),
        "places": ("embeddings.position_embeddings",),
        "final_norm": ("layernorm",),
        "blocks.{}.attention_norm": ("encoder.layer.{}.layernorm_before",),
        "blocks.{}.qkv": tuple(f"encoder.layer.{{}}.attention.attention.{x}" for x in ("query", "key", "value")),
        "blocks.{}.out": ("encoder.layer.{}.attention.output.dense",),
        "blocks.{}.mlp_norm": ("encoder.layer.{}.layernorm_after",),
        "blocks.{}.into": ("encoder.layer.{}.intermediate.dense",),
        "blocks.{}.back": ("encoder.layer.{}.output.dense",),
    },
    {"class_token": True, "patch_bias": True, "final_norm": "all"},
    Pictures(_HALF, _HALF, "bilinear"),
    {"pooler.": "its pooler is not read", "classifier.": "it tells the house's classes"},
)
_ENCODER = {
    "blocks.{}.attention_norm": ("encoder.layers.{}.layer_norm1",),
    "blocks.{}.qkv": tuple(f"encoder.layers.{{}}.self_attn.{x}_proj" for x in "qkv"),
    "blocks.{}.out": ("encoder.layers.{}.self_attn.out_proj",),
    "blocks.{}.mlp_norm": ("encoder.layers.{}.layer_norm2",),
    "blocks.{}.into": ("encoder.layers.{}.mlp.fc1",),
    "blocks.{}.back": ("encoder.layers.{}.mlp.fc2",),
    "patch": ("embeddings.patch_embedding",),
    "places": ("embeddings.position_embedding.weight",),
    "final_norm": ("post_layernorm",),
}
_CLIP_HOUSE = House(
    "CLIP",
    ("vision_model.", ""),
    {**_VIT.keys, "activation": ("hidden_act", "quick_gelu"), "epsilon": ("layer_norm_eps", 1e-5)},
    {**_ENCODER, "first": ("embeddings.class_embedding",), "entry_norm": ("pre_layrnorm",)},
    {"class_token": True, "patch_bias": False, "entry_norm": True, "final_norm": "class"},
    Pictures(*_CLIP, "bicubic", cut=True),
)
_SIGLIP = House(
    "SigLIP",
    ("vision_model.", ""),
    {**_VIT.keys, "activation": ("hidden_act", "gelu_pytorch_tanh"), "epsilon": ("layer_norm_eps", 1e-6)},
    _ENCODER,
    {"class_token": False, "patch_bias": True, "final_norm": "all"},
    Pictures(_HALF, _HALF, "bicubic"),
    {"head.": "its pooling head is not read"},
)
_QWEN = House(
    "Qwen2-VL",
    ("model.visual.", "visual.", ""),
    {
        "width": ("embed_dim", 1280),
        "depth": ("depth", 32),
        "heads": ("num_heads", 16),
        "out": ("hidden_size", 3584),
        "activation": ("hidden_act", "quick_gelu"),
        "merge": ("spatial_merge_size", 2),
        "temporal": ("temporal_patch_size", 2),
    },
    {
        "patch": ("patch_embed.proj",),
        "final_norm": ("merger.ln_q",),
        "merger.0": ("merger.mlp.0",),
        "merger.2": ("merger.mlp.2",),
        "blocks.{}.attention_norm": ("blocks.{}.norm1",),
        "blocks.{}.qkv": ("blocks.{}.attn.qkv",),
        "blocks.{}.out": ("blocks.{}.attn.proj",),
        "blocks.{}.mlp_norm": ("blocks.{}.norm2",),
        "blocks.{}.into": ("blocks.{}.mlp.fc1",),
        "blocks.{}.back": ("blocks.{}.mlp.fc2",),
    },
    {"class_token": False, "patch_bias": False, "positions": "rotary", "final_norm": "all", "epsilon": 1e-6},
    Pictures(*_CLIP, "bicubic", bounds=(56 * 56, 28 * 28 * 1280)),
)
#: `model_type` of config.json, or of its `vision_config`.
TOWERS: Mapping[str, House] = {
    "vit": _VIT,
    "clip": _CLIP_HOUSE,
    "clip_vision_model": _CLIP_HOUSE,
    "siglip": _SIGLIP,
    "siglip_vision_model": _SIGLIP,
    "qwen2_vl": _QWEN,
    "qwen2_vl_vision": _QWEN,
}


def tower_part(source: str, path: Path, config: Mapping[str, Any], layers: int | None) -> Part:
    """The tower in a folder, or in a file of weights whose header holds its configuration.

    Args:
        config: What config.json says, of a type in `TOWERS`; of a model of more parts its `vision_config` is read.
        layers: How many of its blocks are taken, without the norm behind the last one; None: all, and it.

    Raises:
        CheckpointError: No vision tower lies there; something lacks or has another shape.
    """
    house = TOWERS[str(config["model_type"])]
    said = config.get("vision_config", config)
    if not isinstance(said, Mapping):
        raise CheckpointError(f"{path}: `vision_config` is {said!r}", help="a mapping; copy config.json again")
    sizes, side, pixels = _sizes(house, path, said)
    tensors = tensors_in(path, house.prefixes, f"{house.layers['patch'][0]}.weight")
    depth = sizes.depth
    if layers is not None:
        if layers > depth or sizes.merge > 1:
            help = (
                "all of them: its merger belongs behind the last one" if sizes.merge > 1 else f"it has {depth} blocks"
            )
            raise CheckpointError(f"`layers` is {layers}", help=help)
        norm = sizes.final_norm if layers == depth else "none"
        sizes = TowerSizes(**{**asdict(sizes), "depth": layers, "final_norm": norm})
    with torch.device("meta"):
        tower = Tower(sizes, side)
    taking = _taken(house, path, tensors.own, tower, side, sizes)
    taking.check(f"{house.name}'s vision tower", never=() if layers is not None else ("encoder.layer", "blocks."))
    left = {
        **{tensors.spelled(name): _why(house, name) for name in taking.left()},
        **dict.fromkeys(tensors.others, "not of the vision tower"),
    }
    origins = {tensors.spelled(name): origin for name, origin in taking.origins.items()}
    cell = side * sizes.merge
    settings: dict[str, Any] = {
        "patch": cell // 2,
        "tower": asdict(sizes),
        **pictures_of(path, house.pictures, pixels, cell, sizes.positions == "table"),
    }
    fresh = (*FRESH, "whole.") if sizes.class_token else FRESH
    return Part(
        house.name,
        source,
        "tower",
        settings,
        taking.state,
        origins,
        left,
        fresh,
        licence_of(path),
        FREE,
        SOMETIMES,
    )


def stored_config(path: Path) -> Mapping[str, Any] | None:
    """The configuration of a Qwen2-VL tower in the header of a file of safetensors; None where there is none."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
    except (SafetensorError, OSError):
        return None  # reading it says what is wrong
    numbers = {key: int(value) for key, value in said.items() if value.isdecimal()}
    wanted = {"embed_dim", "depth", "num_heads", "hidden_size", "patch_size", "spatial_merge_size"}
    return {"model_type": "qwen2_vl", **numbers} if wanted <= numbers.keys() else None


def _sizes(house: House, path: Path, said: Mapping[str, Any]) -> tuple[TowerSizes, int, int | None]:
    """Sizes of the tower, pixels a patch is wide, pixels of a picture where its table of positions was learned."""
    asked, values = Said(path, said), dict[str, Any](house.fixed)
    for ours, (key, default) in house.keys.items():
        if ours == "activation":
            values[ours] = asked.choice(key, _ACTIVATIONS, default)
        else:
            values[ours] = said.get(key, default) if isinstance(default, float) else asked.number(key, default)
    if "ffn" not in values:
        ratio = said.get("mlp_ratio", 4)
        values["ffn"] = (
            int(values["width"] * ratio) if isinstance(ratio, (int, float)) else asked.number("mlp_ratio", 4)
        )
    if said.get("num_channels", said.get("in_channels", said.get("in_chans", 3))) != 3:
        raise CheckpointError(f"{path}: pictures there have not three colours", help="nothing here reads such")
    rope = said.get("rope_parameters") or {}
    if isinstance(rope, Mapping) and rope.get("rope_theta", THETA) != THETA:
        raise CheckpointError(f"{path}: `rope_theta` is {rope['rope_theta']}", help=f"towers here have {THETA:g}")
    if said.get("qkv_bias", True) is not True:
        raise CheckpointError(f"{path}: `qkv_bias` is false", help="towers here have biases; nothing was read")
    side, pixels = asked.number("patch_size", 14 if "merge" in house.keys else 16), None
    if values.get("positions", "table") == "table":
        pixels = asked.number("image_size", 224)
        values["table"] = pixels // max(1, side)
    if side < 1 or side * int(values.get("merge", 1)) % 2 or (pixels is not None and pixels < side):
        raise CheckpointError(f"{path}: patches of {side} pixels", help="cells are of an even number of pixels here")
    try:
        return TowerSizes.of(values), side, pixels
    except CardError as error:
        raise CheckpointError(f"{path}: {error.message}", help=error.help) from None


def _taken(
    house: House, path: Path, tensors: Mapping[str, torch.Tensor], tower: Tower, side: int, sizes: TowerSizes
) -> Taking:
    own = dict(tower.state_dict())
    patch = f"{house.layers['patch'][0]}.weight"
    kernel = (3, sizes.temporal, side, side)
    flat = {
        name: t.flatten(1) if name == patch and t.shape[1:].numel() == _size(kernel) else t
        for name, t in tensors.items()
    }
    taking = Taking(str(path), flat)
    for ours, names in house.layers.items():
        for block in range(sizes.depth if "{}" in ours else 1):
            mine, theirs = ours.format(block), [name.format(block) for name in names]
            if mine in own:  # a parameter that belongs to no layer
                taking.put(f"tower.{mine}", own[mine], *theirs)
            else:
                layers = {f"tower.{name}": tensor for name, tensor in own.items()}
                taking.layer(f"tower.{mine}", layers, *theirs)
    return taking


def _size(kernel: tuple[int, ...]) -> int:
    return torch.Size(kernel).numel()


def _why(house: House, name: str) -> str:
    why = next((reason for begin, reason in house.left.items() if name.startswith(begin)), "")
    if why:
        return why
    return "a formula makes it" if "position_ids" in name or "inv_freq" in name else "behind the blocks that are taken"
