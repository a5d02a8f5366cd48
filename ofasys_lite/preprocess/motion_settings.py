"""Settings of MOTION's card: given, or found in the clips of training. Shapes: T frames, C numbers of a frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import CardError, DataError
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.bvh import Skeleton, hierarchy, parse_skeleton
from ofasys_lite.preprocess.clips import Clip, Limits, read_clip
from ofasys_lite.preprocess.media import setting
from ofasys_lite.preprocess.motion_spans import cut_clip

#: (value, options of its slot, folder of paths).
Values = tuple[Any, Options, str | None]
Floats = npt.NDArray[np.float32]
_AXES = ("x", "y", "z")
#: Least deviation of a rotation's numbers, which are up to 1: joints that hardly turn are not blown up.
_LEAST_TURN = 0.02


@dataclass(frozen=True, slots=True)
class MotionSettings:
    """The card's settings, checked; None where they are open.

    Attributes:
        channels: Numbers of a frame.
        longest: Frames of the longest clip that is written.
        rate: Frames a second of clips before `sample_rate`.
        names: Of the channels, for files that are written.
        up: Number of the axis that points up.
    """

    channels: int | None
    skeleton: Skeleton | None
    mean: tuple[float, ...] | None
    deviation: tuple[float, ...] | None
    longest: int | None
    rate: float | None
    names: tuple[str, ...]
    frames_per_row: int
    up: int
    limits: Limits

    @staticmethod
    def of(settings: Mapping[str, Any]) -> MotionSettings:
        """What a card says.

        Raises:
            CardError: A setting that cannot be.
        """
        skeleton = _skeleton(settings)
        channels = None if settings.get("channels") is None else setting(settings, "channels", 1, 1, 100_000)
        if skeleton is not None:
            if channels not in (None, skeleton.numbers):
                raise CardError(
                    f"setting `channels` is {channels}, and the skeleton has {skeleton.numbers}",
                    help="leave `channels` out: 3 of the root's position, 6 of each joint's rotation",
                )
            channels = skeleton.numbers
        up = settings.get("up") or "y"
        if up not in _AXES:
            raise CardError(f"setting `up` is {up!r}", help="write x, y or z")
        deviation = _listed(settings, "deviation", channels)
        if deviation is not None and min(deviation) <= 0:
            raise CardError("setting `deviation` has numbers that are not above 0")
        open_rate, open_longest = settings.get("rate") is None, settings.get("longest") is None
        return MotionSettings(
            channels,
            skeleton,
            _listed(settings, "mean", channels),
            deviation,
            None if open_longest else setting(settings, "longest", 1, 1, 1_000_000),
            None if open_rate else setting(settings, "rate", 30.0, 1e-6, 1e6),
            tuple(map(str, settings.get("names") or ())),
            setting(settings, "frames_per_row", 1, 1, 64),
            _AXES.index(up),
            Limits(setting(settings, "max_frames", 10_000, 1), setting(settings, "max_megabytes", 64.0, 1e-6)),
        )

    @property
    def most_frames(self) -> int:
        """Frames of the longest clip that is written."""
        return self.longest or 100

    @property
    def most(self) -> int:
        """Rows of it."""
        return -(-self.most_frames // self.frames_per_row)

    def width(self) -> int:
        """Numbers of a row.

        Raises:
            CardError: It is not known how many numbers a frame has.
        """
        if self.channels is None:
            raise CardError(
                "MOTION: no clip of training says how many numbers a frame has",
                help="set modalities.MOTION.channels, or name data of which a clip can be read",
            )
        return self.channels * self.frames_per_row

    def scale(self) -> tuple[Floats, Floats]:
        """(C,) mean and deviation."""
        channels = self.width() // self.frames_per_row
        mean = np.broadcast_to(np.asarray(self.mean or 0.0, np.float32), channels)
        return mean, np.broadcast_to(np.asarray(self.deviation or 1.0, np.float32), channels)

    def fitting(self, clip: Clip) -> Clip:
        """The clip, if it is one that the model reads.

        Raises:
            DataError: It has another number of channels, or another skeleton.
        """
        own, width = self.skeleton, clip.frames_TC.shape[1]
        if own is not None and (clip.skeleton is None or not own.fits(clip.skeleton)):
            what = f"{width} numbers a frame" if clip.skeleton is None else _joints(clip.skeleton)
            raise DataError(
                f"cannot read motion: it has {what}, and the model reads {_joints(own)}",
                help=f"a BVH of that skeleton, or an array (T, {own.numbers}) or (T, {own.given}) of it",
            )
        if own is None and self.channels is not None and width != self.channels:
            raise DataError(
                f"cannot read motion: it has {width} numbers a frame, and the model reads {self.channels}",
                help="clips of another kind are a modality of their own, or leave the row out",
            )
        return clip


def _joints(skeleton: Skeleton) -> str:
    return f"a skeleton of {len(skeleton.names)} joints ({', '.join(skeleton.names[:3])} ...)"


def _skeleton(settings: Mapping[str, Any]) -> Skeleton | None:
    given = settings.get("skeleton")
    if given is None:
        return None
    text = str(given)
    if text.lstrip()[:9] != "HIERARCHY":
        try:
            text = Path(text).expanduser().read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is no text"
            help = "name a BVH file, or give the text of its HIERARCHY"
            raise CardError(f"setting `skeleton`: cannot read {text[:80]}: {why}", help=help) from None
    try:
        return _parsed(text.partition("MOTION")[0])
    except DataError as error:
        raise CardError(f"setting `skeleton`: {error.message}", help=error.help) from None


@lru_cache(64)
def _parsed(text: str) -> Skeleton:
    return parse_skeleton(text)


def _listed(settings: Mapping[str, Any], key: str, channels: int | None) -> tuple[float, ...] | None:
    """The numbers of a setting that is one number or a list of them, one a channel."""
    given = settings.get(key)
    if given is None:
        return None
    numbers = list(given) if isinstance(given, (list, tuple)) else [given]
    if not all(isinstance(x, (int, float)) and not isinstance(x, bool) and np.isfinite(x) for x in numbers):
        raise CardError(f"setting `{key}` holds what is no number", help="write a number, or a list of one a channel")
    if isinstance(given, (list, tuple)) and len(numbers) != (channels or len(numbers)):
        raise CardError(f"setting `{key}` has {len(numbers)} numbers for {channels} channels")
    return tuple(map(float, numbers))


@dataclass(slots=True)
class _Seen:
    """What clips of one kind hold."""

    clip: Clip
    clips: int = 0
    longest: int = 0
    rates: list[float] = field(default_factory=list)
    counts_C: Any = 0
    sums_C: Any = 0.0
    squares_C: Any = 0.0

    def add(self, clip: Clip, rate: float | None) -> None:
        frames = clip.frames_TC.astype(np.float64)
        known = ~np.isnan(frames)
        self.clips += 1
        self.longest = max(self.longest, len(clip))
        self.rates += [] if rate is None else [rate]
        self.counts_C = self.counts_C + known.sum(0)
        self.sums_C = self.sums_C + np.where(known, frames, 0).sum(0)
        self.squares_C = self.squares_C + np.where(known, frames, 0.0).__pow__(2).sum(0)


def found_settings(values: Iterable[Values], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the card leaves open of its settings, as most of the clips have it; a skeleton's file becomes its text."""
    own = MotionSettings.of(settings)
    given: dict[str, Any] = {} if own.skeleton is None else {"skeleton": hierarchy(own.skeleton)}
    keys = ("channels", "skeleton", "mean", "deviation", "longest", "rate", "names")
    wanted = [key for key in keys if settings.get(key) is None]
    if not wanted:
        return given
    kinds: dict[Any, _Seen] = {}
    for value, options, folder in values:
        try:
            clip = own.fitting(read_clip(value, folder, own.limits, own.skeleton))
            cut = cut_clip(clip, options, own.up, None)
        except DataError:
            continue
        kind = clip.frames_TC.shape[1] if clip.skeleton is None else (clip.skeleton.names, clip.skeleton.parents)
        kinds.setdefault(kind, _Seen(clip)).add(cut, clip.rate)
    if not kinds:
        return given
    most = max(kinds.values(), key=lambda seen: seen.clips)
    return {**{key: value for key, value in _told(most).items() if key in wanted and value is not None}, **given}


def _told(seen: _Seen) -> dict[str, Any]:
    counts_C = np.maximum(seen.counts_C, 1)
    mean_C = seen.sums_C / counts_C
    deviation_C = np.sqrt(np.maximum(seen.squares_C / counts_C - mean_C**2, 0))
    skeleton = seen.clip.skeleton
    turns = 3 if skeleton is not None else len(mean_C)
    moved = deviation_C[:turns]
    # what stands still has no deviation of its own: it is given that of the others
    still = moved <= 1e-6 * np.maximum(np.abs(mean_C[:turns]), 1e-3)
    moved[still] = np.sqrt(np.mean(moved[~still] ** 2)) if (~still).any() else 1.0
    deviation_C[turns:] = np.maximum(deviation_C[turns:], _LEAST_TURN)
    return {
        "channels": len(mean_C),
        "skeleton": None if skeleton is None else hierarchy(skeleton),
        "mean": [float(f"{x:.6g}") for x in mean_C],
        "deviation": [float(f"{x:.6g}") for x in deviation_C],
        "longest": seen.longest,
        "rate": float(f"{np.median(seen.rates):.6g}") if seen.rates else None,
        "names": list(seen.clip.names) or None,
    }
