"""Clips from files and to files: BVH by forward kinematics, six numbers, CSV, NPY, lists; and what cannot be read."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.bvh import hierarchy, parse_bvh, parse_skeleton, positions, to_frames, write_bvh
from ofasys_lite.preprocess.clips import Clip, Limits, count_frames, read_clip, save_clip
from ofasys_lite.preprocess.motion_pictures import moving, strip
from ofasys_lite.preprocess.rotations import from_angles, from_six, to_angles, to_six, turned_about

BVH = """HIERARCHY
ROOT Hips
{
  OFFSET 0.0 90.0 1.5
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT Left Leg
  {
    OFFSET 9.0 -3.0 0.0
    CHANNELS 3 Xrotation Yrotation Zrotation
    JOINT LeftFoot
    {
      OFFSET 0.0 -40.0 0.5
      CHANNELS 1 Xrotation
      End Site
      {
        OFFSET 0.0 -5.0 12.0
      }
    }
  }
  JOINT Spine
  {
    OFFSET 0.0 12.0 0.0
    CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
    End Site
    {
      OFFSET 0.0 20.0 0.0
    }
  }
}
MOTION
Frames: 5
Frame Time: 0.025
"""
RNG = np.random.default_rng(3)
NUMBERS = RNG.uniform(-170, 170, (5, 16))
TEXT = BVH + "\n".join(" ".join(f"{x:.6f}" for x in row) for row in NUMBERS) + "\n"


def by_hand(numbers: Any) -> Any:
    """(T, E, 3) places of the joints and ends of BVH, one rotation after another."""

    def turn(values: Any, axes: str) -> Any:
        found = np.eye(3)
        for value, axis in zip(values, axes, strict=True):
            found = found @ turned_about("xyz".index(axis), np.array(value))
        return found

    places = []
    for row in numbers:
        root = turn(row[3:6], "zxy")
        hips = np.add(row[:3], [0, 90, 1.5])
        leg = root @ turn(row[6:9], "xyz")
        at_leg = hips + root @ [9, -3, 0]
        foot = leg @ turn(row[9:10], "x")
        at_foot = at_leg + leg @ [0, -40, 0.5]
        spine = root @ turn(row[13:16], "yxz")
        at_spine = hips + root @ [0, 12, 0]
        places.append([hips, at_leg, at_foot, at_spine, at_foot + foot @ [0, -5, 12], at_spine + spine @ [0, 20, 0]])
    return np.array(places)


def test_joints_stand_where_their_rotations_put_them() -> None:
    skeleton, frames, rate = parse_bvh(TEXT)
    assert (skeleton.names, skeleton.parents) == (("Hips", "Left Leg", "LeftFoot", "Spine"), (-1, 0, 1, 0))
    assert (frames.shape, rate) == ((5, 3 + 6 * 4), 40.0)
    np.testing.assert_allclose(positions(skeleton, frames), by_hand(NUMBERS), atol=1e-4)


def test_a_bvh_that_is_written_moves_as_the_one_that_was_read() -> None:
    skeleton, frames, rate = parse_bvh(TEXT)
    own, again, other = parse_bvh(write_bvh(skeleton, frames.astype(np.float32), rate))
    assert own.fits(skeleton)
    assert other == pytest.approx(rate)
    np.testing.assert_allclose(positions(own, again), by_hand(NUMBERS), atol=1e-4)
    assert parse_skeleton(hierarchy(own)) == own
    np.testing.assert_allclose(to_frames(skeleton, NUMBERS), frames, atol=1e-5)


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_angles_and_matrices_undo_each_other_in_every_order(axes: tuple[int, ...]) -> None:
    angles = np.concatenate([RNG.uniform(-180, 180, (200, 3)), [[30, 90, 40], [30, -90, 40], [0, 0, 0]]])
    rotations = from_angles(angles, axes)
    np.testing.assert_allclose(from_angles(to_angles(rotations, axes), axes), rotations, atol=1e-7)


def test_six_numbers_give_the_rotation_again_and_any_six_give_one() -> None:
    rotations = from_angles(RNG.uniform(-180, 180, (300, 3)), (0, 1, 2))
    np.testing.assert_allclose(from_six(to_six(rotations)), rotations, atol=1e-12)
    # a scale, and noise along the first column, change nothing
    six = to_six(rotations)
    np.testing.assert_allclose(from_six(np.concatenate([3 * six[:, :3], six[:, 3:] + six[:, :3]], 1)), rotations)
    strange = np.concatenate([RNG.normal(size=(50, 6)), np.zeros((1, 6)), [[0, 1, 0, 0, 2, 0], [1, 0, 0, 0, 0, 0]]])
    made = from_six(strange)
    np.testing.assert_allclose(made @ made.transpose(0, 2, 1), np.broadcast_to(np.eye(3), made.shape), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(made), 1)


def test_clips_come_from_files_arrays_and_lists(tmp_path: Path) -> None:
    frames = RNG.normal(size=(6, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", frames)
    lines = "\n".join(";".join(str(x) for x in row) for row in frames.tolist())
    (tmp_path / "a.csv").write_text(f"x;y;z\n{lines}\n")
    timed = "\n".join(f"{n / 20},{','.join(map(str, row))}" for n, row in enumerate(frames.tolist()))
    values: list[Any] = [
        *("a.npy", "a.csv", (tmp_path / "a.npy").read_bytes(), lines.encode(), frames.tolist(), frames),
        *({"array": frames, "rate": 20}, {"bytes": None, "path": "a.csv"}, str(frames.tolist())),
        f"Time,a,b,c\n{timed}\n".encode(),
    ]
    for value in values:
        clip = read_clip(value, str(tmp_path))
        np.testing.assert_allclose(clip.frames_TC, frames, rtol=1e-6)
        if not isinstance(value, dict):
            assert count_frames(value, str(tmp_path)) in (6, 7)  # a head counts until it is read
    assert read_clip(values[1], str(tmp_path)).names == ("x", "y", "z")
    assert read_clip(values[6], None).rate == read_clip(values[-1], None).rate == 20
    assert read_clip(TEXT, None).frames_TC.shape == (5, 27)
    skeleton, own, _ = parse_bvh(TEXT)
    for given in (own, NUMBERS):  # as this package has frames, and as BVH has them
        np.testing.assert_allclose(read_clip(given, None, skeleton=skeleton).frames_TC, own, atol=1e-4)


def test_frames_that_are_not_known_are_nan() -> None:
    for value in ([[1, 2], None, [3, None]], b"1,2\n,\n3,nan\n"):
        found = read_clip(value, None).frames_TC
        np.testing.assert_array_equal(found, [[1, 2], [np.nan, np.nan], [3, np.nan]])


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"", "empty"),
        (b"\x00\xff\xfe\x81", "found 4 bytes"),
        ("missing.bvh", "no such file"),
        (TEXT[:900], "says 5 frames of 16 numbers, and"),
        (TEXT[:300], "ends before its joints do"),
        (TEXT.replace("Frames: 5", "Frames: many"), "`many` is no number for Frames:"),
        (TEXT.replace("Frame Time: 0.025", "Frame Time: 0"), "0 seconds each"),
        (TEXT.replace("Zrotation Xrotation", "Zturn Xrotation"), "channel `Zturn`"),
        (TEXT.replace("JOINT Spine", "JONT Spine"), "`JONT` in joint `Hips`"),
        (TEXT.replace(f"{NUMBERS[2, 3]:.6f}", "nan"), "frame 2 of the BVH holds what is no finite number"),
        (TEXT.replace(f"{NUMBERS[2, 3]:.6f}", "a1"), "among the frames of the BVH"),
        (BVH.partition("MOTION")[0], "MOTION, Frames and Frame Time are missing"),
        (b"1,2\n3\n", "row 2 has 1 numbers, and those before it 2"),
        (b"1,2\n3,x\n", "`x` in row 2 is no number"),
        (b"a,b\n", "it has no frames"),
        (npy(np.zeros((4, 3)))[:-9], "the NPY is broken"),
        (npy(np.array(["a"])), "found an array"),
        (npy(np.zeros((0, 3))), "no frames"),
        ([[1, 2], [3]], "frames of different lengths (frame 1)"),
        ([["a"]], "what is no number"),
        ([[1.0, float("inf")]], "frame 0 holds infinity"),
        ([], "no frames"),
        (7, "found a value of type int"),
        ({"array": [[1.0]], "rate": -1}, "a rate of -1"),
        (np.zeros((50, 2)), "50 frames, the limit is 40"),
        (b"1,2\n" * 300, "a file of 0 MB, the limit is 0.001"),
    ],
    ids=range(26),
)
def test_what_is_no_clip_says_why(value: Any, told: str) -> None:
    with pytest.raises(DataError) as raised:
        read_clip(value, None, Limits(40, 0.001 if isinstance(value, bytes) and len(value) == 1200 else 1))
    assert told in raised.value.message + raised.value.help


def test_clips_are_written_and_opened_again() -> None:
    skeleton, frames, rate = parse_bvh(TEXT)
    clip = Clip(frames.astype(np.float32), rate, skeleton)
    again = read_clip(save_clip(clip, ".bvh"), None)
    np.testing.assert_allclose(again.frames_TC, clip.frames_TC, atol=1e-5)
    sensors = Clip(RNG.normal(size=(30, 2)).astype(np.float32), 12.5, None, ("a", "b"))
    for ending in (".csv", ".npy"):
        again = read_clip(save_clip(sensors, ending), None)
        np.testing.assert_allclose(again.frames_TC, sensors.frames_TC, rtol=1e-5)
    again = read_clip(save_clip(sensors, ".csv"), None)
    assert (again.names, again.rate) == (("a", "b"), pytest.approx(12.5))
    with pytest.raises(DataError, match="without a skeleton cannot be a BVH"):
        save_clip(sensors, ".bvh")


@pytest.mark.parametrize("skeleton", [True, False])
def test_a_clip_is_shown_as_a_strip_and_moving(skeleton: bool) -> None:
    own, frames, rate = parse_bvh(TEXT)
    clip = Clip(frames.astype(np.float32), rate, own) if skeleton else Clip(RNG.normal(size=(40, 3)), 20.0)  # type: ignore[arg-type]
    still = strip(clip)
    assert len(still.getcolors(100_000) or ()) > 10
    with Image.open(io.BytesIO(moving(clip))) as film:
        assert film.format == "GIF"
        shots = [film.seek(n) or film.convert("RGB").tobytes() for n in range(film.n_frames)]  # type: ignore[func-returns-value,attr-defined]
        lasts = film.info["duration"]
    # it lasts as long as the clip, but for the rest at its end
    seconds = len(clip) / (clip.rate or 1)
    assert len(set(shots)) == len(shots) == max(1, round(seconds * 10))
    assert lasts == pytest.approx(1000 * seconds / len(shots) + 400, abs=21)
