"""A discriminator that judges patches of pictures, and the hinge losses it plays by.

PatchGAN, arXiv 1611.07004; hinge, arXiv 1705.02894. Shapes: N pictures, C channels, S side in pixels.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.errors import CardError

#: Pixels that one judgement sees, by the number of halvings.
_PATCHES = (7, 16, 34, 70)
_WIDTH = 64


def patch(side: int) -> int:
    """Pixels a judged patch is wide and high: the largest of 7, 16, 34 and 70 that the picture holds.

    Raises:
        CardError: The picture is smaller than the smallest patch.
    """
    if side < _PATCHES[0]:
        raise CardError(
            f"a discriminator judges patches of {_PATCHES[0]} pixels, the pictures have {side}",
            help="leave --gan-weight out, or take larger pictures",
        )
    return max(p for p in _PATCHES if p <= side)


class PatchDiscriminator(nn.Module):
    """Pictures to one number per patch: above 0 where the patch looks real.

    Convolutions of 4 x 4 as published, 64 channels wide. Groups of channels are normalised within a picture instead of
    within the batch: samples must not see each other.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        halvings = _PATCHES.index(patch(side))
        strides = [2] * halvings + [1]
        widths = [3, *(_WIDTH * min(8, 2**i) for i in range(len(strides)))]
        layers: list[nn.Module] = []
        for i, stride in enumerate(strides):
            layers.append(nn.Conv2d(widths[i], widths[i + 1], 4, stride, 1))
            if i:
                layers.append(nn.GroupNorm(16, widths[i + 1]))
            layers.append(nn.LeakyReLU(0.2))
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, 0.0, 0.02)

    def forward(self, pixels_NCHW: Tensor) -> Tensor:
        """(N, 1, h, w) of pictures in -1 to 1."""
        judged: Tensor = self.layers(pixels_NCHW)
        return judged


def hinge_discriminator(real: Tensor, made: Tensor) -> Tensor:
    """What the discriminator minimises: judgements of real patches below 1 and of made ones above -1 cost."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + made).mean())


def hinge_generator(made: Tensor) -> Tensor:
    """What the maker of the pictures minimises: made patches judged as real."""
    return -made.mean()
