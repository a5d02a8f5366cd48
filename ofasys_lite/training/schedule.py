"""How far a run is, and the learning rate there."""

from __future__ import annotations

import math

from ofasys_lite.training.settings import TrainSettings

__all__ = ["learning_rate", "progress"]


def learning_rate(settings: TrainSettings, progress: float) -> float:
    """Learning rate at `progress` (0 to 1): linear warm-up, then a cosine down to `final` of the peak, or constant."""
    progress = min(1.0, max(0.0, progress))
    if progress < settings.warmup:
        return settings.lr * max(progress / settings.warmup, 1e-3)
    if settings.schedule == "constant":
        return settings.lr
    share = (progress - settings.warmup) / max(1e-9, 1 - settings.warmup)
    return settings.lr * (settings.final + (1 - settings.final) * 0.5 * (1 + math.cos(math.pi * share)))


def progress(settings: TrainSettings, step: int, seconds: float) -> float:
    """How much of a run is done after `step` steps and `seconds`: the larger of its shares of `steps` and `minutes`."""
    by_steps = 0.0 if settings.steps is None else step / settings.steps
    by_time = 0.0 if settings.minutes is None else seconds / (60 * settings.minutes)
    return max(by_steps, by_time)
