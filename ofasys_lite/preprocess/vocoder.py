"""Log-mel frames back into sound. Shapes: F frames, M mel bands, K bins of a spectrum, n samples."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ofasys_lite.preprocess.audio_features import PREEMPHASIS, Floats, FrameSettings, frame_window, mel_filters

#: Momentum of the fast Griffin-Lim algorithm (Perraudin et al., WASPAA 2013), as torchaudio and librosa have it.
_MOMENTUM = 0.99


def griffin_lim(frames: Floats, settings: FrameSettings, rounds: int = 60) -> Floats:
    """(n,) samples in -1 to 1 whose log-mel frames are near `frames` (F, M); the phases are found in `rounds`.

    Magnitudes are the least that the bands allow (pseudo-inverse of the filters), phases by the fast Griffin-Lim
    algorithm from phases that depend on nothing but the number of frames.
    """
    import torch

    window = torch.from_numpy(frame_window(settings.window).copy())
    sizes = settings.transform, settings.hop, settings.window
    magnitude_KF = torch.from_numpy(_magnitudes(frames, settings))
    drawn = np.random.default_rng(0).random(magnitude_KF.shape, dtype=np.float32)
    phase_KF = torch.exp(2j * torch.pi * torch.from_numpy(drawn))
    before_KF = torch.zeros_like(phase_KF)
    for _ in range(rounds):
        signal = torch.istft(magnitude_KF * phase_KF, *sizes, window)
        found_KF = torch.stft(signal, *sizes, window, return_complex=True)
        ahead_KF = found_KF - before_KF * (_MOMENTUM / (1 + _MOMENTUM))
        phase_KF, before_KF = ahead_KF / ahead_KF.abs().clamp(min=1e-12), found_KF
    signal = torch.istft(magnitude_KF * phase_KF, *sizes, window)
    return np.clip(signal.numpy() / 32768, -1, 1).astype(np.float32)


def _magnitudes(frames: Floats, settings: FrameSettings) -> Floats:
    """(K, F) magnitudes of spectra of 16-bit samples, their high tones no longer raised."""
    power_FK = np.exp(frames) @ _unmixing(settings)
    # `log_mel` raised high tones by y[n] = x[n] - 0.97 x[n - 1]
    turns = np.linspace(0, np.pi, settings.transform // 2 + 1)
    raised = np.abs(1 - PREEMPHASIS * np.exp(-1j * turns)) ** 2
    magnitude_FK = np.sqrt(np.maximum(power_FK, 0) / raised)
    magnitude_FK[:, 0] = 0  # the mean of a frame was taken away
    return np.ascontiguousarray(magnitude_FK.T, dtype=np.float32)


@lru_cache(maxsize=4)
def _unmixing(settings: FrameSettings) -> Floats:
    """(M, K): energies of bands -> power of bins."""
    return np.asarray(np.linalg.pinv(mel_filters(settings)), dtype=np.float32)
