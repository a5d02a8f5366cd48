"""Clips of moving pictures as metrics and baselines take them: any value that VIDEO reads.

Shapes: F frames, H and W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Statistics, Value
from ofasys_lite.preprocess.image_decode import resized
from ofasys_lite.preprocess.video_clips import Header, Limits
from ofasys_lite.preprocess.video_decode import open_clip

_ANY = Limits(100.0, float("inf"))
#: Longer sides are brought down to this many pixels, more frames to this many.
_SIDE, _FRAMES = 64, 16


def frame_mse(predictions: Sequence[Value], references: Sequence[Value]) -> Statistics:
    """Mean squared difference of red, green and blue in 0 to 1, frame by frame.

    Both clips are looked at at as many even moments as the reference has frames (at most 16), each in its own time, so
    that neither rate nor length counts; the prediction is brought to the reference's size (its longer side at most 64
    pixels). A prediction that is no clip counts as 1, the largest difference there is; a reference that cannot be read
    is left out. Where a prompt leaves much open, the mean of all clips is near to each (baseline `mean_frames`).
    """
    found = [_error(*pair) for pair in zip(predictions, references, strict=True)]
    seen = np.array([error is not None for error in found], dtype=np.float64)
    details = {} if seen.all() else {"unreadable": int(len(seen) - seen.sum())}
    return Statistics.ratio(
        [error or 0.0 for error in found], seen, unit="squared error", higher_is_better=False, details=details
    )


def _error(prediction: Value, reference: Value) -> float | None:
    """The difference of a pair; None where the reference is no clip."""
    try:
        count, size = looked_at(reference)
        wanted = frames_at(reference, count, size)
    except DataError:
        return None
    try:
        return float(np.mean((frames_at(prediction, count, size) - wanted) ** 2))
    except DataError:
        return 1.0


def looked_at(value: Value) -> tuple[int, tuple[int, int]]:
    """(frames, (width, height)) at which a clip is compared; DataError if it is none."""
    with open_clip(value, None, _ANY) as clip:
        header: Header = clip.header
    scale = min(1.0, _SIDE / max(header.width, header.height))
    size = max(1, round(header.width * scale)), max(1, round(header.height * scale))
    return min(header.frames, _FRAMES), size


def frames_at(value: Value, count: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """(F, H, W, 3) colours in 0 to 1 of a clip at `count` even moments, brought to `size` (width, height).

    Raises:
        DataError: It is no clip, or cannot be decoded.
    """
    with open_clip(value, None, _ANY) as clip:
        moments = [(number + 0.5) * clip.header.length / count for number in range(count)]
        frames = [resized(image, size[1], size[0], 1, None, draft=False) for image in clip.at(moments)]
    colours: NDArray[np.float32] = np.stack(frames).astype(np.float32) / np.float32(255)
    return colours
