"""IMAGE by the first three stages of a ResNet of bottlenecks, as OFA and OFASys see pictures (stride 16).

Own code, because the weights go by the names of torchvision's ResNet, which the package does not need otherwise.
Deep Residual Learning, arXiv 1512.03385. Shapes: N images of one size, C channels, L lines and K columns of cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image_backbone import ProjectedBackbone
from ofasys_lite.errors import CardError
from ofasys_lite.model import make_linear

_EXPANSION = 4


class Bottleneck(nn.Module):
    """(N, C, h, w): three convolutions, the second with the stride, around a short cut."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        outer = inner * _EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, outer, 1, bias=False), nn.BatchNorm2d(outer)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or channels != outer:
            self.downsample = nn.Sequential(nn.Conv2d(channels, outer, 1, stride, bias=False), nn.BatchNorm2d(outer))

    def forward(self, x: Tensor) -> Tensor:
        """The sum of both ways, cut at 0."""
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn3(self.conv3(F.relu(self.bn2(self.conv2(y)))))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """(N, 3, h, w) -> (N, 1024, h / 16, w / 16); weights go by the names of torchvision's."""

    def __init__(self, depths: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)
        channels = 64
        for number, depth in enumerate(depths, 1):
            inner, blocks = 64 * 2 ** (number - 1), list[nn.Module]()
            for place in range(depth):
                blocks.append(Bottleneck(channels, inner, 2 if number > 1 and place == 0 else 1))
                channels = inner * _EXPANSION
            setattr(self, f"layer{number}", nn.Sequential(*blocks))
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """The map behind the third stage."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in (1, 2, 3):
            x = getattr(self, f"layer{number}")(x)
        return x


class ResNetAdapter(ProjectedBackbone):
    """A cell of 16 x 16 pixels is what a ResNet's third stage makes of it, projected to the width.

    BatchNorm keeps its statistics, also in training: samples of a pack must not see each other. What norms the rows,
    and tells where they lie, is the body's (`entry: kinds`, `positions: untied`).

    Settings: `patch` (8), `depths` (blocks of the three stages, [3, 4, 6]: ResNet-50; [3, 4, 23]: ResNet-101).
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__({**settings, "coordinates": False}, shared)
        if self.cell != 16:
            raise CardError(f"setting `patch` of IMAGE is {self.cell // 2}", help="a ResNet's third stage needs 8")
        depths = settings.get("depths") or [3, 4, 6]
        if len(depths) != 3 or not all(isinstance(n, int) and n > 0 for n in depths):
            raise CardError(f"setting `depths` of IMAGE is {depths!r}", help="three numbers of blocks, as [3, 4, 6]")
        self.backbone = ResNet((depths[0], depths[1], depths[2]))
        self.project = make_linear(self.backbone.channels, shared.width)
        self.norm = nn.Identity()  # type: ignore[assignment]
        self._pairs(self.backbone.channels)
        self.train(self.training)

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, K, C) of normalised images."""
        found: Tensor = self.backbone(x_NCHW).permute(0, 2, 3, 1)
        return found
