"""AUDIO as Whisper hears it (arXiv 2212.04356): log-mel frames of its own kind, which `adapter=whisper` reads.

Fourier transforms of 400 samples at 16 kHz every 10 ms, bands of Slaney's scale, log10, nothing more than 80 dB below
the loudest. Shapes: F frames, M mel bands, n audio samples, P rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, InstructionError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.audio import AudioPreprocess, limit_seconds, only_rate
from ofasys_lite.preprocess.audio_features import Floats, FrameSettings, specaugment
from ofasys_lite.preprocess.base import Piece, RowContext, Size, line_positions
from ofasys_lite.preprocess.media import setting

RATE = 16_000
#: Samples of a transform, and from one frame to the next.
TRANSFORM, HOP = 400, 160
#: Energies below are raised to it.
FLOOR = 1e-10


@dataclass(frozen=True, slots=True)
class WhisperFrames(FrameSettings):
    """How Whisper cuts frames: one in the middle of every 10 ms, the last ones reach beyond the sound."""

    def frames(self, samples: int) -> int:
        """Frames whose middle is within `samples`."""
        return -(-samples // HOP)


@dataclass(frozen=True, slots=True)
class WhisperSettings:
    """What of AUDIO's settings both sides need.

    Attributes:
        mels: Mel bands per frame, 80 or 128.
        places: Rows of the table of positions: 1500, two frames each, are 30 s.
        padded: Whether every sound is filled with silence up to these, as Whisper was trained.
        join: Neighbouring rows that become one.
    """

    mels: int
    places: int
    padded: bool
    join: int

    @property
    def frames(self) -> int:
        """Frames of the longest sound."""
        return 2 * self.places

    def rows(self, frames: int) -> int:
        """Rows of the stream that a sound of that many frames fills."""
        states = -(-(self.frames if self.padded else frames) // 2)
        return -(-states // self.join)


def whisper_settings(settings: Mapping[str, Any]) -> WhisperSettings:
    """AUDIO's settings `whisper`, `padded` and `join`, defaults where they are silent; CardError: what cannot be."""
    own: Mapping[str, Any] = settings.get("whisper") or {}
    padded = settings.get("padded")
    if not isinstance(padded, (bool, type(None))):
        raise CardError(f"setting `padded` is {padded!r}", help="write true or false; the default is false")
    return WhisperSettings(
        mels=setting(own, "mels", 80, 8, 256),
        places=setting(own, "places", 1500, 2, 65_536),
        padded=bool(padded),
        join=setting(settings, "join", 1, 1, 64),
    )


class WhisperAudio(AudioPreprocess):
    """Sound for Whisper's encoder; the piece holds `frames` (F, M) float32.

    Rows are half of the frames, 50 a second, or fewer where `join` joins neighbours. What is longer than the
    table of positions is refused; what a drawn `speed` makes longer is cut.
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a sound.

        Raises:
            DataError: As AudioPreprocess does.
        """
        drawn = known.rng if known.train else None
        frames_FM = self.frames_of(value, options, self.settings, self.context.folder, drawn)
        masks = option(options, "specaugment", option(options, "use_mask", self.settings.get("specaugment", True)))
        if drawn is not None and masks:
            frames_FM = specaugment(frames_FM, drawn)
        own = whisper_settings(self.settings)
        positions = line_positions(own.rows(len(frames_FM)))
        return Piece(self.context.adapter, positions, {"frames": frames_FM})

    @classmethod
    def wanted(cls, options: Options, settings: Mapping[str, Any]) -> FrameSettings:
        """Whisper's frames; CardError for another rate."""
        only_rate(settings, RATE, "whisper")
        return WhisperFrames(RATE, whisper_settings(settings).mels)

    @classmethod
    def measured(cls, signal: Floats, wanted: FrameSettings, settings: Mapping[str, Any], most: int | None) -> Floats:
        """(F, M) frames of a signal (n,) at 16 kHz, the first `most` of them; with `padded` all that there can be."""
        own = whisper_settings(settings)
        frames_FM = whisper_log_mel(signal, own.mels, own.frames)
        if own.padded:
            return frames_FM
        return frames_FM[: min(wanted.frames(len(signal)), most if most is not None else own.frames)]

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises InstructionError or CardError for another rate, and for sounds longer than the table of positions."""
        super().check_options(tuple(pair for pair in options if pair[0] != "sample_rate"), settings)
        if option(options, "sample_rate") not in (None, RATE):
            help = "leave it out: every sound is resampled; give bare samples their rate as (array, rate)"
            raise InstructionError(f"`sample_rate` with `adapter=whisper`, which hears {RATE} Hz", help=help)
        own, longest = whisper_settings(settings), limit_seconds(settings, options)
        if longest * RATE > own.frames * HOP:
            raise CardError(
                f"`max_seconds` is {longest:g}; Whisper's table of positions ends at {own.frames * HOP / RATE:g} s",
                help="cut longer sounds, and write max_seconds no higher",
            )
        if own.padded and option(options, "max_length") is not None:
            help = "leave one of them out"
            raise InstructionError("`max_length` cuts frames, and `padded` fills them up again", help=help)

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a sound of that many samples at 16 kHz."""
        own, most = whisper_settings(self.settings), option(options, "max_length")
        frames = min(-(-size[0] // HOP), own.frames)
        return max(1, own.rows(min(frames, most) if isinstance(most, int) else frames))


@lru_cache(maxsize=8)
def slaney_filters(mels: int) -> npt.NDArray[np.float64]:
    """(201, M) weights of Slaney's Auditory Toolbox: triangles in Hz of equal area, from 0 to 8000 Hz.

    Mel is linear up to 1000 Hz, where it is 15, then logarithmic: a factor of 6.4 is 27 mel.
    """
    top = 15.0 + 27.0 * np.log(8000.0 / 1000.0) / np.log(6.4)
    mel = np.linspace(0.0, top, mels + 2)
    edges = np.where(mel < 15.0, mel * 200.0 / 3.0, 1000.0 * np.exp((mel - 15.0) * np.log(6.4) / 27.0))
    hertz = np.linspace(0.0, RATE / 2, TRANSFORM // 2 + 1)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0.0, np.minimum((hertz - left) / (middle - left), (right - hertz) / (right - middle)))
    return np.asarray(weights * 2.0 / (right - left))


def whisper_log_mel(signal: Floats, mels: int, frames: int) -> Floats:
    """(F, M) features of a signal (n,) in -1 to 1 at 16 kHz, filled with silence to `frames` frames, or cut there.

    The same as `WhisperFeatureExtractor` of transformers gives.
    """
    whole = np.zeros(frames * HOP, dtype=np.float32)
    kept = signal[: len(whole)]
    whole[: len(kept)] = kept
    heard = min(frames, -(-(len(kept) + TRANSFORM // 2) // HOP))
    around = np.pad(whole, TRANSFORM // 2, "reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(TRANSFORM) / TRANSFORM)
    cut = np.lib.stride_tricks.sliding_window_view(around, TRANSFORM)[: heard * HOP : HOP]
    power = np.square(np.abs(np.fft.rfft(cut * window, axis=1)))
    said = np.log10(np.maximum(power @ slaney_filters(mels), FLOOR))
    # frames that hear none of the signal are as quiet as can be
    found = np.full((frames, mels), np.log10(FLOOR))
    found[:heard] = said
    found = (np.maximum(found, found.max() - 8.0) + 4.0) / 4.0
    return np.asarray(found, dtype=np.float32)
