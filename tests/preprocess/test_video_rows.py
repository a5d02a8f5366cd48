"""VIDEO as a target, on the CPU side: pixels as rows and back, how long a clip is, files, what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video_files import animation, film, frames

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError, DataError, InstructionError, OfasysError
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import READ, Context, Piece
from ofasys_lite.preprocess.video import VideoPreprocess
from ofasys_lite.preprocess.video_clips import Limits, WrittenClip
from ofasys_lite.preprocess.video_decode import open_clip
from ofasys_lite.preprocess.video_files import ENDINGS
from ofasys_lite.preprocess.video_written import VideoWriting

SETTINGS = modalities()["VIDEO"].settings


def tool(**settings: Any) -> VideoWriting:
    return VideoWriting(Context({**SETTINGS, **settings}, None, adapter="video"))  # type: ignore[arg-type]


def options(**said: Any) -> Options:
    return tuple(said.items())


def encode(value: Any, **said: Any) -> Piece:
    return tool().encode(value, options(**said), READ)


def back(piece: Piece, **said: Any) -> WrittenClip:
    return tool().decode(piece.arrays["values"], options(**said), READ)


@pytest.mark.parametrize("deep", [1, 2])
def test_pixels_come_back_as_they_were(deep: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    own = tool(temporal_patch=deep, written_patch=4)
    piece = own.encode(pixels, options(frames=5), READ)
    assert piece.grid == (-(-5 // deep), 8, 8)
    assert piece.arrays["values"].shape == (piece.count, deep * 4 * 4 * 3)
    assert np.abs(piece.arrays["values"]).max() <= 1
    clip = own.decode(piece.arrays["values"], options(frames=5), READ)
    assert np.array_equal(clip.frames_FHW3, pixels)
    places = [(t, line, column) for t in range(piece.grid[0]) for line in range(8) for column in range(8)]
    assert piece.positions_P3.tolist() == [list(each) for each in places]


def test_as_many_frames_as_the_slot_says() -> None:
    for count in (20, 8, 3):  # more than the slot asks for, as many, fewer: a player's frame stands there twice
        piece = encode(frames(count, 32, 32), frames=8)
        assert piece.grid == (4, 4, 4)
        assert not piece.arrays["most"].any()  # nothing is asked
    greys = back(encode(frames(3, 32, 32), frames=6), frames=6).frames_FHW3[:, -1, -1, 0]
    assert greys.tolist() == [0, 0, 10, 10, 20, 20]


def test_the_rate_decides_how_many_frames_and_the_model_is_asked() -> None:
    value = {"frames": frames(20, 32, 32), "fps": 10}
    piece = encode(value, sample_rate=4.0)
    assert piece.grid == (4, 4, 4)  # 2 seconds
    assert (piece.arrays["most"] == 32).all()
    assert back(piece, sample_rate=4.0).rate == 4.0
    asked = tool().constraint(options(sample_rate=4.0), READ)
    assert dict(asked.about) == {"asked": True, "unit": 16}
    assert len(asked.positions) == 32 * 16
    cut = tool(most_frames=4).encode(value, options(sample_rate=4.0), READ)
    greys = tool().decode(cut.arrays["values"], options(sample_rate=4.0), READ).frames_FHW3[:, -1, -1, 0]
    assert greys.tolist() == [10, 30, 60, 80]  # the first second, at its own speed
    with pytest.raises(DataError, match="the frames have no rate"):
        encode(frames(4, 32, 32), sample_rate=4.0)


def test_rows_are_known_from_the_header(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames(20, 48, 64))
    for said in ({}, {"frames": 5}, {"sample_rate": 3.0}, {"size": 16}):
        size = VideoWriting.measure(path, None)
        assert size is not None
        assert tool().rows_of(size, options(**said)) == encode(path, **said).count


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_is_read_again(tmp_path: Path, ending: str) -> None:
    pixels = np.repeat(np.arange(6, dtype=np.uint8) * 40, 32 * 32 * 3).reshape(6, 32, 32, 3)
    clip = WrittenClip(pixels, 10.0)
    place = tool().place(tmp_path / f"clip{ending}")
    place.write_bytes(tool().save(clip, ending))
    with open_clip(place, None, Limits(100, 100)) as opened:
        assert opened.header.frames == 6
        assert opened.header.seconds == pytest.approx(0.6, abs=0.02)
        shown = [np.asarray(image.convert("RGB")).mean() for image in opened.at([0.1 * n + 0.05 for n in range(6)])]
    np.testing.assert_allclose(shown, [0, 40, 80, 120, 160, 200], atol=4)


def test_names_of_files(tmp_path: Path) -> None:
    assert tool().place(tmp_path / "a").suffix == ".gif"
    with pytest.raises(DataError, match="no clip ends like that"):
        tool().place(tmp_path / "a.avi")


def test_a_film_needs_pyav(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    clip = WrittenClip(np.zeros((2, 8, 8, 3), np.uint8), 10.0)
    with pytest.raises(OfasysError, match=r"cannot write a film \(\.mp4\)"):
        tool().save(clip, ".mp4")
    assert tool().save(clip, ".gif").startswith(b"GIF8")


def test_how_it_looks_to_a_person() -> None:
    clip = WrittenClip(frames(6, 32, 32), 10.0)
    assert tool().brief(clip) == "<video of 6 frames of 32 x 32, 0.6 s>"
    shown = tool().show(clip)
    assert shown is not None
    assert shown.text == "6 frames of 32 x 32, 0.6 s"
    assert isinstance(shown.picture, Image.Image)
    assert shown.moving is not None
    assert shown.moving.startswith(b"GIF8")


def test_what_the_source_hides_is_what_the_target_learns() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3)).astype(np.uint8)
    reader = VideoPreprocess(Context(SETTINGS, None, adapter="image"))  # type: ignore[arg-type]
    known = READ.__class__(rng=np.random.default_rng(1))
    hidden = reader.encode(pixels, options(size=32, frames=4, mask_ratio=0.5), known)
    piece = tool().rest(encode(pixels, frames=4), hidden, None)
    assert piece.learn_P is not None
    assert np.array_equal(piece.learn_P, hidden.arrays["mask"])
    assert np.array_equal(piece.arrays["known"] > 0, ~hidden.arrays["mask"])
    asked = tool().constraint(options(frames=4), READ.__class__(side="target", hidden=hidden))
    assert len(asked.positions) == piece.count
    assert np.array_equal(np.isnan(asked.given).any(1), hidden.arrays["mask"])
    with pytest.raises(DataError, match="cuts in another way"):
        tool().rest(encode(pixels, frames=6), hidden, None)
    with pytest.raises(DataError, match="cuts in another way"):
        tool(written_patch=4).rest(encode(pixels, frames=4), hidden, None)


@pytest.mark.parametrize(
    ("said", "settings", "error", "told"),
    [
        ({"frames": 3, "sample_rate": 2.0}, {}, InstructionError, "both say which frames are taken"),
        ({"fps": 3.0, "sample_rate": 2.0}, {}, InstructionError, "both say how many frames a second are"),
        ({"size": 30}, {}, InstructionError, "rows 8 pixels wide, and its size is 30"),
        ({"size": 128, "frames": 20}, {}, InstructionError, "are 2560 rows, above max_rows=512"),
        ({}, {"written_size": 20}, CardError, "rows 8 pixels wide, and its size is 20"),
        ({}, {"written_size": "x"}, CardError, "written_size"),
        ({}, {"fps": 0}, CardError, "setting `fps` is 0"),
    ],
)
def test_what_a_line_or_card_cannot_ask_for(
    said: dict[str, Any], settings: dict[str, Any], error: type[Exception], told: str
) -> None:
    with pytest.raises(error, match=told):
        VideoWriting.check_options(options(**said), {**SETTINGS, **settings})


def test_clips_that_cannot_be_written_are_told_by_name(tmp_path: Path) -> None:
    gif = animation(frames(9, 32, 32), "GIF")
    for value, told in (
        (b"", "0 bytes"),
        ([], "it has no frames"),
        (gif[: len(gif) // 2], "truncated|broken"),
        (np.zeros((2, 4, 4, 4, 3)), "cannot read video"),
        ("no.gif", "no such file|does not exist|holds"),
    ):
        with pytest.raises(DataError, match=told):
            encode(value)
    with pytest.raises(DataError, match="limit"):
        tool(max_megapixels=0.0005).encode(frames(2, 32, 32), (), READ)
    with pytest.raises(DataError, match="limit"):
        tool(max_seconds=1.0).encode({"frames": frames(20, 32, 32), "fps": 10}, (), READ)


def test_what_is_changed_of_a_clip_is_remarked() -> None:
    look = VideoWriting.look(frames(3, 16, 32), options(frames=8), SETTINGS, whole=True)
    assert look.frame == (32, 16)
    assert [what for what, _ in look.remarks] == [
        "frames that are not square are written square",
        "frames=8 are more than the clip has",
    ]
    long = VideoWriting.look({"frames": frames(20, 8, 8), "fps": 1}, options(sample_rate=8.0), SETTINGS)
    assert long.remarks == (("most_frames=64 cuts", "20.0 s"),)
