"""IMAGE by a backbone of timm: uint8 pixels -> one embedding per cell of 2 x 2 patches. Needs the extra `image`.

Shapes: N images of one size, C channels of the backbone, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_backbone import BackboneAdapter
from ofasys_lite.adapters.image_pixels import HALF, PixelScale
from ofasys_lite.errors import CardError, did_you_mean, needed
from ofasys_lite.model import make_linear


class TimmAdapter(BackboneAdapter):
    """The last feature map of a timm backbone, brought to the grid of cells and projected to the width.

    BatchNorm keeps its statistics (those of the checkpoint; 0 and 1 without one), also in training: samples of a pack
    must not see each other. Its weights are learned.

    Settings: `patch` (16 gives cells of 32 pixels, the stride of most backbones: then no map is resized),
    `backbone` (`resnet18`), `pretrained` (false; true downloads the weights), `checkpoint` (a file of weights),
    `coordinates`.

    Raises:
        CardError: timm is missing, or does not know the backbone.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        backbone = timm_backbone(settings)
        self.backbone = backbone.network
        self.project = make_linear(backbone.channels, shared.width)
        self._pairs(shared.width)
        self.pixels = PixelScale(backbone.mean, backbone.deviation)
        self.train(self.training)

    @classmethod
    def stored(cls, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The settings without the weights that the backbone began with: an export holds its own."""
        return {**settings, "pretrained": False, "checkpoint": None}

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, C, D): the map averaged, or interpolated where it is coarser than the cells."""
        lines, columns = x_NCHW.shape[2] // self.cell, x_NCHW.shape[3] // self.cell
        map_NCHW = self.backbone(self.pixels(x_NCHW))[-1]
        high, wide = map_NCHW.shape[-2:]
        if (high, wide) != (lines, columns):
            if high >= lines and wide >= columns:
                map_NCHW = F.adaptive_avg_pool2d(map_NCHW, (lines, columns))
            else:
                map_NCHW = F.interpolate(map_NCHW, (lines, columns), mode="bilinear", align_corners=False)
        x: Tensor = self.project(map_NCHW.permute(0, 2, 3, 1))
        return x


@dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone of timm.

    Attributes:
        network: (N, 3, h, w) -> [(N, C, h / stride, w / stride)].
        channels: Of its last map, C.
        stride: Pixels a place of the last map is wide and high.
        mean: What its pixels were normalised with, of red, green and blue in 0 to 1.
        deviation: Likewise.
        licence: What timm says of its weights.
    """

    network: nn.Module
    channels: int
    stride: int
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    licence: str | None


def check_backbone(name: str) -> Any:
    """timm itself; CardError where it is missing or does not know the backbone."""
    timm = needed("timm", "the adapter `timm` of IMAGE", "image", kind=CardError)
    plain = name.split(".", 1)[0]
    if not timm.is_model(plain) and "/" not in plain:
        known = [n for n in timm.list_models() if n[:3] == plain[:3]] or timm.list_models()
        raise CardError(f"setting `backbone` of IMAGE is {name!r}", help=did_you_mean(plain, known, "timm has"))
    return timm


def timm_backbone(settings: Mapping[str, Any]) -> Backbone:
    """The backbone that the settings name, with the weights that they name.

    Raises:
        CardError: timm is missing, or does not know the backbone.
    """
    name = str(settings.get("backbone") or "resnet18")
    timm = check_backbone(name)
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
    info = model.feature_info
    mean, deviation = numbers.get("mean", HALF), numbers.get("std", HALF)
    licence = numbers.get("license")
    return Backbone(model, info.channels()[-1], info.reduction()[-1], mean, deviation, licence and str(licence))
