"""Decoder blocks laid out for steps of a few rows on a CPU.

A step of eight rows is bound by the bytes of the weights and by the number of calls. Here weights stand transposed and
in panels (products of few rows then run 1.3 to 1.5 times faster), gains of norms and the scale of the queries are
worked into them, and positions turn in three calls. The copies are made when a generation starts, so they are never
stale; they pay from about a hundred steps on, so `EncoderDecoder.start` makes them where so many are announced.

Shape suffixes: B live rows, D width, O outputs of a product, H query heads, G key and value heads, C channels of a
head, P = C / 2 pairs of channels, F channels inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.layers import CrossAttention, DecoderBlock, SelfAttention, Swiglu
from ofasys_lite.model.pages import large_zeros
from ofasys_lite.model.rotary import Rotation, mrope_axes

__all__ = ["FewRows", "NormedLinear", "StepCache", "StepRotation", "lay_out", "lay_out_heads"]

#: Outputs of a panel of weights.
PANEL = 128
#: From so many steps on, copies of the weights are worth their making.
WORTH = 96


class StepCache(Protocol):
    """What a block asks of a cache in one step."""

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row."""

    def attend(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their rows: (B, H, C)."""

    def read(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their sources: (B, H, C)."""


class StepRotation:
    """Cosine and sine per row and pair of channels; what does not depend on the row is made once, not at each step."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        axes = mrope_axes(config.head_width, config.sections, float(config.rotary_theta), config.rotary_layout)
        self.blank = config.rotary_blank
        self.index_P = torch.tensor(axes.axes_P, dtype=torch.long, device=device)
        self.inverse_P = torch.tensor(axes.inverse_frequencies_P, dtype=torch.float32, device=device)

    def __call__(self, positions_B3: Tensor) -> Rotation:
        """(B, P) each in fp32; equal to `rotary_table`."""
        angles_BP = positions_B3.to(torch.float32).index_select(1, self.index_P) * self.inverse_P
        cos_BP, sin_BP = angles_BP.cos(), angles_BP.sin()
        if self.blank:
            seen_B1 = (positions_B3[:, :1] >= 0).to(cos_BP.dtype)
            return cos_BP * seen_B1, sin_BP * seen_B1
        return cos_BP, sin_BP


def lay_out(decoder: nn.ModuleList, steps: int | None) -> list[FewRows] | None:
    """The blocks for a generation of `steps`; None where they would not pay or not be exact: few steps, other devices
    and types than fp32 on a CPU, norms within the heads."""
    blocks = [block for block in decoder if isinstance(block, DecoderBlock)]
    if not blocks or not _worth(blocks[0].attention.qkv.weight, steps) or blocks[0].attention.q_norm is not None:
        return None
    with torch.no_grad():
        laid_out = [FewRows(block) for block in blocks]
        _settle([linear for block in laid_out for linear in block.linears])
    return laid_out


def lay_out_heads(
    norms: Iterable[nn.Module], heads: Iterable[nn.Module], steps: int | None
) -> list[NormedLinear] | None:
    """Norms and the linear layers behind them for a generation of `steps`; None where they would not pay."""
    pairs = [(norm, head) for norm, head in zip(norms, heads, strict=True) if isinstance(head, nn.Linear)]
    if not pairs or not all(_worth(head.weight, steps) for _, head in pairs):
        return None
    with torch.no_grad():
        laid_out = [NormedLinear(norm, head) for norm, head in pairs]
        _settle(laid_out)
    return laid_out


def _worth(weight: Tensor, steps: int | None) -> bool:
    return steps is not None and steps >= WORTH and weight.device.type == "cpu" and weight.dtype == torch.float32


class FewRows:
    """One decoder block, evaluated for one position of every live row; no gradients, no dropout."""

    def __init__(self, block: DecoderBlock) -> None:
        own, cross, mlp = block.attention, block.cross, block.mlp
        scale = own.channels**-0.5
        self.heads, self.groups, self.channels = own.heads, own.groups, own.channels
        self.qkv = NormedLinear(block.attention_norm, own.qkv, _query_scale(own, scale))
        self.out = _Linear(own.out.weight, own.out.bias)
        self.gated = isinstance(mlp, Swiglu)
        self.inner = mlp.out.in_features
        self.into = NormedLinear(block.mlp_norm, mlp.into)
        self.mlp_out = _Linear(mlp.out.weight, mlp.out.bias)
        self.cross_q: NormedLinear | None = None
        if cross is not None and block.cross_norm is not None:
            self._take_cross(cross, block.cross_norm, scale)

    def _take_cross(self, cross: CrossAttention, norm: nn.Module, scale: float) -> None:
        self.cross_q = NormedLinear(norm, cross.q, torch.full((cross.q.out_features,), scale))
        self.cross_out = _Linear(cross.out.weight, cross.out.bias)
        self.cross_rotary = cross.rotary

    @property
    def linears(self) -> list[_Linear]:
        """All linear layers, in the order of their use."""
        cross = [] if self.cross_q is None else [self.cross_q, self.cross_out]
        return [self.qkv, self.out, *cross, self.into, self.mlp_out]

    def __call__(self, layer: int, x_BD: Tensor, rotation: Rotation, cache: StepCache) -> Tensor:
        """(B, D): the stream behind this block."""
        heads, turned = self.heads, self.heads + self.groups
        qkv_BHC = self.qkv(x_BD).view(len(x_BD), -1, self.channels)
        qk_BHC = _turned(qkv_BHC[:, :turned], rotation)
        cache.write(layer, qk_BHC[:, heads:], qkv_BHC[:, turned:])
        x_BD = self.out.add(cache.attend(layer, qk_BHC[:, :heads], scaled=True).reshape(x_BD.shape), x_BD)
        if self.cross_q is not None:
            q_BHC = self.cross_q(x_BD).view(len(x_BD), heads, self.channels)
            q_BHC = _turned(q_BHC, rotation) if self.cross_rotary else q_BHC
            x_BD = self.cross_out.add(cache.read(layer, q_BHC, scaled=True).reshape(x_BD.shape), x_BD)
        inside = self.into(x_BD)
        if self.gated:
            inside_BF = F.silu(inside[:, : self.inner]).mul_(inside[:, self.inner :])
        else:
            inside_BF = F.gelu(inside)
        return self.mlp_out.add(inside_BF, x_BD)


class _Linear:
    """x W + b; W stands transposed, in panels (N, inputs, PANEL) that are read from end to end."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        outputs, inputs = weight_OI.shape
        self.count = outputs // PANEL if outputs % PANEL == 0 else 1
        panels = weight_OI.detach().view(self.count, -1, inputs).transpose(1, 2).contiguous()
        self.panels_NIO = panels
        self.bias_O = None if bias_O is None else bias_O.detach().clone()

    def _panels(self, x_BD: Tensor) -> Tensor:
        """(B, N, O / N), not in order of memory."""
        return torch.bmm(x_BD.unsqueeze(0).expand(self.count, -1, -1), self.panels_NIO).transpose(0, 1)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """(B, O)."""
        out_BO = x_BD.mm(self.panels_NIO[0]) if self.count == 1 else self._panels(x_BD).flatten(1)
        return out_BO if self.bias_O is None else out_BO.add_(self.bias_O)

    def add(self, x_BD: Tensor, rest_BO: Tensor) -> Tensor:
        """What comes out, added to `rest_BO`."""
        if self.count == 1:
            out_BO = torch.addmm(rest_BO, x_BD, self.panels_NIO[0])
        else:
            # written in order of memory: what follows reads whole rows
            out_BO = torch.empty_like(rest_BO)
            shape = (len(rest_BO), self.count, -1)
            torch.add(rest_BO.view(shape), self._panels(x_BD), out=out_BO.view(shape))
        return out_BO if self.bias_O is None else out_BO.add_(self.bias_O)


class NormedLinear(_Linear):
    """A norm and the linear layer behind it; the norm's gain and bias, and `scale_O`, are part of the weights."""

    def __init__(self, norm: nn.Module, linear: nn.Linear, scale_O: Tensor | None = None) -> None:
        weight_OD: Tensor = linear.weight
        bias_O: Tensor | None = linear.bias
        if isinstance(norm, nn.LayerNorm):
            if norm.bias is not None:
                shift_O = weight_OD @ norm.bias
                bias_O = shift_O if bias_O is None else bias_O + shift_O
            self.centre, gain = True, 1.0
        elif isinstance(norm, nn.RMSNorm):
            # x / sqrt(mean + e) = sqrt(D) x / sqrt(sum + D e)
            self.centre, gain = False, linear.in_features**0.5
        else:
            raise TypeError(f"no layout for {type(norm).__name__}")
        weight_OD = weight_OD * (norm.weight * gain)
        if scale_O is not None:
            weight_OD = weight_OD * scale_O.unsqueeze(1)
            bias_O = None if bias_O is None else bias_O * scale_O
        super().__init__(weight_OD, bias_O)
        self.width, self.epsilon = linear.in_features, float(norm.eps or 0.0)
        self.floor = torch.tensor((self.width * self.epsilon) ** 0.5)

    def __call__(self, x_BD: Tensor) -> Tensor:
        """(B, O)."""
        if self.centre:
            return super().__call__(F.layer_norm(x_BD, (self.width,), eps=self.epsilon))
        length_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
        return super().__call__(x_BD / torch.hypot(length_B1, self.floor))


def _settle(linears: Sequence[_Linear]) -> None:
    """Puts the panels of all layers behind each other, in large pages."""
    panels = [linear.panels_NIO for linear in linears]
    pool = large_zeros([sum(x.numel() for x in panels)], panels[0])
    for linear, old, new in zip(linears, panels, pool.split_with_sizes([x.numel() for x in panels]), strict=True):
        linear.panels_NIO = new.view(old.shape).copy_(old)


def _query_scale(layer: SelfAttention, scale: float) -> Tensor:
    """(O,): the attention's scale at outputs that are queries, 1 at the others."""
    scale_O = torch.ones(layer.qkv.out_features)
    scale_O[: layer.heads * layer.channels] = scale
    return scale_O


def _turned(x_BHC: Tensor, rotation: Rotation) -> Tensor:
    """`rotate` with halves paired: three calls, no autograd."""
    cos_BP, sin_BP = rotation
    halves_BH2P: Tensor = x_BHC.unflatten(-1, (2, -1))  # type: ignore[no-untyped-call]
    out_BH2P = halves_BH2P * cos_BP[:, None, None]
    sin_B1P = sin_BP.unsqueeze(1)
    first, second = halves_BH2P.unbind(2)
    out_first, out_second = out_BH2P.unbind(2)
    out_first.addcmul_(second, sin_B1P, value=-1)
    out_second.addcmul_(first, sin_B1P)
    turned_BHC: Tensor = out_BH2P.flatten(2)
    return turned_BHC
