"""AUDIO on the CPU side: any value that holds sound -> normalised log-mel frames. Shapes: F frames, M bands, P rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.audio_features import Floats, FrameSettings, log_mel, normalised, specaugment
from ofasys_lite.preprocess.base import READ, Look, Piece, Preprocess, RowContext, Size, line_positions
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.media import Source, elsewhere, found, locate, setting
from ofasys_lite.preprocess.sound_sizes import WHOLE, counts_frames, cut_off

#: Base64 of the first bytes of WAV, FLAC, OGG and MP3 files.
BASE64_HEADS = ("UklGR", "ZkxhQ", "T2dnU", "SUQz", "//uQ", "//sw", "//NA")


def _at_16k(frames: int, rate: Any) -> int:
    known = isinstance(rate, (int, float, np.number)) and rate > 0
    return round(frames * 16_000 / float(rate)) if known else frames


#: What soundfile raises on broken files (its own errors are RuntimeErrors).
_BROKEN = (OSError, RuntimeError, TypeError, ValueError)
_HELP = "an AUDIO is a path, URL, bytes, base64 text, (array, rate), {array, sampling_rate} or {bytes, path}"


_AGAIN = "write or fetch the file again, or leave the row out"
_FORMATS = "WAV, FLAC, OGG, MP3, AIFF and others of libsndfile's are read; write the file again, or leave the row out"
#: Share of the samples that a header tells of which must be there: of some compressed files it is an estimate.
_THERE = 0.95


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
        with _opened(source) as file:
            _not_too_long(file.frames / file.samplerate, longest)
            array, rate = file.read(dtype="float32", always_2d=True), int(file.samplerate)
            short = len(array) < _THERE * file.frames
            if short and (file.format != "MP3" or counts_frames(source)):
                raise _ends_early(source, f"{len(array) / rate:.2f} of {file.frames / rate:.2f} s")
    if not array.size:
        raise DataError("cannot read audio: it has no samples", help="leave the row out")
    signal = _mono(array)
    if not np.isfinite(signal).all():
        raise DataError(
            f"cannot read audio: {int((~np.isfinite(signal)).sum())} samples are infinite or no numbers",
            help="leave the row out",
        )
    _not_too_long(len(signal) / rate, longest)
    return signal, rate


def _not_too_long(seconds: float, longest: float) -> None:
    if seconds > longest:
        raise DataError(
            f"cannot read audio: it lasts {seconds:.1f} s, the limit is {longest:g} s",
            help="cut it, or raise `max_seconds`",
        )


@contextmanager
def _opened(source: Source) -> Iterator[Any]:
    """The sound as an open `soundfile.SoundFile`; DataError for what breaks in opening and reading it."""
    import soundfile

    what = found(source) if isinstance(source, bytes) else str(source)
    if isinstance(source, Path) and not source.stat().st_size:
        raise DataError(f"cannot read audio {source}: it is empty (0 bytes)", help=_AGAIN)
    try:
        with soundfile.SoundFile(_Memory(source) if isinstance(source, bytes) else str(source)) as file:
            if file.format in WHOLE and (cut := cut_off(source)) is not None:
                raise _ends_early(source, f"{cut[0]:,} of {cut[1]:,} bytes")
            yield file
    except DataError:
        raise
    except _BROKEN as error:
        said = str(getattr(error, "error_string", error)).strip().rstrip(".")
        raise DataError(
            f"cannot read audio: {what} is broken or no sound of a known format ({said})", help=_FORMATS
        ) from error


def _ends_early(source: Source, there: str) -> DataError:
    what = found(source) if isinstance(source, bytes) else str(source)
    return DataError(f"cannot read audio: {what} ends early, {there} of sound are there", help=_AGAIN)


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


class AudioPreprocess(Preprocess):
    """Reads sound; the piece holds `frames` (F, M) float16, normalised log-mel energies; rows count like text.

    Settings: `sample_rate` (16000 Hz), `mels` (80), `max_seconds` (30), `specaugment` (true).
    Attributes of a slot: `sample_rate` (that of bare arrays, too), `max_length` and `min_length` in frames,
    `max_seconds`, `specaugment` (`use_mask`), and `speed=0.1`: in training each sound is played at 0.9, 1 or 1.1 of its
    speed (Ko et al., Interspeech 2015).
    """

    kind: ClassVar[str] = kinds.SOUND
    ending: str = ".wav"
    typical: ClassVar[Size] = (3 * 16_000,)

    def encode(self, value: Any, options: Options, known: RowContext) -> Piece:
        """The piece of a sound: a quarter of its frames (100 a second) as rows.

        Raises:
            DataError: No sound, broken, empty, not a number, too short for one frame, or too long.
        """
        drawn = known.rng if known.train else None
        frames = self.frames_of(value, options, self.settings, self.context.folder, drawn)
        masks = option(options, "specaugment", option(options, "use_mask", self.settings.get("specaugment", True)))
        if drawn is not None and masks:
            frames = specaugment(frames, drawn)
        positions = line_positions(rows_of_frames(len(frames)))
        return Piece(self.context.adapter, positions, {"frames": frames.astype(np.float16)})

    @classmethod
    def wanted(cls, options: Options, settings: Mapping[str, Any]) -> FrameSettings:
        """How its frames are cut and measured."""
        return wanted_frames(settings, options)

    @classmethod
    def measured(cls, signal: Floats, wanted: FrameSettings, settings: Mapping[str, Any], most: int | None) -> Floats:
        """(F, M) normalised frames of a signal (n,) at the wanted rate, the first `most` of them."""
        return normalised(log_mel(signal, wanted)[:most])

    @classmethod
    def frames_of(
        cls,
        value: Any,
        options: Options,
        settings: Mapping[str, Any],
        folder: str | None,
        rng: np.random.Generator | None,
    ) -> Floats:
        """(F, M) normalised frames of a sound, its speed drawn where `rng` is given."""
        wanted = cls.wanted(options, settings)
        signal = resampled_signal(value, options, settings, folder, rng)
        long_enough(wanted.frames(len(signal)), len(signal), options, wanted)
        most = option(options, "max_length")
        return cls.measured(signal, wanted, settings, most if isinstance(most, int) else None)

    @classmethod
    def check(cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ) -> None:
        """Raises DataError if `value` can hold no sound, or a file's header is broken or says too long.

        Relative paths are looked up in `settings["folder"]`, and passed over if that is not given.
        """
        cls._header(value, options, settings)

    @classmethod
    def _header(cls, value: Any, options: Options, settings: Mapping[str, Any]) -> tuple[int, int] | None:
        """(samples, rate) by the header, None where that needs a folder, a network, a decoder; DataError: not fit."""
        if elsewhere(value, settings) or hasattr(value, "get_all_samples"):
            return None
        source = locate(value, settings.get("folder"), "audio", BASE64_HEADS)
        longest = limit_seconds(settings, options)
        if source is None:
            bare = option(options, "sample_rate")
            array, rate = _given(value, bare if isinstance(bare, int) else None)
            samples = max(array.shape, default=0)
        else:
            samples, rate = _header_of(source)
        if not samples:
            raise DataError("cannot read audio: it has no samples", help="leave the row out")
        _not_too_long(samples / rate, longest)
        wanted = cls.wanted(options, settings)
        at_rate = round(samples * wanted.rate / rate)
        long_enough(wanted.frames(at_rate), at_rate, options, wanted)
        return samples, rate

    @classmethod
    def check_options(cls, options: Options, settings: Mapping[str, Any]) -> None:
        """Raises CardError for numbers of the card that cannot be."""
        cls.wanted(options, settings)
        limit_seconds(settings, options)

    @classmethod
    def look(
        cls, value: Any, options: Options, settings: Mapping[str, Any], known: RowContext = READ, whole: bool = False
    ) -> Look:
        """Whether it is resampled and cut; `whole` reads its samples and makes frames of them."""
        found = cls._header(value, options, settings)
        if found is None:
            return Look()
        samples, rate = found
        wanted, most = cls.wanted(options, settings), option(options, "max_length")
        remarks = []
        if rate != wanted.rate:
            remarks.append((f"sample_rate={wanted.rate} resamples", f"{rate} Hz"))
        count = wanted.frames(round(samples * wanted.rate / rate))
        if isinstance(most, int) and count > most:
            remarks.append((f"max_length={most} cuts", f"{count} frames"))
        if whole:
            cls.frames_of(value, options, settings, settings.get("folder"), None)
        return Look(work=samples, remarks=tuple(remarks))

    def rows_of(self, size: Size, options: Options) -> int:
        """Rows of a sound of that many samples at 16 kHz."""
        wanted = self.wanted(options, self.settings)
        frames = wanted.frames(round(size[0] * wanted.rate / 16_000))
        most = option(options, "max_length")
        return max(1, rows_of_frames(min(frames, most) if isinstance(most, int) else frames))

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
        source = locate(value, folder, "audio", BASE64_HEADS)
        return None if source is None else (_at_16k(*_header_of(source)),)

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


def resampled_signal(
    value: Any, options: Options, settings: Mapping[str, Any], folder: str | None, rng: np.random.Generator | None
) -> Floats:
    """(n,) samples at the wanted rate, their speed drawn where `rng` is given; DataError as `read_audio` says."""
    bare = option(options, "sample_rate")
    signal, rate = read_audio(value, folder, bare if isinstance(bare, int) else None, limit_seconds(settings, options))
    return _resampled(signal, rate, wanted_frames(settings, options).rate, options, rng)


def long_enough(frames: int, samples: int, options: Options, wanted: FrameSettings) -> None:
    """Raises DataError if a sound of `samples` at the wanted rate has too few frames."""
    given = option(options, "min_length")
    least = max(1, given if isinstance(given, int) else 1)
    if frames < least:
        raise DataError(
            f"cannot read audio: {1000 * samples / wanted.rate:.0f} ms are too short: {frames} frames of "
            f"{wanted.window_ms:g} ms, at least {least} needed",
            help="leave the row out",
        )


def only_rate(settings: Mapping[str, Any], rate: int, adapter: str) -> None:
    """Raises CardError for another rate in the settings than that which an encoder of others hears, in Hz."""
    said = settings.get("sample_rate", rate)
    if said != rate:
        help = f"its encoder hears {rate} Hz; every sound is resampled to it: leave the setting out"
        raise CardError(f"setting `sample_rate` of AUDIO is {said!r}, with `adapter={adapter}`", help=help)


def wanted_frames(settings: Mapping[str, Any], options: Options) -> FrameSettings:
    """How frames are cut and measured."""
    rate = option(options, "sample_rate")
    chosen = rate if isinstance(rate, int) else setting(settings, "sample_rate", 16000, 1000, 192000)
    return FrameSettings(chosen, setting(settings, "mels", 80, 8, 256))


def limit_seconds(settings: Mapping[str, Any], options: Options) -> float:
    """Seconds of the longest sound."""
    chosen = option(options, "max_seconds")
    return float(chosen) if isinstance(chosen, (int, float)) else setting(settings, "max_seconds", 30.0, 0.01, 1e5)


def _resampled(signal: Floats, rate: int, wanted: int, options: Options, rng: np.random.Generator | None) -> Floats:
    """The signal at the rate `wanted`, in training at a speed that is drawn."""
    most = option(options, "speed")
    played = float(rate)
    if rng is not None and isinstance(most, (int, float)) and most:
        played *= float(rng.choice([1 - most, 1.0, 1 + most]))
    if played == wanted:
        return signal
    import soxr  # type: ignore[import-untyped]

    return np.asarray(soxr.resample(signal, played, wanted, quality="HQ"), dtype=np.float32)


def _header_of(source: Source) -> tuple[int, int]:
    """(samples, rate) of a file or its bytes by the header."""
    with _opened(source) as file:
        return int(file.frames), int(file.samplerate)
