"""A Vision Transformer on flat streams of patches: no picture sees another, whatever their sizes.

ViT, arXiv 2010.11929; CLIP, arXiv 2103.00020; SigLIP, arXiv 2303.15343; Qwen2-VL (rotary positions of lines and
columns, patches two frames deep, 2 x 2 of them merged), arXiv 2409.12191. What they differ in are named settings.
Shapes: U pictures, Q patches of all of them, R rows of the stream (patches, class tokens before those of their
picture), P cells (m x m patches), W width of the tower, E what a cell is at its end, L lines and C columns of a
picture's cells.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.errors import CardError, check_keys, did_you_mean
from ofasys_lite.model import Borders, make_linear, moved, rotate
from ofasys_lite.model.attention import attend_within


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


#: What stands within the feed-forward layers.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "relu": F.relu,
    "silu": F.silu,
}
_CHOICES = {"activation": ACTIVATIONS, "positions": ("table", "rotary"), "final_norm": ("all", "class", "none")}
#: Of rotary positions.
THETA = 10_000.0


@dataclass(frozen=True, slots=True)
class TowerSizes:
    """What a tower is made of; ViT-Tiny by default.

    Attributes:
        ffn: Channels inside the feed-forward layers.
        merge: Patches a cell is wide and high, 1 or 2; those of a cell become one row by a linear layer, gelu and a
            linear layer.
        out: Channels of that row; 0 without `merge`.
        temporal: Frames a patch is deep, 1 or 2; a picture is two equal ones.
        positions: `table` (learned, interpolated where a picture has another grid) or `rotary` (lines and columns).
        table: Lines and columns of the table.
        class_token: A row that reads each picture as a whole.
        entry_norm: A norm before the first block.
        patch_bias: The map of a patch has a bias.
        final_norm: What is normed behind the last block: `all` rows, the `class` token alone, or `none`.
        epsilon: Of the norms.
    """

    width: int = 192
    depth: int = 12
    heads: int = 3
    ffn: int = 768
    merge: int = 1
    out: int = 0
    temporal: int = 1
    positions: str = "table"
    table: int = 14
    class_token: bool = True
    entry_norm: bool = False
    patch_bias: bool = True
    final_norm: str = "all"
    activation: str = "gelu"
    epsilon: float = 1e-6

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> TowerSizes:
        """The sizes that a card says; null: the default.

        Raises:
            CardError: An unknown key, a value of another type or range, sizes that do not fit together.
        """
        check_keys("setting `tower` of IMAGE", values, (each.name for each in fields(cls)))
        given = {key: value for key, value in values.items() if value is not None}
        plain = cls()
        for key, value in given.items():
            kind = type(getattr(plain, key))
            fits = isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
            if not fits or (isinstance(value, bool) and kind is not bool):
                told = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}[kind]
                raise CardError(f"setting `tower.{key}` of IMAGE is {value!r}", help=f"write {told}")
            if key in _CHOICES and value not in _CHOICES[key]:
                help = did_you_mean(str(value), _CHOICES[key])
                raise CardError(f"setting `tower.{key}` of IMAGE is {value!r}", help=help)
        return replace(plain, **given).checked()

    def checked(self) -> TowerSizes:
        """Itself; CardError where sizes do not fit together."""
        for key in ("width", "depth", "heads", "ffn", "table"):
            if getattr(self, key) < 1:
                raise CardError(f"setting `tower.{key}` of IMAGE is {getattr(self, key)}", help="write 1 or more")
        for key in ("merge", "temporal"):
            if getattr(self, key) not in (1, 2):
                raise CardError(f"setting `tower.{key}` of IMAGE is {getattr(self, key)}", help="write 1 or 2")
        parts = 4 if self.positions == "rotary" else 1
        if self.width % (self.heads * parts):
            help = "the width is a multiple of the heads, and of four times the heads with rotary positions"
            raise CardError(f"tower of IMAGE: a width of {self.width} and {self.heads} heads", help=help)
        if (self.out > 0) != (self.merge > 1):
            help = "`out` is what merged patches become: above 0 with merge: 2, 0 without"
            raise CardError(f"tower of IMAGE: `merge` is {self.merge} and `out` is {self.out}", help=help)
        if self.class_token and (self.merge > 1 or self.positions == "rotary"):
            help = "a class token stands before patches that are not merged and have a table of positions"
            raise CardError("tower of IMAGE: `class_token` with `merge: 2` or rotary positions", help=help)
        if self.final_norm == "class" and not self.class_token:
            raise CardError("tower of IMAGE: `final_norm: class` without a class token", help="write all or none")
        return self

    @property
    def channels(self) -> int:
        """Numbers of a cell, E."""
        return self.out or self.width


class TowerBlock(nn.Module):
    """(R, W) -> (R, W): attention within each picture and a feed-forward layer, each behind a norm and beside a short
    cut."""

    def __init__(self, sizes: TowerSizes) -> None:
        super().__init__()
        self.heads, self.activation = sizes.heads, ACTIVATIONS[sizes.activation]
        self.attention_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.qkv = make_linear(sizes.width, 3 * sizes.width)
        self.out = make_linear(sizes.width, sizes.width)
        self.mlp_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.into = make_linear(sizes.width, sizes.ffn)
        self.back = make_linear(sizes.ffn, sizes.width)

    def forward(self, x_RW: Tensor, borders: Borders, rotation: tuple[Tensor, Tensor] | None) -> Tensor:
        """The rows behind the block."""
        q_RHC, k_RHC, v_RHC = self.qkv(self.attention_norm(x_RW)).unflatten(1, (3, self.heads, -1)).unbind(1)
        if rotation is not None:
            q_RHC, k_RHC = rotate(q_RHC, rotation), rotate(k_RHC, rotation)
        x_RW = x_RW + self.out(attend_within(q_RHC, k_RHC, v_RHC, borders).flatten(1))
        found: Tensor = x_RW + self.back(self.activation(self.into(self.mlp_norm(x_RW))))
        return found


class Tower(nn.Module):
    """Patches of pictures of any sizes, laid end to end -> what their cells are, and their class tokens.

    Args:
        side: Pixels a patch is wide and high.
    """

    def __init__(self, sizes: TowerSizes, side: int) -> None:
        super().__init__()
        self.sizes = sizes
        self.patch = make_linear(3 * sizes.temporal * side**2, sizes.width, bias=sizes.patch_bias)
        self.first = nn.Parameter(torch.zeros(sizes.width)) if sizes.class_token else None
        self.places: nn.Parameter | None = None
        if sizes.positions == "table":
            self.places = nn.Parameter(torch.empty(sizes.table**2 + sizes.class_token, sizes.width))
            nn.init.normal_(self.places, std=0.02)
        self.entry_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon) if sizes.entry_norm else None
        self.blocks = nn.ModuleList(TowerBlock(sizes) for _ in range(sizes.depth))
        self.final_norm: nn.LayerNorm | None = None
        if sizes.final_norm != "none":
            self.final_norm = nn.LayerNorm(sizes.width, eps=sizes.epsilon)
        self.merger: nn.Sequential | None = None
        if sizes.merge > 1:
            inner = sizes.width * sizes.merge**2
            self.merger = nn.Sequential(make_linear(inner, inner), nn.GELU(), make_linear(inner, sizes.out))

    def forward(self, patches_QN: Tensor, shapes: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor | None]:
        """((P, E) cells, (U, W) class tokens or None).

        Args:
            patches_QN: Normalised pixels, picture by picture and cell by cell, those of a cell line by line; each by
                colour, frame, line and column.
            shapes: Lines and columns of cells of each picture.
        """
        sizes, merge = self.sizes, self.sizes.merge
        counts = [lines * columns * merge**2 for lines, columns in shapes]
        x_RW = self.patch(patches_QN)
        if self.places is not None:
            table = self.places[1:] if sizes.class_token else self.places
            found = {shape: _resized(table, sizes.table, shape, merge) for shape in dict.fromkeys(shapes)}
            x_RW = x_RW + torch.cat([found[shape] for shape in shapes]).to(x_RW.dtype)
        rest_Q: Tensor | None = None
        first_U: Tensor | None = None
        if self.first is not None and self.places is not None:
            first_U, rest_Q = (moved(rows, x_RW.device) for rows in _with_first(tuple(counts)))
            first_UW = (self.first + self.places[0]).to(x_RW.dtype).expand(len(counts), -1)
            empty_RW = x_RW.new_empty(len(x_RW) + len(counts), sizes.width)
            x_RW = empty_RW.index_copy(0, rest_Q, x_RW).index_copy(0, first_U, first_UW)
        borders = Borders([n + sizes.class_token for n in counts], [n + sizes.class_token for n in counts])
        if self.entry_norm is not None:
            x_RW = self.entry_norm(x_RW)
        rotation = self._rotation(shapes, x_RW.device) if sizes.positions == "rotary" else None
        for block in self.blocks:
            x_RW = block(x_RW, borders, rotation)
        if self.final_norm is not None and sizes.final_norm == "all":
            x_RW = self.final_norm(x_RW)
        if self.merger is not None:
            cells_PE: Tensor = self.merger(x_RW.reshape(-1, merge**2 * sizes.width))
            return cells_PE, None
        if rest_Q is None or first_U is None:
            return x_RW, None
        class_UW = x_RW[first_U]
        if self.final_norm is not None and sizes.final_norm == "class":
            class_UW = self.final_norm(class_UW)
        return x_RW[rest_Q], class_UW

    def _rotation(self, shapes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor]:
        """Cosine and sine, each (Q, channels of a head / 2): the first half of them turns by lines, the second by
        columns, each on a ladder of its own."""
        pairs = self.sizes.width // self.sizes.heads // 4
        places_Q2 = torch.cat([_places(*shape, self.sizes.merge) for shape in shapes])
        ladder = THETA ** (-torch.arange(pairs, dtype=torch.float32) / pairs)
        angles_QC = (places_Q2.to(torch.float32).unsqueeze(2) * ladder).flatten(1)
        return moved(angles_QC.cos(), device), moved(angles_QC.sin(), device)


@lru_cache(maxsize=256)
def _places(lines: int, columns: int, merge: int) -> Tensor:
    """(Q, 2) line and column of each patch of a picture, in the order of patches, on the host."""
    with torch.inference_mode(False):  # training may take what prediction made first
        down, across = torch.meshgrid(torch.arange(lines * merge), torch.arange(columns * merge), indexing="ij")
        both = torch.stack([down, across], -1)
        return cells_first(both, merge).flatten(0, 1)


def cells_first(x_YXN: Tensor, merge: int) -> Tensor:
    """(cells, merge * merge, N): what lies in lines and columns of patches, cell by cell."""
    high, wide = x_YXN.shape[0] // merge, x_YXN.shape[1] // merge
    return x_YXN.reshape(high, merge, wide, merge, -1).transpose(1, 2).reshape(high * wide, merge * merge, -1)


@lru_cache(maxsize=256)
def _with_first(counts: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """((U,) rows of class tokens, (Q,) rows of patches) in the stream of both, on the host."""
    with torch.inference_mode(False):
        lengths = torch.tensor(counts)
        first_U = (lengths + 1).cumsum(0) - lengths - 1
        picture_Q = torch.arange(len(counts)).repeat_interleave(lengths)
        return first_U, torch.arange(int(lengths.sum())) + picture_Q + 1


def _resized(table_SW: Tensor, side: int, shape: tuple[int, int], merge: int) -> Tensor:
    """(Q, W): the table of positions for a grid of other sides, bicubic as transformers has it."""
    lines, columns = shape[0] * merge, shape[1] * merge
    grid_SSW = table_SW.view(side, side, -1)
    if (lines, columns) != (side, side):
        whole = grid_SSW.permute(2, 0, 1).unsqueeze(0)
        found = F.interpolate(whole, (lines, columns), mode="bicubic", align_corners=False)
        grid_SSW = found[0].permute(1, 2, 0)
    return cells_first(grid_SSW, merge).flatten(0, 1)
