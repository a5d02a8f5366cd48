"""IMAGE by a backbone of timm: uint8 pixels -> one embedding per cell of 2 x 2 patches. Needs the extra `image`.

Shapes: N images of one size, C channels of the backbone, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import GridAdapter
from ofasys_lite.errors import CardError, did_you_mean, needed
from ofasys_lite.model import make_linear


class TimmAdapter(GridAdapter):
    """The last feature map of a timm backbone, brought to the grid of cells and projected to the width.

    BatchNorm keeps its statistics (those of the checkpoint; 0 and 1 without one), also in training: samples of a pack
    must not see each other. Its weights are learned.

    Settings: `patch` (16 gives cells of 32 pixels, the stride of most backbones: then no map is resized),
    `backbone` (`resnet18`), `pretrained` (false; true downloads the weights), `checkpoint` (a file of weights),
    `coordinates`.

    Raises:
        CardError: timm is missing, or does not know the backbone.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.backbone, channels, mean, std = _backbone(settings)
        self.project = make_linear(channels, shared.width)
        self._pairs(shared.width)
        self.register_buffer("scale", torch.tensor([0.5 / s for s in std])[:, None, None], persistent=False)
        shift = torch.tensor([(0.5 - m) / s for m, s in zip(mean, std, strict=True)])[:, None, None]
        self.register_buffer("shift", shift, persistent=False)
        self.train(self.training)

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings without the weights that the backbone began with: an export holds its own."""
        return {**settings, "pretrained": False, "checkpoint": None}

    def train(self, mode: bool = True) -> TimmAdapter:
        """Sets training mode everywhere but in BatchNorm."""
        super().train(mode)
        for module in self.backbone.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, C, D): the map averaged, or interpolated where it is coarser than the cells."""
        lines, columns = x_NCHW.shape[2] // self.cell, x_NCHW.shape[3] // self.cell
        map_NCHW = self.backbone(x_NCHW * self.scale + self.shift)[-1]
        high, wide = map_NCHW.shape[-2:]
        if (high, wide) != (lines, columns):
            if high >= lines and wide >= columns:
                map_NCHW = F.adaptive_avg_pool2d(map_NCHW, (lines, columns))
            else:
                map_NCHW = F.interpolate(map_NCHW, (lines, columns), mode="bilinear", align_corners=False)
        x: Tensor = self.project(map_NCHW.permute(0, 2, 3, 1))
        return x


def _backbone(settings: Mapping[str, Any]) -> tuple[nn.Module, int, tuple[float, ...], tuple[float, ...]]:
    """The backbone, the channels of its last map, and the mean and deviation its pixels were normalised with."""
    name = settings.get("backbone") or "resnet18"
    timm = needed("timm", "the adapter `timm` of IMAGE", "image", kind=CardError)
    plain = str(name).split(".", 1)[0]
    if not timm.is_model(plain) and "/" not in plain:
        known = [n for n in timm.list_models() if n[:3] == plain[:3]] or timm.list_models()
        raise CardError(f"setting `backbone` of IMAGE is {name!r}", help=did_you_mean(plain, known, "timm has"))
    chosen: dict[str, Any] = {
        "pretrained": bool(settings.get("pretrained", False)),
        "checkpoint_path": settings.get("checkpoint") or "",
        "features_only": True,
        "out_indices": (-1,),
    }
    try:  # Vision Transformers are told that sizes vary; convolutional networks take no such argument
        model = timm.create_model(name, **chosen, dynamic_img_size=True, dynamic_img_pad=True)
    except TypeError:
        model = timm.create_model(name, **chosen)
    numbers = getattr(model, "default_cfg", None) or getattr(model, "pretrained_cfg", {})
    half = (0.5, 0.5, 0.5)
    return model, model.feature_info.channels()[-1], numbers.get("mean", half), numbers.get("std", half)
