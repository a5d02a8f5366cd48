"""Real files of moving pictures: which frames come out, and what is said of files that cannot be read."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video_files import animation, film, frames, number_of, sound

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.video_clips import Header, Limits, moments
from ofasys_lite.preprocess.video_decode import open_clip

LIMITS = Limits(100.0, 3600.0)
FORMS = ("GIF", "WEBP", "PNG")


def header(value: Any, limits: Limits = LIMITS) -> Header:
    with open_clip(value, None, limits) as clip:
        return clip.header


def shown(value: Any, *at: float) -> list[int]:
    """Which frames are shown at these moments."""
    with open_clip(value, None, LIMITS) as clip:
        return [number_of(image) for image in clip.at(at)]


def refused(value: Any, limits: Limits = LIMITS) -> str:
    """What is said of a value whose frames are wanted."""
    with pytest.raises(DataError) as raised, open_clip(value, None, limits) as clip:
        list(clip.at(moments(clip.header, 8, None, 8)))
    return f"{raised.value.message} | {raised.value.help}"


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.webm", "libvpx-vp9"), ("a.avi", "mpeg4")]
)
def test_every_moment_of_a_film_shows_its_frame(tmp_path: Path, name: str, codec: str) -> None:
    path = film(tmp_path / name, frames(20), codec=codec)
    assert header(path) == Header(20, pytest.approx(2.0, abs=0.11), 48, 64)
    assert shown(path, *(0.1 * n + 0.05 for n in range(20))) == list(range(20))
    assert shown(path, 0.0, 0.55, 0.55, 1.99) == [0, 5, 5, 19]
    assert shown(Path(path).read_bytes(), 1.25) == [12]


@pytest.mark.parametrize("between", [0, 2])
def test_a_seek_finds_the_same_frames_as_reading_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, between: int
) -> None:
    from ofasys_lite.preprocess.video_film import Film

    path = film(tmp_path / "long.mp4", frames(25).repeat(8, 0), key_every=12, between=between)
    wanted = [0.05, 3.33, 3.41, 9.99, 15.05, 19.9]
    decoded: list[float] = []
    read = Film._decoded

    def counted(self: Film) -> Any:
        for each in read(self):
            decoded.append(each[0])
            yield each

    monkeypatch.setattr(Film, "_decoded", counted)
    found = shown(path, *wanted)
    assert found == [int(10 * moment / 8) for moment in wanted]
    assert len(decoded) < 80  # of 200
    monkeypatch.setattr(Film, "_key_before", lambda self, wanted: None)
    assert shown(path, *wanted) == found
    monkeypatch.undo()
    every = [0.1 * number + 0.05 for number in range(200)]
    for step in (1, 13, 29):
        assert shown(path, *every[::step]) == [number // 8 for number in range(0, 200, step)]


def test_moments_count_by_time_where_the_rate_varies(tmp_path: Path) -> None:
    path = film(tmp_path / "v.mp4", frames(5), times=[0, 0.1, 0.2, 1.0, 3.0])
    assert header(path).frames == 5
    assert header(path).seconds == pytest.approx(3.1, abs=0.11)
    assert shown(path, 0.05, 0.15, 0.5, 0.95, 1.5, 2.9, 3.05) == [0, 1, 2, 2, 3, 3, 4]


@pytest.mark.parametrize(("turn", "white"), [(0, (0, 0)), (90, (1, 0)), (180, (1, 1)), (270, (0, 1))])
def test_a_film_is_turned_as_its_display_matrix_says(tmp_path: Path, turn: int, white: tuple[int, int]) -> None:
    path = film(tmp_path / "r.mp4", frames(3), turn=turn)
    with open_clip(path, None, LIMITS) as clip:
        image = np.asarray(next(clip.at([0.05])))[..., 0]
    assert image.shape == ((48, 64) if turn % 180 == 0 else (64, 48))
    corners = {(0, 0): image[4, 4], (0, 1): image[4, -5], (1, 0): image[-5, 4], (1, 1): image[-5, -5]}
    assert [place for place, grey in corners.items() if grey > 200] == [white]


@pytest.mark.parametrize("form", FORMS)
def test_every_moment_of_an_animation_shows_its_frame(tmp_path: Path, form: str) -> None:
    delays = [100, 200, 50, 400, 30]
    content = animation(frames(5), form, delays)
    assert header(content) == Header(5, 0.78, 48, 64)
    assert shown(content, 0.05, 0.15, 0.29, 0.32, 0.5, 0.74, 0.76) == [0, 1, 1, 2, 3, 3, 4]
    path = tmp_path / "wrong.mp4"  # read by its content
    path.write_bytes(content)
    assert shown(path, 0.76) == [4]


def test_a_gif_with_holes_lies_on_white() -> None:
    images = []
    for number in range(3):
        image = Image.new("RGBA", (32, 32), (0, 0, 0, 0))
        image.paste((10 * number, 0, 0, 255), (16, 16, 32, 32))
        images.append(image)
    file = io.BytesIO()
    images[0].save(file, "GIF", save_all=True, append_images=images[1:], duration=100, disposal=2)
    from ofasys_lite.preprocess.image_decode import resized

    with open_clip(file.getvalue(), None, LIMITS) as clip:
        found = [resized(image, 32, 32) for image in clip.at([0.05, 0.15, 0.25])]
    assert [int(pixels[4, 4].min()) for pixels in found] == [255, 255, 255]
    assert [int(pixels[28, 28, 0]) for pixels in found] == [0, 10, 20]


def test_one_frame_is_a_clip_too(tmp_path: Path) -> None:
    for value in (animation(frames(1), "GIF"), animation(frames(1)), film(tmp_path / "one.mp4", frames(1))):
        assert header(value).frames == 1
        assert shown(value, 0.0) == [0]


def test_frames_in_memory_are_a_clip(tmp_path: Path) -> None:
    pixels = frames(6)
    paths = [tmp_path / f"{n}.png" for n in range(6)]
    for path, each in zip(paths, pixels, strict=True):
        Image.fromarray(each).save(path)
    values: list[Any] = [pixels, list(pixels), [Image.fromarray(each) for each in pixels], pixels.transpose(0, 3, 1, 2)]
    values += [pixels.tolist(), paths, [{"bytes": path.read_bytes(), "path": None} for path in paths]]
    for value in values:
        assert header(value) == Header(6, None, 48, 64)
        assert shown(value, 0.5, 2.5, 5.5) == [0, 2, 5]
    for value in ({"frames": pixels, "fps": 12}, (pixels, 12)):
        assert header(value) == Header(6, 0.5, 48, 64)
        assert shown(value, 0.26) == [3]
    assert shown(pixels[..., 0], 3.5) == [3]
    assert shown(Image.open(io.BytesIO(animation(pixels, "GIF"))), 0.35) == [3]


def test_what_is_no_clip_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("these are words, no film at all\n" * 9)
    Image.fromarray(frames(1)[0]).save(tmp_path / "still.jpg")
    assert "it is empty (0 bytes)" in refused(tmp_path / "empty.mp4")
    assert "text.mp4 is broken or no clip of a known format" in refused(tmp_path / "text.mp4")
    assert "is a picture, not a clip | a slot [IMAGE:...] reads pictures" in refused(tmp_path / "still.jpg")
    assert "has no pictures, only audio" in refused(sound(tmp_path / "sound.m4a"))
    assert "no such file" in refused(tmp_path / "none.mp4")
    assert "found an array of shape (48, 64, 3)" in refused(frames(1)[0])
    assert "it has no frames" in refused([])
    assert "its frames differ in size: 64 x 48 and 32 x 48" in refused([frames(1)[0], frames(1, 48, 32)[0]])
    assert "found a value of type int" in refused(7)
    assert "lists of numbers of uneven length" in refused([[[1, 2], [3]], [[4, 5]]])
    assert "frames with the rate 0" in refused({"frames": frames(2), "fps": 0})


@pytest.mark.parametrize(("name", "options"), [("a.mp4", {"movflags": "faststart"}), ("b.mp4", {}), ("c.mkv", {})])
def test_a_truncated_film_is_refused(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (30, 64, 64, 3)).astype(np.uint8)
    path = Path(str(film(tmp_path / name, noise, **options)))
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    told = refused(path)
    assert "truncated" in told or "broken" in told


@pytest.mark.parametrize("form", FORMS)
def test_a_truncated_animation_is_refused(form: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (6, 40, 40, 3)).astype(np.uint8)
    content = animation(noise, form)
    for share in (0.02, 0.3, 0.7):
        assert "cannot read" in refused(content[: int(share * len(content))])


@pytest.mark.parametrize("form", [*FORMS, "a.mp4", "a.mkv", "a.avi"])
def test_damaged_files_raise_nothing_but_data_errors(tmp_path: Path, form: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (12, 40, 40, 3)).astype(np.uint8)
    if form in FORMS:
        whole = animation(noise, form)
    else:
        whole = Path(str(film(tmp_path / form, noise, codec="mpeg4" if "avi" in form else "libx264"))).read_bytes()
    refused = 0
    for number in range(60):
        content = bytearray(whole)
        if number % 4 == 0:
            del content[int(rng.integers(1, len(content))) :]
        else:
            within = (len(content), 200, 64)[number % 4 - 1]
            for _ in range(int(rng.integers(1, 20))):
                content[int(rng.integers(min(within, len(content))))] = int(rng.integers(256))
        try:
            with open_clip(bytes(content), None, LIMITS) as clip:
                list(clip.at(moments(clip.header, 6, None, 6)))
        except DataError:
            refused += 1
    assert refused > 20


def test_large_and_long_clips_are_refused_by_their_header(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames(20))
    assert "frames of 0 megapixels, limit 0.001" in refused(path, Limits(0.001, 3600.0))
    assert "it lasts 2 s, the limit is 1 s" in refused(path, Limits(1.0, 1.0))
    assert "megapixels" in refused(animation(frames(2), "GIF"), Limits(0.001, 3600.0))
    wide = bytearray(animation(frames(2), "GIF"))
    wide[6:10] = (60000).to_bytes(2, "little") * 2  # a header that promises 3,600 megapixels
    assert "3600 megapixels" in refused(bytes(wide))


def test_a_missing_package_names_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", frames(2))
    monkeypatch.setitem(sys.modules, "av", None)
    told = refused(path)
    assert "a.mp4 is a film, which needs av" in told
    assert "pip install 'ofasys_lite[video]'" in told
    assert shown(animation(frames(2)), 0.15) == [1]  # animations need no extra


def test_moments_lie_in_the_middle_of_equal_parts() -> None:
    clip = Header(100, 10.0, 8, 8)
    assert moments(clip, 4, None, 64) == [1.25, 3.75, 6.25, 8.75]
    assert moments(clip, 8, 0.5, 64) == [1.0, 3.0, 5.0, 7.0, 9.0]
    assert len(moments(clip, 8, 25.0, 64)) == 64
    assert moments(clip, 2, None, 64, (0.5, 1.0)) == [6.25, 8.75]
    assert moments(Header(3, None, 8, 8), 8, None, 64) == [0.5, 1.5, 2.5]
    with pytest.raises(DataError, match="the frames have no rate"):
        moments(Header(3, None, 8, 8), 8, 2.0, 64)
