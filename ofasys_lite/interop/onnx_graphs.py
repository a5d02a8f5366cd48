"""The parts of a network as plain graphs of one sample: rows of ids, the encoder, one step of the decoder.

They are the network's own blocks; only what cuts a pack at the borders of samples is replaced by plain products.
Shapes: N ids, S source rows, B rows that are written together, P places written before, L blocks of the decoder,
D width, H query heads, G key and value heads, C channels, V vocabulary.
"""

from __future__ import annotations

import copy
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ofasys_lite.generalist.network import Network
from ofasys_lite.model.config import WAVES, ModelConfig
from ofasys_lite.model.layers import DecoderBlock, Where
from ofasys_lite.model.rotary import axes_on
from ofasys_lite.model.standing import Places, Standing, log_buckets, t5_buckets


class Embed(nn.Module):
    """ids (N,) -> rows (N, D)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.register_buffer("table_VD", network.text.table.detach().float() * network.text.scale)

    def forward(self, ids: Tensor) -> Tensor:
        """(N, D) what the encoder reads of ids."""
        return F.embedding(ids, cast(Tensor, self.table_VD))


class Entering(nn.Module):
    """What a side's rows learn of their places, for one run of tokens."""

    def __init__(self, config: ModelConfig, places: Places | None, causal: bool) -> None:
        super().__init__()
        self.config, self.causal, self.places = config, causal, places
        if config.relative != "none":
            # by a table: logarithms of another library may fall into another bucket
            self.far = config.relative_span if config.relative == "t5" else config.places - 1
            distance = torch.arange(-self.far, self.far + 1)
            if config.relative == "t5":
                rows = t5_buckets(distance, config.relative_buckets, config.relative_span, both_ways=not causal)
            else:
                rows = log_buckets(distance, config.relative_buckets, config.relative_span)
            self.register_buffer("buckets", rows)

    def enter(self, x_RD: Tensor, place_R: Tensor) -> Tensor:
        """(R, D) what the first block reads."""
        if self.places is None:
            return x_RD
        if self.config.positions == "learned":
            x_RD = x_RD + self.places.tables["line"](place_R)
        elif self.config.positions in WAVES:
            x_RD = x_RD + cast(Tensor, self.places.waves)[place_R]
        if self.config.entry == "norm":
            x_RD = self.places.norms["line"](x_RD)
        return x_RD

    def bias(self, layer: int, distance: Tensor) -> Tensor | None:
        """(H, ...) added to the scores of a block, of distances (query less key)."""
        if self.places is None or self.config.relative == "none":
            return None
        tables = cast(nn.ModuleList, self.places.relative["line"])
        rows = cast(Tensor, self.buckets)[distance.clamp(-self.far, self.far) + self.far]
        table = cast(nn.Embedding, tables[min(layer, len(tables) - 1)])
        added: Tensor = table(rows).movedim(-1, 0)
        return added


class Turning(nn.Module):
    """Where rows stand, as blocks are told: what turns them, if anything does."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.own, self.rotary = config.own, config.positions == "rotary"
        # made here, not while the graph is traced: they are kept for all models of these sizes
        index_P, inverse_P = axes_on(config, torch.device("cpu"))
        self.register_buffer("index_P", index_P.clone())
        self.register_buffer("inverse_P", inverse_P.clone())

    def forward(self, positions_R3: Tensor) -> Where:
        """The rotation of rows at (time, row, column)."""
        if not self.rotary:
            return Standing()
        index_P, inverse_P = cast(Tensor, self.index_P), cast(Tensor, self.inverse_P)
        angles_RP = positions_R3.to(torch.float32).index_select(1, index_P) * inverse_P
        turns = angles_RP.cos(), angles_RP.sin()
        return turns if self.own else Standing(turns)


class Encode(nn.Module):
    """rows (S, D), positions (S, 3) -> states (S, D), and keys and values of the decoder's blocks (L, S, G, C)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        body = copy.deepcopy(network.body)
        self.config, self.body = body.config, body
        self.entering = Entering(body.config, body.encoder_places, False)
        self.turning = Turning(body.config)
        for block in body.encoder:
            cast(Any, block).attend_parts = _attend

    def forward(self, rows: Tensor, positions: Tensor) -> tuple[Tensor, ...]:
        """The encoder and what cross-attention reads of it, which no target changes."""
        place_S = positions[:, 0]
        x_SD, where = self.entering.enter(rows, place_S), self.turning(positions)
        distance_SS = place_S.unsqueeze(1) - place_S
        for layer, block in enumerate(self.body.encoder):
            x_SD = block(x_SD, where, None, self.entering.bias(layer, distance_SS))
        states_SD: Tensor = cast(nn.Module, self.body.encoder_norm)(x_SD)
        blocks = [cast(DecoderBlock, block) for block in self.body.decoder]
        memories = [block.cross.memory(states_SD, where) for block in blocks if block.cross is not None]
        if not memories:
            return (states_SD,)
        keys, values = (torch.stack(each) for each in zip(*memories, strict=True))
        return states_SD, keys, values


class Step(nn.Module):
    """One more id of each row -> its logits (B, V), and keys and values with those of the new place.

    All rows read one source; what was written before is theirs, (L, B, P, G, C).
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        body, text = copy.deepcopy(network.body), network.text
        self.config, self.body = body.config, body
        self.entering = Entering(body.config, body.decoder_places, True)
        self.turning = Turning(body.config)
        self.embed = Embed(network)
        head = text.table if text.head is None else text.head
        self.register_buffer("head_VD", head.detach().float() * text.logit_scale)
        self.register_buffer("bias_V", None if text.bias is None else text.bias.detach().float())

    def forward(
        self,
        ids: Tensor,
        positions: Tensor,
        past_keys: Tensor,
        past_values: Tensor,
        memory_keys: Tensor | None = None,
        memory_values: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Logits, keys, values."""
        x_BD = self.entering.enter(self.embed(ids), positions[:, 0])
        where, cache = self.turning(positions), _Cache(self, past_keys, past_values, memory_keys, memory_values)
        for layer, block in enumerate(self.body.decoder):
            x_BD = block(x_BD, where, cache=cache, layer=layer)
        states_BD = cast(nn.Module, self.body.decoder_norm)(x_BD)
        logits_BV = F.linear(states_BD, cast(Tensor, self.head_VD), cast("Tensor | None", self.bias_V))
        return logits_BV, torch.stack(cache.keys), torch.stack(cache.values)


class _Cache:
    """What blocks read and write in one step, as tensors that come in and go out."""

    def __init__(
        self, step: Step, keys: Tensor, values: Tensor, memory_keys: Tensor | None, memory_values: Tensor | None
    ) -> None:
        self.step, self.past, self.memory = step, (keys, values), (memory_keys, memory_values)
        self.keys, self.values = list[Tensor](), list[Tensor]()

    def write(self, layer: int, k_BGC: Tensor, v_BGC: Tensor) -> None:
        """Puts one new key and value per row behind the others."""
        keys, values = self.past
        self.keys.append(torch.cat([keys[layer], k_BGC.unsqueeze(1)], 1))
        self.values.append(torch.cat([values[layer], v_BGC.unsqueeze(1)], 1))

    def attend(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their rows: (B, H, C)."""
        keys = self.keys[layer]
        at_P = torch.arange(keys.shape[1], device=keys.device)
        bias_HP = self.step.entering.bias(layer, keys.shape[1] - 1 - at_P)
        k_BPHC, v_BPHC = (_repeated(x, q_BHC, 2) for x in (keys, self.values[layer]))
        scores_BHP = torch.einsum("bhc,bphc->bhp", q_BHC * q_BHC.shape[-1] ** -0.5, k_BPHC)
        scores_BHP = scores_BHP if bias_HP is None else scores_BHP + bias_HP
        return torch.einsum("bhp,bphc->bhc", scores_BHP.softmax(-1), v_BPHC)

    def read(self, layer: int, q_BHC: Tensor, scaled: bool = False) -> Tensor:
        """What the newest queries read from their source: (B, H, C)."""
        keys, values = self.memory
        k_SHC, v_SHC = (_repeated(cast(Tensor, x)[layer], q_BHC, 1) for x in (keys, values))
        scores_BHS = torch.einsum("bhc,shc->bhs", q_BHC * q_BHC.shape[-1] ** -0.5, k_SHC)
        return torch.einsum("bhs,shc->bhc", scores_BHS.softmax(-1), v_SHC)


def _attend(q_SHC: Tensor, k_SGC: Tensor, v_SGC: Tensor, _: object, bias_HSS: Tensor | None = None) -> Tensor:
    """Self-attention of one sequence by plain products."""
    k_SHC, v_SHC = (_repeated(x, q_SHC, 1) for x in (k_SGC, v_SGC))
    scores_HQK = torch.einsum("qhc,khc->hqk", q_SHC * q_SHC.shape[-1] ** -0.5, k_SHC)
    scores_HQK = scores_HQK if bias_HSS is None else scores_HQK + bias_HSS
    return torch.einsum("hqk,khc->qhc", scores_HQK.softmax(-1), v_SHC)


def _repeated(x: Tensor, q_RHC: Tensor, axis: int) -> Tensor:
    """Keys or values of groups for each query head."""
    repeat = q_RHC.shape[-2] // x.shape[axis]
    return x if repeat == 1 else x.repeat_interleave(repeat, axis)
