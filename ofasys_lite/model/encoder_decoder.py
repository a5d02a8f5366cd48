"""The encoder-decoder: vectors in, vectors out; it knows no task and no modality.

Shape suffixes: S source rows, T target rows, B live rows in decoding, D width; positions are (rows, 3): time, row and
column. Streams are flat: sequences lie end to end, their lengths are plain ints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ofasys_lite.errors import ShapeError
from ofasys_lite.model.borders import Borders, Parts
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.model.few_rows import StepRotation, hooked, lay_out
from ofasys_lite.model.kv_cache import DecodeCache
from ofasys_lite.model.layers import DecoderBlock, EncoderBlock, Source, initialise, make_norm
from ofasys_lite.model.rotary import rotary_table

Tap = Callable[[Tensor], Tensor | None]
Taps = Mapping[int, Tap]


class EncoderDecoder(nn.Module):
    """A pre-norm Transformer over flat streams; encoder-only and decoder-only models are the same with 0 layers.

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
        self.encoder_norm = make_norm(config, config.width) if config.encoder_layers else None
        self.decoder_norm = make_norm(config, config.width) if config.decoder_layers else None
        initialise(self.encoder, depth=2 * max(1, config.encoder_layers))
        initialise(self.decoder, depth=(3 if config.encoder_layers else 2) * max(1, config.decoder_layers))
        if config.compile_blocks:
            for block in (*self.encoder, *self.decoder):
                block.compile(dynamic=True)  # rows are other ones in each pack

    def encode(self, x_SD: Tensor, positions_S3: Tensor, lengths: Sequence[int]) -> Tensor:
        """States (S, D) of all source rows, each seeing the whole of its own sequence.

        Args:
            x_SD: Embedded source rows, sequences end to end.

        Raises:
            ShapeError: Rows, positions and lengths do not agree, or the model has no encoder and there are rows.
        """
        self._check("source", x_SD, positions_S3, lengths)
        if self.encoder_norm is None:
            if x_SD.shape[0]:
                raise ShapeError("this model has no encoder and got source rows", help="set encoder_layers above 0")
            return x_SD
        rotation = rotary_table(positions_S3, self.config)
        parts = Parts(lengths, 0, self.backend)
        for block in self.encoder:
            x_SD = self._run(block, x_SD, rotation, parts)
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
    ) -> Tensor:
        """States (T, D) of all target rows.

        Args:
            x_TD: Embedded target rows, sequences end to end, the causal ones first.
            positions_T3: Time, row and column of each row.
            states_SD: What `encode` gave; None in a decoder-only model.
            lengths: Rows of each target sequence.
            cross_lengths: Per encoding, in order: its target rows (all its target sequences) and its source rows.
            causal_rows: Leading rows whose sequences are causal; None means all.
            taps: Per layer, what is called with the states (T, D) behind that block; what it returns is added.

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
        rotation_T = rotary_table(positions_T3, self.config)
        rotation_S = rotary_table(source_positions_S3, self.config)
        parts = Parts(lengths, sum(lengths) if causal_rows is None else causal_rows, self.backend)
        cross = Borders([t for t, _ in cross_lengths], [s for _, s in cross_lengths], backend=self.backend)
        source = Source(states_SD, rotation_S, cross)
        for layer, block in enumerate(self.decoder):
            x_TD = self._run(block, x_TD, rotation_T, parts, source)
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
    ) -> DecodeCache:
        """A cache with one live row per source, nothing written yet; `reorder` makes more or fewer rows of them.

        Args:
            states_SD: What `encode` gave; a decoder-only model gives no states and one length 0 per row.
            source_lengths: Rows of each source.
            room: Steps that are expected, if known. The buffers are made for them, and where they are many (96 on a
                CPU) the weights of the decoder are laid out anew for steps of few rows. Neither is done, and every
                step goes through the blocks' calls, where they have hooks by now.
        """
        memories = self._memories(states_SD, source_positions_S3, source_lengths)
        rotation = StepRotation(self.config, next(self.parameters()).device)
        cache = DecodeCache(memories, source_lengths, rotation, lay_out(self.decoder, room), room)
        cache.entries = [_entry(block) for block in self.decoder]
        return cache

    def _memories(
        self, states_SD: Tensor | None, source_positions_S3: Tensor | None, source_lengths: Sequence[int]
    ) -> list[tuple[Tensor, Tensor] | None]:
        """Keys and values of all sources, per layer."""
        memories: list[tuple[Tensor, Tensor] | None] = [None] * len(self.decoder)
        if states_SD is not None and source_positions_S3 is not None:
            self._check("source", states_SD, source_positions_S3, source_lengths)
            rotation_S = rotary_table(source_positions_S3, self.config)
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
        rotation = cache.rotation(positions_B3)
        cache.begin(x_BD.device)
        if cache.blocks is None:
            for layer, entry in enumerate(cache.entries):
                x_BD = entry(x_BD, rotation, cache=cache, layer=layer)
                if taps:
                    x_BD = _tapped(x_BD, layer, taps)
        else:
            for layer, laid_out in enumerate(cache.blocks):
                x_BD = laid_out(layer, x_BD, rotation, cache)
                if taps and layer in taps:
                    # a tap may keep what it is shown, and the next block writes to the same buffer
                    x_BD = _tapped(x_BD.clone(), layer, taps)
        cache.advance()
        if self.decoder_norm is not None and normed:
            states_BD: Tensor = self.decoder_norm(x_BD)
            return states_BD
        return x_BD if cache.blocks is None else x_BD.clone()

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
