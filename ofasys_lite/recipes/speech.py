"""Spoken commands, synthesised by espeak-ng; the ways of speaking in valid and test are never heard in training."""

from __future__ import annotations

import ctypes
import io
import math
import os
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import Wheels, pinned
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, digest
from ofasys_lite.writing import telling

if TYPE_CHECKING:
    from numpy.typing import NDArray


ESPEAK = pinned("espeakng-loader")
LIBRARY = {"linux": "libespeak-ng.so", "darwin": "libespeak-ng.dylib", "win32": "espeak-ng.dll"}
#: Numbers of espeak-ng's C interface.
SYNCHRONOUS, DONT_EXIT, CHARS_UTF8, PARAMETERS = 2, 0x8000, 1, {"rate": 1, "pitch": 3, "range": 4}


def unpack(wheel: Path, cache: Path) -> Path:
    """Folder with the library and its data, unpacked once per wheel."""
    target = cache / "unpacked" / wheel.stem
    if target.is_dir():
        return target / "espeakng_loader"
    with telling(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    with telling(target), tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent) as partial:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(Path(partial) / "content", [n for n in archive.namelist() if "espeakng_loader/" in n])
        try:
            os.replace(Path(partial) / "content", target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    return target / "espeakng_loader"


class Speaker:
    """Speaks text into 16-bit samples at `rate` Hz.

    Each speaker loads a copy of the library of its own: the library's state outlives its own reset, and the same
    calls in the same order must give the same samples.
    """

    def __init__(self, folder: Path) -> None:
        name = LIBRARY.get(sys.platform)
        if name is None or not (folder / name).is_file():
            raise DataError(
                f"espeak-ng has no library for this platform ({sys.platform})",
                help="prepare the data set on Linux x86_64 and copy the prepared folder here",
            )
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as own:
            self._library = ctypes.CDLL(shutil.copy(folder / name, own))
        self.rate = int(self._library.espeak_Initialize(SYNCHRONOUS, 0, str(folder).encode(), DONT_EXIT))
        if self.rate <= 0:
            raise DataError(f"espeak-ng cannot start from {folder}", help="delete that folder and prepare again")
        self._pieces: list[bytes] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        # the library keeps only the address: the callback must live as long as the speaker
        self._callback: Any = kind(self._collect)
        self._library.espeak_SetSynthCallback(self._callback)

    def _collect(self, wave: Any, samples: int, events: Any) -> int:
        del events
        if wave and samples > 0:
            self._pieces.append(ctypes.string_at(wave, samples * 2))
        return 0

    def speak(self, text: str, voice: str, speed: int, pitch: int) -> NDArray[np.int16]:
        """Samples of `text`; speed in words a minute, pitch 0 to 99. DataError for an unknown voice."""
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise DataError(f"espeak-ng has no voice `{voice}`")
        self._library.espeak_SetParameter(PARAMETERS["rate"], speed, 0)
        self._library.espeak_SetParameter(PARAMETERS["pitch"], pitch, 0)
        self._library.espeak_SetParameter(PARAMETERS["range"], 50, 0)
        self._pieces.clear()
        data = text.encode() + b"\0"
        self._library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, CHARS_UTF8, None, None)
        self._library.espeak_Synchronize()
        return np.frombuffer(b"".join(self._pieces), dtype=np.int16)


RATE = 8000
WORDS = (
    "yes|no|up|down|left|right|on|off|stop|go|start|open|close|play|pause|next|back|louder|quiet|help|"
    "cancel|repeat|zero|one|two|three|four|five|six|seven|eight|nine|ten|red|green|blue|yellow|kitchen|"
    "bedroom|garage|window|light on|light off|turn left|turn right|go home|stop music|good morning|"
    "good night|call mother|set timer|what time|open door|close door"
)
PHRASES = tuple(WORDS.split("|"))
ACCENTS = ("gmw/en", "gmw/en-US", "gmw/en-GB-scotland", "gmw/en-029", "gmw/en-GB-x-rp")
# ways of speaking by split: a speaker is one of them with an accent
# not f2, f3, f5, Alicia, sandro and victor: espeak-ng gives other samples for them in every run
_TEST_VARIANTS = (
    "Andrea|Andy|Denis|Diogo|Gene|Henrique|Marco|Mario|Michael|Mike|Nguyen|Reed|anika|announcer|antonio|aunty|benjamin|"
    "boris|david|ed|edward|grandpa|gustave|ian|iven|john|m8|marcelo|max|miguel|norbert|pablo|quincy|robert|shelby|travis"
)
VARIANTS = {
    "train": ("m1", "m2", "m3", "m4", "m5", "m7", "f1", "f4", "Annie", "linda", "steph", "adam"),
    "valid": ("Alex", "belinda", "caleb", "Hugo", "grandma", "m6", "Lee", "pedro", "zac"),
    "test": tuple(_TEST_VARIANTS.split("|")),
}
SPEEDS = (130, 160, 200)
PITCHES = (30, 45, 60, 75)
TEST_SPEED = 180
SHORTEST, LONGEST = 0.2, 1.6


def asked(split: str) -> Iterator[tuple[str, int, str]]:
    """(voice, speed, phrase) of every clip of a split.

    In training every way of speaking says every phrase with every accent at every speed. In valid and test it has one
    accent, and half of its phrases have a speed that training lacks; in test it says every other phrase.
    """
    for number, variant in enumerate(VARIANTS[split]):
        if split == "train":
            yield from ((f"{a}+{variant}", speed, each) for a in ACCENTS for speed in SPEEDS for each in PHRASES)
            continue
        voice = f"{ACCENTS[number % len(ACCENTS)]}+{variant}"
        for place, phrase in enumerate(PHRASES):
            if split == "valid" or (place + number) % 2 == 0:
                yield voice, (TEST_SPEED, SPEEDS[0])[(place // 2 + number // 2) % 2], phrase


def finish(wave: NDArray[np.int16], rate: int, seed: str) -> NDArray[np.int16]:
    """The clip at 8 kHz: silence cut, loudness drawn by chance, a little noise (30 to 45 dB below the speech)."""
    samples = wave.astype(np.float64) / 32768
    loud = np.flatnonzero(np.abs(samples) > 0.02)
    margin = rate // 50
    samples = samples[max(0, loud[0] - margin) : loud[-1] + margin] if len(loud) else samples
    samples = _resample(samples, rate)
    generator = np.random.default_rng(int(digest(seed)[:12], 16))
    gain = 0.25 + 0.65 * generator.random()
    samples = samples / max(1e-6, float(np.abs(samples).max())) * gain
    power = float(np.sqrt((samples**2).mean()))
    noise = power * 10 ** (-(30 + 15 * generator.random()) / 20) * generator.standard_normal(len(samples))
    # the lowest bits hold nothing but noise: without them FLAC is half as large
    coarse = np.round(np.clip(samples + noise, -1, 1) * 32767 / 64) * 64
    return np.clip(coarse, -32768, 32767).astype(np.int16)


def _resample(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    """Band-limited to 8 kHz through the Fourier transform, at most 20 ms longer."""
    step = rate // math.gcd(rate, RATE)  # whole steps keep the ratio exact and the transform's factors small
    padded = np.pad(samples, (0, -len(samples) % step))
    length = len(padded) * RATE // rate
    spectrum = np.fft.rfft(padded)[: length // 2 + 1]
    resampled: NDArray[np.float64] = np.fft.irfft(spectrum, length) * (length / len(padded))
    return resampled


def flac(samples: NDArray[np.int16]) -> bytes:
    """FLAC bytes of 8 kHz mono samples."""
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC", subtype="PCM_16")
    return buffer.getvalue()


def build(wheels: Wheels, limits: Limits) -> Built:
    """A clip per phrase and voice, in training at several speeds."""
    speaker = Speaker(unpack(wheels.paths[ESPEAK.package], wheels.cache))
    rows: list[Row] = []
    split_of_voice: dict[str, str] = {}
    for split in VARIANTS:
        for voice, speed, phrase in asked(split):
            split_of_voice[voice] = split
            seed = f"speech {voice} {speed} {phrase}"
            pitch = PITCHES[int(digest(seed), 16) % len(PITCHES)]
            samples = finish(speaker.speak(phrase, voice, speed, pitch), speaker.rate, seed)
            if SHORTEST <= len(samples) / RATE <= LONGEST:
                rows.append({"group": voice, "audio": flac(samples), "text": phrase, "voice": voice})
    return Built(assemble("speech", rows, limits, split_of_voice.__getitem__))
