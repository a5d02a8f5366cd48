"""Stems: images -> one vector per cell of 2 x 2 patches, by convolutions or by one linear map.

A convolutional stem learns far sooner than a linear patch (arXiv 2106.14881). No layer looks at more than one image.
Shapes: N images, C channels, D width; h, w pixels, f pixels a cell is wide and high.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.errors import CardError
from ofasys_lite.model import make_linear


class ConvStem(nn.Module):
    """Strided convolutions down to patches, then a 2 x 2 merge to the width.

    Each step is a 3 x 3 convolution of stride 2, a LayerNorm over channels and GELU; a patch that is no power of two
    begins with one convolution whose kernel and stride are its odd part.

    Residual blocks (a 3 x 3 convolution, a LayerNorm, GELU, a 1 x 1 convolution) at the patches' resolution may follow.

    Args:
        widths: Channels after each step: log2(patch) of them, one more if the odd part is above 1.
        blocks: Number of residual blocks before the merge.
    """

    def __init__(self, patch: int, widths: Sequence[int], width: int, blocks: int = 0) -> None:
        super().__init__()
        strides = strides_of(patch)
        if len(widths) != len(strides):
            raise CardError(
                f"setting `widths` of IMAGE has {len(widths)} entries for patch {patch}",
                help=f"write {len(strides)}: one per step of stride {', '.join(map(str, strides)) or 'none'}",
            )
        before = [3, *widths]
        self.steps = nn.ModuleList(
            nn.Conv2d(before[i], widths[i], 3 if stride == 2 else stride, stride, padding=1 if stride == 2 else 0)
            for i, stride in enumerate(strides)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in widths)
        self.blocks = nn.ModuleList(_Residual(before[-1]) for _ in range(blocks))
        self.merge = make_linear(4 * before[-1], width)

    def cells(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, h / f, w / f, 4 C) of normalised images, before the merge; h and w are multiples of f.

        Args:
            x_NCHW: Images; of several sizes, each in the upper left corner and zero outside.
            inside_NLC: Which cells belong to their image; None where all do. What a layer writes outside of an image is
                put back to zero, so that each sees the same border as alone.
        """
        for conv, norm in zip(self.steps, self.norms, strict=True):
            # in channels-last memory, the normalised axis is the contiguous one: both permutes are free
            x_NHWC = norm(conv(x_NCHW).permute(0, 2, 3, 1))
            x_NHWC = F.gelu(x_NHWC)
            x_NCHW = (x_NHWC if inside_NLC is None else _inside(x_NHWC, inside_NLC)).permute(0, 3, 1, 2)
        for block in self.blocks:
            x_NHWC = block(x_NCHW).permute(0, 2, 3, 1)
            x_NCHW = (x_NHWC if inside_NLC is None else _inside(x_NHWC, inside_NLC)).permute(0, 3, 1, 2)
        return cells_of(x_NCHW.permute(0, 2, 3, 1), 2)


class _Residual(nn.Module):
    """x + a 1 x 1 convolution of GELU of LayerNorm of a 3 x 3 convolution; begins as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm = nn.LayerNorm(channels)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, C, h, w), as it came in shape."""
        x_NHWC = F.gelu(self.norm(self.conv(x_NCHW).permute(0, 2, 3, 1)))
        x: Tensor = x_NCHW + self.out(x_NHWC).permute(0, 3, 1, 2)
        return x


class LinearStem(nn.Module):
    """One linear map of a whole cell, as ViT and Qwen2-VL have it."""

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.side = 2 * patch
        self.cell = make_linear(3 * self.side**2, width)

    @property
    def merge(self) -> nn.Linear:
        """The linear map: all that follows the cells, as in a ConvStem."""
        return self.cell

    def cells(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, h / f, w / f, 3 f f): the pixels of each cell; cells do not see each other."""
        return cells_of(x_NCHW.permute(0, 2, 3, 1), self.side)


def strides_of(patch: int) -> list[int]:
    """Strides of the steps that take pixels to patches: the odd part once, then halves."""
    twos = (patch & -patch).bit_length() - 1
    odd = patch >> twos
    return ([odd] if odd > 1 else []) + [2] * twos


def cells_of(x_NHWC: Tensor, side: int) -> Tensor:
    """(N, H / side, W / side, side * side * C): squares of `side` laid out as vectors."""
    N, H, W, C = x_NHWC.shape
    squares = x_NHWC.reshape(N, H // side, side, W // side, side, C).transpose(2, 3)
    return squares.reshape(N, H // side, W // side, side * side * C)


def _inside(x_NHWC: Tensor, inside_NLC: Tensor) -> Tensor:
    """Images with zeros outside of the cells that belong to them."""
    return x_NHWC * enlarged(inside_NLC, x_NHWC.shape[1] // inside_NLC.shape[1])


def enlarged(cells_NLC: Tensor, side: int) -> Tensor:
    """(N, L * side, C * side, 1): what is said of cells, of each of their squares of `side`."""
    count, lines, columns = cells_NLC.shape
    wide = cells_NLC.view(count, lines, 1, columns, 1).expand(-1, -1, side, -1, side)
    return wide.reshape(count, lines * side, columns * side, 1)
