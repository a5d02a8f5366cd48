"""The plain loop that `sampling_dnd.py` compares with: codes with depth drawn as a published sampler draws them.

Written from the description of DnD-Transformer (arXiv 2410.01912) and held against its recorded codes in tests. What
makes it plain, and nothing else does:
- keys and values live in a cache of the full length; each step puts one place by index and attends over all of it
  behind a boolean mask, as published. `sliced=True` attends over the written places only, without a mask: the one
  change that a user who wants this loop to win would make;
- heads of the cache are repeated (a copy) only where there are fewer of them than queries. The published loop copies
  the whole cache at each step also where there is nothing to repeat; `copies=True` does that too;
- guidance runs a batch of twice the size;
- with a source, the encoder runs once and its keys and values are kept over the steps.
It reads the weights of our own EncoderDecoder and DepthHeads, so both sides compute the same codes.
Shapes: N rows (twice the images under guidance), T places of the cache, S source rows, H heads, G key and value heads,
C channels of a head, D width, V codes, K depth.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ofasys_lite.adapters.depth_heads import DepthHeads
from ofasys_lite.model import EncoderDecoder
from ofasys_lite.model.layers import CrossAttention, DecoderBlock, SelfAttention, Swiglu
from ofasys_lite.model.rotary import Rotation, rotary_table

__all__ = ["Draw", "PlainSampler"]


@dataclass(frozen=True, slots=True)
class Draw:
    """How codes are chosen: temperature 0 takes the best; `guidance` None means no second half of the batch."""

    temperature: float = 1.0
    top_k: int = 0
    guidance: float | None = None


class PlainSampler:
    """Draws grids of codes with the weights of `body` and `heads`, the plain way.

    Args:
        body: Decoder-only, or with an encoder; RMSNorm and SwiGLU as the published transformer.
        heads: Heads behind some of its layers.
        sliced: Attends over the written places instead of the whole cache behind a mask.
        copies: Copies the cache at each step where its heads need no repeating.
    """

    def __init__(self, body: EncoderDecoder, heads: DepthHeads, sliced: bool = False, copies: bool = False) -> None:
        self.body, self.heads, self.sliced, self.copies = body, heads, sliced, copies
        self.blocks = [block for block in body.decoder if isinstance(block, DecoderBlock)]
        self.depth_of = {layer: k for k, layer in enumerate(heads.layers)}

    @torch.inference_mode()
    def sample(
        self, start_ND: Tensor, positions_T3: Tensor, draw: Draw, source: tuple[Tensor, Tensor] | None = None
    ) -> Tensor:
        """(N, T, K) codes, of pairs only the first halves.

        Args:
            start_ND: What the first place reads; under guidance all conditional rows, then all unconditional ones.
            positions_T3: Positions of the T places, the same for all rows.
            draw: How codes are chosen.
            source: Encoder states (N, S, D) and their positions (S, 3).
        """
        rows, places, config = len(start_ND), len(positions_T3), self.body.config
        shape = (rows, config.kv_groups, places, config.head_width)
        caches = [(torch.zeros(shape), torch.zeros(shape)) for _ in self.blocks]
        mask_TT = torch.ones(places, places, dtype=torch.bool).tril()
        rotations = rotary_table(positions_T3, config)
        memories = self._memories(source) if source is not None else []
        x_ND, written = start_ND, []
        for place in range(places):
            at = torch.tensor([place])
            rotation = (rotations[0][at], rotations[1][at])
            seen = place + 1 if self.sliced else places
            mask_1T = None if self.sliced else mask_TT[at]
            codes_NK = self._step(x_ND, at, rotation, (seen, mask_1T), caches, draw, memories)
            written.append(codes_NK)
            x_ND = self.heads.table(codes_NK).sum(1)
        codes_NTK = torch.stack(written, 1)
        return codes_NTK if draw.guidance is None else codes_NTK[: rows // 2]

    def _step(
        self,
        x_ND: Tensor,
        at: Tensor,
        rotation: Rotation,
        seen: tuple[int, Tensor | None],
        caches: list[tuple[Tensor, Tensor]],
        draw: Draw,
        memories: list[tuple[Tensor, Tensor]],
    ) -> Tensor:
        written = []
        for layer, block in enumerate(self.blocks):
            x_ND = x_ND + self._attend(
                block.attention, _norm(block.attention_norm, x_ND), rotation, at, caches[layer], seen
            )
            if memories and block.cross is not None and block.cross_norm is not None:
                x_ND = x_ND + self._cross(block.cross, _norm(block.cross_norm, x_ND), rotation, memories[layer])
            x_ND = x_ND + _mlp(block.mlp, _norm(block.mlp_norm, x_ND))
            k = self.depth_of.get(layer)
            if k is not None:
                logits_NV = F.linear(_norm(self.heads.norms[k], x_ND), self.heads.heads[k].weight)
                codes_N = choose(logits_NV, draw)
                written.append(codes_N)
                if k < self.heads.depth - 1:
                    x_ND = x_ND + self.heads.table(codes_N)
        return torch.stack(written, 1)

    def _memories(self, source: tuple[Tensor, Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [self._memory(block.cross, source) for block in self.blocks if block.cross is not None]

    def _memory(self, cross: CrossAttention, source: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values (N, G, S, C) of the whole source."""
        states_NSD, positions_S3 = source
        rows, length = states_NSD.shape[:2]
        kv = F.linear(states_NSD, cross.kv.weight).view(rows, length, 2 * cross.groups, cross.channels)
        k_NSGC, v_NSGC = kv.chunk(2, 2)
        if cross.rotary:
            k_NSGC = _turn(k_NSGC, rotary_table(positions_S3, self.body.config))
        return k_NSGC.transpose(1, 2), v_NSGC.transpose(1, 2)

    def _cross(self, cross: CrossAttention, x_ND: Tensor, rotation: Rotation, memory: tuple[Tensor, Tensor]) -> Tensor:
        q_N1HC = F.linear(x_ND, cross.q.weight).view(len(x_ND), 1, cross.heads, cross.channels)
        if cross.rotary:
            q_N1HC = _turn(q_N1HC, rotation)
        keys, values = (self._repeated(x, cross.heads // cross.groups) for x in memory)
        out = F.scaled_dot_product_attention(q_N1HC.transpose(1, 2), keys, values)
        return F.linear(out.transpose(1, 2).reshape(len(x_ND), -1), cross.out.weight)

    def _attend(
        self,
        layer: SelfAttention,
        x_ND: Tensor,
        rotation: Rotation,
        at: Tensor,
        cache: tuple[Tensor, Tensor],
        seen: tuple[int, Tensor | None],
    ) -> Tensor:
        heads, groups, channels = layer.heads, layer.groups, layer.channels
        qkv = F.linear(x_ND, layer.qkv.weight).split([heads * channels, groups * channels, groups * channels], -1)
        q, k, v = (x.view(len(x_ND), 1, -1, channels) for x in qkv)
        q, k, v = (x.transpose(1, 2) for x in (_turn(q, rotation), _turn(k, rotation), v))
        cache[0][:, :, at], cache[1][:, :, at] = k, v
        places, mask_1T = seen
        keys, values = (self._repeated(x[:, :, :places], heads // groups) for x in cache)
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=mask_1T)
        return F.linear(out.transpose(1, 2).reshape(len(x_ND), -1), layer.out.weight)

    def _repeated(self, x_NGTC: Tensor, times: int) -> Tensor:
        return x_NGTC.repeat_interleave(times, 1) if times > 1 or self.copies else x_NGTC


def _norm(norm: torch.nn.Module, x_ND: Tensor) -> Tensor:
    """RMSNorm written out, in fp32 whatever the type."""
    x = x_ND.float()
    weight, epsilon = norm.weight, norm.eps
    return (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon)).type_as(x_ND) * weight  # type: ignore[operator]


def _turn(x_NSHC: Tensor, rotation: Rotation) -> Tensor:
    cos_SP, sin_SP = (table.unsqueeze(-2) for table in rotation)
    first, second = x_NSHC.chunk(2, -1)
    return torch.cat([first * cos_SP - second * sin_SP, second * cos_SP + first * sin_SP], -1)


def _mlp(layer: torch.nn.Module, x_ND: Tensor) -> Tensor:
    if not isinstance(layer, Swiglu):
        raise TypeError("the plain loop has SwiGLU only")
    gate, value = layer.into.weight.chunk(2)
    return F.linear(F.silu(F.linear(x_ND, gate)) * F.linear(x_ND, value), layer.out.weight)


def choose(logits_NV: Tensor, draw: Draw) -> Tensor:
    """(N,) codes: guidance, temperature, top-k by threshold, softmax, multinomial."""
    if draw.guidance is not None:
        with_, without = logits_NV.chunk(2)
        logits_NV = without + (with_ - without) * draw.guidance
    if draw.temperature == 0:
        codes = logits_NV.argmax(-1)
    else:
        logits_NV = logits_NV / draw.temperature
        if draw.top_k:
            least = logits_NV.topk(min(draw.top_k, logits_NV.shape[-1]))[0][:, -1:]
            logits_NV = logits_NV.masked_fill(logits_NV < least, float("-inf"))
        codes = torch.multinomial(logits_NV.softmax(-1), 1)[:, 0]
    return codes if draw.guidance is None else torch.cat([codes, codes])
