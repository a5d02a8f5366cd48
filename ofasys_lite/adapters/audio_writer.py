"""AUDIO that is written: log-mel frames by taking noise away (flow matching, arXiv 2210.02747, or diffusion)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofasys_lite.adapters.denoiser import DenoisingAdapter
from ofasys_lite.preprocess.audio_written import frames_per_row, most_rows
from ofasys_lite.preprocess.media import setting


class AudioWriter(DenoisingAdapter):
    """Rows of `frames_per_row` frames of `mels` bands; at most those of `max_seconds`."""

    @classmethod
    def sizes(cls, settings: Mapping[str, Any]) -> tuple[int, int]:
        """(numbers of a row, most rows)."""
        return frames_per_row(settings) * setting(settings, "mels", 80, 8, 256), most_rows(settings)
