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
from ofasys_lite.model.few_rows import lay_out_heads

#: (depth from 0, logits (B, V)) -> codes (B,)
Choose = Callable[[int, Tensor], Tensor]
#: States (R, D) -> logits (R, V)
Score = Callable[[Tensor], Tensor]
Tap = Callable[[Tensor], Tensor | None]


class DepthHeads(nn.Module):
    """A head and a norm at each of K layers, and the code vectors that are fed back.

    Args:
        size: V.
        layers: a_1 < ... < a_K, layers of the decoder from 0, the last one the decoder's last; K times the last one for
            parallel heads, which do not see each other's codes.
        feedback: Add the vector of each code before the next layer; without it the heads are a control experiment.
        table_std: Deviation of the fresh table, whose rows are read divided by it; None: width ** -0.5, read as they
            are, as published.

    Raises:
        CardError: The layers do not rise, or the last is not the decoder's last.
    """

    def __init__(
        self,
        width: int,
        size: int,
        layers: Sequence[int],
        decoder_layers: int,
        epsilon: float = 1e-6,
        feedback: bool = True,
        table_std: float | None = None,
    ) -> None:
        super().__init__()
        rising = all(a < b for a, b in itertools.pairwise(layers)) or (not feedback and len(set(layers)) == 1)
        if not layers or not rising or layers[0] < 0 or layers[-1] != decoder_layers - 1:
            raise CardError(
                f"depth heads behind layers {list(layers)} of a decoder of {decoder_layers} layers",
                help=f"write rising layers, the last of them {decoder_layers - 1}; depth is at most {decoder_layers}",
            )
        self.layers = tuple(layers)
        self.size = size
        self.feedback = feedback
        self.scale = 1.0 if table_std is None else 1 / table_std
        self.table = nn.Embedding(size, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=epsilon) for _ in layers)
        self.heads = nn.ModuleList(nn.Linear(width, size, bias=False) for _ in layers)
        nn.init.normal_(self.table.weight, std=width**-0.5 if table_std is None else table_std)
        for head in self.heads:
            nn.init.normal_(head.weight, std=width**-0.5)  # type: ignore[arg-type]

    @property
    def depth(self) -> int:
        """K."""
        return len(self.layers)

    @property
    def by_layer(self) -> dict[int, tuple[int, ...]]:
        """Layer -> the depths whose heads stand behind it."""
        return {layer: tuple(k for k, a in enumerate(self.layers) if a == layer) for layer in self.layers}

    def vectors(self, codes: Tensor) -> Tensor:
        """(..., D): the vectors of codes of any shape."""
        rows: Tensor = self.table(codes)
        return rows if self.scale == 1.0 else rows * self.scale

    def inputs(self, codes_LK: Tensor) -> Tensor:
        """(L, D): what the next position reads of these codes, the sum of their vectors."""
        if codes_LK.shape[-1] != self.depth:
            raise ShapeError(f"codes of depth {codes_LK.shape[-1]}, the heads have depth {self.depth}")
        return self.vectors(codes_LK).sum(-2)

    def logits(self, k: int, states_LD: Tensor) -> Tensor:
        """(L, V) of depth k (0 is the first), from the states behind its layer."""
        scores: Tensor = self.heads[k](self.norms[k](states_LD))
        return scores

    def fed_back(self, k: int) -> bool:
        """Whether the code of depth k is added before the next layer."""
        return self.feedback and k < self.depth - 1

    def read(self, rows_L: Tensor, codes_LK: Tensor, fed_LK: Tensor | None = None) -> DepthLogits:
        """A teacher-forced pass over the code rows of a pack: give `taps` to the decoder, then ask for the loss.

        Args:
            rows_L: Target rows that predict a position's codes.
            fed_LK: The codes that are fed back; None for the true ones.
        """
        return DepthLogits(self, rows_L, codes_LK, codes_LK if fed_LK is None else fed_LK)

    def scorers(self, steps: int | None) -> list[Score] | None:
        """Per depth, states to logits as `logits` gives them, laid out for a generation of `steps` (few rows, CPU);
        None where it would not pay. The weights are copied: make them when a generation starts."""
        laid_out = lay_out_heads(self.norms, self.heads, steps)
        return None if laid_out is None else list(laid_out)

    def write(
        self, choose: Choose, rows_R: Tensor | None = None, scorers: Sequence[Score] | None = None
    ) -> DepthWriter:
        """A step of decoding in which live rows write the codes of one position each, drawn by `choose`.

        Args:
            choose: Draws the codes of one depth.
            scorers: From `scorers`; None for the heads as they are.
        """
        return DepthWriter(self, choose, rows_R, scorers)


class DepthLogits:
    """Collects the logits of all depths while the decoder runs once."""

    def __init__(self, heads: DepthHeads, rows_L: Tensor, codes_LK: Tensor, fed_LK: Tensor) -> None:
        if codes_LK.shape != (*rows_L.shape, heads.depth) or fed_LK.shape != codes_LK.shape:
            raise ShapeError(f"{len(rows_L)} rows, codes of shape {tuple(codes_LK.shape)}, depth {heads.depth}")
        self.heads, self.rows_L, self.codes_LK, self.fed_LK = heads, rows_L, codes_LK, fed_LK
        self._logits: list[Tensor] = []

    @property
    def taps(self) -> dict[int, Tap]:
        """What the decoder calls behind each head's layer; every pass begins with `taps` anew."""
        self._logits = []
        return {layer: self._tap(depths) for layer, depths in self.heads.by_layer.items()}

    def _tap(self, depths: tuple[int, ...]) -> Tap:
        def tap(x_TD: Tensor) -> Tensor | None:
            states_LD = x_TD.index_select(0, self.rows_L)
            self._logits.extend(self.heads.logits(k, states_LD) for k in depths)
            if not self.heads.fed_back(depths[-1]):
                return None
            fed_LD = self.heads.vectors(self.fed_LK[:, depths[-1]]).to(x_TD.dtype)
            return torch.zeros_like(x_TD).index_copy(0, self.rows_L, fed_LD)

        return tap

    def logits(self) -> Tensor:
        """(L, K, V), after the decoder ran with `taps`."""
        if len(self._logits) != self.heads.depth:
            raise ShapeError(
                f"{len(self._logits)} of {self.heads.depth} depths were asked", help="run the decoder first"
            )
        return torch.stack(self._logits, 1)

    def loss(self, smoothing: float = 0.0) -> Tensor:
        """(L, K) cross entropy of each code, in nats; the depths weigh the same (arXiv 2410.01912)."""
        logits_LKV = self.logits().float()
        labels = self.codes_LK.flatten()
        flat: Tensor = F.cross_entropy(logits_LKV.flatten(0, 1), labels, reduction="none", label_smoothing=smoothing)
        return flat.view(self.codes_LK.shape)


class DepthWriter:
    """Draws the codes of one position per writing row, depth by depth, within one step of the decoder."""

    def __init__(
        self,
        heads: DepthHeads,
        choose: Choose,
        rows_R: Tensor | None = None,
        scorers: Sequence[Score] | None = None,
    ) -> None:
        self.heads, self.choose, self.rows_R, self.scorers = heads, choose, rows_R, scorers
        self._codes: list[Tensor] = []

    @property
    def taps(self) -> dict[int, Tap]:
        """What the decoder calls behind each head's layer; every step begins with `taps` anew."""
        self._codes = []
        return {layer: self._tap(depths) for layer, depths in self.heads.by_layer.items()}

    def _tap(self, depths: tuple[int, ...]) -> Tap:
        def tap(x_BD: Tensor) -> Tensor | None:
            x_RD = x_BD if self.rows_R is None else x_BD.index_select(0, self.rows_R)
            self._codes.extend(self.choose(k, self._logits(k, x_RD)) for k in depths)
            if not self.heads.fed_back(depths[-1]):
                return None
            fed_RD = self.heads.vectors(self._codes[-1]).to(x_BD.dtype)
            return fed_RD if self.rows_R is None else torch.zeros_like(x_BD).index_copy(0, self.rows_R, fed_RD)

        return tap

    def _logits(self, k: int, x_RD: Tensor) -> Tensor:
        return self.heads.logits(k, x_RD) if self.scorers is None else self.scorers[k](x_RD)

    def codes(self) -> Tensor:
        """(R, K) of the step that was just made."""
        return torch.stack(self._codes, -1)
