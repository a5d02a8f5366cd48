"""AUDIO that is written: log-mel frames, several to a row, in a normalisation that can be undone; and back to sound.

Shapes: F frames, M bands, P rows, G frames of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.cards.classes import load_function
from ofasys_lite.errors import CardError
from ofasys_lite.plan.constraints import Whole
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.audio import AudioPreprocess, limit_seconds, long_enough, resampled_signal, wanted_frames
from ofasys_lite.preprocess.audio_features import Floats, log_mel
from ofasys_lite.preprocess.base import Piece, RowContext, Size, line_positions
from ofasys_lite.preprocess.continuous import value_piece
from ofasys_lite.preprocess.media import setting

#: Natural logarithm of the energy of a band in silence; what is below is raised to it.
FLOOR = 4.0


def frames_per_row(settings: Mapping[str, Any]) -> int:
    """Frames that a row holds."""
    return setting(settings, "frames_per_row", 4, 1, 16)


def most_rows(settings: Mapping[str, Any]) -> int:
    """Rows of the longest sound: the size of what tells how long a sound is."""
    seconds = setting(settings, "max_seconds", 30.0, 0.01, 1e5)
    return -(-round(100 * seconds) // frames_per_row(settings))


class AudioWriting(AudioPreprocess):
    """Sound as a target: `values` (P, G * M), log-mel energies less `mel_mean`, over `mel_deviation`.

    Settings beside those of AudioPreprocess: `frames_per_row` (4), `mel_mean` (17), `mel_deviation` (3.6): of speech,
    as this package measures it; `vocoder`: a dotted path of `f(frames (F, M), FrameSettings) -> samples (n,)`, null for
    Griffin-Lim in `vocoder_rounds` (60).
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a sound; all its rows are to be written.

        Raises:
            DataError: As AudioPreprocess does.
        """
        settings = self.settings
        wanted = wanted_frames(settings, options)
        signal = resampled_signal(value, options, settings, self.context.folder, known.rng if known.train else None)
        frames_FM = log_mel(signal, wanted)
        long_enough(len(frames_FM), len(signal), options, wanted)
        frames_FM = np.maximum(frames_FM[: self._most(options) * frames_per_row(settings)], FLOOR)
        mean, deviation = self._scale()
        values_PC = grouped((frames_FM - mean) / deviation, frames_per_row(settings), (FLOOR - mean) / deviation)
        nothing_P = np.zeros(len(values_PC), np.bool_)
        positions_P3 = line_positions(len(values_PC))
        return value_piece(self.context.adapter, values_PC, positions_P3, nothing_P, most_rows(settings))

    def constraint(self, options: Options, known: RowContext) -> Whole:
        """All rows at once, as many as the model finds right, up to `max_length`."""
        least = option(options, "min_length")
        rows = -(-least // frames_per_row(self.settings)) if isinstance(least, int) else 1
        positions = tuple(map(tuple, line_positions(self._most(options)).tolist()))
        return Whole(self.context.adapter, positions, (("asked", True), ("least", rows)))

    def decode(self, ids: npt.NDArray[Any], options: Options, known: RowContext) -> tuple[Floats, int]:
        """(samples (n,) in -1 to 1, rate in Hz) of rows (P, G * M)."""
        wanted = wanted_frames(self.settings, options)
        mean, deviation = self._scale()
        frames_FM = np.maximum(ids.reshape(-1, wanted.mels) * deviation + mean, FLOOR).astype(np.float32)
        return self.vocode(frames_FM, options), wanted.rate

    def vocode(self, frames_FM: Floats, options: Options = ()) -> Floats:
        """(n,) samples of log-mel frames, by the vocoder of the settings.

        Raises:
            CardError: A vocoder that is not there, or gives no samples.
        """
        wanted, path = wanted_frames(self.settings, options), self.settings.get("vocoder")
        if path is None:
            from ofasys_lite.preprocess.vocoder import griffin_lim

            return griffin_lim(frames_FM, wanted, setting(self.settings, "vocoder_rounds", 60, 1, 10_000))
        function = load_function(str(path), "vocoder", "name a function of (frames (F, M), FrameSettings)")
        samples = np.asarray(function(frames_FM, wanted), dtype=np.float32)
        if samples.ndim != 1 or not len(samples):
            raise CardError(f"vocoder {path} gave an array of shape {samples.shape}", help="it gives samples (n,)")
        return samples

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises CardError for numbers that cannot be, and frames of a row that the adapter is not built for."""
        super().check_options(options, settings)
        asked, built = option(options, "n_frames_per_step"), frames_per_row(settings)
        if isinstance(asked, int) and asked != built:
            raise CardError(
                f"`n_frames_per_step={asked}`, and rows of AUDIO hold {built} frames",
                help=f"leave it out, or train with modalities.AUDIO.frames_per_row={asked}",
            )

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a sound of that many samples at 16 kHz."""
        wanted = wanted_frames(self.settings, options)
        frames = wanted.frames(round(size[0] * wanted.rate / 16_000))
        return max(1, min(self._most(options), -(-frames // frames_per_row(self.settings))))

    def _most(self, options: Options) -> int:
        """Most rows that a slot writes."""
        most, group = option(options, "max_length"), frames_per_row(self.settings)
        frames = most if isinstance(most, int) else round(100 * limit_seconds(self.settings, options))
        return min(-(-frames // group), most_rows(self.settings))

    def _scale(self) -> tuple[float, float]:
        """Mean and deviation of log-mel energies."""
        return (
            setting(self.settings, "mel_mean", 17.0, -100, 100),
            setting(self.settings, "mel_deviation", 3.6, 1e-3, 100),
        )


def grouped(frames_FM: Floats, group: int, silence: float) -> Floats:
    """(P, G * M) frames, `group` to a row, the last row filled up with silence."""
    rows = -(-len(frames_FM) // group)
    filled = np.full((rows * group, frames_FM.shape[1]), silence, dtype=np.float32)
    filled[: len(frames_FM)] = frames_FM
    return filled.reshape(rows, -1)
