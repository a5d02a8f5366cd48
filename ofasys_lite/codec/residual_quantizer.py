"""Residual quantization: a vector as the sum of K code vectors, each the nearest to what the ones before left over.

RQ-VAE, arXiv 2203.01941; as the tokenizer of DnD-Transformer, arXiv 2410.01912.
Shape suffixes: N vectors, C channels, V codes of a book, K depth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.errors import CardError, ShapeError

_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Quantized:
    """What quantization made of vectors of any leading shape.

    Attributes:
        z: Sum of the K code vectors, (..., C); its gradient goes to the input unchanged (straight-through).
        codes: Numbers of the codes, (..., K).
        commitment: Mean over depths of the mean squared distance of the input to the sum so far.
        sums: Sum of the first k code vectors for k = 1 ... K, (K, ..., C), without gradient.
    """

    z: Tensor
    codes: Tensor
    commitment: Tensor
    sums: Tensor


class Codebook(nn.Module):
    """V code vectors that follow the mean of what they stand for (exponential moving averages), not a gradient."""

    weight_VC: Tensor
    count_V: Tensor
    total_VC: Tensor

    def __init__(self, size: int, channels: int, decay: float = 0.99) -> None:
        super().__init__()
        if size < 1 or channels < 1:
            raise CardError(f"a codebook of {size} codes of {channels} channels", help="both are at least 1")
        if not 0.0 < decay < 1.0:
            raise CardError(f"codebook: decay is {decay}", help="write a number between 0 and 1, often 0.99")
        self.decay = decay
        first = torch.randn(size, channels) * channels**-0.5
        self.register_buffer("weight_VC", first)
        self.register_buffer("count_V", torch.ones(size))
        self.register_buffer("total_VC", first.clone())

    def distances(self, x_NC: Tensor) -> Tensor:
        """Squared distances (N, V) of vectors to codes."""
        inner_NV = x_NC @ self.weight_VC.T
        lengths_NV: Tensor = (x_NC**2).sum(-1, keepdim=True) + (self.weight_VC**2).sum(-1)
        return lengths_NV - 2 * inner_NV

    def nearest(self, x_NC: Tensor) -> Tensor:
        """Numbers (N,) of the nearest codes."""
        return self.distances(x_NC).argmin(-1)

    def vectors(self, codes: Tensor) -> Tensor:
        """Code vectors (..., C) of code numbers of any shape."""
        return F.embedding(codes, self.weight_VC)

    @torch.no_grad()
    def place(self, x_NC: Tensor) -> None:
        """Puts the codes on vectors drawn at random, as if each had stood for one of them."""
        drawn = torch.randint(len(x_NC), (len(self.weight_VC),), device=x_NC.device)
        self.weight_VC.copy_(x_NC[drawn])
        self.total_VC.copy_(self.weight_VC)
        self.count_V.fill_(1.0)

    @torch.no_grad()
    def observe(self, x_NC: Tensor, codes_N: Tensor, restart: bool) -> None:
        """Moves the averages towards vectors and the codes that stand for them, and the codes with them.

        Args:
            restart: Whether codes that stand for less than one vector are put on vectors drawn at random.
        """
        size = len(self.weight_VC)
        # counting by bincount would make the host wait for the largest code
        count_V = torch.zeros_like(self.count_V).index_add_(
            0, codes_N, torch.ones_like(codes_N, dtype=self.count_V.dtype)
        )
        total_VC = torch.zeros_like(self.total_VC).index_add_(0, codes_N, x_NC.to(self.total_VC.dtype))
        self.count_V.lerp_(count_V, 1 - self.decay)
        self.total_VC.lerp_(total_VC, 1 - self.decay)
        if restart:
            unused_V = self.count_V < 1
            drawn = torch.randint(len(x_NC), (size,), device=x_NC.device)
            self.total_VC.copy_(torch.where(unused_V[:, None], x_NC[drawn].to(self.total_VC.dtype), self.total_VC))
            self.count_V.copy_(torch.where(unused_V, torch.ones_like(self.count_V), self.count_V))
        every = self.count_V.sum()
        smoothed_V = every * (self.count_V + _EPSILON) / (every + size * _EPSILON)
        self.weight_VC.copy_(self.total_VC / smoothed_V[:, None])


class ResidualQuantizer(nn.Module):
    """K codes per vector: r_0 = x; c_k = the code nearest to r_(k-1); r_k = r_(k-1) - e(c_k).

    Args:
        shared: One book for all depths; else one each.
        restart: Whether unused codes are put on random vectors in training.
    """

    def __init__(
        self, size: int, channels: int, depth: int, shared: bool = True, decay: float = 0.99, restart: bool = True
    ) -> None:
        super().__init__()
        if depth < 1:
            raise CardError(f"codes of depth {depth}", help="depth is at least 1")
        self.depth, self.channels, self.restart = depth, channels, restart
        self.books = nn.ModuleList(Codebook(size, channels, decay) for _ in range(1 if shared else depth))

    def book(self, k: int) -> Codebook:
        """The codebook of depth k (0 is the first)."""
        return cast(Codebook, self.books[k if len(self.books) > 1 else 0])

    def forward(self, x: Tensor) -> Quantized:
        """Codes of vectors (..., C). In training the books learn after each depth, so a shared book has moved
        by what depth k saw when depth k + 1 looks (as the reference implementation does).

        Raises:
            ShapeError: The vectors have another number of channels.
        """
        if x.shape[-1] != self.channels:
            raise ShapeError(f"quantizer: vectors of {x.shape[-1]} channels, codes have {self.channels}")
        x_NC = x.reshape(-1, self.channels)
        rest_NC = x_NC.detach()
        sum_NC = torch.zeros_like(rest_NC)
        codes, sums = [], []
        for k in range(self.depth):
            book = self.book(k)
            codes_N = book.nearest(rest_NC)
            chosen_NC = book.vectors(codes_N).to(rest_NC.dtype)
            if self.training:
                book.observe(rest_NC, codes_N, self.restart)
            rest_NC = rest_NC - chosen_NC
            sum_NC = sum_NC + chosen_NC
            codes.append(codes_N)
            sums.append(sum_NC)
        sums_KNC = torch.stack(sums)
        commitment = ((x_NC - sums_KNC) ** 2).mean()
        z_NC = x_NC + (sum_NC - x_NC).detach()
        shape = x.shape[:-1]
        return Quantized(
            z_NC.view(x.shape), torch.stack(codes, -1).view(*shape, self.depth), commitment, sums_KNC.view(-1, *x.shape)
        )

    @torch.no_grad()
    def begin(self, x: Tensor) -> None:
        """Puts the codes on vectors (..., C) drawn at random; each further book on what those before leave of them.

        Codes that begin far from all vectors pull these together, and few are ever used.
        """
        rest_NC = x.reshape(-1, self.channels).detach()
        for k in range(len(self.books)):
            self.book(k).place(rest_NC)
            rest_NC = rest_NC - self.book(k).vectors(self.book(k).nearest(rest_NC))

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., C): the sum of the code vectors of codes (..., K); ShapeError: the codes have another depth."""
        if codes.shape[-1] != self.depth:
            raise ShapeError(f"quantizer: codes of depth {codes.shape[-1]}, it has {self.depth}")
        parts = [self.book(k).vectors(codes[..., k]) for k in range(self.depth)]
        return torch.stack(parts).sum(0)
