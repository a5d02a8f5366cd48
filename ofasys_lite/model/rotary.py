"""Rotary positions as data: per pair of channels (i and i + C / 2) one axis and one inverse frequency.

Shape suffixes: S rows of a stream, A position axes, H heads, C channels of a head, P = C / 2 pairs of channels.
RoFormer, arXiv 2104.09864; several axes: Qwen2-VL (M-RoPE), arXiv 2409.12191; DnD-Transformer, arXiv 2410.01912.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.transfer import moved

Rotation = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class RotaryAxes:
    """Which axis turns each pair of channels, and how fast.

    Attributes:
        axes_P: Index of the position axis per pair.
        inverse_frequencies_P: Radians per position per pair.
    """

    axes_P: tuple[int, ...]
    inverse_frequencies_P: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.axes_P) != len(self.inverse_frequencies_P):
            raise ShapeError(f"rotary: {len(self.axes_P)} axes for {len(self.inverse_frequencies_P)} frequencies")


def mrope_axes(head_width: int, sections: tuple[int, ...], theta: float, layout: str = "blocks") -> RotaryAxes:
    """One frequency ladder over the head, shared by three axes.

    Args:
        sections: Pairs of channels per section; the i-th section turns by axis i % 3.
        layout: `blocks`: the sections lie one behind the other (Qwen2-VL); `interleaved`: they are spread evenly over
            the ladder, so that every axis has fast and slow pairs (Qwen3-VL, arXiv 2511.21631); `axial`: each has a
            ladder of its own (DnD-Transformer).
    """
    half = head_width // 2
    axes = [i % 3 for i, pairs in enumerate(sections) for _ in range(pairs)]
    if layout == "interleaved":
        # the k-th of n pairs of an axis belongs at the share (k + 1/2) / n of the ladder
        places = [((k + 0.5) / pairs, i % 3) for i, pairs in enumerate(sections) for k in range(pairs)]
        axes = [axis for _, axis in sorted(places)]
    if layout == "axial":
        return RotaryAxes(tuple(axes), tuple(theta ** (-k / pairs) for pairs in sections for k in range(pairs)))
    return RotaryAxes(tuple(axes), tuple(theta ** (-i / half) for i in range(half)))


@lru_cache(maxsize=32)
def axes_on(config: ModelConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """Axis and inverse frequency of each pair of a model's heads, both (P,) on `device`: copied there once."""
    axes = mrope_axes(config.head_width, config.sections, float(config.rotary_theta), config.rotary_layout)
    with torch.inference_mode(False):  # training may take what prediction made first
        index_P = torch.tensor(axes.axes_P, dtype=torch.long)
        inverse_P = torch.tensor(axes.inverse_frequencies_P, dtype=torch.float32)
        return moved(index_P, device), moved(inverse_P, device)


def rotary_table(positions_S3: Tensor, config: ModelConfig) -> Rotation:
    """Cosine and sine, each (S, P) in fp32, of rows at (time, row, column) for the heads of `config`."""
    if positions_S3.ndim != 2 or positions_S3.shape[1] != 3:
        raise ShapeError(f"positions have shape {tuple(positions_S3.shape)}", help="give 3 numbers per row")
    index_P, inverse_P = axes_on(config, positions_S3.device)
    angles_SP = positions_S3.to(torch.float32).index_select(1, index_P) * inverse_P
    cos_SP, sin_SP = angles_SP.cos(), angles_SP.sin()
    if config.rotary_blank:
        seen_S1 = (positions_S3[:, :1] >= 0).to(cos_SP.dtype)
        return cos_SP * seen_S1, sin_SP * seen_S1
    return cos_SP, sin_SP


def rotate(x_SHC: Tensor, rotation: Rotation) -> Tensor:
    """`x_SHC` with each pair of channels turned by its row's angle, in the type of `x_SHC`."""
    cos_S1P, sin_S1P = (table.unsqueeze(-2).to(x_SHC.dtype) for table in rotation)
    if x_SHC.is_cpu and not torch.compiler.is_compiling():
        turned: Tensor = _Turn.apply(x_SHC, cos_S1P, sin_S1P)  # type: ignore[no-untyped-call]
        return turned
    first, second = x_SHC.chunk(2, dim=-1)
    return torch.cat((first * cos_S1P - second * sin_S1P, second * cos_S1P + first * sin_S1P), dim=-1)


class _Turn(torch.autograd.Function):
    """A rotation; its gradient is the rotation back. Two passes over memory: the CPU has no fusion of its own."""

    @staticmethod
    def forward(ctx: Any, x_SHC: Tensor, cos_S1P: Tensor, sin_S1P: Tensor) -> Tensor:
        ctx.save_for_backward(cos_S1P, sin_S1P)
        out_SHC = torch.empty(x_SHC.shape, dtype=x_SHC.dtype, device=x_SHC.device)
        first, second = x_SHC.chunk(2, dim=-1)
        out_first, out_second = out_SHC.chunk(2, dim=-1)
        torch.mul(first, cos_S1P, out=out_first).addcmul_(second, sin_S1P, value=-1)
        torch.mul(second, cos_S1P, out=out_second).addcmul_(first, sin_S1P)
        return out_SHC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_SHC: Tensor) -> tuple[Tensor, None, None]:
        cos_S1P, sin_S1P = ctx.saved_tensors
        return _Turn.apply(grad_SHC, cos_S1P, -sin_S1P), None, None  # type: ignore[no-untyped-call]
