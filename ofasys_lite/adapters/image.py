"""IMAGE on the model side: uint8 pixels -> one embedding per cell of 2 x 2 patches, by a small stem.

Images of equal size go through it together, on a GPU also those of like size; no layer looks at more than one image, so
the result does not depend on what else is in the pack.

Clips are images in pairs (temporal patches of two, Qwen2-VL, arXiv 2409.12191): both frames go through the same layers,
and a row is what the last, linear one makes of their mean, plus a second linear map of half of their difference. That
is any linear map of both at once, and of two equal frames exactly what the picture is.
Shapes: N images of a call, P rows (cells), L lines and C columns of cells, E channels of a cell, D width; h, w pixels,
f pixels a cell is wide and high.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.base import Adapter, Asked, Begin, Section, Shared
from ofasys_lite.adapters.image_stem import ConvStem, LinearStem, enlarged, strides_of
from ofasys_lite.adapters.rebuilding import Rebuilder
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import make_linear, moved
from ofasys_lite.preprocess.media import setting

_FREQUENCIES = 6
#: Cells of a call with images of several sizes over cells of these images, at most.
WASTE = 1.5


class GridAdapter(Adapter):
    """What all image adapters share: calls by size, masks, coordinates; subclasses give `features`.

    Settings: `patch`, and `coordinates` (default true): a learned map of each cell's place in the image, in shares of
    its sides, is added. Rotary positions are relative; boxes, which are shares of the sides, need this.
    `coordinates_deviation` (default 0.02): of that map's fresh weights. A cell begins as what it shows, and where it
    lies is a small part of it: with AdamW and the usual scale of a linear layer, digits left chance later (loss 2.0
    against 1.6 after 3,400 samples of each). With Muon and 0.15 boxes are learned sooner (docs/speedrun.md).
    `temporal_patch` (default 1): 2 where clips are read, whose rows are two frames deep.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.cell = 2 * setting(settings, "patch", 4, 1, 1024)
        self.mask = nn.Parameter(torch.zeros(shared.width))
        nn.init.normal_(self.mask, std=0.02)
        wanted = settings.get("coordinates", True)
        self.place = nn.Linear(4 * _FREQUENCIES, shared.width, bias=False) if wanted else None
        if self.place is not None:
            nn.init.normal_(self.place.weight, std=setting(settings, "coordinates_deviation", 0.02, 0, 100))
        self.norm = nn.LayerNorm(shared.width)
        self.rebuilder = Rebuilder(settings, shared.width, 3 * self.cell**2)
        self.patch_frames = setting(settings, "temporal_patch", 1, 1, 2)
        self.motion: nn.Linear | None = None

    def _pairs(self, channels: int) -> None:
        """Makes the map of the difference of two frames, each cell of which has so many channels in `features`."""
        if self.patch_frames == 2:
            self.motion = make_linear(channels, self.width, bias=False)

    def embed(self, part: Part) -> Tensor:
        """(P, D): the cells of all images of the part, image by image, line by line.

        Raises:
            ShapeError: The pixels of an image do not fill its cells.
        """
        if not part.counts:
            return self.mask.new_zeros(0, self.width) + self.touch()
        shapes, frames = self.shapes(part)
        hidden = self._hidden(part, shapes) if any(part.sizes.get("mask", ())) else None
        x_PD = self.rows(part, shapes, frames, hidden)
        if hidden is not None:
            x_PD = torch.where(torch.cat(hidden).unsqueeze(1), self.mask.to(x_PD.dtype), x_PD)
        if self.place is not None:
            places_PW = torch.cat([_coordinates(*shape) for shape in shapes])
            placed_PD: Tensor = self.place(moved(places_PW.to(self.mask.dtype), x_PD.device))
            x_PD = x_PD + placed_PD
        # what only some pieces need has a place in the graph everywhere, so that every rank has the same one
        normed_PD: Tensor = self.norm(x_PD)
        unused = self.mask[:0].sum() if self.motion is None else self.mask[:0].sum() + self.motion.weight[:0].sum()
        return normed_PD + unused

    def rows(
        self, part: Part, shapes: Sequence[tuple[int, int]], frames: Sequence[int], hidden: Sequence[Tensor] | None
    ) -> Tensor:
        """(P, D) of the cells of all images and pairs of frames, before what masks and places add.

        Args:
            shapes: Lines and columns of cells of each.
            frames: 1 or, of a pair, 2.
            hidden: Which of its cells are masked; None where no image has such.
        """
        x_PE = self._cells(part, shapes, frames, hidden)
        if any(count == 2 for count in frames):
            return self._merged_pairs(x_PE, shapes, frames)
        return self.merged(x_PE)

    def _cells(
        self, part: Part, shapes: Sequence[tuple[int, int]], frames: Sequence[int], hidden: Sequence[Tensor] | None
    ) -> Tensor:
        """(cells of all frames, E) of `features`, frame by frame."""
        each = [shape for shape, count in zip(shapes, frames, strict=True) for _ in range(count)]
        masks = None
        if hidden is not None:
            masks = [mask for mask, count in zip(hidden, frames, strict=True) for _ in range(count)]
        if len(set(each)) == 1:
            return self._call([part.arrays["pixels"]], masks, each).flatten(0, 2)
        pixels = part.arrays["pixels"].split([lines * columns * self.cell**2 for lines, columns in each])
        found: list[Tensor] = [self.mask] * len(each)
        for members in self.together(each):
            sizes = [each[i] for i in members]
            x_NLCE = self._call([pixels[i] for i in members], masks and [masks[i] for i in members], sizes)
            for i, (lines, columns), x_LCE in zip(members, sizes, x_NLCE, strict=True):
                found[i] = x_LCE[:lines, :columns].flatten(0, 1)
        return torch.cat(found)

    def _merged_pairs(self, x_FE: Tensor, shapes: Sequence[tuple[int, int]], frames: Sequence[int]) -> Tensor:
        """(P, D) of the cells of all frames; images and single frames are what `merged` makes of them."""
        if self.motion is None:
            raise ShapeError("frames in pairs, and the adapter was made without clips", help="`temporal_patch: 2`")
        first, second, paired, start = list[Tensor](), list[Tensor](), list[Tensor](), 0
        for (lines, columns), count in zip(shapes, frames, strict=True):
            cells = torch.arange(start, start + lines * columns)
            first.append(cells)
            second.append(cells + (count - 1) * lines * columns)
            paired.append(torch.full((lines * columns,), count == 2))
            start += count * lines * columns
        on_host = (torch.cat(first), torch.cat(second), torch.cat(paired).nonzero()[:, 0])
        first_P, second_P, rows_Q = (moved(found, x_FE.device) for found in on_host)
        one_PE, two_PE = x_FE[first_P], x_FE[second_P]
        moving_QD = self.motion((two_PE[rows_Q] - one_PE[rows_Q]) / 2)
        x_PD = self.merged((one_PE + two_PE) / 2)
        return x_PD.index_add(0, rows_Q, moving_QD.to(x_PD.dtype))

    def together(self, shapes: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Numbers of the images of each call, in order: those of equal (lines, columns) of cells."""
        groups: dict[tuple[int, int], list[int]] = {}
        for i, shape in enumerate(shapes):
            groups.setdefault(shape, []).append(i)
        return list(groups.values())

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, C, E) of normalised images (N, 3, L * f, C * f) whose masked cells are zero.

        Args:
            inside_NLC: Which cells belong to their image; None where all do, as in calls of images of equal size.
        """
        raise TypeError(f"{type(self).__name__} does not say how to see an image")

    def merged(self, x_PE: Tensor) -> Tensor:
        """(P, D) of the features of all images of a pack, at once; E is D where nothing is left to do."""
        return x_PE

    def sections(self) -> tuple[Section, ...]:
        """The vector of masked cells, what only pairs of frames need, the head that tells what masks hide."""
        found = [Section((self.mask,), lambda asked: asked.marked("mask"))]
        if self.motion is not None:
            found.append(Section(tuple(self.motion.parameters()), self._paired))
        return (*found, *self.rebuilder.sections())

    def objectives(self) -> Mapping[str, Begin]:
        """`mae`, where a line asks for it."""
        return self.rebuilder.objectives()

    def _paired(self, asked: Asked) -> int:
        """Pieces of a pack with frames in pairs."""
        cell = self.cell**2
        pieces = (pair for part in asked.parts for pair in zip(part.sizes["pixels"], part.counts, strict=True))
        return sum(pixels == 2 * count * cell for pixels, count in pieces)

    def _hidden(self, part: Part, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
        """Of each image, or pair of frames, which of its cells are masked."""
        masks = part.arrays["mask"].split(list(part.sizes["mask"]))
        whole = [mask if len(mask) else mask.new_zeros(count) for mask, count in zip(masks, part.counts, strict=True)]
        sizes = [lines * columns for lines, columns in shapes]
        return whole if len(whole) == len(sizes) else list(torch.split(torch.cat(whole), sizes))

    def _call(self, pixels: list[Tensor], hidden: list[Tensor] | None, sizes: Sequence[tuple[int, int]]) -> Tensor:
        """(N, L, C, E) of images that go through the stem together, L x C the size that all of them fit in."""
        x_NHWC = _laid_out(pixels, sizes, self.cell).to(self.mask.dtype) / 127.5 - 1
        inside_NLC = None if len(set(sizes)) == 1 else _inside(sizes, x_NHWC.device)
        seen_NLC = inside_NLC
        if hidden is not None:  # masked pixels are blanked first: convolutions look across the borders of cells
            seen_NLC = ~_laid_out(hidden, sizes, 1)
            seen_NLC = seen_NLC if inside_NLC is None else seen_NLC & inside_NLC
        if seen_NLC is not None:
            x_NHWC = x_NHWC * enlarged(seen_NLC, self.cell)
        return self.features(x_NHWC.permute(0, 3, 1, 2), inside_NLC)

    def shapes(self, part: Part) -> tuple[list[tuple[int, int]], list[int]]:
        """(lines, columns) of cells and number of frames (of a pair 2) of each image or pair of frames.

        Raises:
            ShapeError: Pixels do not fill their cells.
        """
        shapes, found = list[tuple[int, int]](), list[int]()
        for i, (count, known) in enumerate(zip(part.counts, part.grids, strict=True)):
            grid, pixels = known or (0, 0, 0), part.sizes["pixels"][i]
            frames, rest = divmod(pixels, count * self.cell**2) if count else (0, 0)
            if math.prod(grid) != count or rest or frames not in (1, 2):
                raise ShapeError(
                    f"image {i} of the pack: {pixels} pixels in a grid of {part.grids[i]} do not fill {count} cells of "
                    f"{self.cell} x {self.cell} pixels"
                )
            shapes += [(grid[1], grid[2])] * grid[0]
            found += [frames] * grid[0]
        return shapes, found


class ImageAdapter(GridAdapter):
    """The default image adapter. Settings: `patch`, `stem` (`conv` or `linear`), `widths`, `blocks`, `coordinates`."""

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        patch, stem = self.cell // 2, settings.get("stem", "conv")
        if stem not in ("conv", "linear"):
            raise CardError(f"setting `stem` of IMAGE is {stem!r}", help="write `conv` or `linear`")
        widths = settings.get("widths") or [32 * 2**i for i in range(len(strides_of(patch)))]
        blocks = setting(settings, "blocks", 0, 0, 100)
        self.stem: ConvStem | LinearStem = LinearStem(patch, shared.width)
        if stem == "conv":
            self.stem = ConvStem(patch, list(widths), shared.width, blocks)
        self._pairs(self.stem.merge.in_features)

    def together(self, shapes: Sequence[tuple[int, int]]) -> list[list[int]]:
        """Images of equal size; on a GPU convolutions take those of like size in one call, with gaps behind them."""
        if self.mask.is_cpu or isinstance(self.stem, LinearStem):
            return super().together(shapes)
        return buckets(shapes)

    def merged(self, x_PE: Tensor) -> Tensor:
        """(P, D), one product for all images of a pack."""
        x_PD: Tensor = self.stem.merge(x_PE)
        return x_PD

    def features(self, x_NCHW: Tensor, inside_NLC: Tensor | None = None) -> Tensor:
        """(N, L, C, E) of the stem, before its last layer."""
        return self.stem.cells(x_NCHW, inside_NLC)


def buckets(shapes: Sequence[tuple[int, int]], waste: float = WASTE) -> list[list[int]]:
    """Numbers of the images of each call: of like size, so that gaps take at most `waste` times the cells."""
    found: list[list[int]] = []
    high = wide = cells = 0
    for i in sorted(range(len(shapes)), key=shapes.__getitem__):
        lines, columns = shapes[i]
        high, wide, cells = max(high, lines), max(wide, columns), cells + lines * columns
        if found and high * wide * (len(found[-1]) + 1) <= waste * cells:
            found[-1].append(i)
        else:
            found.append([i])
            high, wide, cells = lines, columns, lines * columns
    return found


def _laid_out(flat: list[Tensor], sizes: Sequence[tuple[int, int]], side: int) -> Tensor:
    """(N, L * side, C * side, ...) from what lies flat, image by image; zero behind images that are smaller."""
    if len(set(sizes)) == 1:
        whole = flat[0] if len(flat) == 1 else torch.cat(flat)
        return whole.view(-1, sizes[0][0] * side, sizes[0][1] * side, *whole.shape[1:])
    high, wide = (side * max(way) for way in zip(*sizes, strict=True))
    canvas = flat[0].new_zeros(len(sizes), high, wide, *flat[0].shape[1:])
    for image, piece, (lines, columns) in zip(canvas, flat, sizes, strict=True):
        square = image[: lines * side, : columns * side]
        square.copy_(piece.view(square.shape))
    return canvas


def _inside(sizes: Sequence[tuple[int, int]], device: torch.device) -> Tensor:
    """(N, L, C): True at cells that belong to their image."""
    sizes_N2 = moved(torch.tensor(sizes), device)
    high, wide = (torch.arange(max(way), device=device) for way in zip(*sizes, strict=True))
    return (high < sizes_N2[:, :1]).unsqueeze(2) & (wide < sizes_N2[:, 1:]).unsqueeze(1)


@lru_cache(maxsize=256)
def _coordinates(lines: int, columns: int) -> Tensor:
    """(P, 4 * frequencies) sines and cosines of each cell's centre, in shares of the image's sides, on the host."""
    steps = math.pi * 2.0 ** (torch.arange(_FREQUENCIES, dtype=torch.float32) - 1)

    def waves(count: int) -> Tensor:
        centre = (torch.arange(count, dtype=torch.float32) + 0.5) / count
        angle = centre[:, None] * steps
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    with torch.inference_mode(False):  # training may take what prediction made first
        rows = waves(lines)[:, None].expand(-1, columns, -1)
        return torch.cat([rows, waves(columns)[None].expand(lines, -1, -1)], dim=-1).flatten(0, 1)
