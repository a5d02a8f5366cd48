"""AUDIO that is written: log-mel frames by taking noise away (flow matching, arXiv 2210.02747, or diffusion).

Shapes: P rows, D width, G frames of a row, M bands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ofasys_lite.adapters.base import Adapter, Begin, Section, Shared
from ofasys_lite.adapters.denoiser import Denoiser
from ofasys_lite.adapters.passes import Sources, ToWrite, Written
from ofasys_lite.layout.pack import Part
from ofasys_lite.preprocess.audio_written import frames_per_row, most_rows
from ofasys_lite.preprocess.media import setting


class AudioWriter(Adapter):
    """Rows of `frames_per_row` frames of `mels` bands; at most those of `max_seconds`."""

    def __init__(self, settings: Mapping[str, Any], shared: Shared) -> None:
        super().__init__(settings, shared)
        channels = frames_per_row(settings) * setting(settings, "mels", 80, 8, 256)
        self.denoiser = Denoiser("audio", channels, shared.width, most_rows(settings))

    def embed(self, part: Part) -> Tensor:
        """(P, D) of rows with noise."""
        return self.denoiser.embed(part)

    def objectives(self) -> Mapping[str, Begin]:
        """Those of its Denoiser."""
        return self.denoiser.objectives()

    def sections(self) -> tuple[Section, ...]:
        """Those of its Denoiser."""
        return self.denoiser.sections()

    def write(self, sources: Sources, asked: Sequence[ToWrite]) -> list[Written]:
        """Log-mel rows (P, G * M), normalised."""
        return self.denoiser.write(sources, asked)
