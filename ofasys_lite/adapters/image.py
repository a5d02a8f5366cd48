"""IMAGE on the model side: uint8 pixels -> one embedding per cell of 2 x 2 patches, by a small convolutional stem.

A convolutional stem learns far sooner than a linear patch (arXiv 2106.14881). Images of equal size go through it
together; no layer looks at more than one image, so the result does not depend on what else is in the pack.
Shapes: N images of one size, C channels, P rows (cells), D width; h, w pixels, f pixels a cell is wide and high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Adapter, Section, Shared
from ofasys_lite.data.types import Part
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.preprocess.media import setting

__all__ = ["ConvStem", "GridAdapter", "ImageAdapter", "LinearStem"]

_FREQUENCIES = 6


class ConvStem(nn.Module):
    """Strided convolutions down to patches, then a 2 x 2 merge to the width.

    Each step is a 3 x 3 convolution of stride 2, a LayerNorm over channels and GELU; a patch that is no power of two
    begins with one convolution whose kernel and stride are its odd part.

    Residual blocks (a 3 x 3 convolution, a LayerNorm, GELU, a 1 x 1 convolution) at the patches' resolution may follow.

    Args:
        patch: Side of a patch in pixels.
        widths: Channels after each step: log2(patch) of them, one more if the odd part is above 1.
        width: D.
        blocks: Number of residual blocks before the merge.
    """

    def __init__(self, patch: int, widths: Sequence[int], width: int, blocks: int = 0) -> None:
        super().__init__()
        strides = _strides(patch)
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
        self.merge = nn.Linear(4 * before[-1], width)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, h / f, w / f, D) of normalised images; h and w are multiples of f."""
        for conv, norm in zip(self.steps, self.norms, strict=True):
            # in channels-last memory, the normalised axis is the contiguous one: both permutes are free
            x_NHWC = norm(conv(x_NCHW).permute(0, 2, 3, 1))
            x_NCHW = F.gelu(x_NHWC).permute(0, 3, 1, 2)
        for block in self.blocks:
            x_NCHW = block(x_NCHW)
        x: Tensor = self.merge(_cells(x_NCHW.permute(0, 2, 3, 1), 2))
        return x


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
    """One linear map of a whole cell, as ViT and Qwen2-VL have it.

    Args:
        patch: Side of a patch in pixels.
        width: D.
    """

    def __init__(self, patch: int, width: int) -> None:
        super().__init__()
        self.side = 2 * patch
        self.cell = nn.Linear(3 * self.side**2, width)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """(N, h / f, w / f, D) of normalised images; h and w are multiples of f."""
        x: Tensor = self.cell(_cells(x_NCHW.permute(0, 2, 3, 1), self.side))
        return x


class GridAdapter(Adapter):
    """What all image adapters share: grouping by size, masks, coordinates; subclasses give `features`.

    Settings: `patch`, and `coordinates` (default true): a learned map of each cell's place in the image, in shares of
    its sides, is added. Rotary positions are relative; boxes, which are shares of the sides, need this.

    Args:
        settings: The modality card's settings.
        shared: Width and shared modules.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.cell = 2 * setting(settings, "patch", 4, 1, 1024)
        self.mask = nn.Parameter(torch.zeros(shared.width))
        nn.init.normal_(self.mask, std=0.02)
        wanted = settings.get("coordinates", True)
        self.place = nn.Linear(4 * _FREQUENCIES, shared.width, bias=False) if wanted else None
        if self.place is not None:
            # a row begins as what its cell shows, and where the cell lies is a small part of it: with the usual scale
            # of a linear layer, digits left chance later (loss 2.0 against 1.6 after 3,400 samples of each)
            nn.init.normal_(self.place.weight, std=0.02)
        self.norm = nn.LayerNorm(shared.width)

    def features(self, x_NCHW: Tensor, lines: int, columns: int) -> Tensor:
        """(N, lines, columns, D) of normalised images (N, 3, lines * f, columns * f) whose masked cells are zero."""
        raise TypeError(f"{type(self).__name__} does not say how to see an image")

    def embed(self, part: Part) -> Tensor:
        """(P, D): the cells of all images of the part, image by image, line by line.

        Raises:
            ShapeError: The pixels of an image do not fill its cells.
        """
        if not part.counts:
            return self.mask.new_zeros(0, self.width) + self.touch()
        pixels = part.arrays["pixels"].split(list(part.sizes["pixels"]))
        shapes = self._shapes(part)
        mask_sizes = part.sizes.get("mask", (0,) * len(shapes))
        masks = part.arrays["mask"].split(list(mask_sizes)) if any(mask_sizes) else ()
        groups: dict[tuple[int, int, bool], list[int]] = {}
        for i, (lines, columns) in enumerate(shapes):
            groups.setdefault((lines, columns, mask_sizes[i] > 0), []).append(i)
        found: list[Tensor] = [self.mask] * len(shapes)
        for (lines, columns, masked), members in groups.items():
            whole = part.arrays["pixels"] if len(groups) == 1 else torch.cat([pixels[i] for i in members])
            mask_NP = torch.stack([masks[i] for i in members]) if masked else None
            x_NPD = self._group(whole, lines, columns, mask_NP)
            if len(groups) == 1:
                return self._finish(x_NPD.flatten(0, 1))
            for i, x_PD in zip(members, x_NPD.unbind(0), strict=True):
                found[i] = x_PD
        return self._finish(torch.cat(found))

    def sections(self) -> tuple[Section, ...]:
        """The vector of masked cells."""
        return (Section((self.mask,), lambda asked: asked.marked("mask")),)

    def _finish(self, x_PD: Tensor) -> Tensor:
        # the mask has a place in the graph even where nothing is masked, so that every rank has the same one
        x_PD = self.norm(x_PD)
        return x_PD + self.mask[:0].sum()

    def _shapes(self, part: Part) -> list[tuple[int, int]]:
        """(lines, columns) of cells per image, from lengths known on the host."""
        shapes = []
        for i, (count, lines) in enumerate(zip(part.counts, part.sizes["lines"], strict=True)):
            columns, rest = divmod(count, max(1, lines))
            if rest or part.sizes["pixels"][i] != count * self.cell**2:
                raise ShapeError(
                    f"image {i} of the pack: {part.sizes['pixels'][i]} pixels in {lines} lines do not fill {count} "
                    f"cells of {self.cell} x {self.cell} pixels"
                )
            shapes.append((lines, columns))
        return shapes

    def _group(self, pixels: Tensor, lines: int, columns: int, mask_NP: Tensor | None) -> Tensor:
        """(N, P, D) of images of one size, from their pixels (N * h * w, 3) uint8."""
        f = self.cell
        x_NHWC = pixels.view(-1, lines * f, columns * f, 3).to(self.mask.dtype) / 127.5 - 1
        if mask_NP is not None:  # masked pixels are blanked first: convolutions look across the borders of cells
            seen = (~mask_NP).view(-1, lines, 1, columns, 1).expand(-1, -1, f, -1, f).reshape(*x_NHWC.shape[:3], 1)
            x_NHWC = x_NHWC * seen
        x_NPD = self.features(x_NHWC.permute(0, 3, 1, 2), lines, columns).flatten(1, 2)
        if mask_NP is not None:
            x_NPD = torch.where(mask_NP[..., None], self.mask.to(x_NPD.dtype), x_NPD)
        if self.place is not None:
            x_NPD = x_NPD + self.place(_coordinates(lines, columns, self.mask))
        return x_NPD


class ImageAdapter(GridAdapter):
    """The default image adapter. Settings: `patch`, `stem` (`conv` or `linear`), `widths`, `blocks`, `coordinates`.

    Args:
        settings: The modality card's settings.
        shared: Width and shared modules.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        patch, stem = self.cell // 2, settings.get("stem", "conv")
        if stem not in ("conv", "linear"):
            raise CardError(f"setting `stem` of IMAGE is {stem!r}", help="write `conv` or `linear`")
        widths = settings.get("widths") or [32 * 2**i for i in range(len(_strides(patch)))]
        blocks = setting(settings, "blocks", 0, 0, 100)
        self.stem: nn.Module = LinearStem(patch, shared.width)
        if stem == "conv":
            self.stem = ConvStem(patch, list(widths), shared.width, blocks)

    def features(self, x_NCHW: Tensor, lines: int, columns: int) -> Tensor:
        """(N, lines, columns, D) by the stem."""
        x: Tensor = self.stem(x_NCHW)
        return x


def _strides(patch: int) -> list[int]:
    """Strides of the steps that take pixels to patches: the odd part once, then halves."""
    twos = (patch & -patch).bit_length() - 1
    odd = patch >> twos
    return ([odd] if odd > 1 else []) + [2] * twos


def _cells(x_NHWC: Tensor, side: int) -> Tensor:
    """(N, H / side, W / side, side * side * C): squares of `side` laid out as vectors."""
    N, H, W, C = x_NHWC.shape
    squares = x_NHWC.reshape(N, H // side, side, W // side, side, C).transpose(2, 3)
    return squares.reshape(N, H // side, W // side, side * side * C)


def _coordinates(lines: int, columns: int, like: Tensor) -> Tensor:
    """(P, 4 * frequencies) sines and cosines of each cell's centre, in shares of the image's sides."""
    powers = torch.arange(_FREQUENCIES, device=like.device, dtype=torch.float32)
    steps = math.pi * 2.0 ** (powers - 1)

    def waves(count: int) -> Tensor:
        centre = (torch.arange(count, device=like.device, dtype=torch.float32) + 0.5) / count
        angle = centre[:, None] * steps
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    rows = waves(lines)[:, None].expand(-1, columns, -1)
    return torch.cat([rows, waves(columns)[None].expand(lines, -1, -1)], dim=-1).flatten(0, 1).to(like.dtype)
