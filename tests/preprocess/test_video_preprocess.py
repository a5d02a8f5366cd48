"""VIDEO on the CPU side: rows, positions, budget, masks, what is alike on all frames, what a person sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from video_files import animation, film, frames

from ofasys_lite.cards import modalities
from ofasys_lite.errors import CardError, DataError, InstructionError
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import READ, Context, Piece, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.video import VideoPreprocess

SETTINGS = modalities()["VIDEO"].settings


def tool(**settings: Any) -> VideoPreprocess:
    return VideoPreprocess(Context({**SETTINGS, **settings}, None, adapter="image"))  # type: ignore[arg-type]


def options(**said: Any) -> Options:
    return tuple(said.items())


def encode(value: Any, known: RowContext = READ, **said: Any) -> Piece:
    return tool().encode(value, options(**said), known)


def pixels(piece: Piece) -> np.ndarray[Any, Any]:
    _, lines, columns = piece.grid or (1, 1, 1)
    return piece.arrays["pixels"].reshape(-1, 8 * lines, 8 * columns, 3)


def test_two_frames_are_one_row_deep() -> None:
    piece = encode(frames(20), frames=8)
    assert piece.grid == (4, 6, 8)
    assert piece.count == 4 * 6 * 8
    assert pixels(piece).shape == (8, 48, 64, 3)
    assert [int(each[-1, -1, 0]) for each in pixels(piece)] == [10, 30, 60, 80, 110, 130, 160, 180]
    expected = [(t, line, column) for t in range(4) for line in range(6) for column in range(8)]
    assert piece.positions_P3.tolist() == [list(each) for each in expected]
    flat = tool(temporal_patch=1).encode(frames(20), options(frames=8), READ)
    assert flat.grid == (8, 6, 8)


def test_a_last_frame_without_partner_stands_twice_and_one_frame_is_a_picture() -> None:
    piece = encode(frames(5), frames=5)
    assert piece.grid == (3, 6, 8)
    assert [int(each[-1, -1, 0]) for each in pixels(piece)] == [0, 10, 20, 30, 40, 40]
    one = encode(frames(1))
    reader = ImagePreprocess(Context(SETTINGS, None, adapter="image"))  # type: ignore[arg-type]
    image = reader.encode(frames(1)[0], (), READ)
    assert one.grid == image.grid == (1, 6, 8)
    assert np.array_equal(one.arrays["pixels"], image.arrays["pixels"])
    assert np.array_equal(one.positions_P3, image.positions_P3)


def test_frames_are_reduced_to_the_rows_of_the_clip() -> None:
    large = frames(20, 240, 320)
    assert encode(large).count <= 512
    assert encode(large, max_rows=2000).count > 900
    assert encode(large, max_rows=40, frames=8).grid == (4, 2, 3)
    assert encode(large, max_rows=4, frames=8).grid == (4, 1, 1)
    assert encode(large, size=16, frames=4).grid == (2, 2, 2)
    assert encode(large, max_pixels=32 * 32, frames=2).count <= 16
    with pytest.raises(DataError, match="8 frames do not fit in max_rows=3"):
        encode(large, max_rows=3, frames=8)


@pytest.mark.parametrize(
    "said", [{}, {"frames": 3}, {"sample_rate": 4.0}, {"max_rows": 60}, {"size": 32}, {"sample_rate": 100.0}]
)
def test_rows_are_known_from_the_header(tmp_path: Path, said: dict[str, Any]) -> None:
    values = [film(tmp_path / "a.mp4", frames(20, 96, 64)), film(tmp_path / "t.mp4", frames(20, 96, 64), turn=90)]
    values += [animation(frames(12), "GIF", 150), {"frames": frames(9), "fps": 5}]
    for value in values:
        size = VideoPreprocess.measure(value, None)
        assert size is not None
        assert tool().rows_of(size, options(**said)) == encode(value, **said).count
    assert len(VideoPreprocess.typical) == 4
    assert tool().rows_of((0, 0, 0, 0), ()) == 1


def test_a_window_and_changes_are_drawn_once_for_all_frames() -> None:
    grey = np.full((40, 32, 32, 3), 100, np.uint8) + np.arange(40, dtype=np.uint8)[:, None, None, None]
    known = [RowContext(rng=np.random.default_rng(seed), train=True) for seed in range(5)]
    steps = set()
    for each in known:
        found = pixels(encode(grey, each, frames=6, window=True))[:, 0, 0, 0].astype(int)
        steps.add(int(found[-1] - found[0]))
        assert (np.diff(found) > 0).all()
    assert len(steps) > 1
    assert max(steps) < 39
    still = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3)).astype(np.uint8), 4, 0)
    changed = pixels(encode(still, RowContext(rng=np.random.default_rng(1), train=True), augment="strong"))
    assert not np.array_equal(changed[0], still[0])
    assert all(np.array_equal(changed[0], each) for each in changed)
    unseen = RowContext(rng=np.random.default_rng(1), train=False)
    assert np.array_equal(pixels(encode(still, unseen, augment="strong", window=True)), still)


def test_hidden_cells_are_the_same_in_all_frames() -> None:
    piece = encode(frames(8), RowContext(rng=np.random.default_rng(0)), mask_ratio=0.25)
    mask = piece.arrays["mask"].reshape(4, 48)
    assert mask.sum(1).tolist() == [12] * 4
    assert (mask == mask[0]).all()
    seen = tool().seen(piece)
    assert seen.mode == "RGBA"
    assert (np.asarray(seen)[..., 3] == 0).sum() == 8 * 12 * 64  # frames, cells, pixels
    with pytest.raises(TypeError, match="needs a generator"):
        encode(frames(8), mask_ratio=0.25)


def test_attributes_that_cannot_be_are_refused() -> None:
    def refuse(**said: Any) -> str:
        with pytest.raises((InstructionError, CardError)) as raised:
            VideoPreprocess.check_options(options(**said), SETTINGS)
        return f"{raised.value.message} {raised.value.help}"

    assert "both say which frames are taken" in refuse(frames=8, sample_rate=2.0)
    assert "`size=70` is no multiple of 8 pixels" in refuse(size=70)
    assert "8 frames of 256 x 256 are 4096 rows" in refuse(size=256, frames=8)
    assert "do not fit in max_rows=3" in refuse(max_rows=3, frames=8)
    with pytest.raises(CardError, match="`temporal_patch` is 3"):
        VideoPreprocess.check_options((), {**SETTINGS, "temporal_patch": 3})


def test_what_check_says_of_clips(tmp_path: Path) -> None:
    def remarks(value: Any, **said: Any) -> list[str]:
        return [text for text, _ in VideoPreprocess.look(value, options(**said), SETTINGS, whole=True).remarks]

    assert remarks(frames(20)) == []
    assert remarks(frames(20, 240, 320)) == ["frames are reduced, max_rows=512"]
    assert remarks(frames(3)) == ["frames=8 are more than the clip has"]
    assert remarks(frames(1)) == ["a clip of one frame is read as a picture"]
    long = {"frames": frames(20), "fps": 0.1}
    assert remarks(long, sample_rate=1.0) == ["most_frames=64 lowers sample_rate"]
    assert VideoPreprocess.look(frames(20), (), SETTINGS).frame == (64, 48)
    VideoPreprocess.check("far/away.mp4", (), SETTINGS)  # needs a folder: passed over


def test_a_clip_is_shown_as_a_strip_and_its_frame_is_upright(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames(20), turn=90)
    assert tool().frame(path) == (48, 64)
    look = tool().show(path)
    assert look is not None
    assert look.text == "20 frames of 48 x 64, 2.0 s"
    assert look.picture.size == (8 * 48 + 7 * 3, 64)
    assert look.scale == 1.0
    assert look.moving is not None
    assert VideoPreprocess.measure(look.moving, None) == (8, 2000, 64, 48)
    large = tool().show(frames(12, 320, 640))
    assert large is not None
    assert (large.scale, large.picture.size) == (0.25, (4 * 160 + 3 * 10, 2 * 80 + 10))
    strip = Image.new("RGB", (8, 8))
    again = tool().show(strip)
    assert again is not None
    assert again.picture is strip
    assert VideoPreprocess.located({"bytes": b"abc", "path": None}, None) == b"abc"
