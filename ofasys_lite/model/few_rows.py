"""Decoder blocks laid out for steps of a few rows on a CPU.

A step of eight rows is bound by the bytes of the weights and by the number of calls. Here weights stand transposed and
in panels (products of few rows then run 1.3 to 1.5 times faster), gains of norms and the scale of the queries are
worked into them, positions turn in three calls, and all blocks work in the same buffers, whose views are made once. The
copies are made when a generation starts, so they are never stale; they pay from about a hundred steps on, so
`EncoderDecoder.start` makes them where so many are announced.

Shape suffixes: B live rows, D width, O outputs of a product, H query heads, G key and value heads, C channels of a
head, P = C / 2 pairs of channels, F channels inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.layers import DecoderBlock, SelfAttention, StepCache, Swiglu
from ofasys_lite.model.pages import large_zeros
from ofasys_lite.model.rotary import Rotation, axes_on

#: Outputs of a panel of weights.
PANEL = 128
#: Weights of at most so many numbers stay whole: they are read as fast, and nothing has to be put in order behind them.
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
        laid_out = [FewRows(block, spaces) for block in blocks]
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
        self.mlp_out = _Linear(mlp.out.weight, mlp.out.bias)
        self.cross_q: NormedLinear | None = None
        if cross is not None and block.cross_norm is not None:
            self.cross_q = NormedLinear(block.cross_norm, cross.q, torch.full((cross.q.out_features,), scale))
            self.cross_out = _Linear.of(cross.out)
            self.cross_rotary = cross.rotary

    @property
    def linears(self) -> list[_Linear]:
        """All linear layers, in the order of their use."""
        cross = [] if self.cross_q is None else [self.cross_q, self.cross_out]
        return [self.qkv, self.out, *cross, self.into, self.mlp_out]

    def __call__(self, layer: int, x_BD: Tensor, rotation: Rotation, cache: StepCache) -> Tensor:
        """(B, D): the stream behind this block, in a buffer that the next block writes to."""
        space = self.spaces.get(len(x_BD))
        if space is None:
            self.spaces.clear()  # rows come to an end one by one: old counts do not return
            space = self.spaces[len(x_BD)] = _Space(self, len(x_BD))
        space.qkv.product(self.qkv, self.qkv.norm(x_BD, space))
        space.turn(rotation)
        cache.write(layer, space.k_BGC, space.v_BGC)
        x_BD = space.out.add(self.out, cache.attend(layer, space.q_BHC, scaled=True).reshape(x_BD.shape), x_BD)
        if self.cross_q is not None:
            q_BHC = space.cross_q.product(self.cross_q, self.cross_q.norm(x_BD, space)).view(space.q_BHC.shape)
            q_BHC = _turned(q_BHC, rotation) if self.cross_rotary else q_BHC
            x_BD = space.out.add(self.cross_out, cache.read(layer, q_BHC, scaled=True).reshape(x_BD.shape), x_BD)
        inside = space.into.product(self.into, self.into.norm(x_BD, space))
        if self.gated:
            F.silu(space.gate_BF, inplace=True)
            inside = torch.mul(space.gate_BF, space.value_BF, out=space.inside_BF)
        else:
            inside = F.gelu(inside)
        return space.mlp_out.add(self.mlp_out, inside, x_BD)


class _Space:
    """Work buffers for B live rows, and every view of them that a step needs: a third of a small step's time would go
    into making views and asking for memory."""

    def __init__(self, block: FewRows, rows: int) -> None:
        width, heads, turned = block.qkv.width, block.heads, block.heads + block.groups
        like = block.qkv.panels_NIO
        self.stream_BD = like.new_empty(rows, width)
        self.normed_BD, self.length_B1 = torch.empty_like(self.stream_BD), like.new_empty(rows, 1)
        self.qkv, self.into = _Product(block.qkv, rows), _Product(block.into, rows)
        self.out = _Product(block.out, rows, self.stream_BD)
        self.mlp_out = _Product(block.mlp_out, rows, self.stream_BD)
        if block.cross_q is not None:
            self.cross_q = _Product(block.cross_q, rows)
        qkv_BHC = self.qkv.out_BO.view(rows, -1, block.channels)
        self.v_BGC = qkv_BHC[:, turned:]
        self.halves_BH2P = qkv_BHC[:, :turned].unflatten(-1, (2, -1))  # type: ignore[no-untyped-call]
        self.first_BHP, self.second_BHP = self.halves_BH2P.unbind(2)
        self.turned_BH2P = like.new_empty(self.halves_BH2P.shape)
        self.turned_first_BHP, self.turned_second_BHP = self.turned_BH2P.unbind(2)
        turned_BHC = self.turned_BH2P.flatten(2)
        self.q_BHC, self.k_BGC = turned_BHC[:, :heads], turned_BHC[:, heads:]
        self.gate_BF, self.value_BF = self.into.out_BO[:, : block.inner], self.into.out_BO[:, block.inner :]
        self.inside_BF = like.new_empty(rows, block.inner)
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
    """x W + b; W stands transposed, large ones in panels (N, inputs, PANEL) that are read from end to end."""

    def __init__(self, weight_OI: Tensor, bias_O: Tensor | None) -> None:
        outputs, inputs = weight_OI.shape
        self.width = inputs
        self.count = outputs // PANEL if outputs % PANEL == 0 and outputs * inputs > WHOLE else 1
        panels = weight_OI.detach().view(self.count, -1, inputs).transpose(1, 2).contiguous()
        self.panels_NIO = panels
        self.bias_O = None if bias_O is None else bias_O.detach().clone()

    @classmethod
    def of(cls, linear: nn.Module) -> _Linear:
        """The same of a layer; what stands behind the heads of blocks of ours is one."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"{type(linear).__name__} cannot be laid out for few rows")
        return cls(linear.weight, linear.bias)

    @property
    def outputs(self) -> int:
        """O."""
        return self.count * int(self.panels_NIO.shape[2])

    def __call__(self, x_BD: Tensor) -> Tensor:
        """(B, O), fresh."""
        return _Product(self, len(x_BD)).product(self, x_BD)


class _Product:
    """Buffers for the products of B rows with linear layers of one shape.

    Args:
        linear: One of the layers.
        rows: B.
        out_BO: Where results are written; a buffer of its own if not given.
    """

    def __init__(self, linear: _Linear, rows: int, out_BO: Tensor | None = None) -> None:
        self.out_BO = linear.panels_NIO.new_empty(rows, linear.outputs) if out_BO is None else out_BO
        self.count = linear.count
        self.panels_NBO = linear.panels_NIO.new_empty(linear.count, rows, linear.outputs // linear.count)
        self.panels_BNO = self.panels_NBO.transpose(0, 1)
        self.out_BNO = self.out_BO.view(self.panels_BNO.shape)

    def product(self, linear: _Linear, x_BI: Tensor) -> Tensor:
        """(B, O): x W + b."""
        if self.count == 1:
            torch.mm(x_BI, linear.panels_NIO[0], out=self.out_BO)
        else:
            torch.bmm(x_BI.expand(self.count, -1, -1), linear.panels_NIO, out=self.panels_NBO)
            self.out_BNO.copy_(self.panels_BNO)
        return self.out_BO if linear.bias_O is None else self.out_BO.add_(linear.bias_O)

    def add(self, linear: _Linear, x_BI: Tensor, rest_BO: Tensor) -> Tensor:
        """(B, O): rest + x W + b; the rest may be the buffer itself."""
        if self.count == 1:
            torch.addmm(rest_BO, x_BI, linear.panels_NIO[0], out=self.out_BO)
        else:
            torch.bmm(x_BI.expand(self.count, -1, -1), linear.panels_NIO, out=self.panels_NBO)
            rest_BNO = self.out_BNO if rest_BO is self.out_BO else rest_BO.view(self.out_BNO.shape)
            torch.add(rest_BNO, self.panels_BNO, out=self.out_BNO)
        return self.out_BO if linear.bias_O is None else self.out_BO.add_(linear.bias_O)


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

    def __call__(self, x_BD: Tensor) -> Tensor:
        """(B, O), fresh."""
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
