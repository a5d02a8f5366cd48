"""Sound becomes log-mel frames; whatever is no sound is refused with words."""

from __future__ import annotations

import base64
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.preprocess.audio import AudioPreprocess, read_audio, rows_of_frames
from ofasys_lite.preprocess.audio_features import FrameSettings, log_mel, mel_filters, normalised, specaugment
from ofasys_lite.preprocess.base import READ, Context, RowContext
from ofasys_lite.preprocess.sound_sizes import cut_off


def read(
    value: Any, *options: tuple[str, object], rng: int | None = None, folder: str | None = None, **settings: Any
) -> Any:
    preprocess = AudioPreprocess(Context(settings, None, adapter="audio", folder=folder))  # type: ignore[arg-type]
    generator = None if rng is None else np.random.default_rng(rng)
    return preprocess.encode(value, options, RowContext(rng=generator, train=rng is not None))


def tone(seconds: float = 0.5, rate: int = 16000, hertz: float = 440.0) -> np.ndarray[Any, Any]:
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * math.pi * hertz * time) * np.hanning(len(time))).astype(np.float32)


def wav(signal: np.ndarray[Any, Any], rate: int = 16000, kind: str = "WAV", **kw: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, signal, rate, format=kind, **kw)
    return file.getvalue()


def test_log_mel_equals_a_direct_transform_written_out() -> None:
    settings = FrameSettings(8000, 24)
    signal = np.random.default_rng(0).normal(size=900).astype(np.float32) * 0.1
    found = log_mel(signal, settings)
    assert found.shape == (settings.frames(900), 24) == (9, 24)
    angles = 2 * math.pi * np.outer(np.arange(129), np.arange(256)) / 256
    for f in range(9):
        frame = signal[f * 80 : f * 80 + 200].astype(np.float64) * 32768
        frame = frame - frame.mean()
        frame = frame - 0.97 * np.concatenate([frame[:1], frame[:-1]])
        frame = frame * (0.5 - 0.5 * np.cos(2 * math.pi * np.arange(200) / 199)) ** 0.85
        padded = np.concatenate([frame, np.zeros(56)])
        power = (np.cos(angles) @ padded) ** 2 + (np.sin(angles) @ padded) ** 2
        expected = np.log(power @ mel_filters(settings).astype(np.float64))
        np.testing.assert_allclose(found[f], expected, rtol=1e-3, atol=1e-3)


def test_log_mel_equals_kaldi_as_torchaudio_has_it() -> None:
    torch = pytest.importorskip("torch")
    try:
        from torchaudio.compliance import kaldi
    except (ImportError, OSError) as error:  # OSError: its compiled library does not fit this torch
        pytest.skip(f"torchaudio cannot be imported: {error}")
    for rate, mels in ((16000, 80), (8000, 40)):
        signal = tone(0.4, rate) + np.random.default_rng(1).normal(size=round(0.4 * rate)).astype(np.float32) * 0.01
        expected = kaldi.fbank(
            torch.from_numpy(signal)[None] * 32768, num_mel_bins=mels, sample_frequency=rate, dither=0.0
        )
        np.testing.assert_allclose(log_mel(signal, FrameSettings(rate, mels)), expected.numpy(), rtol=1e-3, atol=2e-2)


def test_log_mel_equals_the_kaldi_settings_of_transformers() -> None:
    audio = pytest.importorskip("transformers.audio_utils")
    signal = tone(0.4) + np.random.default_rng(1).normal(size=6400).astype(np.float32) * 0.01
    bank = audio.mel_filter_bank(257, 80, 20.0, 8000.0, 16000, mel_scale="kaldi", triangularize_in_mel_space=True)
    expected = audio.spectrogram(
        signal.astype(np.float64) * 32768,
        audio.window_function(400, "povey", periodic=False),
        frame_length=400,
        hop_length=160,
        fft_length=512,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=bank,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    ).T
    np.testing.assert_allclose(log_mel(signal, FrameSettings(16000, 80)), expected, rtol=1e-3, atol=2e-2)


def test_a_second_of_sound_is_98_frames_and_25_rows_in_a_line() -> None:
    piece = read((tone(1.0), 16000))
    assert piece.arrays["frames"].shape == (98, 80)
    assert piece.arrays["frames"].dtype == np.float16
    assert piece.count == 25 == rows_of_frames(98)
    preprocess = AudioPreprocess(Context({}, None, adapter="audio"))  # type: ignore[arg-type]
    assert preprocess.rows_of((16000,), ()) == 25
    assert preprocess.rows_of((3,), ()) == 1
    assert piece.positions_P3[:3].tolist() == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]


def test_frames_have_no_mean_and_loudness_plays_no_part() -> None:
    signal = tone() + np.random.default_rng(0).normal(size=8000).astype(np.float32) * 0.05
    loud = read((signal, 16000)).arrays["frames"].astype(np.float32)
    soft = read((signal * 0.1, 16000)).arrays["frames"].astype(np.float32)
    assert np.abs(loud.mean(axis=0)).max() < 1e-2
    assert abs(loud.std() - 1) < 1e-2
    assert np.abs(loud - soft).max() < 2e-2
    assert (normalised(np.full((5, 3), 7.0, np.float32)) == 0).all()


def spellings(folder: Path) -> dict[str, Any]:
    signal = np.round(tone() * 32767).astype(np.int16)
    content = wav(signal)
    (folder / "one.wav").write_bytes(content)
    return {
        "path": "one.wav",
        "path object": folder / "one.wav",
        "bytes": content,
        "base64": base64.b64encode(content).decode(),
        "data url": "data:audio/wav;base64," + base64.b64encode(content).decode(),
        "flac": wav(signal, kind="FLAC"),
        "int16 and rate": (signal, 16000),
        "float and rate": (signal / 32768, 16000),
        "list and rate": ((signal / 32768).tolist(), 16000),
        "stereo": (np.stack([signal, signal], axis=1), 16000),
        "channels first": (np.stack([signal, signal]), 16000),
        "unsigned": ((signal.astype(np.int32) + 32768).astype(np.uint16), 16000),
        "dictionary": {"array": signal / 32768, "sampling_rate": 16000, "path": None},
        "hugging face bytes": {"bytes": content, "path": None},
        "hugging face path": {"bytes": None, "path": "one.wav"},
        "decoder": Decoder(signal / 32768),
    }


class Decoder:
    """What Hugging Face datasets hand out where torchcodec is installed."""

    sample_rate = 16000

    def __init__(self, signal: np.ndarray[Any, Any]) -> None:
        self.data = signal[None]

    def get_all_samples(self) -> Decoder:
        return self


def test_every_spelling_of_a_sound_gives_the_same_frames(tmp_path: Path) -> None:
    values = spellings(tmp_path)
    expected = read(values["bytes"]).arrays["frames"].astype(np.float32)
    for name, value in values.items():
        frames = read(value, folder=str(tmp_path)).arrays["frames"].astype(np.float32)
        assert np.abs(frames - expected).max() < 5e-2, name
        AudioPreprocess.check(value, (), {"folder": str(tmp_path)})


def test_other_rates_are_resampled_and_a_tone_stays_where_it_is() -> None:
    for rate in (8000, 22050, 48000):
        frames = read((tone(0.5, rate, 1000.0), rate)).arrays["frames"]
        assert abs(len(frames) - 48) <= 1
    piece = read((tone(0.5, 22050), 22050), ("sample_rate", 8000), mels=40)
    assert piece.arrays["frames"].shape[1] == 40
    signal, rate = read_audio((tone(0.5, 22050), 22050), None, None, 30.0)
    assert (len(signal), rate) == (11025, 22050)


def test_a_bare_array_takes_the_rate_of_the_slot() -> None:
    assert read(tone(0.5, 8000), ("sample_rate", 8000)).arrays["frames"].shape == (48, 80)


BAD: dict[str, tuple[Any, str]] = {
    "missing": ("oen.wav", r"oen\.wav: no such file\n  help: did you mean `one\.wav`\?"),
    "empty file": ("empty.wav", r"empty\.wav: it is empty \(0 bytes\)"),
    "empty bytes": (b"", r"it is empty \(0 bytes\)"),
    "no samples": (wav(np.zeros(0, np.float32)), r"it has no samples"),
    "text file": ("notes.txt", r"notes\.txt is broken or no sound of a known format"),
    "raw file": ("one.raw", r"one\.raw is broken or no sound of a known format"),
    "truncated": (wav(tone(), kind="FLAC")[:30], r"30 bytes that begin with b'fLaC.* is broken or no sound"),
    "header only": (wav(tone())[:44], r"no samples|broken|ends early, 0 of 16,000 bytes"),
    "no numbers": ((np.array([0.0, np.nan] * 500), 16000), r"500 samples are infinite or no numbers"),
    "too short": ((tone(0.02), 16000), r"20 ms are too short: 0 frames of 25 ms, at least 1 needed"),
    "too long": (wav(tone(31.0, 8000), 8000), r"it lasts 31\.0 s, the limit is 30 s\n  help: cut it"),
    "too long array": ((np.zeros(31 * 8000), 8000), r"it lasts 31\.0 s"),
    "no rate": (tone(), r"an array with the rate None\n  help: give \(array, rate in Hz\)"),
    "bad rate": ((tone(), 0), r"an array with the rate 0"),
    "number": (7, r"found a value of type int\n  help: an AUDIO is a path"),
    "none": (None, r"found a value of type NoneType"),
    "three axes": ((np.zeros((2, 2, 2)), 8000), r"array of shape \(2, 2, 2\)"),
    "words": ((np.array(["a", "b"]), 8000), r"array of shape \(2,\) and type <U1"),
    "uneven": (([[0.1], [0.2, 0.3]], 8000), r"of uneven parts"),
    "dictionary": ({"url": "x"}, r"found a dictionary with `url`"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_sound_is_refused_saying_what_was_found(name: str, tmp_path: Path) -> None:
    spellings(tmp_path)
    (tmp_path / "notes.txt").write_text("no sound")
    (tmp_path / "one.raw").write_bytes(b"12345678")
    (tmp_path / "empty.wav").write_bytes(b"")
    value, message = BAD[name]
    with pytest.raises(DataError, match=message):
        read(value, folder=str(tmp_path))


def test_a_header_that_says_too_long_is_refused_by_check() -> None:
    with pytest.raises(DataError, match="the limit is 2 s"):
        AudioPreprocess.check(wav(tone(3.0)), (), {"max_seconds": 2})
    with pytest.raises(DataError, match="the limit is 1 s"):
        read(wav(tone(3.0)), ("max_seconds", 1))
    AudioPreprocess.check("relative.wav", (), {})
    with pytest.raises(DataError, match="no such file"):
        AudioPreprocess.check("relative.wav", (), {"folder": "/"})


def test_damaged_files_raise_data_errors_only() -> None:
    rng = np.random.default_rng(0)
    for kind in ("WAV", "FLAC", "OGG", "AIFF", "AU"):
        whole = np.frombuffer(wav(tone(0.1), kind=kind), np.uint8)
        for _ in range(60):
            content = whole.copy()
            content[rng.integers(min(200, len(content)), size=rng.integers(1, 6))] = rng.integers(0, 256)
            content = content[: rng.integers(1, len(content) + 1)] if rng.random() < 0.3 else content
            try:
                read(content.tobytes())
            except DataError:
                continue


def test_frames_are_cut_to_the_longest_and_refused_below_the_shortest() -> None:
    assert read((tone(1.0), 16000), ("max_length", 40)).arrays["frames"].shape == (40, 80)
    with pytest.raises(DataError, match="98 frames of 25 ms, at least 200 needed"):
        read((tone(1.0), 16000), ("min_length", 200))


def test_specaugment_hides_bands_and_spans_in_training_only_and_follows_from_the_generator() -> None:
    value = (np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    plain = read(value).arrays["frames"]
    first, again = read(value, rng=1).arrays["frames"], read(value, rng=1).arrays["frames"]
    assert (first == again).all()
    changed = first != plain
    assert changed.any()
    assert (first[changed] == 0).all()
    assert (read(value, ("specaugment", False), rng=1).arrays["frames"] == plain).all()
    assert (read(value, ("use_mask", False), rng=1).arrays["frames"] == plain).all()
    assert (read(value, rng=1, specaugment=False).arrays["frames"] == plain).all()
    hidden = [
        (specaugment(np.ones((50, 40), np.float32), np.random.default_rng(i), spans=0) == 0).mean() for i in range(200)
    ]
    assert 0.1 < np.mean(hidden) < 0.3


def test_evaluation_hides_and_stretches_nothing_though_its_samples_have_a_generator() -> None:
    value = (np.random.default_rng(0).normal(size=16000) * 0.1, 16000)
    preprocess = AudioPreprocess(Context({}, None, adapter="audio", folder=None))  # type: ignore[arg-type]
    plain = preprocess.encode(value, (), READ).arrays["frames"]
    for seed in range(3):
        seen = preprocess.encode(value, (("speed", 0.2),), RowContext(rng=np.random.default_rng(seed))).arrays["frames"]
        assert np.array_equal(seen, plain)


def test_speed_changes_the_length_in_training_only() -> None:
    value = (tone(1.0), 16000)
    assert len(read(value, ("speed", 0.1)).arrays["frames"]) == 98
    lengths = {len(read(value, ("speed", 0.1), rng=i).arrays["frames"]) for i in range(12)}
    assert len(lengths) == 3
    assert min(lengths) < 92
    assert max(lengths) > 105


def test_a_wrong_setting_is_refused() -> None:
    with pytest.raises(CardError, match="setting `mels` is 2"):
        read((tone(), 16000), mels=2)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "RF64", "W64"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_a_sound_that_ends_early_is_told_by_the_header_and_when_read(tmp_path: Path, kind: str, subtype: str) -> None:
    whole = wav(tone(), kind=kind, subtype=subtype)
    cut = whole[: len(whole) // 2]
    (tmp_path / "cut.wav").write_bytes(cut)
    for value in (cut, str(tmp_path / "cut.wav")):
        for look in (lambda v: read_audio(v, None, None, 30), lambda v: AudioPreprocess.check(v, (), {"folder": ""})):
            with pytest.raises(DataError, match="ends early") as told:
                look(value)
            assert "leave the row out" in told.value.help
    AudioPreprocess.check(whole, (), {})


def test_a_header_of_a_writer_that_did_not_know_the_end_tells_nothing() -> None:
    whole = bytearray(wav(tone()))
    at = whole.index(b"data") + 4
    for size in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\xf0\xff\x7f"):
        whole[at : at + 4] = size
        assert len(read_audio(bytes(whole), None, None, 30)[0]) == 8000


@pytest.mark.parametrize(("kind", "behind"), [("RF64", b"ds64"), ("W64", b"data")])
def test_so_does_one_with_sizes_of_64_bits(kind: str, behind: bytes) -> None:
    whole = bytearray(wav(tone(), kind=kind))
    at = whole.index(behind) + 16
    for size in (b"\xff" * 8, b"\0" * 8):
        whole[at : at + 8] = size
        assert cut_off(bytes(whole)) is None
    assert cut_off(bytes(whole[: at + 4])) is None  # within its header
    assert cut_off(bytes(whole[:12])) is None


def test_headers_that_count_themselves_in_are_whole() -> None:
    whole = bytearray(wav(tone()))
    at = whole.index(b"data") + 4
    whole[at : at + 4] = len(whole).to_bytes(4, "little")
    assert len(read_audio(bytes(whole), None, None, 30)[0]) == 8000


def test_an_mp3_that_does_not_say_how_long_it_is_is_read_whatever_its_first_frame_makes_of_it() -> None:
    """Its length is guessed by the rate of its first frame: silence costs little, and what follows more."""
    noise = np.random.default_rng(0).standard_normal(16000 * 4).astype(np.float32) * 0.3
    sound = wav(np.concatenate([np.zeros(16000 * 2, np.float32), noise]), kind="MP3", bitrate_mode="VARIABLE")
    second = sound.find(sound[:2], 40)
    untold = sound[second:]
    assert soundfile.SoundFile(io.BytesIO(untold)).frames > 1.5 * 16000 * 6
    tag = b"ID3\x04\x00\x00\x00\x00\x02\x00" + bytes(256)
    for value in (sound, untold, tag + untold, tag + sound):
        assert len(read_audio(value, None, None, 60)[0]) / 16000 == pytest.approx(6, abs=0.2)
    for value in (sound, tag + sound):
        with pytest.raises(DataError, match="ends early"):
            read_audio(value[: len(value) // 2], None, None, 60)
