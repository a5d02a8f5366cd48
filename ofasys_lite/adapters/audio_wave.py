"""AUDIO by the encoder of wav2vec 2.0 (arXiv 2006.11477) and HuBERT (arXiv 2106.07447): samples -> rows of the width.

All sounds of a pack go through in one call: for the convolutions they lie end to end, each at a multiple of what these
go on together, and what reaches over a border is left out; in attention they are sequences of one stream.
Shapes: n samples, T numbers of a convolution, R states of all sounds (20 ms each), C channels of the convolutions, E of
the encoder, P rows, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.audio import joined, ranges
from ofasys_lite.adapters.base import Adapter, Shared
from ofasys_lite.errors import CardError, ShapeError
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import ModelConfig, make_linear, moved
from ofasys_lite.model.borders import Parts
from ofasys_lite.model.layers import EncoderBlock, initialise
from ofasys_lite.model.standing import Standing
from ofasys_lite.preprocess.media import setting
from ofasys_lite.preprocess.wave import WaveFrames, wave_frames


class WaveConvolutions(nn.Module):
    """Samples -> (R, C): convolutions with gelu, a norm behind the first (of each channel over a sound) or behind all.

    Args:
        group: The first alone has a norm, over all of a sound (GroupNorm); else all have, over channels (LayerNorm).
    """

    def __init__(self, frames: WaveFrames, channels: Sequence[int], group: bool, bias: bool) -> None:
        super().__init__()
        self.frames, self.group = frames, group
        inputs = (1, *channels[:-1])
        shapes = zip(inputs, channels, frames.kernels, frames.strides, strict=True)
        self.layers = nn.ModuleList(nn.Conv1d(i, o, k, s, bias=bias) for i, o, k, s in shapes)
        normed = channels[:1] if group else channels
        kind = (lambda n: nn.GroupNorm(n, n)) if group else nn.LayerNorm
        self.norms = nn.ModuleList(kind(n) for n in normed)

    def forward(self, samples: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        """(states of all sounds end to end (R, C), how many each has); `lengths`: samples of each."""
        step, device = math.prod(self.frames.strides), samples.device
        places = [-(-n // step) * step for n in lengths]
        starts = [0, *accumulate(places)]
        # the last sound is followed by nothing: zeros, so that every window within it is there
        line = samples.new_zeros(starts[-1] + sum(self.frames.kernels) * step)
        line = line.index_copy(0, moved(ranges(starts[:-1], lengths), device), samples)
        x_CT, counts = line[None].to(next(self.parameters()).dtype), [self.frames.lengths(n) for n in lengths]
        starts = starts[:-1]
        for number, layer in enumerate(self.layers):
            x_CT = layer(x_CT[None])[0]
            starts = [start // self.frames.strides[number] for start in starts]
            if not self.group:
                x_CT = self.norms[number](x_CT.T).T
            elif number == 0:
                x_CT = self._over_sounds(x_CT, starts, [each[0] for each in counts])
            x_CT = F.gelu(x_CT)
        rows = [each[-1] for each in counts]
        return x_CT.T[moved(ranges(starts, rows), device)], rows

    def _over_sounds(self, x_CT: Tensor, starts: Sequence[int], counts: Sequence[int]) -> Tensor:
        """The first norm, each sound by itself; what lies between them stays nothing."""
        ends = [*starts[1:], x_CT.shape[1]]
        found = []
        for start, count, end in zip(starts, counts, ends, strict=True):
            normed_CT = self.norms[0](x_CT[None, :, start : start + count])[0]
            found.append(F.pad(normed_CT, (0, end - start - count)))
        return torch.cat(found, 1)


class WaveEncoder(nn.Module):
    """Convolutions, a projection, a convolution over states that tells where they are, blocks.

    Args:
        config: Of the blocks; `norm_place` `after` as in the base model, `before` as in the large one.
        positions: Window of the convolution over states, in states, and in how many groups of channels it works.
    """

    def __init__(
        self,
        convolutions: WaveConvolutions,
        channels: int,
        config: ModelConfig,
        positions: tuple[int, int],
    ) -> None:
        super().__init__()
        window, groups = positions
        self.convolutions = convolutions
        self.entry_norm = nn.LayerNorm(channels, eps=config.norm_epsilon)
        self.entry = nn.Linear(channels, config.width)
        self.around = nn.Conv1d(config.width, config.width, window, padding=window // 2, groups=groups)
        self.norm = nn.LayerNorm(config.width, eps=config.norm_epsilon)
        self.after = config.norm_place == "after"
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        initialise(self.blocks, depth=2 * config.encoder_layers)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, samples: Tensor, lengths: Sequence[int]) -> tuple[Tensor, list[int]]:
        """(states (R, E) of all sounds, how many each has)."""
        x_RC, counts = self.convolutions(samples, lengths)
        x_RE = self.entry(self.entry_norm(x_RC))
        x_RE = x_RE + self._places(x_RE, counts)
        x_RE = self.dropout(self.norm(x_RE) if self.after else x_RE)
        parts, where = Parts(counts, 0), Standing()
        for block in self.blocks:
            x_RE = block(x_RE, where, parts)
        states_RE: Tensor = x_RE if self.after else self.norm(x_RE)
        return states_RE, counts

    def _places(self, x_RE: Tensor, counts: Sequence[int]) -> Tensor:
        """(R, E) what the convolution over states tells; between sounds are zeros enough that it sees one alone."""
        gap = self.around.kernel_size[0] // 2
        starts = [0, *accumulate(n + gap for n in counts)]
        rows = moved(ranges(starts[:-1], counts), x_RE.device)
        line_TE = x_RE.new_zeros(starts[-1], x_RE.shape[1]).index_copy(0, rows, x_RE)
        told_ET = F.gelu(self.around(line_TE.T[None]))[0]
        return told_ET.T[rows]


class WaveAdapter(Adapter):
    """wav2vec 2.0's or HuBERT's encoder, its states joined where asked, projected to the width, and a LayerNorm.

    Settings: `join`, and `wav2vec2`, a mapping: `kernels`, `strides`, `normalised` as the preprocess has them,
    `channels` (512 of each convolution), `group` (true), `conv_bias` (false), `width` (768), `layers` (12), `heads`
    (12), `ffn` (4 x width), `mlp` (gelu), `stable` (false: norms behind sublayers), `positions` (128), `groups` (16),
    `epsilon` (1e-5).

    Raises:
        CardError: Sizes that cannot be, or a line asks for `mae`, which learns frames.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        asked = settings.get("objectives", ())
        if asked:
            help = "leave `adapter=wav2vec2` out of the slot that has it, or begin AUDIO without its weights"
            raise CardError(f"`loss={asked[0]}` of AUDIO has no head beside the encoder of wav2vec 2.0", help=help)
        own: Mapping[str, Any] = settings.get("wav2vec2") or {}
        self.frames, self.join = wave_frames(settings), setting(settings, "join", 1, 1, 64)
        channels = own.get("channels")
        channels = [512] * len(self.frames.kernels) if channels is None else channels
        fits = isinstance(channels, (list, tuple)) and len(channels) == len(self.frames.kernels)
        if not fits or not all(isinstance(n, int) and n > 0 for n in channels):
            help = "a whole number for each convolution, as [512, 512, 512, 512, 512, 512, 512]"
            raise CardError(f"setting `wav2vec2.channels` is {channels!r}", help=help)
        width = setting(own, "width", 768, 8, 65_536)
        config = ModelConfig(
            width=width,
            encoder_layers=setting(own, "layers", 12, 1, 1000),
            decoder_layers=0,
            heads=setting(own, "heads", 12, 1, 1000),
            ffn=setting(own, "ffn", 4 * width, 1, 1_000_000),
            norm="layernorm",
            norm_epsilon=setting(own, "epsilon", 1e-5, 1e-12, 1),
            norm_place="before" if own.get("stable") else "after",
            mlp=own.get("mlp") or "gelu",
            bias=True,
            dropout=shared.dropout,
            positions="none",
        )
        group, bias = own.get("group") in (None, True), bool(own.get("conv_bias"))
        convolutions = WaveConvolutions(self.frames, channels, group, bias)
        positions = setting(own, "positions", 128, 2, 4096), setting(own, "groups", 16, 1, 65_536)
        if width % positions[1] or positions[0] % 2:
            raise CardError(
                f"settings `wav2vec2`: {width} channels in {positions[1]} groups, a window of {positions[0]} states",
                help="groups divide the width, and the window is even",
            )
        self.encoder = WaveEncoder(convolutions, channels[-1], config, positions)
        self.project = make_linear(self.join * width, shared.width)
        self.norm = nn.LayerNorm(shared.width)

    def embed(self, part: Part) -> Tensor:
        """(P, D): a row for every 20 ms of every sound, or for as many as are joined.

        Raises:
            ShapeError: Samples that are not what the rows need.
        """
        if not part.counts:
            return self.norm.weight.new_zeros(0, self.width) + self.touch()
        lengths = part.sizes["samples"]
        for i, (samples, rows) in enumerate(zip(lengths, part.counts, strict=True)):
            if -(-self.frames.frames(samples) // self.join) != rows:
                raise ShapeError(f"sound {i} of the pack: {samples} samples do not fill {rows} rows")
        states_RE, counts = self.encoder(part.arrays["samples"], lengths)
        x_PD: Tensor = self.norm(self.project(joined(states_RE, counts, self.join)))
        return x_PD
