"""Log-mel frames in numpy, as Kaldi computes them, and SpecAugment. Shapes: F frames, M mel bands, n audio samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

PREEMPHASIS = 0.97


@dataclass(frozen=True, slots=True)
class FrameSettings:
    """How frames are cut and measured.

    Attributes:
        rate: Samples per second, in Hz.
        mels: Mel bands per frame.
        window_ms: Length of a frame in milliseconds.
        hop_ms: Distance between frames in milliseconds.
    """

    rate: int
    mels: int
    window_ms: float = 25.0
    hop_ms: float = 10.0

    @property
    def window(self) -> int:
        """Length of a frame in samples."""
        return int(self.rate * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Distance between frames in samples."""
        return int(self.rate * self.hop_ms / 1000)

    @property
    def transform(self) -> int:
        """Length of the Fourier transform: the next power of two."""
        return 1 << (self.window - 1).bit_length()

    def frames(self, samples: int) -> int:
        """Number of whole frames in `samples`."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.hop


@lru_cache(maxsize=16)
def mel_filters(settings: FrameSettings) -> Floats:
    """(bins, M) weights: triangles of equal width in mel, 1127 ln(1 + f / 700), from 20 Hz to half the rate."""

    def to_mel(hertz: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return 1127.0 * np.log1p(hertz / 700.0)

    bins = settings.transform // 2
    low, high = to_mel(np.array([20.0, settings.rate / 2])).tolist()
    edges = np.linspace(low, high, settings.mels + 2)
    mel = to_mel(np.arange(bins) * settings.rate / settings.transform)[:, None]
    left, middle, right = edges[:-2], edges[1:-1], edges[2:]
    weights = np.maximum(0, np.minimum((mel - left) / (middle - left), (right - mel) / (right - middle)))
    return np.concatenate([weights, np.zeros((1, settings.mels))]).astype(np.float32)


@lru_cache(maxsize=16)
def frame_window(length: int) -> Floats:
    """(length,) Kaldi's window: a Hann window to the power 0.85."""
    shape = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / (length - 1))
    return np.asarray(shape**0.85, dtype=np.float32)


def log_mel(signal: Floats, settings: FrameSettings) -> Floats:
    """(F, M) natural logarithm of the mel energies of a signal (n,) in -1 to 1, scaled as Kaldi's 16-bit samples.

    The same as `kaldi.fbank` without dither: mean of the frame removed, preemphasis 0.97, power spectrum.
    """
    count = settings.frames(len(signal))
    if not count:
        return np.zeros((0, settings.mels), dtype=np.float32)
    scaled = signal * np.float32(32768)
    frames = np.lib.stride_tricks.sliding_window_view(scaled, settings.window)[:: settings.hop]
    frames = frames - frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - np.float32(PREEMPHASIS) * before) * frame_window(settings.window)
    power = np.square(np.abs(np.fft.rfft(frames, settings.transform, axis=1))).astype(np.float32)
    energies = power @ mel_filters(settings)
    return np.asarray(np.log(np.maximum(energies, np.finfo(np.float32).eps)), dtype=np.float32)


def normalised(frames: Floats) -> Floats:
    """(F, M) frames less the mean of each band, over one standard deviation for all: alike for loud and soft."""
    centred = frames - frames.mean(axis=0, keepdims=True)
    return np.asarray(centred / max(float(centred.std()), 1e-3), dtype=np.float32)


def specaugment(frames: Floats, rng: np.random.Generator, bands: int = 2, spans: int = 2, share: float = 0.2) -> Floats:
    """(F, M) normalised frames with random bands and spans of time set to 0, their mean (arXiv 1904.08779).

    Args:
        bands: Bands of frequency hidden.
        spans: Spans of time hidden.
        share: Largest share of the bands, and of the frames, that one of them hides.
    """
    frames = frames.copy()
    for axis, count in ((1, bands), (0, spans)):
        size = frames.shape[axis]
        for _ in range(count):
            width = int(rng.integers(0, int(size * share) + 1))
            start = int(rng.integers(0, size - width + 1))
            frames[(slice(None),) * axis + (slice(start, start + width),)] = 0
    return frames
