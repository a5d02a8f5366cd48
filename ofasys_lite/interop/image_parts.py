"""Weights of others for IMAGE's part of a model: `start.image=SOURCE`. Which house SOURCE is of, and who reads it."""

from __future__ import annotations

from pathlib import Path

from ofasys_lite.errors import CheckpointError, did_you_mean
from ofasys_lite.generalist.parts import Part
from ofasys_lite.interop.checkpoint_files import read_weights
from ofasys_lite.interop.hugging_face_folder import read_config
from ofasys_lite.interop.image_networks import efficientnet_part, is_efficientnet
from ofasys_lite.interop.image_timm_weights import timm_part
from ofasys_lite.interop.image_towers import TOWERS, stored_config, tower_part
from ofasys_lite.interop.other_parts import other_file, other_kind

_TIMM = "timm:"
#: What can stand behind a source, and where.
_OPTIONS = ("layers", "stages")
HELP = (
    "a folder of Hugging Face with a vision tower (ViT, CLIP, SigLIP, Qwen2-VL), a file of EfficientNet-lite, "
    "timm:NAME or timm:NAME@FILE (docs/pretrained_images.md)"
)


def image_part(source: str) -> Part:
    """The weights in a folder of Hugging Face, in a file of EfficientNet-lite, or of a backbone of timm.

    Args:
        source: A path, `timm:NAME` (timm's own weights, fetched by it) or `timm:NAME@FILE`; behind a path `?layers=11`
            (so many blocks of a tower) or `?stages=5` (so many stages of an EfficientNet).

    Raises:
        CheckpointError: It is missing, cut or damaged, of another house or shape, or has parts that nothing here reads.
        CardError: timm is missing, or does not know the backbone.
    """
    if source.startswith(_TIMM):
        name, _, file = source.removeprefix(_TIMM).partition("@")
        return timm_part(source, name, Path(file) if file else None)
    place, options = _with_options(source)
    path = Path(place).expanduser()
    if not path.exists():
        raise CheckpointError(f"{place}: no such file or folder", help=HELP)
    config = read_config(path) if path.is_dir() else stored_config(path)
    if config is not None:
        kind = str(config.get("model_type"))
        if kind not in TOWERS:
            help = other_kind(kind) or did_you_mean(kind, TOWERS, "vision towers are read of")
            raise CheckpointError(f"{path}: a model of the type `{kind}` is no vision tower that is known", help=help)
        return tower_part(source, path, config, _only(options, "layers"))
    weights = read_weights(path)
    if is_efficientnet(weights.tensors):
        return efficientnet_part(source, weights, _only(options, "stages"))
    first = ", ".join(list(weights.tensors)[:3])
    raise CheckpointError(f"{path} holds no EfficientNet (it holds {first} ...)", help=other_file(weights) or HELP)


def _with_options(source: str) -> tuple[str, dict[str, int]]:
    """(the path, what stands behind it)."""
    place, asked, said = source.partition("?")
    if not asked:
        return source, {}
    found = dict[str, int]()
    for each in said.split("&"):
        key, _, value = each.partition("=")
        if key not in _OPTIONS:
            raise CheckpointError(f"`{key}` is not known", help=did_you_mean(key, _OPTIONS))
        if not value.isdecimal() or not int(value):
            raise CheckpointError(f"`{key}` is {value!r}", help="a whole number from 1 on")
        found[key] = int(value)
    return place, found


def _only(options: dict[str, int], key: str) -> int | None:
    """What is said of `key`; CheckpointError for what the house has not."""
    for other in options:
        if other != key:
            raise CheckpointError(f"`{other}` is not of this house", help=f"it has `{key}`")
    return options.get(key)
