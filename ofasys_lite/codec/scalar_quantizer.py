"""Finite scalar quantization: a code is a few numbers, each rounded to one of some levels; no book has to be learned.

FSQ, arXiv 2309.15505; here with K codes per vector, each of J numbers of its own (product quantization).
Shape suffixes: N vectors, C channels, K depth, J numbers of a code, V codes = product of the levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.codec.residual_quantizer import Quantized
from ofasys_lite.errors import CardError, ShapeError


class ScalarBook:
    """What one depth's codes stand for: V vectors that follow from the levels and the projection out.

    Args:
        grid_VJ: Numbers of each code, -1 to 1.
        weight_CJ: Projection to channels.
        bias_C: Added to the vectors, so that the sum over depths is right; None for all depths but the first.
    """

    def __init__(self, grid_VJ: Tensor, weight_CJ: Tensor, bias_C: Tensor | None) -> None:
        self.grid_VJ, self.weight_CJ, self.bias_C = grid_VJ, weight_CJ, bias_C

    def vectors(self, codes: Tensor) -> Tensor:
        """Vectors (..., C) of code numbers of any shape."""
        return F.linear(F.embedding(codes, self.grid_VJ), self.weight_CJ, self.bias_C)

    @property
    def weight_VC(self) -> Tensor:
        """All V vectors."""
        return F.linear(self.grid_VJ, self.weight_CJ, self.bias_C)

    def nearest(self, x_NC: Tensor) -> Tensor:
        """Nothing: CardError, for codes that stand side by side leave no rest to look codes up for."""
        raise CardError(
            f"codes of {len(self.grid_VJ)} levels stand side by side: none can be derived from what others left over",
            help="leave `correct` out, or train a codec without `levels`",
        )


class ScalarQuantizer(nn.Module):
    """K codes per vector, each J numbers rounded to `levels`; takes the place of ResidualQuantizer.

    A linear layer gives the K x J numbers, another makes channels of the rounded ones. The codes of a position stand
    side by side: the second does not refine the first.

    Args:
        levels: How many values each of the J numbers of a code has; their product is V.
    """

    grid_VJ: Tensor
    levels_J: Tensor

    def __init__(self, levels: Sequence[int], channels: int, depth: int) -> None:
        super().__init__()
        if not levels or any(isinstance(n, bool) or not isinstance(n, int) or n < 2 for n in levels):
            raise CardError(f"levels {list(levels)}", help="each is a whole number from 2 on, such as [4, 4, 4]")
        if depth < 1:
            raise CardError(f"codes of depth {depth}", help="depth is at least 1")
        self.levels, self.depth, self.channels = tuple(levels), depth, channels
        self.inward = nn.Linear(channels, depth * len(levels))
        self.outward = nn.Linear(depth * len(levels), channels)
        # the first number moves slowest
        grid_VJ = torch.cartesian_prod(*(torch.arange(n) for n in levels)).view(math.prod(levels), -1)
        halves_J = torch.tensor([n // 2 for n in levels])
        self.register_buffer("levels_J", torch.tensor(self.levels, dtype=torch.float32), persistent=False)
        self.register_buffer("grid_VJ", (grid_VJ - halves_J) / halves_J, persistent=False)

    def book(self, k: int) -> ScalarBook:
        """What the codes of depth k (0 is the first) add to the sum."""
        first = k * len(self.levels)
        weight_CJ = self.outward.weight[:, first : first + len(self.levels)]
        return ScalarBook(self.grid_VJ, weight_CJ, self.outward.bias if k == 0 else None)

    def forward(self, x: Tensor) -> Quantized:
        """Codes of vectors (..., C); rounding passes the gradient straight through, and nothing is committed.

        Raises:
            ShapeError: The vectors have another number of channels.
        """
        if x.shape[-1] != self.channels:
            raise ShapeError(f"quantizer: vectors of {x.shape[-1]} channels, codes have {self.channels}")
        numbers = self.inward(x).unflatten(-1, (self.depth, len(self.levels)))
        bounded, halves_J = self._bounded(numbers)
        rounded = bounded + (bounded.round() - bounded).detach()
        codes = self._codes(rounded.detach())
        z = self.outward((rounded / halves_J).flatten(-2))
        parts = [self.book(k).vectors(codes[..., k]) for k in range(self.depth)]
        sums = torch.stack(parts).cumsum(0).detach()
        return Quantized(z, codes, x.new_zeros(()), sums)

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., C): the sum over depths of what codes (..., K) stand for; ShapeError: the codes have another depth."""
        if codes.shape[-1] != self.depth:
            raise ShapeError(f"quantizer: codes of depth {codes.shape[-1]}, it has {self.depth}")
        return torch.stack([self.book(k).vectors(codes[..., k]) for k in range(self.depth)]).sum(0)

    def _bounded(self, numbers: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers (..., K, J) between the outermost levels, and half the levels (J,), rounded down."""
        levels_J = self.levels_J.to(numbers.dtype)
        # a hair wider than the levels, so that the outermost are reached; even counts lie half a level off centre
        reach_J = (levels_J - 1) * (1 + 1e-3) / 2
        offset_J = torch.where(levels_J % 2 == 0, 0.5, 0.0)
        shift_J = torch.atanh(offset_J / reach_J)
        return (numbers + shift_J).tanh() * reach_J - offset_J, (levels_J / 2).floor()

    def _codes(self, rounded: Tensor) -> Tensor:
        """Code numbers (..., K) of rounded numbers (..., K, J)."""
        codes = torch.zeros_like(rounded[..., 0], dtype=torch.long)
        for j, count in enumerate(self.levels):
            codes = codes * count + rounded[..., j].long() + count // 2
        return codes
