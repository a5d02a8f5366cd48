"""VIDEO that is written: patches of pixels by taking noise away (video diffusion, arXiv 2204.03458; rows as patches of
space and time, arXiv 2212.09748)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofasys_lite.adapters.denoiser import DenoisingAdapter
from ofasys_lite.preprocess.video_written import most_frames, row_depth, row_numbers


class VideoWriter(DenoisingAdapter):
    """Rows of pixels; at most `most_frames` where the model finds how long a clip is, counted in moments."""

    @classmethod
    def sizes(cls, settings: Mapping[str, Any]) -> tuple[int, int]:
        """(numbers of a row, most moments)."""
        return row_numbers(settings), -(-most_frames(settings) // row_depth(settings))
