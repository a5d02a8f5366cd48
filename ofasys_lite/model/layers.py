"""Norms, feed-forward layers, attention layers and blocks of the Transformer, all on flat streams.

Shape suffixes: S source rows, T target rows, R rows of either, B live rows in decoding, D width, H query heads,
G key and value heads, C channels of a head, F channels inside the feed-forward layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.model.attention import attend_parts, attend_within, outside_graphs
from ofasys_lite.model.borders import Borders, Parts
from ofasys_lite.model.config import GATED, ModelConfig
from ofasys_lite.model.fast_linear import FEW, in_bytes, make_linear
from ofasys_lite.model.rotary import Rotation, rotate
from ofasys_lite.model.standing import Biases, Standing

#: Where rows stand: what turns them, or what else their places give.
Where = Rotation | Standing


class Source(NamedTuple):
    """What target rows read of their encodings: states (S, D), where they stand, who reads which of them."""

    states_SD: Tensor
    rotation_S: Where
    cross: Borders


class StepCache(Protocol):
    """What a block asks of a cache in one step."""

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row."""

    def attend(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their rows: (B, H, C)."""

    def read(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their sources: (B, H, C)."""


def make_norm(config: ModelConfig, width: int) -> nn.Module:
    """The norm that the config names, over `width` channels."""
    if config.norm == "layernorm":
        return nn.LayerNorm(width, eps=config.norm_epsilon, bias=config.bias)
    return nn.RMSNorm(width, eps=config.norm_epsilon)


class HeadNorm(nn.RMSNorm):
    """RMSNorm within each head, in the type of what it is given.

    Under autocast on CUDA norms give fp32, and attention would lose its kernel for half precision.
    """

    def forward(self, x_RHC: Tensor) -> Tensor:
        """(R, H, C), as it came in shape and type."""
        return super().forward(x_RHC).to(x_RHC.dtype)


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


#: What stands within a feed-forward layer; the factor of a gated one goes through it.
_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "swiglu": F.silu,
    "geglu": _gelu_tanh,
    "reglu": F.relu,
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "relu": F.relu,
    "silu": F.silu,
}


class Swiglu(nn.Module):
    """(R, D) -> (R, D): silu(gate) * value, then back to the width (arXiv 2002.05202); one product for both."""

    def __init__(
        self, width: int, inner: int, bias: bool, norm: nn.Module | None = None, activation: str = "swiglu"
    ) -> None:
        super().__init__()
        self.inner = inner
        self.activation = _ACTIVATIONS[activation]
        self.into = make_linear(width, 2 * inner, bias)
        self.norm = norm
        self.out = make_linear(inner, width, bias)

    def forward(self, x_RD: Tensor) -> Tensor:
        """(R, D): every row on its own."""
        if x_RD.shape[0] > FEW and in_bytes():  # what comes between its products stays in the cache
            return torch.cat([self.forward(part_RD) for part_RD in torch.split(x_RD, FEW)])
        gate_RF, value_RF = self.into(x_RD).chunk(2, dim=-1)
        inner_RF = self.activation(gate_RF) * value_RF
        out_RD: Tensor = self.out(inner_RF if self.norm is None else self.norm(inner_RF))
        return out_RD


class Gelu(nn.Module):
    """(R, D) -> (R, D): a linear layer, gelu or another activation, a linear layer."""

    def __init__(
        self, width: int, inner: int, bias: bool, norm: nn.Module | None = None, activation: str = "gelu"
    ) -> None:
        super().__init__()
        self.activation = _ACTIVATIONS[activation]
        self.into = make_linear(width, inner, bias)
        self.norm = norm
        self.out = make_linear(inner, width, bias)

    def forward(self, x_RD: Tensor) -> Tensor:
        """(R, D): every row on its own."""
        if x_RD.shape[0] > FEW and in_bytes():  # what comes between its products stays in the cache
            return torch.cat([self.forward(part_RD) for part_RD in torch.split(x_RD, FEW)])
        inner_RF = self.activation(self.into(x_RD))
        out_RD: Tensor = self.out(inner_RF if self.norm is None else self.norm(inner_RF))
        return out_RD


def make_mlp(config: ModelConfig) -> Swiglu | Gelu:
    """The feed-forward layer that the config names."""
    kind = Swiglu if config.mlp in GATED else Gelu
    norm = make_norm(config, config.inner) if config.sublayer_norms else None
    return kind(config.width, config.inner, config.bias, norm, config.mlp)


class Given(nn.Module):
    """(R, H * X) -> (R, D): what heads have read goes into the stream, as weights of others have it.

    X is C, or 2 C where places have channels of their own, which are given to nobody. With `sublayer_norms` heads have
    gains, and what is given is normed.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.channels = config.heads, config.head_width
        self.out = make_linear(config.width, config.width, config.bias)
        self.gains = nn.Parameter(torch.ones(config.heads)) if config.sublayer_norms else None
        self.norm = make_norm(config, config.width) if config.sublayer_norms else None

    def forward(self, read_RX: Tensor) -> Tensor:
        """(R, D): every row on its own."""
        read_RHC = read_RX.view(len(read_RX), self.heads, -1)[..., : self.channels]
        if self.gains is None or self.norm is None:
            given_RD: Tensor = self.out(read_RHC.flatten(1))
            return given_RD
        normed_RD: Tensor = self.norm(self.out((read_RHC * self.gains.unsqueeze(1)).flatten(1)))
        return normed_RD


def make_out(config: ModelConfig) -> nn.Module:
    """What stands behind the heads: a linear layer, or more where the config asks for it."""
    if config.sublayer_norms or config.positions == "untied":
        return Given(config)
    return make_linear(config.width, config.width, config.bias)


def _widened(x_RHC: Tensor, places_RHC: Tensor | None) -> Tensor:
    """The channels of places behind those of `x_RHC`."""
    return x_RHC if places_RHC is None else torch.cat([x_RHC, places_RHC.to(x_RHC.dtype)], dim=-1)


def _padded(v_RGC: Tensor, like_RGX: Tensor) -> Tensor:
    """Values with as many channels as their keys; heads give the further ones, which are zero, to nobody."""
    further = like_RGX.shape[-1] - v_RGC.shape[-1]
    return F.pad(v_RGC, (0, further)) if further else v_RGC


class SelfAttention(nn.Module):
    """The products around attention of a stream within each of its sequences; queries, keys and values are one."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.channels = config.heads, config.kv_groups, config.head_width
        self.gain = config.query_gain
        self.qkv = make_linear(
            config.width, (self.heads + 2 * self.groups) * self.channels, config.bias or config.qkv_bias
        )
        self.out = make_out(config)
        self.q_norm = HeadNorm(self.channels, eps=config.norm_epsilon) if config.qk_norm else None
        self.k_norm = HeadNorm(self.channels, eps=config.norm_epsilon) if config.qk_norm else None

    def project(self, x_RD: Tensor, rotation: Where) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (R, H, C) and keys as their places make them, and plain values (R, G, C)."""
        if isinstance(rotation, Standing):
            return self._standing(x_RD, rotation)
        qkv_RHC = self.qkv(x_RD).unflatten(-1, (self.heads + 2 * self.groups, self.channels))
        if self.q_norm is None or self.k_norm is None:
            qk_RHC, v_RGC = qkv_RHC.split_with_sizes((self.heads + self.groups, self.groups), dim=1)
            q_RHC, k_RGC = rotate(qk_RHC, rotation).split_with_sizes((self.heads, self.groups), dim=1)
            return q_RHC, k_RGC, v_RGC
        q_RHC, k_RGC, v_RGC = qkv_RHC.split_with_sizes((self.heads, self.groups, self.groups), dim=1)
        return rotate(self.q_norm(q_RHC), rotation), rotate(self.k_norm(k_RGC), rotation), v_RGC

    def _standing(self, x_RD: Tensor, where: Standing) -> tuple[Tensor, Tensor, Tensor]:
        """The same where places do not only turn channels."""
        qkv_RHC = self.qkv(x_RD).unflatten(-1, (self.heads + 2 * self.groups, self.channels))
        q_RHC, k_RGC, v_RGC = qkv_RHC.split_with_sizes((self.heads, self.groups, self.groups), dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q_RHC, k_RGC = self.q_norm(q_RHC), self.k_norm(k_RGC)
        if where.rotation is not None:
            q_RHC, k_RGC = rotate(q_RHC, where.rotation), rotate(k_RGC, where.rotation)
        q_RHC = q_RHC if self.gain == 1.0 else q_RHC * self.gain
        q_place, k_place = where.own or (None, None)
        k_RGX = _widened(k_RGC, k_place)
        return _widened(q_RHC, q_place), k_RGX, _padded(v_RGC, k_RGX)


class CrossAttention(nn.Module):
    """The products around attention of target rows to the source rows of their encoding.

    Queries and keys are turned by position where the config says so.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads, self.groups, self.channels = config.heads, config.kv_groups, config.head_width
        self.gain = config.query_gain
        self.rotary = config.cross_rotary
        self.q = make_linear(config.width, self.heads * self.channels, config.bias or config.qkv_bias)
        self.kv = make_linear(config.width, 2 * self.groups * self.channels, config.bias or config.qkv_bias)
        self.out = make_out(config)
        self.q_norm = HeadNorm(self.channels, eps=config.norm_epsilon) if config.qk_norm else None
        self.k_norm = HeadNorm(self.channels, eps=config.norm_epsilon) if config.qk_norm else None

    def queries(self, x_TD: Tensor, rotation_T: Where) -> Tensor:
        """Queries (T, H, C), turned by target position."""
        q_THC: Tensor = self.q(x_TD).unflatten(-1, (self.heads, self.channels))
        q_THC = q_THC if self.q_norm is None else self.q_norm(q_THC)
        if isinstance(rotation_T, Standing):
            turns = rotation_T.rotation if self.rotary else None
            q_THC = q_THC if turns is None else rotate(q_THC, turns)
            return _widened(q_THC if self.gain == 1.0 else q_THC * self.gain, rotation_T.cross)
        return rotate(q_THC, rotation_T) if self.rotary else q_THC

    def memory(self, states_SD: Tensor, rotation_S: Where) -> tuple[Tensor, Tensor]:
        """Keys, turned by source position, and values, both (S, G, C): they do not depend on the target."""
        kv_SGC = self.kv(states_SD).unflatten(-1, (2 * self.groups, self.channels))
        k_SGC, v_SGC = kv_SGC.split_with_sizes((self.groups, self.groups), dim=1)
        k_SGC = k_SGC if self.k_norm is None else self.k_norm(k_SGC)
        if isinstance(rotation_S, Standing):
            turns = rotation_S.rotation if self.rotary else None
            k_SGX = _widened(k_SGC if turns is None else rotate(k_SGC, turns), rotation_S.cross)
            return k_SGX, _padded(v_SGC, k_SGX)
        return (rotate(k_SGC, rotation_S) if self.rotary else k_SGC), v_SGC


class EncoderBlock(nn.Module):
    """(S, D) -> (S, D): self-attention and feed-forward, each added to the stream with a norm before or behind."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.width)
        self.attention = SelfAttention(config)
        self.mlp_norm = make_norm(config, config.width)
        self.mlp = make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)
        self.after = config.norm_place == "after"
        self.attend_parts = outside_graphs(attend_parts, config.compile_blocks)

    def forward(self, x_SD: Tensor, rotation: Where, parts: Parts, biases: Biases | None = None) -> Tensor:
        """(S, D): the stream behind this block."""
        read_SD = x_SD if self.after else self.attention_norm(x_SD)
        # attention stands in the block itself: there a compiled block is cut, into as few graphs as can be
        read_SHC = self.attend_parts(*self.attention.project(read_SD, rotation), parts, biases)
        x_SD = x_SD + self.dropout(self.attention.out(read_SHC.flatten(1)))
        if self.after:
            x_SD = self.attention_norm(x_SD)
            behind_SD: Tensor = self.mlp_norm(x_SD + self.dropout(self.mlp(x_SD)))
            return behind_SD
        added_SD: Tensor = self.dropout(self.mlp(self.mlp_norm(x_SD)))
        return x_SD + added_SD


class DecoderBlock(nn.Module):
    """(T, D) -> (T, D): self-attention, cross-attention where the model has an encoder, feed-forward.

    `forward` is the one entry of a block in training, prefill and decoding: what shards weights hooks it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config, config.width)
        self.attention = SelfAttention(config)
        cross = config.encoder_layers > 0
        self.cross_norm = make_norm(config, config.width) if cross else None
        self.cross = CrossAttention(config) if cross else None
        self.mlp_norm = make_norm(config, config.width)
        self.mlp = make_mlp(config)
        self.dropout = nn.Dropout(config.dropout)
        self.after = config.norm_place == "after"
        self.attend_parts = outside_graphs(attend_parts, config.compile_blocks)
        self.attend_within = outside_graphs(attend_within, config.compile_blocks)

    def forward(
        self,
        x_TD: Tensor,
        rotation_T: Where,
        parts: Parts | None = None,
        source: Source | None = None,
        cache: StepCache | None = None,
        layer: int = 0,
        biases: Biases | None = None,
    ) -> Tensor | tuple[Tensor, Tensor]:
        """(T, D): the stream behind this block.

        Args:
            x_TD: All rows of target sequences; or, with a cache, the newest row of each (B, D).
            parts: Borders of self-attention; None with a cache.
            source: What cross-attention reads; None with a cache.
            cache: Holds what these rows read, and takes their keys and values.
            layer: The block's place in the cache.
            biases: Of the scores of self-attention, a sequence each; those of a step are the cache's.

        Without parts and cache the rows are the states of sources: keys and values of them, both (S, G, C), that the
        cache of decoding reads.
        """
        if parts is None and cache is None and self.cross is not None:
            return self.cross.memory(x_TD, rotation_T)
        read_THC: Tensor
        q_THC, k_TGC, v_TGC = self.attention.project(x_TD if self.after else self.attention_norm(x_TD), rotation_T)
        if cache is None:
            read_THC = self.attend_parts(q_THC, k_TGC, v_TGC, parts, biases)  # type: ignore[arg-type]
        else:
            cache.write(layer, k_TGC, v_TGC)
            read_THC = cache.attend(layer, q_THC)
        # in evaluation dropout is nothing but calls, and a step of few rows is bound by calls
        added_TD = self.attention.out(read_THC.flatten(1))
        x_TD = x_TD + (self.dropout(added_TD) if self.training else added_TD)
        x_TD = self.attention_norm(x_TD) if self.after else x_TD
        if self.cross is not None and self.cross_norm is not None:
            q_THC = self.cross.queries(x_TD if self.after else self.cross_norm(x_TD), rotation_T)
            if cache is not None:
                read_THC = cache.read(layer, q_THC)
            elif source is not None:
                memory = self.cross.memory(source.states_SD, source.rotation_S)
                read_THC = self.attend_within(q_THC, *memory, source.cross)
            added_TD = self.cross.out(read_THC.flatten(1))
            x_TD = x_TD + (self.dropout(added_TD) if self.training else added_TD)
            x_TD = self.cross_norm(x_TD) if self.after else x_TD
        added_TD = self.mlp(x_TD if self.after else self.mlp_norm(x_TD))
        out_TD: Tensor = x_TD + (self.dropout(added_TD) if self.training else added_TD)
        return self.mlp_norm(out_TD) if self.after else out_TD


@torch.no_grad()
def initialise(module: nn.Module, depth: int) -> None:
    """Draws all linear weights of `module` from normals of deviation fan_in ** -0.5; biases 0, norms 1.

    Layers that add to the residual stream (`out`) are divided by sqrt(depth), depth the number of such layers in their
    stack, so that the stream's variance does not grow with depth (GPT-2).
    """
    for name, part in module.named_modules():
        if isinstance(part, nn.Linear):
            scale = depth**-0.5 if name.rpartition(".")[2] == "out" else 1.0
            part.weight.normal_(0.0, scale * part.in_features**-0.5)
            if part.bias is not None:
                part.bias.zero_()


@torch.no_grad()
def draw_near_biases(module: nn.Module, score: float) -> None:
    """Gives queries and keys of all attention in `module` equal random biases of such a size that they score `score`.

    Turned by rotary positions, what they score is largest at distance 0 and, on average over heads, falls with the
    distance on each axis (that of one head wavers: it is a sum of few cosines), so that heads begin with what lies
    near, whatever it is. Cross-attention that is not turned is left alone: there they would add the same to all keys.
    They are drawn by a generator of their own, seeded by torch's: what is drawn behind them is what it is without.
    """
    state = torch.get_rng_state()
    own = torch.Generator().manual_seed(int(torch.randint(2**62, (), device="cpu")))
    torch.set_rng_state(state)
    for part in module.modules():
        if not isinstance(part, (SelfAttention, CrossAttention)) or (
            isinstance(part, CrossAttention) and not part.rotary
        ):
            continue
        drawn_GC = torch.randn(part.groups, part.channels, generator=own, device="cpu")
        drawn_GC *= (score * part.channels**0.5) ** 0.5 / drawn_GC.norm(dim=1, keepdim=True)
        queries = drawn_GC.repeat_interleave(part.heads // part.groups, 0).flatten() / part.gain
        into, keys = (part.qkv, part.qkv) if isinstance(part, SelfAttention) else (part.q, part.kv)
        first = len(queries) if isinstance(part, SelfAttention) else 0
        into.bias[: len(queries)].copy_(queries)
        keys.bias[first : first + drawn_GC.numel()].copy_(drawn_GC.flatten())
