"""Codes with depth on the decoder: K codes of a position in one forward pass, one at each of K layers.

DnD-Transformer, arXiv 2410.01912: behind layer a_k the states of code positions give the logits of code k; the vector
of that code (the true one in training, the chosen one in decoding) is added to them before the next layer. The input of
a position is the sum of the K code vectors of the position before; one table serves all depths.
Shapes: T target rows, L code positions of a pack, B live rows in decoding, K depth, V codes, D width.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.errors import CardError, ShapeError

__all__ = ["Choose", "DepthHeads", "DepthLogits", "DepthWriter"]

#: (depth from 0, logits (B, V)) -> codes (B,)
Choose = Callable[[int, Tensor], Tensor]
Tap = Callable[[Tensor], Tensor | None]


class DepthHeads(nn.Module):
    """A head and a norm at each of K layers, and the code vectors that are fed back.

    Args:
        width: D.
        size: V.
        layers: a_1 < ... < a_K, layers of the decoder from 0; the last one is the decoder's last.
        decoder_layers: How many layers the decoder has.
        epsilon: Of the norms.

    Raises:
        CardError: The layers do not rise, or the last is not the decoder's last.
    """

    def __init__(
        self, width: int, size: int, layers: Sequence[int], decoder_layers: int, epsilon: float = 1e-6
    ) -> None:
        super().__init__()
        rising = all(a < b for a, b in itertools.pairwise(layers))
        if not layers or not rising or layers[0] < 0 or layers[-1] != decoder_layers - 1:
            raise CardError(
                f"depth heads behind layers {list(layers)} of a decoder of {decoder_layers} layers",
                help=f"write rising layers, the last of them {decoder_layers - 1}; depth is at most {decoder_layers}",
            )
        self.layers = tuple(layers)
        self.table = nn.Embedding(size, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=epsilon) for _ in layers)
        self.heads = nn.ModuleList(nn.Linear(width, size, bias=False) for _ in layers)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        for head in self.heads:
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[arg-type]

    @property
    def depth(self) -> int:
        """K."""
        return len(self.layers)

    def inputs(self, codes_LK: Tensor) -> Tensor:
        """(L, D): what the next position reads of these codes, the sum of their vectors."""
        if codes_LK.shape[-1] != self.depth:
            raise ShapeError(f"codes of depth {codes_LK.shape[-1]}, the heads have depth {self.depth}")
        summed: Tensor = self.table(codes_LK).sum(-2)
        return summed

    def logits(self, k: int, states_LD: Tensor) -> Tensor:
        """(L, V) of depth k (0 is the first), from the states behind its layer."""
        scores: Tensor = self.heads[k](self.norms[k](states_LD))
        return scores

    def read(self, rows_L: Tensor, codes_LK: Tensor) -> DepthLogits:
        """A teacher-forced pass over the code rows of a pack: give `taps` to the decoder, then ask for the loss.

        Args:
            rows_L: Target rows that predict a position's codes.
            codes_LK: Their true codes.
        """
        return DepthLogits(self, rows_L, codes_LK)

    def write(self, choose: Choose) -> DepthWriter:
        """A step of decoding in which every live row writes the codes of one position, each drawn by `choose`."""
        return DepthWriter(self, choose)


class DepthLogits:
    """Collects the logits of all depths while the decoder runs once."""

    def __init__(self, heads: DepthHeads, rows_L: Tensor, codes_LK: Tensor) -> None:
        if codes_LK.shape != (*rows_L.shape, heads.depth):
            raise ShapeError(f"{len(rows_L)} rows, codes of shape {tuple(codes_LK.shape)}, depth {heads.depth}")
        self.heads, self.rows_L, self.codes_LK = heads, rows_L, codes_LK
        self._logits: list[Tensor] = []

    @property
    def taps(self) -> dict[int, Tap]:
        """What the decoder calls behind each head's layer; every pass begins with `taps` anew."""
        self._logits = []
        return {layer: self._tap(k) for k, layer in enumerate(self.heads.layers)}

    def _tap(self, k: int) -> Tap:
        def tap(x_TD: Tensor) -> Tensor | None:
            self._logits.append(self.heads.logits(k, x_TD.index_select(0, self.rows_L)))
            if k == self.heads.depth - 1:
                return None
            fed_LD = self.heads.table(self.codes_LK[:, k]).to(x_TD.dtype)
            return torch.zeros_like(x_TD).index_copy(0, self.rows_L, fed_LD)

        return tap

    def logits(self) -> Tensor:
        """(L, K, V), after the decoder ran with `taps`."""
        if len(self._logits) != self.heads.depth:
            raise ShapeError(
                f"{len(self._logits)} of {self.heads.depth} depths were asked", help="run the decoder first"
            )
        return torch.stack(self._logits, 1)

    def loss(self) -> Tensor:
        """(L, K) cross entropy of each code, in nats; the depths weigh the same (arXiv 2410.01912)."""
        logits_LKV = self.logits().float()
        flat: Tensor = F.cross_entropy(logits_LKV.flatten(0, 1), self.codes_LK.flatten(), reduction="none")
        return flat.view(self.codes_LK.shape)


class DepthWriter:
    """Draws the codes of one position per live row, depth by depth, within one step of the decoder."""

    def __init__(self, heads: DepthHeads, choose: Choose) -> None:
        self.heads, self.choose = heads, choose
        self._codes: list[Tensor] = []

    @property
    def taps(self) -> dict[int, Tap]:
        """What the decoder calls behind each head's layer; every step begins with `taps` anew."""
        self._codes = []
        return {layer: self._tap(k) for k, layer in enumerate(self.heads.layers)}

    def _tap(self, k: int) -> Tap:
        def tap(x_BD: Tensor) -> Tensor | None:
            codes_B = self.choose(k, self.heads.logits(k, x_BD))
            self._codes.append(codes_B)
            fed_BD: Tensor = self.heads.table(codes_B)
            return None if k == self.heads.depth - 1 else fed_BD.to(x_BD.dtype)

        return tap

    def codes(self) -> Tensor:
        """(B, K) of the step that was just made."""
        return torch.stack(self._codes, -1)
