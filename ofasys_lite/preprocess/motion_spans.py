"""Which frames of a clip are kept, and from where they are seen, as a slot's attributes say. Shapes: T frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.plan.segments import Options, option
from ofasys_lite.preprocess.bvh import matrices
from ofasys_lite.preprocess.clips import Clip
from ofasys_lite.preprocess.rotations import to_six, turned_about


def frames_kept(options: Options) -> int:
    """n of every n-th frame (`sample_rate`)."""
    every = option(options, "sample_rate")
    return every if isinstance(every, int) else 1


def wrong_span(options: Options) -> None:
    """Raises CardError for attributes that leave nothing, or that need another."""
    least, most = option(options, "min_length"), option(options, "max_length")
    if isinstance(least, int) and isinstance(most, int) and least > most:
        raise CardError(f"`min_length` is {least}, above `max_length`, {most}")
    if option(options, "window") and most is None:
        raise CardError("`window` is a stretch of at most `max_length` frames", help="write window,max_length=60")


def cut_clip(
    clip: Clip, options: Options, up: int, rng: np.random.Generator | None, longest: int | None = None
) -> Clip:
    """The frames that a slot keeps: every n-th, of them a span, seen from the frame that is the anchor.

    Args:
        up: Number of the axis that points up.
        rng: Draws the span in training (`window`, `soft_trim`); None keeps the beginning.
        longest: Most frames that the model writes.

    Raises:
        DataError: Too few frames, or an anchor that is not there.
    """
    every = frames_kept(options)
    frames_TC, rate = clip.frames_TC[::every], None if clip.rate is None else clip.rate / every
    given_least, given_most = option(options, "min_length"), option(options, "max_length")
    least = given_least if isinstance(given_least, int) else 1
    if len(frames_TC) < least:
        raise DataError(
            f"cannot read motion: {len(frames_TC)} frames, `min_length` is {least}", help="leave the row out"
        )
    first, whole = 0, len(frames_TC)
    share = option(options, "soft_trim")
    if rng is not None and isinstance(share, (int, float)):
        whole = max(least, round(rng.uniform(float(share), 1) * len(frames_TC)))
        first = (len(frames_TC) - whole) // 2
    count = most = min(x for x in (given_most, longest, whole) if isinstance(x, int))
    if rng is not None and option(options, "window"):
        count = int(rng.integers(min(least, most), most + 1))
        first += int(rng.integers(whole - count + 1))
    cut = replace(clip, frames_TC=frames_TC[first : first + count], rate=rate)
    anchor = option(options, "anchor_frame")
    return cut if not isinstance(anchor, int) else _anchored(cut, anchor, up)


def _anchored(clip: Clip, anchor: int, up: int) -> Clip:
    """The clip moved and turned on the ground: at frame `anchor` the root stands at the origin and looks ahead.

    Ahead is the axis after `up` in the order x, y, z, x: z where y points up.
    """
    if clip.skeleton is None:
        raise DataError("`anchor_frame` turns a skeleton, and this clip has none", help="leave it out")
    if anchor >= len(clip):
        raise DataError(f"cannot read motion: `anchor_frame` is {anchor}, and the clip has {len(clip)} frames")
    ahead, aside = (up + 1) % 3, (up + 2) % 3
    root_T33 = matrices(clip.frames_TC[:, :9])[:, 0]
    looks = root_T33[anchor, :, ahead]
    turn_33 = turned_about(up, -np.degrees(np.arctan2(looks[aside], looks[ahead])))
    offset = np.array(clip.skeleton.offsets[0])
    places_T3 = clip.frames_TC[:, :3] + offset
    ground = np.where(np.arange(3) == up, 0, places_T3[anchor])
    moved_T3 = (places_T3 - ground) @ turn_33.T - offset
    turned = to_six(turn_33 @ root_T33)
    frames_TC = np.concatenate([moved_T3, turned, clip.frames_TC[:, 9:]], 1).astype(np.float32)
    return replace(clip, frames_TC=frames_TC)
