"""AUDIO as wav2vec 2.0 hears it (arXiv 2006.11477): samples of 16 kHz, which `adapter=wav2vec2` reads.

Shapes: n audio samples, R states of the encoder, P rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ofasys_lite.errors import CardError, InstructionError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.audio import AudioPreprocess, only_rate
from ofasys_lite.preprocess.audio_features import Floats, FrameSettings
from ofasys_lite.preprocess.base import Piece, RowContext, Size, line_positions
from ofasys_lite.preprocess.media import setting

RATE = 16_000
#: Windows of the convolutions, and how far each goes on, in numbers of the one before.
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)


@dataclass(frozen=True, slots=True)
class WaveFrames(FrameSettings):
    """How many states a sound has: one every 20 ms, by convolutions that do not reach beyond its ends."""

    kernels: tuple[int, ...] = KERNELS
    strides: tuple[int, ...] = STRIDES

    def lengths(self, samples: int) -> list[int]:
        """What each convolution makes of that many samples, 0 where they are too few."""
        found = []
        for kernel, stride in zip(self.kernels, self.strides, strict=True):
            samples = (samples - kernel) // stride + 1 if samples >= kernel else 0
            found.append(samples)
        return found

    def frames(self, samples: int) -> int:
        """States of a sound of that many samples."""
        return self.lengths(samples)[-1]

    def samples(self, frames: int) -> int:
        """The fewest samples that have that many states, at least one."""
        for kernel, stride in zip(reversed(self.kernels), reversed(self.strides), strict=True):
            frames = (frames - 1) * stride + kernel
        return frames


def wave_frames(settings: Mapping[str, Any]) -> WaveFrames:
    """The convolutions that AUDIO's setting `wav2vec2` says, wav2vec 2.0's own where it is silent; CardError."""
    own: Mapping[str, Any] = settings.get("wav2vec2") or {}
    kernels, strides = (_whole(own, key, value) for key, value in (("kernels", KERNELS), ("strides", STRIDES)))
    if len(kernels) != len(strides):
        raise CardError(f"settings `wav2vec2.kernels` and `strides` are {len(kernels)} and {len(strides)} numbers")
    return WaveFrames(RATE, 8, kernels=kernels, strides=strides)


def _whole(own: Mapping[str, Any], key: str, default: Sequence[int]) -> tuple[int, ...]:
    value = own.get(key)
    value = default if value is None else value
    if not isinstance(value, (list, tuple)) or not value or not all(isinstance(n, int) and n > 0 for n in value):
        raise CardError(f"setting `wav2vec2.{key}` is {value!r}", help=f"a list of whole numbers, as {list(default)}")
    return tuple(value)


class WaveAudio(AudioPreprocess):
    """Sound for wav2vec 2.0's encoder; the piece holds `samples` (n,), of mean 0 and deviation 1, or as they are.

    Rows are its states, 50 a second, or fewer where `join` joins neighbours. `max_length` and `min_length` count
    states.
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a sound.

        Raises:
            DataError: As AudioPreprocess does; it is too short for one state (25 ms).
        """
        drawn = known.rng if known.train else None
        samples = self.frames_of(value, options, self.settings, self.context.folder, drawn)
        rows = self._rows(wave_frames(self.settings).frames(len(samples)))
        return Piece(self.context.adapter, line_positions(rows), {"samples": samples})

    @classmethod
    def wanted(cls, options: Options, settings: Mapping[str, Any]) -> FrameSettings:
        """Its states; CardError for another rate."""
        only_rate(settings, RATE, "wav2vec2")
        return wave_frames(settings)

    @classmethod
    def measured(cls, signal: Floats, wanted: FrameSettings, settings: Mapping[str, Any], most: int | None) -> Floats:
        """(n,) samples, as many as make `most` states."""
        kept = signal if most is None else signal[: wave_frames(settings).samples(most)]
        own: Mapping[str, Any] = settings.get("wav2vec2") or {}
        if own.get("normalised") is False:
            return np.asarray(kept, dtype=np.float32)
        return np.asarray((kept - kept.mean()) / np.sqrt(kept.var() + 1e-7), dtype=np.float32)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError or CardError for another rate, and for hidden bands, which samples have not."""
        super().check_options(tuple(pair for pair in options if pair[0] != "sample_rate"), settings)
        if option(options, "sample_rate") not in (None, RATE):
            help = "leave it out: every sound is resampled; give bare samples their rate as (array, rate)"
            raise InstructionError(f"`sample_rate` with `adapter=wav2vec2`, which hears {RATE} Hz", help=help)
        if option(options, "specaugment") or option(options, "use_mask"):
            help = "leave it out; the card's own `specaugment` means nothing here"
            raise InstructionError("`specaugment` hides bands, and `adapter=wav2vec2` reads samples", help=help)
        setting(settings, "join", 1, 1, 64)

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a sound of that many samples at 16 kHz."""
        most, states = option(options, "max_length"), wave_frames(self.settings).frames(size[0])
        return max(1, self._rows(min(states, most) if isinstance(most, int) else states))

    def _rows(self, states: int) -> int:
        return -(-states // setting(self.settings, "join", 1, 1, 64))
