"""Decoder blocks laid out for steps of a few rows on a CPU.

A step of eight rows is bound by the bytes of the weights and by the number of calls. Here weights are laid out as
oneDNN reads them (on Zen 4 products of few rows run 1.1 to 1.6 times faster than of transposed weights in panels by
MKL), gains of norms and the scale of the queries are worked into them, positions turn in three calls, and all blocks
work in the same buffers, whose views are made once. The copies are made when a generation starts, so they are never
stale; they pay from about a hundred steps on, so `EncoderDecoder.start` makes them where so many are announced.

Shape suffixes: B live rows, D width, O outputs of a product, H query heads, G key and value heads, C channels of a
head, P = C / 2 pairs of channels, F channels inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.fast_linear import FEW_ROWS, laid_out_is_faster, lay_out_weight, multiply
from ofasys_lite.model.layers import DecoderBlock, SelfAttention, StepCache, Swiglu
from ofasys_lite.model.rotary import Rotation, axes_on

#: Weights of at most so many numbers are read as fast by torch's own products, which can add and take a buffer.
WHOLE = 2**16
#: From so many steps on, copies of the weights are worth their making.
WORTH = 96


class StepRotation:
    """Cosine and sine per row and pair of channels; what does not depend on the row is made once, not at each step."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.blank = config.rotary_blank
        self.index_P, self.inverse_P = axes_on(config, device)

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
    and types than fp32 on a CPU, norms within the heads, and where hooks want to see the blocks at work.

    Blocks that only weights of others need are not handed here.
    """
    blocks = [block for block in decoder if isinstance(block, DecoderBlock)]
    if any(hooked(part) for part in decoder.modules()):
        return None
    if not blocks or not _worth(blocks[0].attention.qkv.weight, steps) or blocks[0].attention.q_norm is not None:
        return None
    with torch.no_grad():
        spaces: dict[int, _Space] = {}
        return [FewRows(block, spaces) for block in blocks]


def lay_out_heads(
    norms: Iterable[nn.Module], heads: Iterable[nn.Module], steps: int | None
) -> list[Callable[[Tensor], Tensor]] | None:
    """Norms and the linear layers behind them, (B, D) -> (B, O), for a generation of `steps`; None where they would not
    pay."""
    pairs = [(norm, head) for norm, head in zip(norms, heads, strict=True) if isinstance(head, nn.Linear)]
    if not pairs or not all(_worth(head.weight, steps) for _, head in pairs):
        return None
    with torch.no_grad():
        return [NormedLinear(norm, head).behind_norm for norm, head in pairs]


def hooked(module: nn.Module) -> bool:
    """Whether somebody watches or prepares the module's calls: hooks of a user, or of what shards its weights."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _worth(weight: Tensor, steps: int | None) -> bool:
    return steps is not None and steps >= WORTH and weight.device.type == "cpu" and weight.dtype == torch.float32


class FewRows:
    """One decoder block, evaluated for one position of every live row; no gradients, no dropout.

    Args:
        spaces: Work buffers by number of rows, shared by the blocks of one generation.
    """

    def __init__(self, block: DecoderBlock, spaces: dict[int, _Space]) -> None:
        own, cross, mlp = block.attention, block.cross, block.mlp
        scale = own.channels**-0.5
        self.spaces = spaces
        self.heads, self.groups, self.channels = own.heads, own.groups, own.channels
        self.qkv = NormedLinear(block.attention_norm, own.qkv, _query_scale(own, scale))
        self.out = _Linear.of(own.out)
        self.gated = isinstance(mlp, Swiglu)
        self.inner = mlp.out.in_features
        self.into = NormedLinear(block.mlp_norm, mlp.into)
        self.mlp_out = _Linear.of(mlp.out)
        self.cross_q: NormedLinear | None = None
        if cross is not None and block.cross_norm is not None:
            self.cross_q = NormedLinear(block.cross_norm, cross.q, torch.full((cross.q.out_features,), scale))
            self.cross_out = _Linear.of(cross.out)
            self.cross_rotary = cross.rotary

    def __call__(self, layer: int, x_BD: Tensor, rotation: Rotation, cache: StepCache) -> Tensor:
        """(B, D): the stream behind this block, a tensor of its own."""
        space = self.spaces.get(len(x_BD))
        if space is None:
            self.spaces.clear()  # rows come to an end one by one: old counts do not return
            space = self.spaces[len(x_BD)] = _Space(self, len(x_BD))
        self.qkv(self.qkv.norm(x_BD, space), space.qkv_BO)
        space.turn(rotation)
        cache.write(layer, space.k_BGC, space.v_BGC)
        x_BD = self.out.add(cache.attend(layer, space.q_BHC, scaled=True).reshape(x_BD.shape), x_BD)
        if self.cross_q is not None:
            q_BHC = self.cross_q(self.cross_q.norm(x_BD, space)).view(space.q_BHC.shape)
            q_BHC = _turned(q_BHC, rotation) if self.cross_rotary else q_BHC
            x_BD = self.cross_out.add(cache.read(layer, q_BHC, scaled=True).reshape(x_BD.shape), x_BD)
        inside_BF = self.into(self.into.norm(x_BD, space), space.into_BO)
        if self.gated:
            F.silu(space.gate_BF, inplace=True)
            inside_BF = torch.mul(space.gate_BF, space.value_BF, out=space.inside_BF)
        else:
            inside_BF = F.gelu(inside_BF)
        return self.mlp_out.add(inside_BF, x_BD)


class _Space:
    """Work buffers for B live rows, and every view of them that a step needs: a third of a small step's time would go
    into making views and asking for memory."""

    def __init__(self, block: FewRows, rows: int) -> None:
        width, heads, turned = block.qkv.width, block.heads, block.heads + block.groups
        self.normed_BD, self.length_B1 = torch.empty(rows, width), torch.empty(rows, 1)
        self.qkv_BO, self.into_BO = torch.empty(rows, block.qkv.outputs), torch.empty(rows, block.into.outputs)
        qkv_BHC = self.qkv_BO.view(rows, -1, block.channels)
        self.v_BGC = qkv_BHC[:, turned:]
        self.halves_BH2P = qkv_BHC[:, :turned].unflatten(-1, (2, -1))  # type: ignore[no-untyped-call]
        self.first_BHP, self.second_BHP = self.halves_BH2P.unbind(2)
        self.turned_BH2P = torch.empty(self.halves_BH2P.shape)
        self.turned_first_BHP, self.turned_second_BHP = self.turned_BH2P.unbind(2)
        turned_BHC = self.turned_BH2P.flatten(2)
        self.q_BHC, self.k_BGC = turned_BHC[:, :heads], turned_BHC[:, heads:]
        self.gate_BF, self.value_BF = self.into_BO[:, : block.inner], self.into_BO[:, block.inner :]
        self.inside_BF = torch.empty(rows, block.inner)
        self._rotation: Rotation | None = None

    def turn(self, rotation: Rotation) -> None:
        """Turns queries and keys, as `_turned` does; the views of a step's tables are made once."""
        if rotation is not self._rotation:
            self._rotation = rotation
            self._cos, self._sin = rotation[0][:, None, None], rotation[1].unsqueeze(1)
        torch.mul(self.halves_BH2P, self._cos, out=self.turned_BH2P)
        self.turned_first_BHP.addcmul_(self.second_BHP, self._sin, value=-1)
        self.turned_second_BHP.addcmul_(self.first_BHP, self._sin)


class _Linear:
    """x W + b; W is laid out for oneDNN where that reads it faster, and stands transposed where it is small or not."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        self.outputs, self.width = weight_OI.shape
        self.laid_out = weight_OI.numel() > WHOLE and laid_out_is_faster(FEW_ROWS)
        weight_OI = weight_OI.detach()
        self.weight = lay_out_weight(weight_OI) if self.laid_out else weight_OI.t().contiguous()
        self.bias_O = None if bias_O is None else bias_O.detach().clone()

    @classmethod
    def of(cls, linear: nn.Module) -> _Linear:
        """The same of a layer; what stands behind the heads of blocks of ours is one."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{type(linear).__name__} cannot be laid out for few rows")
        return cls(linear.weight, linear.bias)

    def __call__(self, x_BI: Tensor, out_BO: Tensor | None = None) -> Tensor:
        """(B, O): x W + b, in `out_BO` if it is given."""
        if self.laid_out:
            found_BO = multiply(x_BI, self.weight, self.bias_O)
            return found_BO if out_BO is None else out_BO.copy_(found_BO)
        if self.bias_O is None:
            return torch.mm(x_BI, self.weight, out=out_BO)
        return torch.addmm(self.bias_O, x_BI, self.weight, out=out_BO)

    def add(self, x_BI: Tensor, rest_BO: Tensor) -> Tensor:
        """(B, O), fresh: rest + x W + b."""
        if self.laid_out:
            return multiply(x_BI, self.weight, self.bias_O).add_(rest_BO)
        found_BO = torch.addmm(rest_BO, x_BI, self.weight)
        return found_BO if self.bias_O is None else found_BO.add_(self.bias_O)


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
        self.epsilon = float(norm.eps or 0.0)
        self.floor = torch.tensor((self.width * self.epsilon) ** 0.5)

    def norm(self, x_BD: Tensor, space: _Space) -> Tensor:
        """(B, D): the normed rows, without gain, in a buffer of `space`."""
        if self.centre:
            return F.layer_norm(x_BD, (self.width,), eps=self.epsilon)
        length_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True, out=space.length_B1)
        return torch.div(x_BD, torch.hypot(length_B1, self.floor, out=length_B1), out=space.normed_BD)

    def behind_norm(self, x_BD: Tensor) -> Tensor:
        """(B, O), fresh, of rows that are not normed yet."""
        if self.centre:
            return self(F.layer_norm(x_BD, (self.width,), eps=self.epsilon))
        length_B1 = torch.linalg.vector_norm(x_BD, dim=-1, keepdim=True)
        return self(x_BD / torch.hypot(length_B1, self.floor))


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
