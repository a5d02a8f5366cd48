"""Clips as pictures: a strip of poses or curves over time, and the same moving. Shapes: T frames, E joints and ends."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.preprocess.bvh import bones, positions
from ofasys_lite.preprocess.clips import Clip

if TYPE_CHECKING:
    from PIL import Image

#: Colours of channels, told apart by people who see few colours (Okabe and Ito).
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_BACK, _GROUND, _BONE, _LEFT, _RIGHT = "#ffffff", "#dee2e6", "#495057", "#0072b2", "#d55e00"
_POSES, _SIDE = 8, 160
_CURVES, _MARGIN = (320, 160), 6
#: Most pictures of a moving one, and most a second: reports hold many of them.
_MOST, _FASTEST = 60, 10.0
#: Degrees that a skeleton is seen from the side and from above.
_TURN, _TILT = 35.0, 10.0
#: Drawn so many times larger and made smaller, for smooth lines.
_FINE = 3


def strip(clip: Clip, up: int = 1) -> Image.Image:
    """A still picture: poses from left to right, or each channel as a curve."""
    from PIL import Image

    if clip.skeleton is None:
        return _curves(clip)
    shots = _poses(clip, up, np.linspace(0, len(clip) - 1, _POSES).round().astype(int), still=True)
    high = _SIDE
    found = Image.new("RGB", (sum(shot.width for shot in shots), high), _BACK)
    left = 0
    for shot in shots:
        found.paste(shot, (left, 0))
        left += shot.width
    return found


def moving(clip: Clip, up: int = 1) -> bytes:
    """A GIF that lasts as long as the clip, over and over; frames without a rate are shown 10 a second."""
    rate = clip.rate or _FASTEST
    count = max(1, min(_MOST, len(clip), round(len(clip) / rate * _FASTEST)))
    numbers = np.linspace(0, len(clip) - 1, count).round().astype(int)
    if clip.skeleton is None:
        shots = _pointed(_curves(clip), numbers / max(1, len(clip) - 1))
    else:
        shots = _poses(clip, up, numbers, still=False)
    return animated(shots, len(clip) / rate / count)


def animated(shots: Sequence[Image.Image], seconds: float) -> bytes:
    """The GIF of some pictures, each shown for so long."""
    from PIL import Image

    # one palette for all: then only what changes is stored
    first = shots[0].quantize(32)
    small = [first, *(shot.quantize(palette=first, dither=Image.Dither.NONE) for shot in shots[1:])]
    file = io.BytesIO()
    hundredths = max(2, round(100 * seconds))
    # the last one stays a little, so that one sees where it ends
    lasts = [10 * hundredths] * (len(small) - 1) + [10 * hundredths + 400]
    small[0].save(file, format="GIF", save_all=True, append_images=small[1:], duration=lasts, loop=0, optimize=False)
    return file.getvalue()


def _poses(clip: Clip, up: int, numbers: npt.NDArray[np.int64], still: bool) -> list[Image.Image]:
    """A skeleton at some frames; `still`: each around its own middle, else all in one room."""
    if clip.skeleton is None:
        raise TypeError("a clip without a skeleton has no poses")
    places = np.nan_to_num(positions(clip.skeleton, np.nan_to_num(clip.frames_TC[numbers])))
    flat = _seen(places, up)
    if still:
        middle = (flat[..., 0].min(1) + flat[..., 0].max(1)) / 2
        flat[..., 0] -= middle[:, None]
    size = max(1e-6, float(np.ptp(flat[..., 1])), float(np.ptp(flat[..., 0])))
    scale = (_SIDE - 20) / size
    left = float(flat[..., 0].min() + flat[..., 0].max()) / 2
    foot = float(flat[..., 1].min())
    lines = bones(clip.skeleton)
    colours = [_colour(clip.skeleton.names, one, other) for one, other in lines]
    wide = _SIDE if not still else max(40, round(float(np.ptp(flat[..., 0])) * scale) + 16)
    shots = []
    for pose in flat:
        points = np.stack([wide / 2 + (pose[:, 0] - left) * scale, _SIDE - 10 - (pose[:, 1] - foot) * scale], -1)
        shots.append(_drawn((wide, _SIDE), points, lines, colours))
    return shots


def _colour(names: Sequence[str], one: int, other: int) -> str:
    """Left and right limbs told apart by the names of their joints."""
    name = names[other if other < len(names) else one].lower()
    return _LEFT if "left" in name or name.startswith("l") else _RIGHT if "right" in name or name[:1] == "r" else _BONE


def _seen(places: npt.NDArray[np.float64], up: int) -> npt.NDArray[np.float64]:
    """(..., 2) to the right and upwards, seen from a side and a little from above."""
    ahead, aside = places[..., (up + 1) % 3], places[..., (up + 2) % 3]
    turn, tilt = np.radians(_TURN), np.radians(_TILT)
    depth = ahead * np.cos(turn) - aside * np.sin(turn)
    across = ahead * np.sin(turn) + aside * np.cos(turn)
    return np.stack([across, places[..., up] * np.cos(tilt) - depth * np.sin(tilt)], -1)


def _drawn(
    size: tuple[int, int], points: npt.NDArray[np.float64], lines: Sequence[tuple[int, int]], colours: Sequence[str]
) -> Image.Image:
    from PIL import Image, ImageDraw

    wide, high = size
    shot = Image.new("RGB", (wide * _FINE, high * _FINE), _BACK)
    pen = ImageDraw.Draw(shot)
    pen.line([(0, (high - 8) * _FINE), (wide * _FINE, (high - 8) * _FINE)], fill=_GROUND, width=_FINE)
    fine = points * _FINE
    for (one, other), colour in zip(lines, colours, strict=True):
        pen.line([tuple(fine[one]), tuple(fine[other])], fill=colour, width=2 * _FINE)
    return shot.resize(size, Image.Resampling.LANCZOS)


def _pointed(picture: Image.Image, shares: npt.NDArray[np.float64]) -> list[Image.Image]:
    """The picture of curves with a line at each of some moments, shares of the clip."""
    from PIL import ImageDraw

    shots = []
    for share in shares.tolist():
        shots.append(picture.copy())
        across = round(_MARGIN + share * (picture.width - 2 * _MARGIN))
        ImageDraw.Draw(shots[-1]).line([(across, _MARGIN), (across, picture.height - _MARGIN)], fill=_BONE)
    return shots


def _curves(clip: Clip) -> Image.Image:
    """Channels as curves over the clip's range."""
    from PIL import Image, ImageDraw

    wide, high = (side * _FINE for side in _CURVES)
    shot = Image.new("RGB", (wide, high), _BACK)
    pen = ImageDraw.Draw(shot)
    margin = _MARGIN * _FINE
    values = clip.frames_TC.astype(np.float64)
    low, top = (float(f(values)) if np.isfinite(values).any() else 0.0 for f in (np.nanmin, np.nanmax))
    across = np.linspace(margin, wide - margin, max(2, len(values)))
    zero = high - margin - (0 - low) / max(top - low, 1e-9) * (high - 2 * margin)
    if low < 0 < top:
        pen.line([(margin, zero), (wide - margin, zero)], fill=_GROUND, width=_FINE)
    for channel in range(values.shape[1]):
        down = high - margin - (values[:, channel] - low) / max(top - low, 1e-9) * (high - 2 * margin)
        points: list[Any] = list(zip(across.tolist(), down.tolist(), strict=False))
        for one, other in pairwise(points):
            if one[1] == one[1] and other[1] == other[1]:
                pen.line([one, other], fill=_COLOURS[channel % len(_COLOURS)], width=_FINE)
    return shot.resize(_CURVES, Image.Resampling.LANCZOS)
