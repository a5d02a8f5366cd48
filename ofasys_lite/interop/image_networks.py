"""EfficientNet-lite's weights (arXiv 1905.11946) as those of the adapter `efficientnet`.

Two spellings are known: that of efficientnet_pytorch (`_blocks.3._depthwise_conv`), and timm's (`blocks.2.0.conv_dw`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.adapters.image_efficientnet import EfficientNetLite
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.parts import Part
from ofasys_lite.interop.checkpoint_files import Weights
from ofasys_lite.interop.image_processors import FRESH, SOMETIMES
from ofasys_lite.interop.taking import Taking

#: What pixels of 0 to 1 were normalised with: (x - 127) / 128 of bytes, as TensorFlow's EfficientNet-lite does it.
_MEAN, _DEVIATION = 127 / 255, 128 / 255
_STEMS = ("_conv_stem.weight", "conv_stem.weight")
#: Blocks and channels before the last convolution, by which the five sizes are told apart.
_KNOWN = {(16, 320): 0, (21, 320): 1, (21, 352): 2, (24, 384): 3, (30, 448): 4}


def is_efficientnet(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are weights of an EfficientNet, in a spelling that is known."""
    return any(name in tensors for name in _STEMS)


def efficientnet_part(source: str, weights: Weights, stages: int | None) -> Part:
    """The backbone; its classifier is left.

    Args:
        stages: How many of its seven are taken; None: all, and the last convolution.

    Raises:
        CheckpointError: It is none of the lite ones, cut, or of other shapes.
    """
    tensors = weights.tensors
    where = str(weights.path)
    squeezed = next((name for name in tensors if "_se_" in name or ".se." in name), None)
    if squeezed is not None:
        told = f"{where} is an EfficientNet with squeeze-and-excitation (`{squeezed}`)"
        raise CheckpointError(told, help="the lite ones (0 to 4) are read, which have none; timm:NAME reads others")
    if stages is not None and stages > 7:
        raise CheckpointError(f"`stages` is {stages}", help="an EfficientNet has 7")
    theirs = _STEMS[0] in tensors
    number = _number(where, tensors, theirs)
    with torch.device("meta"):
        network = EfficientNetLite(number, stages)
    own = dict(network.state_dict())
    taking = Taking(where, tensors)
    for ours, name in house_names(network, theirs):
        for kind in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked"):
            if f"{ours}.{kind}" in own:
                taking.put(f"backbone.{ours}.{kind}", own[f"{ours}.{kind}"], f"{name}.{kind}")
    taking.check(f"EfficientNet-lite{number}")
    heads = ("_fc.", "classifier.")
    left = {
        name: "it tells ImageNet's classes" if name.startswith(heads) else "behind the stages that are taken"
        for name in taking.left()
    }
    settings: dict[str, Any] = {
        "patch": network.stride // 2,
        "lite": number,
        "stages": stages,
        "pixel_mean": [_MEAN] * 3,
        "pixel_deviation": [_DEVIATION] * 3,
    }
    return Part(
        f"EfficientNet-lite{number}",
        source,
        "efficientnet",
        settings,
        taking.state,
        taking.origins,
        left,
        FRESH,
        sometimes=SOMETIMES,
    )


def _number(where: str, tensors: Mapping[str, Tensor], theirs: bool) -> int:
    """Which of the five sizes it is."""
    pattern, head = (r"_blocks\.\d+\.", "_conv_head") if theirs else (r"blocks\.\d+\.\d+\.", "conv_head")
    blocks = {found[0] for name in tensors if (found := re.match(pattern, name))}
    last = tensors.get(f"{head}.weight")
    channels = last.shape[1] if last is not None and last.ndim == 4 else 0
    number = _KNOWN.get((len(blocks), channels))
    if number is None:
        told = f"{where} has {len(blocks)} blocks and {channels} channels before its last convolution"
        raise CheckpointError(told, help="no EfficientNet-lite is made so: is the file whole? nothing was written")
    return number


def house_names(network: EfficientNetLite, theirs: bool) -> Iterator[tuple[str, str]]:
    """(our layer, the house's)."""
    stem, norms = ("_conv_stem", ("_bn0", "_bn1")) if theirs else ("conv_stem", ("bn1", "bn2"))
    yield from (("first.0", stem), ("first.1", norms[0]))
    count = 0
    for stage, blocks in enumerate(network.stages):
        for place, block in enumerate(blocks.children()):
            wide = getattr(block, "expand", None) is not None
            prefix = f"_blocks.{count}" if theirs else f"blocks.{stage}.{place}"
            for part, (layer, norm) in _parts(theirs, wide).items():
                yield f"stages.{stage}.{place}.{part}.0", f"{prefix}.{layer}"
                yield f"stages.{stage}.{place}.{part}.1", f"{prefix}.{norm}"
            count += 1
    if network.last is not None:
        yield from (("last.0", stem.replace("stem", "head")), ("last.1", norms[1]))


def _parts(theirs: bool, wide: bool) -> dict[str, tuple[str, str]]:
    """Of a block: our layer -> the house's convolution and norm; timm counts norms from the first one there is."""
    if theirs:
        found = {"depthwise": ("_depthwise_conv", "_bn1"), "project": ("_project_conv", "_bn2")}
        return {"expand": ("_expand_conv", "_bn0"), **found} if wide else found
    if wide:
        return {"expand": ("conv_pw", "bn1"), "depthwise": ("conv_dw", "bn2"), "project": ("conv_pwl", "bn3")}
    return {"depthwise": ("conv_dw", "bn1"), "project": ("conv_pw", "bn2")}
