"""Clips: frames of numbers at a rate, from BVH, CSV and NPY files, arrays and lists; and written to them.

Shapes: T frames, C numbers of a frame.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.bvh import Skeleton, parse_bvh, to_frames, write_bvh
from ofasys_lite.preprocess.doubled import read_json
from ofasys_lite.preprocess.media import Source, found, locate, read_bytes

Floats = npt.NDArray[np.float32]

#: Base64 of the first bytes of NPY and BVH files.
BASE64_HEADS = ("k05VTVBZ", "SElFUkFSQ0hZ")
#: Heads of a CSV's column that says when a frame was, in seconds.
_TIMES = ("time", "timestamp", "seconds", "t")
_NOTHING = ("", "nan", "na", "null", "none")
_HELP = "a MOTION is a path, URL or bytes of a BVH, CSV or NPY file, a list or array (T, C), or {array, rate}"


@dataclass(frozen=True, slots=True, eq=False)
class Clip:
    """Frames of numbers.

    Attributes:
        frames_TC: NaN where a number is not known. Of a skeleton: the root's position, six numbers a joint (`bvh`).
        rate: Frames a second, where it is known.
        names: Of the numbers of a frame, where the file has them.
    """

    frames_TC: Floats
    rate: float | None = None
    skeleton: Skeleton | None = None
    names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.frames_TC)


@dataclass(frozen=True, slots=True)
class Limits:
    """What is too large: `frames` of a clip, `megabytes` of a file."""

    frames: int = 10_000
    megabytes: float = 64.0

    def check(self, frames: int) -> None:
        """Raises DataError for a clip of too many frames."""
        if frames > self.frames:
            raise DataError(
                f"cannot read motion: {frames:,} frames, the limit is {self.frames:,}",
                help="cut it, give the slot `max_length`, or raise the setting `max_frames`",
            )


def read_clip(value: Any, folder: str | None, limits: Limits = Limits(), skeleton: Skeleton | None = None) -> Clip:
    """The clip of a value.

    Args:
        folder: Folder of relative paths.
        skeleton: Of which arrays and tables hold frames, as this package has them (3 + 6 J numbers) or as BVH does.

    Raises:
        DataError: No clip, broken, empty, too large, or of uneven rows.
    """
    if isinstance(value, Clip):
        return value
    source = _located(value, folder)
    clip = _given(value) if source is None else _file(source, limits)
    if not clip.frames_TC.size:
        raise DataError("cannot read motion: it has no frames", help="leave the row out")
    limits.check(len(clip))
    if np.isinf(clip.frames_TC).any():
        raise DataError(f"cannot read motion: frame {int(np.argmax(np.isinf(clip.frames_TC).any(1)))} holds infinity")
    if skeleton is not None and clip.skeleton is None:
        width = clip.frames_TC.shape[1]
        if width == skeleton.given != skeleton.numbers:
            clip = replace(clip, frames_TC=to_frames(skeleton, clip.frames_TC).astype(np.float32))
        if width in (skeleton.given, skeleton.numbers):
            clip = replace(clip, skeleton=skeleton)
    return clip


def count_frames(value: Any, folder: str | None) -> int | None:
    """Frames of a value by a cheap look; None where it has none.

    Raises:
        DataError: It cannot be read.
    """
    if isinstance(value, Clip):
        return len(value)
    source = _located(value, folder)
    if source is None:
        inner = value["array"] if isinstance(value, Mapping) and "array" in value else value
        if isinstance(inner, str):
            return len(_given(inner))
        return len(inner) if hasattr(inner, "__len__") and not isinstance(inner, Mapping) else None
    content = read_bytes(source, "motion")
    if content.startswith(b"\x93NUMPY"):
        return _npy_shape(content)[0]
    frames = re.search(rb"Frames:\s*(\d+)", content) if _is_bvh(content) else None
    return int(frames[1]) if frames else content.rstrip().count(b"\n") + 1


def located(value: Any, folder: str | None) -> Any:
    """Bytes or path of a clip's file; what holds its numbers as it is."""
    source = _located(value, folder)
    return value if source is None else source


def _located(value: Any, folder: str | None) -> Source | None:
    if isinstance(value, str) and value.lstrip()[:9] == "HIERARCHY":
        return value.encode()
    if isinstance(value, str) and value.lstrip()[:1] == "[":
        return None
    return locate(value, folder, "motion", BASE64_HEADS)


def _is_bvh(content: bytes) -> bool:
    return content.lstrip()[:9] == b"HIERARCHY"


def _file(source: Source, limits: Limits) -> Clip:
    """The clip of a file's content, whose kind its first bytes tell."""
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if size > limits.megabytes * 1e6:
        raise DataError(
            f"cannot read motion: a file of {size / 1e6:,.0f} MB, the limit is {limits.megabytes:g}",
            help="cut it, or raise the setting `max_megabytes`",
        )
    content = read_bytes(source, "motion")
    if content.startswith(b"\x93NUMPY"):
        return _npy(content)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"cannot read motion: found {found(content)}", help=_HELP) from None
    if _is_bvh(content):
        skeleton, frames, rate = parse_bvh(text)
        return Clip(frames.astype(np.float32), rate, skeleton)
    return _table(text)


def _npy_shape(content: bytes) -> tuple[int, ...]:
    try:
        file = io.BytesIO(content)
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, _ = read(file)
    except (ValueError, SyntaxError) as error:
        raise DataError(f"cannot read motion: the NPY is broken ({error})") from None
    return tuple(shape) or (0,)


def _npy(content: bytes) -> Clip:
    try:
        array = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        said = str(error).splitlines()[0]
        raise DataError(f"cannot read motion: the NPY is broken or no array of numbers ({said})") from None
    return Clip(_numbers(array))


def _table(text: str) -> Clip:
    """Of CSV or TSV, with a head or without; a column of times gives the rate."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        raise DataError("cannot read motion: it is empty")
    mark = next((m for m in "\t;," if m in lines[0]), None)
    rows = list(csv.reader(lines, delimiter=mark)) if mark else [line.split() for line in lines]
    names = () if all(_is_number(cell) for cell in rows[0]) else tuple(cell.strip() for cell in rows.pop(0))
    width = len(names or rows[0])
    numbers = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        if len(row) != width:
            raise DataError(
                f"cannot read motion: row {number + 1} has {len(row)} numbers, and those before it {width}",
                help="a CSV or TSV has one frame a row, its first row may name the numbers",
            )
        for place, cell in enumerate(row):
            if not _is_number(cell):
                shown = cell.strip()[:40]
                raise DataError(
                    f"cannot read motion: `{shown}` in row {number + 1} is no number",
                    help=f"nothing and NaN say that it is not known; {_HELP}",
                )
            if cell.strip().lower() not in _NOTHING:
                numbers[number, place] = float(cell)
    times = [n for n, name in enumerate(names) if name.lower() in _TIMES]
    if not times or width < 2:
        return Clip(numbers.astype(np.float32), None, None, names)
    steps = np.diff(numbers[:, times[0]])
    rate = float(1 / np.median(steps)) if len(steps) and np.all(steps > 0) else None
    rest = tuple(name for n, name in enumerate(names) if n != times[0])
    return Clip(np.delete(numbers, times[0], 1).astype(np.float32), rate, None, rest)


def _is_number(cell: str) -> bool:
    if cell.strip().lower() in _NOTHING:
        return True
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _given(value: Any) -> Clip:
    """Of a value that holds numbers."""
    rate, array = None, value
    if isinstance(value, Mapping) and "array" in value:
        rate, array = value.get("rate", value.get("sampling_rate")), value["array"]
        if rate is not None and not (isinstance(rate, (int, float, np.number)) and 0 < rate < 1e6):
            raise DataError(f"cannot read motion: a rate of {rate!r}", help="frames a second, a number above 0")
    if isinstance(array, str):
        try:
            array = read_json(array)
        except ValueError:
            raise DataError(f"cannot read motion: {found(array)} is no list of numbers", help=_HELP) from None
    if not isinstance(array, (Sequence, np.ndarray)) and not hasattr(array, "__array__"):
        raise DataError(f"cannot read motion: found {found(value)}", help=_HELP)
    return Clip(_numbers(array), None if rate is None else float(rate))


def _numbers(array: Any) -> Floats:
    """(T, C) numbers of an array or of lists, in which None stands for a frame or a number that is not known."""
    if isinstance(array, (list, tuple)) or getattr(getattr(array, "dtype", None), "kind", "") == "O":
        rows = list(array)
        width = next((len(row) for row in rows if hasattr(row, "__len__") and not isinstance(row, str)), 0)
        rows = [[None] * width if row is None and width else row for row in rows]
        try:
            array = np.array([list(row) if width else [row] for row in rows], dtype=np.float64)
        except (TypeError, ValueError):
            uneven = next((n for n, row in enumerate(rows) if width and len(row) != width), None)
            what = "what is no number" if uneven is None else f"frames of different lengths (frame {uneven})"
            raise DataError(f"cannot read motion: a list with {what}", help=_HELP) from None
    array = np.asarray(array)
    if array.dtype.kind not in "iufb" or not array.ndim:
        raise DataError(f"cannot read motion: found {found(array)}", help=_HELP)
    flat: Floats = array.reshape(len(array), -1 if array.size else 0).astype(np.float32)
    return flat


def save_clip(clip: Clip, ending: str) -> bytes:
    """The content of a file: `.bvh` (of a skeleton), `.csv`, `.npy`.

    Raises:
        DataError: A clip without a skeleton as BVH.
    """
    if ending == ".bvh":
        if clip.skeleton is None:
            raise DataError("a clip without a skeleton cannot be a BVH", help="write .csv or .npy")
        return write_bvh(clip.skeleton, clip.frames_TC, clip.rate or 30.0).encode()
    if ending == ".npy":
        file = io.BytesIO()
        np.save(file, clip.frames_TC)
        return file.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = clip.names or tuple(f"c{number}" for number in range(clip.frames_TC.shape[1]))
    writer.writerow([*(["time"] if clip.rate else []), *names])
    for number, frame in enumerate(clip.frames_TC.tolist()):
        cells = ["" if cell != cell else f"{cell:.6g}" for cell in frame]
        writer.writerow([*([f"{number / clip.rate:.6g}"] if clip.rate else []), *cells])
    return text.getvalue().encode()
