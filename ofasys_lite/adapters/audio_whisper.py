"""AUDIO by Whisper's encoder (arXiv 2212.04356): log-mel frames -> its states -> rows of the width.

All sounds of a pack go through in one call without padding to the longest: for the convolutions they lie end to end
with zero frames between, in attention they are sequences of one stream.
Shapes: F frames, M bands, R states of all sounds (20 ms each), E channels of the encoder, P rows, D width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from ofasys_lite.preprocess.whisper_frames import whisper_settings


class WhisperEncoder(nn.Module):
    """Two convolutions (kernel 3, the second with stride 2), sinusoids added, blocks with norms before, a norm.

    Keys have a bias here, which Whisper has not: it adds the same to all scores of a query, and changes nothing.

    Args:
        config: Of the blocks.
        places: Rows of the table of positions.
    """

    places: Tensor

    def __init__(self, mels: int, config: ModelConfig, places: int) -> None:
        super().__init__()
        width = config.width
        self.first = nn.Conv1d(mels, width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.register_buffer("places", whisper_sinusoids(places, width))
        self.blocks = nn.ModuleList(EncoderBlock(config) for _ in range(config.encoder_layers))
        initialise(self.blocks, depth=2 * config.encoder_layers)
        self.norm = nn.LayerNorm(width, eps=config.norm_epsilon)

    def forward(self, frames_FM: Tensor, lengths: Sequence[int]) -> Tensor:
        """(R, E) states of all sounds, end to end.

        Args:
            lengths: Frames of each sound, at least 1 and at most twice the places.
        """
        device, dtype = frames_FM.device, self.first.weight.dtype
        starts, total = _layout(lengths)
        places_F = ranges(starts, lengths)
        x_FM = torch.zeros(total, frames_FM.shape[1], dtype=dtype, device=device)
        x_FM = x_FM.index_copy(0, moved(places_F, device), frames_FM.to(dtype))
        inside = torch.zeros(total, dtype=torch.bool)
        inside[places_F] = True
        x_EF = F.gelu(self.first(x_FM.T[None]))[0]
        # what the bias made of the frames between is put back to zero: every sound ends in zeros, as if alone
        x_EF = x_EF * moved(inside, device).to(x_EF.dtype)
        x_EF = F.gelu(self.second(x_EF[None]))[0]
        counts = [-(-n // 2) for n in lengths]
        x_RE = x_EF.T[moved(ranges([s // 2 for s in starts], counts), device)]
        x_RE = x_RE + torch.cat([self.places[:n] for n in counts]).to(x_RE.dtype)
        parts, where = Parts(counts, 0), Standing()
        for block in self.blocks:
            x_RE = block(x_RE, where, parts)
        states_RE: Tensor = self.norm(x_RE)
        return states_RE


class WhisperAdapter(Adapter):
    """Whisper's encoder, its states joined where asked, projected to the width, and a LayerNorm.

    Settings: `padded`, `join`, and `whisper`, a mapping: `mels` and `places` as the preprocess has them, `width` (384),
    `layers` (4), `heads` (6), `ffn` (4 x width), `mlp` (gelu).

    Raises:
        CardError: Sizes that cannot be, or a line asks for `mae`, which learns frames of another kind.
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        asked = settings.get("objectives", ())
        if asked:
            help = "leave `adapter=whisper` out of the slot that has it, or begin AUDIO without Whisper's weights"
            raise CardError(f"`loss={asked[0]}` of AUDIO has no head beside Whisper's encoder", help=help)
        own: Mapping[str, Any] = settings.get("whisper") or {}
        self.heard = whisper_settings(settings)
        width = setting(own, "width", 384, 8, 65_536)
        config = ModelConfig(
            width=width,
            encoder_layers=setting(own, "layers", 4, 1, 1000),
            decoder_layers=0,
            heads=setting(own, "heads", 6, 1, 1000),
            ffn=setting(own, "ffn", 4 * width, 1, 1_000_000),
            norm="layernorm",
            norm_epsilon=1e-5,
            mlp=own.get("mlp") or "gelu",
            bias=True,
            dropout=shared.dropout,
            positions="none",
        )
        self.encoder = WhisperEncoder(self.heard.mels, config, self.heard.places)
        self.project = make_linear(self.heard.join * width, shared.width)
        self.norm = nn.LayerNorm(shared.width)

    def embed(self, part: Part) -> Tensor:
        """(P, D): a row for every 20 ms of every sound, or for as many as are joined.

        Raises:
            ShapeError: Frames with another number of bands, more than there are places, or not what the rows need.
        """
        if not part.counts:
            return self.norm.weight.new_zeros(0, self.width) + self.touch()
        lengths = part.sizes["frames"]
        self._fits(part, lengths)
        states_RE = self.encoder(part.arrays["frames"], lengths)
        x_PD: Tensor = self.norm(self.project(joined(states_RE, [-(-n // 2) for n in lengths], self.heard.join)))
        return x_PD

    def _fits(self, part: Part, lengths: Sequence[int]) -> None:
        bands = part.arrays["frames"].shape[1]
        if bands != self.heard.mels:
            raise ShapeError(f"audio: frames have {bands} mel bands, the encoder was made for {self.heard.mels}")
        for i, (frames, rows) in enumerate(zip(lengths, part.counts, strict=True)):
            if not 0 < frames <= self.heard.frames:
                raise ShapeError(f"sound {i} of the pack: {frames} frames, the encoder has {self.heard.places} places")
            if self.heard.rows(frames) != rows:
                raise ShapeError(f"sound {i} of the pack: {frames} frames do not fill {rows} rows")


def whisper_sinusoids(rows: int, width: int) -> Tensor:
    """(rows, width) sines, then cosines, of frequencies from 1 down to exactly 1 / 10,000."""
    half = width // 2
    rate = torch.exp(-math.log(10_000) / max(1, half - 1) * torch.arange(half, dtype=torch.float64))
    angle = torch.arange(rows, dtype=torch.float64)[:, None] * rate
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def _layout(lengths: Sequence[int]) -> tuple[list[int], int]:
    """First frame of each sound in a line of them, an even one, and the length of the line.

    Behind each is at least one zero frame: no convolution sees two sounds.
    """
    starts, total = [], 0
    for frames in lengths:
        starts.append(total)
        total += 2 * (frames // 2 + 1)
    return starts, total
