"""MOTION on the model side: frames of numbers, read as they are, written by taking noise away (arXiv 2209.14916)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofasys_lite.adapters.denoiser import DenoisingAdapter
from ofasys_lite.preprocess.motion_settings import MotionSettings


class MotionAdapter(DenoisingAdapter):
    """Rows of `frames_per_row` frames; at most those of the longest clip that is written."""

    @classmethod
    def sizes(cls, settings: Mapping[str, Any]) -> tuple[int, int]:
        """(numbers of a row, most rows)."""
        own = MotionSettings.of(settings)
        return own.width(), own.most
