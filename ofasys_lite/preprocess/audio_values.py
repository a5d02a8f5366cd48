"""Sounds as values: how they are located, shown and saved."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Preprocess, Size
from ofasys_lite.preprocess.media import locate
from ofasys_lite.preprocess.shown import Shown

#: Base64 of the first bytes of WAV, FLAC, OGG and MP3 files.
BASE64_HEADS = ("UklGR", "ZkxhQ", "T2dnU", "SUQz", "//uQ", "//sw", "//NA")


class AudioValues(Preprocess):
    """What is known of sounds; those that are written are (samples (n,), rate in Hz)."""

    kind: ClassVar[str] = kinds.SOUND
    ending: ClassVar[str] = ".wav"
    typical: ClassVar[Size] = (3 * 16_000,)

    @classmethod
    def measure(cls, value: Any, folder: str | None) -> Size | None:
        """(samples at 16 kHz,): of an array directly, as they are where it has no rate, of a file from its header."""
        rate: Any = None
        if isinstance(value, Mapping) and "array" in value:
            rate, value = value.get("sampling_rate", value.get("rate")), value["array"]
        if isinstance(value, (tuple, list)) and len(value) == 2 and hasattr(value[0], "__len__"):
            value, rate = value  # (array, rate)
        if isinstance(value, (list, tuple, np.ndarray)):
            try:
                return (_at_16k(max(np.shape(value), default=0), rate),)
            except ValueError:
                raise DataError("cannot read audio: an array of uneven parts") from None
        found = locate(value, folder, "audio", BASE64_HEADS)
        if found is None:
            return None
        import soundfile

        try:
            info = soundfile.info(io.BytesIO(found) if isinstance(found, bytes) else str(found))
        except (soundfile.LibsndfileError, RuntimeError) as error:
            said = getattr(error, "error_string", error)
            raise DataError(f"cannot read audio: {said}") from None
        return (_at_16k(int(info.frames), info.samplerate),)

    @classmethod
    def located(cls, value: Any, folder: str | None) -> Any:
        """Bytes or path of the sound; samples as they are."""
        found = locate(value, folder, "audio", BASE64_HEADS)
        return value if found is None else found

    @classmethod
    def read(cls, value: Any, options: Options, folder: str | None = None) -> Any:
        """The sound as bytes, path or samples."""
        return cls.located(value, folder)

    def show(self, value: Any) -> Shown | None:
        """A spectrogram with the sound to be played."""
        return Shown(sound=value)

    def brief(self, value: Any) -> str:
        """`<audio 1.5 s>`."""
        samples, rate = value
        return f"<audio {len(samples) / rate:.1f} s>"

    def save(self, value: Any, ending: str) -> bytes:
        """The bytes of a WAV file of 16 bits."""
        import soundfile

        samples, rate = value
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format="WAV", subtype="PCM_16")
        return file.getvalue()


def _at_16k(frames: int, rate: Any) -> int:
    known = isinstance(rate, (int, float, np.number)) and rate > 0
    return round(frames * 16_000 / float(rate)) if known else frames
