"""Spoken commands, synthesised by espeak-ng; the ways of speaking in valid and test are never heard in training."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from ofasys_lite.recipes.espeak import ESPEAK, Speaker, unpack
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Column, Limits, Recipe, RecipeInfo, Row, assemble, digest

if TYPE_CHECKING:
    from numpy.typing import NDArray

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


RECIPE = Recipe(
    RecipeInfo(
        name="speech",
        title=f"speech recognition: {len(PHRASES)} short commands in synthetic voices",
        sources=(ESPEAK,),
        licence="Apache-2.0 (generated here)",
        columns=(
            Column("audio", "audio", "8 kHz mono FLAC, 0.2 to 1.6 s"),
            Column("text", "text", "one of the commands"),
            Column("voice", "text", "espeak-ng voice: accent and speaker"),
        ),
        group="the voice",
        limits=Limits(train=12_000),
        counts={"train": 9711, "valid": 485, "test": 970},
        size_mb=32.8,
        generated="all of it: speech by espeak-ng with a little noise",
        note=f"split by espeak-ng's ways of speaking: {len(VARIANTS['test'])} of them are heard in test alone, half of "
        "their clips at a speed that training lacks; the phrases and the accents are those of training",
        version=2,
    ),
    build,
)
