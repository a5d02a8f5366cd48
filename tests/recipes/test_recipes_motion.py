"""Recipes of motion: recordings of a watch as frames, motion capture of a skeleton at several speeds and mirrored."""

from __future__ import annotations

import json
from typing import Any, cast

import numpy as np
import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.bvh import parse_skeleton, positions
from ofasys_lite.recipes import basic_motions, mocap
from ofasys_lite.recipes.recipe import Limits

LIMITS = Limits(100, 100, 100)


class Held:
    """Wheels that hold made files."""

    def __init__(self, made: Any) -> None:
        self.made = made

    def read(self, package: str, member: str) -> bytes:
        return str(self.made(member)).encode()


def test_a_ts_file_is_read_channel_by_channel() -> None:
    text = "#about\n@data\n1,2,3:4,5,6:Walking\n\n0,0:1,1:Standing\n"
    assert basic_motions.read_ts(text) == [([[1, 4], [2, 5], [3, 6]], "walking"), ([[0, 1], [0, 1]], "standing")]
    with pytest.raises(DataError, match="channels of different lengths"):
        basic_motions.read_ts("1,2:3:Walking")


def test_the_official_test_part_is_kept_and_two_of_each_activity_are_set_aside() -> None:
    lines = [f"{n},1:2,{n}:{label}" for label in ("Walking", "Running") for n in range(5)]
    built = basic_motions.build(cast(Any, Held(lambda member: "\n".join(lines))), LIMITS)
    assert {split: len(rows) for split, rows in built.splits.items()} == {"train": 6, "valid": 4, "test": 10}
    assert sorted(row["label"] for row in built.splits["valid"]) == ["running"] * 2 + ["walking"] * 2


def test_a_mirrored_clip_is_the_skeleton_on_the_other_side() -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=(40, 44))
    given[:, 0] = 1 / 30
    clip = mocap.frames({"Frames": given.tolist()}, 1.0)
    skeleton = parse_skeleton(mocap.skeleton())
    assert list(skeleton.names) == mocap.order()
    assert clip.shape == (20, skeleton.numbers)
    places, other = (positions(skeleton, each)[:, :13] for each in (clip, mocap.mirrored(clip)))
    twins = [
        skeleton.names.index(name.replace("left", "X").replace("right", "left").replace("X", "right"))
        for name in skeleton.names
    ]
    np.testing.assert_allclose(other, places[:, twins] * [1, 1, -1], atol=1e-5)
    # twice as quick is half as long
    assert len(mocap.frames({"Frames": given.tolist()}, 2.0)) == 10


def test_every_motion_is_there_at_every_speed_on_both_sides() -> None:
    frames = np.random.default_rng(0).normal(size=(30, 44)).round(3)
    frames[:, 0] = 1 / 30
    built = mocap.build(cast(Any, Held(lambda member: json.dumps({"Frames": frames.tolist()}))), Limits(1000))
    counts = {split: len(rows) for split, rows in built.splits.items()}
    assert counts == {"train": 15 * 2 * 7, "valid": 15 * 2, "test": 15 * 2 * 2}
    groups = [{row["group"] for row in rows} for rows in built.splits.values()]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert parse_skeleton(built.files["skeleton.bvh"].decode()).numbers == 81
