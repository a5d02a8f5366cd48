"""The encoder-decoder: vectors in, vectors out; it knows no task and no modality.

Shape suffixes: S source rows, T target rows, B live rows in decoding, D width; positions are (rows, 3): time, row and
column. Streams are flat: sequences lie end to end, their lengths are plain ints.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.borders import Borders, Parts
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.few_rows import StepRotation, hooked, lay_out
from ofasys_lite.model.kv_cache import DecodeCache
from ofasys_lite.model.layers import (
    DecoderBlock,
    EncoderBlock,
    Source,
    Where,
    draw_near_biases,
    initialise,
    make_norm,
)
from ofasys_lite.model.prefix import Joint, Prefill, behind
from ofasys_lite.model.rotary import rotary_table
from ofasys_lite.model.standing import Biases, Places, Run, Runs, Standing

Tap = Callable[[Tensor], Tensor | None]
Taps = Mapping[int, Tap]


class EncoderDecoder(nn.Module):
    """A Transformer over flat streams; encoder-only and decoder-only models are the same with 0 layers.

    Weights are drawn with deviation fan_in ** -0.5; layers that add to the residual stream are divided by the square
    root of their number in the stack. Dropout is the only randomness.

    Attributes:
        backend: Attention back-end forced for tests, None to choose by device, type and length.
    """

    def __init__(self, config: ModelConfig, backend: str | None = None) -> None:
        super().__init__()
        self.config = config
        self.backend = backend
        self.encoder = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        self.decoder = nn.ModuleList(DecoderBlock(config) for _ in range(config.decoder_layers))
        self.encoder_norm = _last_norm(config) if config.encoder_layers else None
        self.decoder_norm = _last_norm(config) if config.decoder_layers else None
        #: Whether blocks are told rotations only, as this package's own are.
        self.own = config.own
        #: Whether the decoder reads the source in front of each target.
        self.prefixed = config.source == "prefix"
        placed = not (config.positions == "rotary" and config.relative == "none" and config.entry == "plain")
        self.encoder_places = Places(config, config.encoder_layers, False) if placed and config.encoder_layers else None
        self.decoder_places = Places(config, config.decoder_layers, True) if placed and config.decoder_layers else None
        initialise(self.encoder, depth=2 * max(1, config.encoder_layers))
        initialise(self.decoder, depth=(3 if config.encoder_layers else 2) * max(1, config.decoder_layers))
        if config.near_bias:
            draw_near_biases(self, config.near_bias)
        if config.compile_blocks:
            for block in (*self.encoder, *self.decoder):
                block.compile(dynamic=True)  # rows are other ones in each pack

    def encode(self, x_SD: Tensor, positions_S3: Tensor, lengths: Sequence[int], runs: Runs | None = None) -> Tensor:
        """States (S, D) of all source rows, each seeing the whole of its own sequence; a prefix is left as it is.

        Args:
            x_SD: Embedded source rows, sequences end to end.
            runs: What counts its places from 0, where places are not rotary; None: each sequence.

        Raises:
            ShapeError: Rows, positions and lengths do not agree, or the model has no encoder and there are rows.
        """
        self._check("source", x_SD, positions_S3, lengths)
        if self.encoder_norm is None:
            if x_SD.shape[0] and not self.prefixed:
                help = "set encoder_layers above 0, or have the decoder read it: source=prefix"
                raise ShapeError("this model has no encoder and got source rows", help=help)
            return x_SD
        places = self.encoder_places
        where: Where = rotary_table(positions_S3, self.config) if self.own else self._where(positions_S3)
        biases: Iterator[Biases | None] = repeat(None)
        if places is not None:
            runs = runs or _whole(lengths)
            x_SD, places_SD = places.enter(x_SD, runs)
            where = self._where(positions_S3, places.own(places_SD))
            biases = places.biases(lengths, runs, x_SD.device)
        parts = Parts(lengths, 0, self.backend)
        for block, added in zip(self.encoder, biases, strict=False):
            x_SD = self._run(block, x_SD, where, parts, *(() if added is None else (added,)))
        states_SD: Tensor = self.encoder_norm(x_SD)
        return states_SD

    def decode(
        self,
        x_TD: Tensor,
        positions_T3: Tensor,
        states_SD: Tensor | None = None,
        source_positions_S3: Tensor | None = None,
        *,
        lengths: Sequence[int],
        cross_lengths: Sequence[tuple[int, int]] = (),
        causal_rows: int | None = None,
        taps: Taps | None = None,
        runs: Runs | None = None,
        source_runs: Runs | None = None,
    ) -> Tensor:
        """States (T, D) of all target rows.

        Args:
            x_TD: Embedded target rows, sequences end to end, the causal ones first.
            positions_T3: Time, row and column of each row.
            states_SD: What `encode` gave; None in a decoder-only model that reads no prefix.
            lengths: Rows of each target sequence.
            cross_lengths: Per encoding, in order: its target rows (all its target sequences) and its source rows.
            causal_rows: Leading rows whose sequences are causal; None means all.
            taps: Per layer, what is called with the states (T, D) behind that block; what it returns is added.
            runs: What counts its places from 0, where places are not rotary; None: each sequence.
            source_runs: The same of the source.

        Raises:
            ShapeError: Rows, positions, lengths or layers of taps do not agree.
        """
        self._check("target", x_TD, positions_T3, lengths)
        if taps:
            self._check_taps(taps)
        if self.decoder_norm is None:
            if x_TD.shape[0]:
                raise ShapeError("this model has no decoder and got target rows", help="set decoder_layers above 0")
            return x_TD
        if states_SD is None:
            states_SD, source_positions_S3 = x_TD.new_zeros(0, x_TD.shape[1]), positions_T3[:0]
            cross_lengths = cross_lengths or [(x_TD.shape[0], 0)]
        if source_positions_S3 is None:
            raise ShapeError("decode got source states without their positions")
        if self.prefixed and len(states_SD):
            if causal_rows not in (None, sum(lengths)):
                help = "targets that are written all at once need an encoder: encoder_layers above 0"
                raise ShapeError("a prefix is followed by targets whose rows see each other", help=help)
            joint = Joint(lengths, cross_lengths)
            positions_J3 = joint.positions(source_positions_S3, positions_T3)
            joint_taps = {layer: joint.tap(tap) for layer, tap in (taps or {}).items()}
            x_JD = joint.rows(states_SD, x_TD)
            return joint.targets(self.decode(x_JD, positions_J3, lengths=joint.lengths, taps=joint_taps or None))
        source_lengths = [s for _, s in cross_lengths]
        where: Where
        if self.own:
            where = rotary_table(positions_T3, self.config)
            source_where: Where = rotary_table(source_positions_S3, self.config)
        else:
            source_where = self._source_where(states_SD, source_positions_S3, source_lengths, source_runs)
            where = self._where(positions_T3)
        places = self.decoder_places
        biases: Iterator[Biases | None] = repeat(None)
        if places is not None:
            runs = runs or _whole(lengths)
            x_TD, places_TD = places.enter(x_TD, runs)
            queries = places.cross_queries(places_TD) if self.config.encoder_layers else None
            where = self._where(positions_T3, places.own(places_TD), queries)
            biases = places.biases(lengths, runs, x_TD.device)
        parts = Parts(lengths, sum(lengths) if causal_rows is None else causal_rows, self.backend)
        cross = Borders([t for t, _ in cross_lengths], source_lengths, backend=self.backend)
        source = Source(states_SD, source_where, cross)
        for layer, (block, added) in enumerate(zip(self.decoder, biases, strict=False)):
            x_TD = self._run(block, x_TD, where, parts, source, *(() if added is None else (None, 0, added)))
            if taps:
                x_TD = _tapped(x_TD, layer, taps)
        states_TD: Tensor = self.decoder_norm(x_TD)
        return states_TD

    def start(
        self,
        states_SD: Tensor | None = None,
        source_positions_S3: Tensor | None = None,
        source_lengths: Sequence[int] = (),
        room: int | None = None,
        source_runs: Runs | None = None,
    ) -> DecodeCache:
        """A cache with one live row per source, nothing written yet; `reorder` makes more or fewer rows of them.

        Args:
            states_SD: What `encode` gave; a decoder-only model gives no states and one length 0 per row.
            source_lengths: Rows of each source.
            room: Steps that are expected, if known. The buffers are made for them, and where they are many (96 on a
                CPU) the weights of the decoder are laid out anew for steps of few rows. Neither is done, and every
                step goes through the blocks' calls, where they have hooks by now.
            source_runs: What counts its places from 0, where places are not rotary; None: each source.
        """
        memories = self._memories(states_SD, source_positions_S3, source_lengths, source_runs)
        rotation = StepRotation(self.config, next(self.parameters()).device)
        blocks = lay_out(self.decoder, room) if self.own else None
        cache = DecodeCache(memories, source_lengths, rotation, blocks, room)
        cache.entries = [_entry(block) for block in self.decoder]
        if self.prefixed and states_SD is not None and source_positions_S3 is not None and len(states_SD):
            cache.expect(source_lengths, behind(source_positions_S3, source_lengths))
            filling = Prefill(cache, source_lengths, self.backend)
            where = self._where(source_positions_S3)
            for layer, entry in enumerate(cache.entries):
                states_SD = entry(states_SD, where, cache=filling, layer=layer)
        return cache

    def _memories(
        self,
        states_SD: Tensor | None,
        source_positions_S3: Tensor | None,
        source_lengths: Sequence[int],
        source_runs: Runs | None,
    ) -> list[tuple[Tensor, Tensor] | None]:
        """Keys and values of all sources, per layer."""
        memories: list[tuple[Tensor, Tensor] | None] = [None] * len(self.decoder)
        if states_SD is not None and source_positions_S3 is not None:
            self._check("source", states_SD, source_positions_S3, source_lengths)
            rotation_S = self._source_where(states_SD, source_positions_S3, source_lengths, source_runs)
            for layer, block in enumerate(self.decoder):
                if isinstance(block, DecoderBlock) and block.cross is not None:
                    memories[layer] = _entry(block)(states_SD, rotation_S)
        elif any(source_lengths):
            raise ShapeError("start got source lengths without states and positions")
        return memories

    def step(
        self,
        x_BD: Tensor,
        positions_B3: Tensor,
        cache: DecodeCache,
        taps: Taps | None = None,
        normed: bool = True,
    ) -> Tensor:
        """States (B, D) of one new position of every live row, which `cache` then holds.

        `normed` is False where only taps read them: the last norm is then left out.
        """
        rows = len(cache.source_B)
        if x_BD.shape != (rows, self.config.width) or positions_B3.shape != (rows, 3):
            self._check("live", x_BD, positions_B3, [1] * rows)
        if taps:
            self._check_taps(taps)
        turned = cache.rotation(cache.placed(positions_B3))
        rotation: Where = turned
        if self.decoder_places is not None:
            x_BD, standing = self.decoder_places.step(x_BD, cache.place)
            rotation = standing if self.config.positions != "rotary" else standing._replace(rotation=turned)
            cache.biases = self.decoder_places.step_biases(cache.place, len(self.decoder), x_BD.device)
        elif not self.own:
            rotation = Standing(turned)
        cache.begin(x_BD.device)
        if cache.blocks is None:
            for layer, entry in enumerate(cache.entries):
                x_BD = entry(x_BD, rotation, cache=cache, layer=layer)
                if taps:
                    x_BD = _tapped(x_BD, layer, taps)
        else:
            for layer, laid_out in enumerate(cache.blocks):
                x_BD = laid_out(layer, x_BD, turned, cache)
                if taps:
                    x_BD = _tapped(x_BD, layer, taps)
        cache.advance()
        if self.decoder_norm is not None and normed:
            states_BD: Tensor = self.decoder_norm(x_BD)
            return states_BD
        return x_BD

    def _where(
        self, positions_R3: Tensor, own: tuple[Tensor, Tensor] | None = None, cross: Tensor | None = None
    ) -> Where:
        """Where rows stand: a plain rotation, or what blocks of others are told."""
        rotation = rotary_table(positions_R3, self.config) if self.config.positions == "rotary" else None
        if rotation is not None and self.own:
            return rotation
        return Standing(rotation, own, cross)

    def _source_where(
        self, states_SD: Tensor, positions_S3: Tensor, lengths: Sequence[int], runs: Runs | None
    ) -> Where:
        """Where source rows stand, as cross-attention asks it."""
        read, written = self.encoder_places, self.decoder_places
        if read is None or written is None or self.config.positions != "untied":
            return self._where(positions_S3)
        places_SD = read.known(runs or _whole(lengths), states_SD.device)
        return Standing(cross=written.cross_keys(places_SD))

    def _run(self, block: nn.Module, *inputs: Any) -> Tensor:
        if self.config.gradient_checkpointing and self.training and torch.is_grad_enabled():
            out = checkpoint(block, *inputs, use_reentrant=False)
        else:
            out = block(*inputs)
        states: Tensor = out
        return states

    def _check(self, what: str, x_RD: Tensor, positions_R3: Tensor, lengths: Sequence[int]) -> None:
        rows = x_RD.shape[0]
        if x_RD.ndim != 2 or x_RD.shape[1] != self.config.width:
            raise ShapeError(f"{what} rows have shape {tuple(x_RD.shape)}", help=f"give (rows, {self.config.width})")
        if tuple(positions_R3.shape) != (rows, 3):
            raise ShapeError(f"{what}: {rows} rows and positions of shape {tuple(positions_R3.shape)}")
        if sum(lengths) != rows:
            raise ShapeError(f"{what}: {rows} rows, the lengths add up to {sum(lengths)}")

    def _check_taps(self, taps: Taps) -> None:
        for layer in taps:
            if not 0 <= layer < self.config.decoder_layers:
                last = self.config.decoder_layers - 1
                raise ShapeError(f"a tap asks for layer {layer}", help=f"layers of the decoder are 0 to {last}")


def _last_norm(config: ModelConfig) -> nn.Module:
    return make_norm(config, config.width) if config.final_norm else nn.Identity()


def _whole(lengths: Sequence[int]) -> list[Run]:
    """Each sequence as one run."""
    return [(length, None) for length in lengths if length]


def _tapped(x_TD: Tensor, layer: int, taps: Taps) -> Tensor:
    tap = taps.get(layer)
    added = None if tap is None else tap(x_TD)
    return x_TD if added is None else x_TD + added


def _entry(block: nn.Module) -> Callable[..., Any]:
    """What is called where a block works outside of training: its forward itself, unless somebody hooks the block.

    A step of few rows is bound by calls, and `nn.Module.__call__` takes two more. Compiled blocks step as they are
    written: their graphs are of whole streams.
    """
    return block._call_impl if hooked(block) else block.forward
