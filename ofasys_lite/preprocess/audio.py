"""AUDIO on the CPU side: any value that holds sound -> normalised log-mel frames. Shapes: F frames, M bands, P rows."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.audio_features import Floats, FrameSettings, log_mel, normalised, specaugment
from ofasys_lite.preprocess.audio_values import BASE64_HEADS, AudioValues
from ofasys_lite.preprocess.base import READ, Look, Piece, RowContext, Size, line_positions
from ofasys_lite.preprocess.media import Source, found, locate, setting

#: What soundfile raises on broken files (its own errors are RuntimeErrors).
_BROKEN = (OSError, RuntimeError, TypeError, ValueError)
_HELP = "an AUDIO is a path, URL, bytes, base64 text, (array, rate), {array, sampling_rate} or {bytes, path}"


class _Memory(io.BytesIO):
    """Bytes as a file; a broken header that asks for a place before the beginning stays where it is."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except (ValueError, OverflowError):
            return self.tell()


def rows_of_frames(frames: int) -> int:
    """Rows of the stream that `frames` fill: every fourth, after two steps of stride 2."""
    return -(-frames // 4)


def read_audio(value: Any, folder: str | None, rate: int | None, longest: float) -> tuple[Floats, int]:
    """The samples (n,) in -1 to 1, channels averaged, and their rate in Hz.

    Args:
        value: Path, URL, bytes, base64 text, (array, rate), {array, sampling_rate}, {bytes, path}, or a decoder of
            Hugging Face datasets.
        folder: Folder of relative paths.
        rate: Rate of a bare array; None refuses one.
        longest: Longest sound in seconds; files are refused by their header.

    Raises:
        DataError: No sound, broken, empty, with values that are no numbers, or too long.
    """
    source = locate(value, folder, "audio", BASE64_HEADS)
    if source is None:
        array, rate = _given(value, rate)
    else:
        array, rate = _decoded(source, longest)
    if not array.size:
        raise DataError("cannot read audio: it has no samples")
    signal = _mono(array)
    if not np.isfinite(signal).all():
        raise DataError(f"cannot read audio: {int((~np.isfinite(signal)).sum())} samples are infinite or no numbers")
    _not_too_long(len(signal) / rate, longest)
    return signal, rate


def _not_too_long(seconds: float, longest: float) -> None:
    if seconds > longest:
        raise DataError(
            f"cannot read audio: it lasts {seconds:.1f} s, the limit is {longest:g} s",
            help="cut it, or raise `max_seconds`",
        )


def _decoded(source: Source, longest: float) -> tuple[npt.NDArray[Any], int]:
    """Samples (n, channels) of a file or its bytes, and the rate; the header is looked at first."""
    import soundfile

    what = found(source) if isinstance(source, bytes) else str(source)
    if isinstance(source, Path) and not source.stat().st_size:
        raise DataError(f"cannot read audio {source}: it is empty (0 bytes)")
    try:
        with soundfile.SoundFile(_Memory(source) if isinstance(source, bytes) else str(source)) as file:
            _not_too_long(file.frames / file.samplerate, longest)
            array = file.read(dtype="float32", always_2d=True)
            return array, int(file.samplerate)
    except DataError:
        raise
    except _BROKEN as error:
        raise DataError(
            f"cannot read audio: {what} is broken or no sound of a known format ({_said(error)})"
        ) from error


def _said(error: Exception) -> str:
    """What libsndfile says, without the name or the object it was given."""
    return str(getattr(error, "error_string", error)).strip().rstrip(".")


def _given(value: Any, rate: int | None) -> tuple[npt.NDArray[Any], int]:
    """Array and rate of a value that holds samples."""
    array: Any = value
    if isinstance(value, Mapping) and "array" in value:
        array, rate = value["array"], value.get("sampling_rate", value.get("rate", rate))
    elif hasattr(value, "get_all_samples"):  # torchcodec, as Hugging Face datasets hand it out
        samples = value.get_all_samples()
        array, rate = samples.data, samples.sample_rate
    elif isinstance(value, (tuple, list)) and len(value) == 2 and isinstance(value[1], (int, float, np.number)):
        array, rate = value if hasattr(value[0], "__len__") else (value, rate)
    if not (hasattr(array, "__array__") or (isinstance(array, (list, tuple)) and len(array))):
        raise DataError(f"cannot read audio: found {found(value)}", help=_HELP)
    try:
        samples = np.asarray(array)
    except ValueError as error:
        raise DataError(f"cannot read audio: found {found(value)} of uneven parts", help=_HELP) from error
    if samples.ndim not in (1, 2) or samples.dtype.kind not in "iuf":
        raise DataError(f"cannot read audio: found {found(samples)}", help="shapes: (n,), (n, channels), (channels, n)")
    if not isinstance(rate, (int, float, np.number)) or not 100 <= rate <= 1e6:
        raise DataError(
            f"cannot read audio: an array with the rate {rate!r}",
            help="give (array, rate in Hz) or {array, sampling_rate}, or the slot attribute `sample_rate`",
        )
    return samples, int(rate)


def _mono(array: npt.NDArray[Any]) -> Floats:
    """(n,) mean of the channels, whole numbers scaled to -1 to 1 by their type."""
    if np.issubdtype(array.dtype, np.integer):
        info = np.iinfo(array.dtype)
        middle = 0.0 if info.min < 0 else (info.max + 1) / 2
        array = (array.astype(np.float64) - middle) / (info.max + 1 - middle)
    if array.ndim == 2:
        array = array.mean(axis=0 if array.shape[0] < array.shape[1] and array.shape[0] <= 16 else 1)
    return np.asarray(array, dtype=np.float32)


class AudioPreprocess(AudioValues):
    """Reads sound; the piece holds `frames` (F, M) float16, normalised log-mel energies; rows count like text.

    Settings: `sample_rate` (16000 Hz), `mels` (80), `max_seconds` (30), `specaugment` (true).
    Attributes of a slot: `sample_rate` (that of bare arrays, too), `max_length` and `min_length` in frames,
    `max_seconds`, `specaugment` (`use_mask`), and `speed=0.1`: in training each sound is played at 0.9, 1 or 1.1 of its
    speed (Ko et al., Interspeech 2015).
    """

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a sound: a quarter of its frames (100 a second) as rows.

        Raises:
            DataError: No sound, broken, empty, not a number, too short for one frame, or too long.
        """
        drawn = known.rng if known.train else None
        frames = _frames(value, options, self.settings, self.context.folder, drawn)
        if drawn is not None and _masks(self.settings, options):
            frames = specaugment(frames, drawn)
        positions = line_positions(rows_of_frames(len(frames)))
        return Piece(self.context.adapter, positions, {"frames": frames.astype(np.float16)})

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` can hold no sound, or a file's header is broken or says too long.

        Relative paths are looked up in `settings["folder"]`, and passed over if that is not given.
        """
        _header(value, options, settings)

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises CardError for numbers of the card that cannot be."""
        _frame_settings(settings, options)
        _longest(settings, options)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """Whether it is resampled and cut; `whole` reads its samples and makes frames of them."""
        found = _header(value, options, settings)
        if found is None:
            return Look()
        samples, rate = found
        wanted, most = _frame_settings(settings, options), option(options, "max_length")
        remarks = []
        if rate != wanted.rate:
            remarks.append((f"sample_rate={wanted.rate} resamples", f"{rate} Hz"))
        count = wanted.frames(round(samples * wanted.rate / rate))
        if isinstance(most, int) and count > most:
            remarks.append((f"max_length={most} cuts", f"{count} frames"))
        if whole:
            _frames(value, options, settings, settings.get("folder"), None)
        return Look(work=samples, remarks=tuple(remarks))

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a sound of that many samples at 16 kHz."""
        wanted = _frame_settings(self.settings, options)
        frames = wanted.frames(round(size[0] * wanted.rate / 16_000))
        most = option(options, "max_length")
        return max(1, rows_of_frames(min(frames, most) if isinstance(most, int) else frames))


def _frames(
    value: Any, options: Options, settings: Mapping[str, Any], folder: str | None, rng: np.random.Generator | None
) -> Floats:
    """(F, M) normalised frames of a sound, its speed drawn where `rng` is given."""
    wanted, bare = _frame_settings(settings, options), option(options, "sample_rate")
    signal, rate = read_audio(value, folder, bare if isinstance(bare, int) else None, _longest(settings, options))
    signal = _resampled(signal, rate, wanted.rate, _speed(options, rng))
    frames = log_mel(signal, wanted)
    _long_enough(len(frames), len(signal), options, wanted)
    most = option(options, "max_length")
    return normalised(frames[: most if isinstance(most, int) else None])


def _long_enough(frames: int, samples: int, options: Options, wanted: FrameSettings) -> None:
    """Raises DataError if a sound of `samples` at the wanted rate has too few frames."""
    given = option(options, "min_length")
    least = max(1, given if isinstance(given, int) else 1)
    if frames < least:
        raise DataError(
            f"cannot read audio: {1000 * samples / wanted.rate:.0f} ms are too short: {frames} frames of "
            f"{wanted.window_ms:g} ms, at least {least} needed",
            help="leave the row out",
        )


def _frame_settings(settings: Mapping[str, Any], options: Options) -> FrameSettings:
    rate = option(options, "sample_rate")
    chosen = rate if isinstance(rate, int) else setting(settings, "sample_rate", 16000, 1000, 192000)
    return FrameSettings(chosen, setting(settings, "mels", 80, 8, 256))


def _longest(settings: Mapping[str, Any], options: Options) -> float:
    chosen = option(options, "max_seconds")
    return float(chosen) if isinstance(chosen, (int, float)) else setting(settings, "max_seconds", 30.0, 0.01, 1e5)


def _masks(settings: Mapping[str, Any], options: Options) -> bool:
    chosen = option(options, "specaugment", option(options, "use_mask", settings.get("specaugment", True)))
    return bool(chosen)


def _speed(options: Options, rng: np.random.Generator | None) -> float:
    most = option(options, "speed")
    if rng is None or not isinstance(most, (int, float)) or not most:
        return 1.0
    return float(rng.choice([1 - most, 1.0, 1 + most]))


def _resampled(signal: Floats, rate: int, wanted: int, speed: float) -> Floats:
    """(n,) the signal at the wanted rate, played at `speed`; by soxr, of high quality."""
    if rate * speed == wanted:
        return signal
    import soxr  # type: ignore[import-untyped]

    return np.asarray(soxr.resample(signal, rate * speed, wanted, quality="HQ"), dtype=np.float32)


def _header(value: Any, options: Options, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """(samples, rate) by the header; None where a folder, a network or a decoder would be needed.

    Raises:
        DataError: There is no sound, none of a known format, or it is too short or too long.
    """
    inner = value
    if isinstance(inner, Mapping) and "array" not in inner:
        inner = inner.get("bytes") if inner.get("bytes") is not None else inner.get("path")
    folder = settings.get("folder")
    if isinstance(inner, str) and not inner.startswith("data:"):
        far = "://" in inner[:16] and not inner.startswith("file://")
        if far or (folder is None and not inner.startswith("/") and len(inner) < 256):
            return None
    if hasattr(value, "get_all_samples"):
        return None
    source = locate(value, folder, "audio", BASE64_HEADS)
    longest = _longest(settings, options)
    if source is None:
        bare = option(options, "sample_rate")
        array, rate = _given(value, bare if isinstance(bare, int) else None)
        samples = max(array.shape, default=0)
    else:
        samples, rate = _header_of(source)
    if not samples:
        raise DataError("cannot read audio: it has no samples", help="leave the row out")
    _not_too_long(samples / rate, longest)
    wanted = _frame_settings(settings, options)
    at_rate = round(samples * wanted.rate / rate)
    _long_enough(wanted.frames(at_rate), at_rate, options, wanted)
    return samples, rate


def _header_of(source: Source) -> tuple[int, int]:
    import soundfile

    try:
        info = soundfile.info(_Memory(source) if isinstance(source, bytes) else str(source))
    except _BROKEN as error:
        what = found(source) if isinstance(source, bytes) else str(source)
        raise DataError(
            f"cannot read audio: {what} is broken or no sound of a known format ({_said(error)})"
        ) from error
    return int(info.frames), int(info.samplerate)
