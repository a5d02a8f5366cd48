"""IMAGE by a Vision Transformer as others trained it: uint8 pixels -> one embedding per cell.

A cell is a patch, or what 2 x 2 of them are merged into; its row is what the tower makes of it, projected to the width.
A class token gives no row: what it has read of the whole picture is projected, too, and added to all rows of it, so
that rows stay a grid. Shapes: U pictures (or pairs of frames), P cells, E channels of a cell, W width of the tower, D
width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import GridAdapter
from ofasys_lite.adapters.image_pixels import PixelScale
from ofasys_lite.adapters.image_tower_layers import Tower, TowerSizes
from ofasys_lite.errors import CardError
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import make_linear, moved


class TowerAdapter(GridAdapter):
    """A Vision Transformer over all pictures of a pack at once; attention stays within each.

    Of clips both frames of a row go into its patches where these are two frames deep (`temporal: 2`); where they are
    one deep, both frames are read, and the row is made of both as in the other image adapters.

    Settings: `patch` (half of a cell's side: a tower of patches of 16 pixels has 8, of patches of 14 that are merged
    14), `tower` (`TowerSizes`), `pixel_mean`, `pixel_deviation`, `coordinates`.

    Raises:
        CardError: A setting that cannot be.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        sizes = TowerSizes.of(settings.get("tower") or {})
        if self.cell % sizes.merge:
            help = f"a cell is {self.cell} pixels wide, and {sizes.merge} patches"
            raise CardError(f"setting `patch` of IMAGE is {self.cell // 2}", help=help)
        self.pixels = PixelScale.of(settings)
        self.tower = Tower(sizes, self.cell // sizes.merge)
        self.project = make_linear(sizes.channels, shared.width)
        self.whole = make_linear(sizes.width, shared.width, bias=False) if sizes.class_token else None
        if sizes.temporal == 1:
            self._pairs(shared.width)

    def rows(
        self,
        part: Part,
        shapes: Sequence[tuple[int, int]],
        frames: Sequence[int],
        hidden: Sequence[Tensor] | None,
    ) -> Tensor:
        """(P, D) of all pictures of the part."""
        if self.tower.sizes.temporal == 1:
            return super().rows(part, shapes, frames, hidden)
        return self._projected(self.seen(part, shapes, frames, hidden), shapes)

    def seen(
        self,
        part: Part,
        shapes: Sequence[tuple[int, int]] | None = None,
        frames: Sequence[int] | None = None,
        hidden: Sequence[Tensor] | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """((P, E), (U, W) or None): what the tower itself makes of the part, before anything that it has not brought.

        Args:
            part: Pictures, or clips.
            shapes: Lines and columns of each; None: of the part.
            frames: Frames of each, 1 or 2; None: of the part.
            hidden: Of each, which of its cells are blanked.
        """
        if shapes is None or frames is None:
            shapes, frames = self.shapes(part)
        patches_QN = self._patches(part.arrays["pixels"], shapes, frames)
        if hidden is not None:
            patches_QN = self._blanked(patches_QN, torch.cat(list(hidden)))
        found: tuple[Tensor, Tensor | None] = self.tower(patches_QN, shapes)
        return found

    def _cells(
        self, part: Part, shapes: Sequence[tuple[int, int]], frames: Sequence[int], hidden: Sequence[Tensor] | None
    ) -> Tensor:
        """(cells of all frames, D): frames are pictures of their own."""
        every = [shape for shape, count in zip(shapes, frames, strict=True) for _ in range(count)]
        masks = None
        if hidden is not None:
            masks = [mask for mask, count in zip(hidden, frames, strict=True) for _ in range(count)]
        return self._projected(self.seen(part, every, [1] * len(every), masks), every)

    def _projected(self, seen: tuple[Tensor, Tensor | None], shapes: Sequence[tuple[int, int]]) -> Tensor:
        x_PD: Tensor = self.project(seen[0])
        if self.whole is not None and seen[1] is not None:
            counts = torch.tensor([lines * columns for lines, columns in shapes])
            picture_P = moved(torch.arange(len(shapes)).repeat_interleave(counts), x_PD.device)
            x_PD = x_PD + self.whole(seen[1])[picture_P]
        return x_PD

    def _patches(self, pixels: Tensor, shapes: Sequence[tuple[int, int]], frames: Sequence[int]) -> Tensor:
        """(Q, 3 * temporal * side * side) of normalised pixels (..., 3) of all pictures."""
        x_X3 = self.pixels.rows(pixels.to(self.mask.dtype) / 127.5 - 1)
        if len({*zip(shapes, frames, strict=True)}) == 1:
            return self._cut(x_X3, shapes[0], frames[0])
        sizes = [lines * columns * count * self.cell**2 for (lines, columns), count in zip(shapes, frames, strict=True)]
        pieces = zip(x_X3.split_with_sizes(sizes), shapes, frames, strict=True)
        return torch.cat([self._cut(piece, shape, count) for piece, shape, count in pieces])

    def _cut(self, x_X3: Tensor, shape: tuple[int, int], frames: int) -> Tensor:
        """Patches of pictures of one size, one behind the other."""
        merge, deep = self.tower.sizes.merge, self.tower.sizes.temporal
        side = self.cell // merge
        whole = x_X3.view(-1, frames, shape[0], merge, side, shape[1], merge, side, 3)
        if frames < deep:  # a picture is two equal frames
            whole = whole.expand(-1, deep, *whole.shape[2:])
        return whole.permute(0, 2, 5, 3, 6, 8, 1, 4, 7).reshape(-1, 3 * deep * side**2)

    def _blanked(self, patches_QN: Tensor, hidden_P: Tensor) -> Tensor:
        """The patches with those of hidden cells grey."""
        sizes = self.tower.sizes
        hidden_Q = hidden_P.repeat_interleave(sizes.merge**2)
        grey_N = self.pixels.grey().repeat_interleave(patches_QN.shape[1] // 3)
        return torch.where(hidden_Q.unsqueeze(1), grey_N.to(patches_QN.dtype), patches_QN)
