"""IMAGE as a few rows: learned queries read an image's cells by one cross-attention (Qwen-VL, arXiv 2308.12966).

Keys have their cell's place, sines and cosines of line and column; so any number of cells becomes any number of rows up
to that of the queries, and a slot that asks for fewer takes the first ones.
Shapes: P rows (queries of all images), S cells of all images, H heads, D width, L lines, C columns of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from ofasys_lite.adapters.base import Shared
from ofasys_lite.adapters.image import ImageAdapter
from ofasys_lite.errors import CardError
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import attend, make_linear, moved
from ofasys_lite.preprocess.image_resampled import QUERIES
from ofasys_lite.preprocess.media import setting

# Numbers of a head, about.
_HEAD = 64


class Resampler(ImageAdapter):
    """The default image adapter's cells, read by `queries`. Settings: those of ImageAdapter, and `queries`.

    Raises:
        CardError: A line asks for `mae`, which learns cells.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        if self.objectives():
            help = "leave `adapter=resampler` out of the slot that has it"
            raise CardError("`loss=mae` learns a row for each cell, and the resampler has none", help=help)
        width = shared.width
        self.heads = next(n for n in range(max(1, width // _HEAD), 0, -1) if width % n == 0)
        self.queries = nn.Parameter(torch.randn(setting(settings, "queries", QUERIES, 1, 4096), width))
        self.asking, self.read = nn.LayerNorm(width), nn.LayerNorm(width)
        self.to_query, self.to_key, self.to_value, self.out = (make_linear(width, width, bias=False) for _ in range(4))

    def embed(self, part: Part) -> Tensor:
        """(P, D): the rows of all images of the part; one image's cells are read by its own queries only."""
        if not part.counts:
            return super().embed(part)
        shapes = list(zip(part.sizes["down"], part.sizes["across"], strict=True))
        cells = [lines * columns for lines, columns in shapes]
        of_cells = replace(part, counts=tuple(cells), grids=tuple((1, *shape) for shape in shapes))
        x_SD = super().embed(of_cells)
        places_SD = torch.cat([_places(*shape, self.width) for shape in shapes])
        key_SD = self.to_key(x_SD + moved(places_SD.to(x_SD.dtype), x_SD.device))
        asked_PD = torch.cat([self.queries[:count] for count in part.counts])
        query_PD = self.to_query(self.asking(asked_PD))
        q_PHC, k_SHC, v_SHC = (x.unflatten(1, (self.heads, -1)) for x in (query_PD, key_SD, self.to_value(x_SD)))
        found_PHC = attend(q_PHC, k_SHC, v_SHC, part.counts, cells, causal=False)
        found_PD: Tensor = self.read(self.out(found_PHC.flatten(1)))
        return found_PD


@lru_cache(maxsize=256)
def _places(lines: int, columns: int, width: int) -> Tensor:
    """(L * C, D) sines and cosines of each cell's line in the first half of the channels, of its column in the second.

    Frequencies are those of the Transformer (arXiv 1706.03762), base 10,000.
    """
    quarter = width // 4
    rate = 10_000.0 ** (-torch.arange(quarter, dtype=torch.float32) / max(1, quarter))

    def waves(count: int) -> Tensor:
        angle = torch.arange(count, dtype=torch.float32)[:, None] * rate
        return torch.cat([angle.sin(), angle.cos()], dim=-1)

    with torch.inference_mode(False):  # training may take what prediction made first
        down = waves(lines)[:, None].expand(-1, columns, -1)
        both = torch.cat([down, waves(columns)[None].expand(lines, -1, -1)], dim=-1).flatten(0, 1)
        return nn.functional.pad(both, (0, width - both.shape[1]))
