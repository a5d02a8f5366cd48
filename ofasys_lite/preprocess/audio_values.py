"""Sounds as values: how they are located, shown and saved."""

from __future__ import annotations

import io
from typing import Any, ClassVar

from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Preprocess
from ofasys_lite.preprocess.media import locate
from ofasys_lite.preprocess.shown import Shown

__all__ = ["BASE64_HEADS", "AudioValues"]

#: Base64 of the first bytes of WAV, FLAC, OGG and MP3 files.
BASE64_HEADS = ("UklGR", "ZkxhQ", "T2dnU", "SUQz", "//uQ", "//sw", "//NA")


class AudioValues(Preprocess):
    """What is known of sounds; those that are written are (samples (n,), rate in Hz)."""

    kind: ClassVar[str] = kinds.SOUND
    ending: ClassVar[str] = ".wav"

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
