"""Clips of motion as metrics and baselines take them: what `preprocess.clips` reads.

Shapes: T frames, C numbers of a frame, E joints and ends of a skeleton.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Statistics, Value
from ofasys_lite.preprocess.bvh import positions
from ofasys_lite.preprocess.clips import Clip, Limits, read_clip

_ANY = Limits(1_000_000, 10_000)


def motion_error(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """How far a clip is from the data's, frame by frame from the first; the shorter one stands still at its end.

    Of skeletons the mean distance of joints, in the unit of their files; of other clips the mean difference of
    channels, in deviations of each channel over all references. A prediction that is no clip counts as one of zeros; a
    reference that is none is left out. Other clips can be as right: it tells how near they are to one.
    """
    wanted = [clip_of(value) for value in references]
    known = [clip for clip in wanted if clip is not None]
    deviation = _deviation(known)
    found = [
        0.0 if clip is None else _error(clip_of(value), clip, deviation)
        for value, clip in zip(predictions, wanted, strict=True)
    ]
    details = {"unreadable": len(wanted) - len(known)} if len(known) < len(wanted) else {}
    skeleton = bool(known) and known[0].skeleton is not None
    unit = "units of length" if skeleton else "deviations"
    seen = np.array([clip is not None for clip in wanted], dtype=np.float64)
    return Statistics.ratio(found, seen, unit=unit, higher_is_better=False, details=details)


def clip_of(value: Value) -> Clip | None:
    """The clip in a value; None where there is none."""
    try:
        return None if value is None else read_clip(value, None, _ANY)
    except DataError:
        return None


def held(frames: NDArray[np.floating], count: int) -> NDArray[np.floating]:
    """The first `count` frames, the last one repeated where there are fewer."""
    return frames[np.minimum(np.arange(count), len(frames) - 1)]


def _deviation(clips: Sequence[Clip]) -> NDArray[np.float64] | float:
    """(C,) of each channel over all clips; 1 for what stands still."""
    same = [clip.frames_TC for clip in clips if clip.frames_TC.shape[1] == clips[0].frames_TC.shape[1]]
    if not same:
        return 1.0
    found = np.nanstd(np.concatenate(same).astype(np.float64), axis=0)
    return np.where(found > 1e-9, found, 1.0)


def _error(given: Clip | None, wanted: Clip, deviation: NDArray[np.float64] | float) -> float:
    frames = wanted.frames_TC
    if given is None or given.frames_TC.shape[1] != frames.shape[1]:
        given = Clip(np.zeros_like(frames), None, wanted.skeleton)
    count = max(len(given), len(frames))
    one, other = (held(clip.frames_TC, count) for clip in (given, wanted))
    if wanted.skeleton is not None:
        places = [positions(wanted.skeleton, np.nan_to_num(each)) for each in (one, other)]
        far = np.linalg.norm(places[0] - places[1], axis=-1)
        return float(far[~np.isnan(other).any(1)].mean()) if not np.isnan(other).any(1).all() else 0.0
    away = np.abs(one - other) / deviation
    return float(np.nanmean(away)) if not np.isnan(away).all() else 0.0
