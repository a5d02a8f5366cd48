"""Baselines that answer with a clip of motion: mean_clip."""

from __future__ import annotations

import numpy as np

from ofasys_lite.data.source import spread
from ofasys_lite.metrics.baselines.problem import Problem
from ofasys_lite.metrics.motions import clip_of, held
from ofasys_lite.metrics.score import Value
from ofasys_lite.preprocess.clips import Clip

_MOST = 2000  # training clips that a mean is taken of, evenly spread


def mean_clip(problem: Problem) -> list[Value]:
    """The mean of the training clips, frame by frame, as long as they are (median); for every row."""
    targets = problem.targets()
    clips = [clip for i in spread(len(targets), _MOST) if (clip := clip_of(targets[i])) is not None]
    if not clips:
        return [None] * len(problem.test_rows)
    same = [clip for clip in clips if clip.frames_TC.shape[1] == clips[0].frames_TC.shape[1]]
    count = round(float(np.median([len(clip) for clip in same])))
    total = np.stack([np.nan_to_num(held(clip.frames_TC, count)) for clip in same]).mean(0)
    mean = Clip(total.astype(np.float32), clips[0].rate, clips[0].skeleton)
    return [mean] * len(problem.test_rows)
