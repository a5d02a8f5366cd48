"""AUDIO on the model side: log-mel frames -> one embedding for every fourth frame, by two convolutions of stride 2.

All sounds of a pack go through in one call without padding to the longest: they lie end to end with a few zero frames
between, enough that no convolution sees two of them. Shapes: F frames, M bands, P rows, D width, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ofasys_lite.adapters.base import Adapter, Begin, Section, Shared
from ofasys_lite.adapters.rebuilding import Rebuilder
from ofasys_lite.errors import ShapeError
from ofasys_lite.layout.pack import Part
from ofasys_lite.model import make_linear, moved
from ofasys_lite.preprocess.audio import rows_of_frames
from ofasys_lite.preprocess.media import setting


class AudioAdapter(Adapter):
    """Two convolutions (kernel 3, stride 2), GELU, LayerNorm, a linear map to the width.

    Settings: `mels` (80) as the preprocess has it, `channels` (256).
    """

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        self.mels = setting(settings, "mels", 80, 8, 256)
        channels = setting(settings, "channels", 256, 8, 8192)
        self.first = nn.Conv1d(self.mels, channels, 3, stride=2, padding=1)
        self.second = nn.Conv1d(channels, channels, 3, stride=2, padding=1)
        self.project = make_linear(channels, shared.width)
        self.norm = nn.LayerNorm(shared.width)
        self.rebuilder = Rebuilder(settings, shared.width, 4 * self.mels)

    def objectives(self) -> Mapping[str, Begin]:
        """`mae`, where a line asks for it."""
        return self.rebuilder.objectives()

    def sections(self) -> tuple[Section, ...]:
        """The head that tells what is hidden."""
        return self.rebuilder.sections()

    def embed(self, part: Part) -> Tensor:
        """(P, D): a quarter of the frames of every sound, sound by sound.

        Raises:
            ShapeError: Frames with another number of bands, or another count than the rows need.
        """
        if not part.counts:
            return self.norm.weight.new_zeros(0, self.width) + self.touch()
        lengths = part.sizes["frames"]
        self._fits(part, lengths)
        frames_FM = part.arrays["frames"]
        device, dtype = frames_FM.device, self.first.weight.dtype
        starts, total = _layout(lengths)
        places_F = moved(ranges(starts, lengths), device)
        x_FM = torch.zeros(total, self.mels, dtype=dtype, device=device)
        x_FM = x_FM.index_copy(0, places_F, frames_FM.to(dtype))
        halves = [-(-n // 2) for n in lengths]
        inside = torch.zeros(total // 2, dtype=torch.bool)
        inside[ranges([s // 2 for s in starts], halves)] = True
        x_CF = F.gelu(self.first(x_FM.T[None]))[0]
        # what the bias made of the frames between is put back to zero: every sound ends in zeros, as if alone
        x_CF = x_CF * moved(inside, device).to(x_CF.dtype)
        x_CF = F.gelu(self.second(x_CF[None]))[0]
        rows_P = moved(ranges([s // 4 for s in starts], part.counts), device)
        x_PD: Tensor = self.norm(self.project(x_CF.T[rows_P]))
        return x_PD

    def _fits(self, part: Part, lengths: Sequence[int]) -> None:
        bands = part.arrays["frames"].shape[1]
        if bands != self.mels:
            raise ShapeError(f"audio: frames have {bands} mel bands, the adapter was made for {self.mels}")
        for i, (frames, rows) in enumerate(zip(lengths, part.counts, strict=True)):
            if rows_of_frames(frames) != rows:
                raise ShapeError(f"sound {i} of the pack: {frames} frames do not fill {rows} rows")


def _layout(lengths: Sequence[int]) -> tuple[list[int], int]:
    """First frame of each sound in a line of them, and the length of the line.

    Each starts at a multiple of 4 and is followed by at least 2 zero frames: one for the first convolution, and one
    at half the rate for the second.
    """
    starts, total = [], 0
    for frames in lengths:
        starts.append(total)
        total += 4 * (-(-(frames + 2) // 4))
    return starts, total


def ranges(starts: Sequence[int], lengths: Sequence[int]) -> Tensor:
    """(sum of lengths,) start, start + 1, ... for each start, its length many; there is at least one."""
    sizes = torch.tensor(lengths)
    ends = sizes.cumsum(0)
    return torch.arange(int(ends[-1])) + (torch.tensor(starts) - ends + sizes).repeat_interleave(sizes)


def joined(states_RE: Tensor, counts: Sequence[int], join: int) -> Tensor:
    """(P, join * E): neighbouring states of each sound side by side, what the last ones lack is zero."""
    if join == 1:
        return states_RE
    each = [F.pad(x, (0, 0, 0, -len(x) % join)) for x in states_RE.split_with_sizes(list(counts))]
    return torch.cat(each).reshape(-1, join * states_RE.shape[1])
