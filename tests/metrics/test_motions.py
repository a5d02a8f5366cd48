"""Clips of motion judged: how far they are from the data's, and the mean clip of training."""

from __future__ import annotations

import numpy as np
import pytest

from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.metrics.baselines import fit_predict
from ofasys_lite.preprocess.bvh import parse_skeleton
from ofasys_lite.preprocess.clips import Clip

ARM = "HIERARCHY ROOT a { OFFSET 0 0 0 CHANNELS 3 Zrotation Xrotation Yrotation End Site { OFFSET 0 2 0 } }"


def test_channels_are_compared_in_their_deviations_and_the_shorter_clip_stands_still() -> None:
    references = [np.array([[0.0, 0], [1, 100]]), np.array([[0.0, 0], [1, 100]])]
    assert evaluate_metric("motion_error", references, references).value == 0
    # a deviation of channel 0 is .5, of channel 1 50: one of them is wrong by two deviations in one of two frames
    off = [np.array([[0.0, 0], [0, 100]]), references[1]]
    assert evaluate_metric("motion_error", off, references).value == pytest.approx(0.25)
    short = [references[0][:1], references[1]]
    assert evaluate_metric("motion_error", short, references).value == pytest.approx(0.5)
    none = evaluate_metric("motion_error", [None, "x.bvh"], references)
    assert none.value == evaluate_metric("motion_error", [np.zeros((2, 2))] * 2, references).value == pytest.approx(1)
    assert not none.higher_is_better


def test_skeletons_are_compared_by_where_their_joints_are() -> None:
    skeleton = parse_skeleton(ARM)
    up = np.array([[0, 0, 0, 1, 0, 0, 0, 1, 0]], np.float32)
    aside = np.array([[0, 0, 0, 0, -1, 0, 1, 0, 0]], np.float32)  # the arm points along x
    clips = [Clip(frames, 30.0, skeleton) for frames in (up, aside)]
    found = evaluate_metric("motion_error", clips[1:], clips[:1])
    # the root is where it was, the end sqrt(8) away
    assert found.value == pytest.approx(np.sqrt(8) / 2)


def test_the_mean_clip_is_as_long_as_most_and_the_mean_frame_by_frame() -> None:
    rows = [{"clip": [[n, 0.0], [n, 2.0], [n, 4.0]]} for n in (1.0, 3.0)] + [{"clip": "no clip"}]
    (mean,) = fit_predict("mean_clip", rows, [{}], [], "clip", "numbers")
    assert isinstance(mean, Clip)
    np.testing.assert_allclose(mean.frames_TC, [[2, 0], [2, 2], [2, 4]])
