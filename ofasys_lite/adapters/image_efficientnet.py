"""IMAGE by EfficientNet-lite: uint8 pixels -> one embedding per cell, by convolutions that ImageNet's classes taught.

Own code, so that an export needs no timm. EfficientNet, arXiv 1905.11946; the lite ones have relu6 in the place of
swish and no squeeze-and-excitation, and do not scale their first and last layers. Padding is that of TensorFlow, where
the weights come from. Shapes: N images of one size, C channels, h, w pixels of a map, L lines and K columns of cells.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_backbone import ProjectedBackbone
from ofasys_lite.adapters.image_pixels import PixelScale
from ofasys_lite.errors import CardError
from ofasys_lite.model import make_linear
from ofasys_lite.preprocess.media import setting

#: Of each stage: blocks, side of the kernel, stride, factor of the channels inside, channels.
_STAGES = (
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
#: Factors of channels and of blocks, of lite0 to lite4.
_SIZES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2), (1.2, 1.4), (1.4, 1.8))
_FIRST, _LAST, _EPSILON = 32, 1280, 1e-3


class SameConv(nn.Conv2d):
    """A convolution whose map has ceil(side / stride) pixels; of an odd rest of padding the end has more."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h / stride, w / stride)."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        rests = [max(0, (-(-n // stride) - 1) * stride + kernel - n) for n in (x.shape[3], x.shape[2])]
        found: Tensor = super().forward(F.pad(x, [part for n in rests for part in (n // 2, n - n // 2)]))
        return found


class InvertedBottleneck(nn.Module):
    """(N, C, h, w): wider by a 1 x 1 convolution, one kernel a channel, narrow again; a short cut where sizes agree."""

    def __init__(self, channels: int, outer: int, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        inner = channels * factor
        self.expand: nn.Sequential | None = None
        if factor != 1:
            self.expand = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), _norm(inner))
        self.depthwise = nn.Sequential(SameConv(inner, inner, kernel, stride, groups=inner, bias=False), _norm(inner))
        self.project = nn.Sequential(nn.Conv2d(inner, outer, 1, bias=False), _norm(outer))
        self.short = stride == 1 and channels == outer

    def forward(self, x: Tensor) -> Tensor:
        """The map; nothing is cut behind the last convolution."""
        y = x if self.expand is None else F.relu6(self.expand(x))
        y = self.project(F.relu6(self.depthwise(y)))
        found: Tensor = x + y if self.short else y
        return found


class EfficientNetLite(nn.Module):
    """(N, 3, h, w) -> (N, C, h / stride, w / stride): so many stages, behind all seven the last convolution, too.

    Args:
        number: 0 to 4.
        stages: 1 to 7; None: all and the last convolution.
    """

    def __init__(self, number: int, stages: int | None = None) -> None:
        super().__init__()
        wide, deep = _SIZES[number]
        self.first = nn.Sequential(SameConv(3, _FIRST, 3, 2, bias=False), _norm(_FIRST))
        self.stages, self.stride, channels = nn.ModuleList(), 2, _FIRST
        for place, (count, kernel, stride, factor, plain) in enumerate(_STAGES[:stages]):
            outer = _channels(plain, wide)
            count = count if place in (0, len(_STAGES) - 1) else math.ceil(count * deep)
            blocks = list[nn.Module]()
            for block in range(count):
                blocks.append(InvertedBottleneck(channels, outer, kernel, stride if block == 0 else 1, factor))
                channels = outer
            self.stages.append(nn.Sequential(*blocks))
            self.stride *= stride
        self.last: nn.Sequential | None = None
        if stages is None:
            self.last, channels = nn.Sequential(nn.Conv2d(channels, _LAST, 1, bias=False), _norm(_LAST)), _LAST
        self.channels = channels
        # drawn weights keep the scale of what passes through: BatchNorm, which never counts, does not restore it
        for name, module in self.named_modules():
            if isinstance(module, nn.Conv2d):
                gain = 1.0 if ".project." in name else 2.0
                nn.init.normal_(module.weight, std=math.sqrt(gain / module.weight[0].numel()))

    def forward(self, x: Tensor) -> Tensor:
        """The map of normalised images."""
        x = F.relu6(self.first(x))
        for stage in self.stages:
            x = stage(x)
        return x if self.last is None else F.relu6(self.last(x))


class EfficientNetAdapter(ProjectedBackbone):
    """A cell is what EfficientNet-lite makes of it, projected to the width.

    BatchNorm keeps its statistics (those of the weights it begins with; 0 and 1 without), also in training: samples of
    a pack must not see each other. Its weights are learned.

    Settings: `patch` (half of the stride: 16), `lite` (0 to 4), `stages` (1 to 7 of them; null: all and the last
    convolution, 1,280 channels), `pixel_mean`, `pixel_deviation`, `coordinates`.

    Raises:
        CardError: A setting that cannot be, among them a cell that is not the stride.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        number = setting(settings, "lite", 0, 0, len(_SIZES) - 1)
        stages = None if settings.get("stages") is None else setting(settings, "stages", 7, 1, 7)
        self.pixels = PixelScale.of(settings)
        self.backbone = EfficientNetLite(number, stages)
        if self.cell != self.backbone.stride:
            patch = self.backbone.stride // 2
            help = f"a cell is {patch} x 2 pixels wide there: modalities.IMAGE.patch={patch}"
            told = f"setting `patch` of IMAGE is {self.cell // 2}, and EfficientNet's map has the stride"
            raise CardError(f"{told} {self.backbone.stride}", help=help)
        self.project = make_linear(self.backbone.channels, shared.width)
        self._pairs(self.backbone.channels)
        self.train(self.training)

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, K, C) of images in -1 to 1."""
        found: Tensor = self.backbone(self.pixels(x_NCHW)).permute(0, 2, 3, 1)
        return found


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _channels(plain: int, factor: float) -> int:
    """Channels of a wider network: a multiple of 8, and not below nine tenths of what was asked for."""
    asked = plain * factor
    found = max(8, int(asked + 4) // 8 * 8)
    return found + 8 if found < 0.9 * asked else found
