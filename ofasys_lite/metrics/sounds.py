"""Sounds as metrics take them: (samples, rate), bytes or paths of sound files.

Shapes: F frames of one sound, G of another, C cepstral coefficients.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Statistics, Value
from ofasys_lite.preprocess.audio import read_audio
from ofasys_lite.preprocess.audio_features import FrameSettings, log_mel

#: Both sounds are brought to this rate, in Hz, unless they have a lower one.
_RATE = 16_000
_MELS, _COEFFICIENTS = 40, 13
#: What no sound at all counts as, in dB: more than noise against speech.
_WORST = 40.0
_SECONDS = 600.0


def mcd(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Mel cepstral distortion in dB (Kubichek, 1993), the frames aligned by dynamic time warping.

    Without the energy; the mean over the frames of the alignment. A prediction that is no sound counts as 40 dB; a
    reference that cannot be read is left out. It says how near a sound is to the one that the data holds: another voice
    that says the same is as far as other words of the same voice.
    """
    found = [_distortion(*pair) for pair in zip(predictions, references, strict=True)]
    seen = np.array([each is not None for each in found], dtype=np.float64)
    details = {} if seen.all() else {"unreadable": int(len(seen) - seen.sum())}
    return Statistics.ratio([each or 0.0 for each in found], seen, unit="dB", higher_is_better=False, details=details)


def _distortion(prediction: Value, reference: Value) -> float | None:
    """Of a pair; None where the reference is no sound."""
    try:
        wanted, rate = read_audio(reference, None, None, _SECONDS)
    except DataError:
        return None
    try:
        given, other = read_audio(prediction, None, None, _SECONDS)
    except DataError:
        return _WORST
    common = min(rate, other, _RATE)
    sides = [_cepstra(*each, common) for each in ((given, other), (wanted, rate))]
    return _WORST if not all(map(len, sides)) else warped(*sides)


def _cepstra(samples: NDArray[np.float32], rate: int, common: int) -> NDArray[np.float64]:
    """(F, C) cepstral coefficients 1 to 13 of log-mel frames, their scale that of dB."""
    if rate != common:
        import soxr  # type: ignore[import-untyped]

        samples = np.asarray(soxr.resample(samples, rate, common), dtype=np.float32)
    frames_FM = np.maximum(log_mel(samples, FrameSettings(common, _MELS)), 0.0).astype(np.float64) / 2
    angles = np.outer(np.arange(_MELS) + 0.5, np.arange(1, _COEFFICIENTS + 1)) * (math.pi / _MELS)
    return np.asarray(frames_FM @ np.cos(angles) * (2 / _MELS))


def warped(one_FC: NDArray[np.float64], two_GC: NDArray[np.float64]) -> float:
    """Mean distortion in dB along the path that makes its sum least; steps forward in one sound or in both."""
    far_FG = np.sqrt(2 * np.square(one_FC[:, None] - two_GC[None]).sum(-1))
    sums = np.full(len(two_GC) + 1, math.inf)
    sums[0] = 0.0
    steps = np.zeros(len(two_GC) + 1, dtype=np.int64)
    for row in far_FG:
        next_sums, next_steps = np.full_like(sums, math.inf), np.zeros_like(steps)
        # from above, or from above and before; from before, in the same row, below
        above = np.where(sums[:-1] <= sums[1:], 0, 1)
        best = np.minimum(sums[:-1], sums[1:])
        came = np.where(above == 0, steps[:-1], steps[1:])
        for place, cost in enumerate(row):
            sum_, count = best[place], came[place]
            if next_sums[place] < sum_:
                sum_, count = next_sums[place], next_steps[place]
            next_sums[place + 1], next_steps[place + 1] = sum_ + cost, count + 1
        sums, steps = next_sums, next_steps
    return float(10 / math.log(10) * sums[-1] / steps[-1])
