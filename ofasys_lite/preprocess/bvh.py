"""BVH files (Biovision hierarchy): a skeleton and what its joints do, read and written.

What a frame holds here: the position of the root, and six numbers for the rotation of each joint (arXiv 1812.07035,
OFASys' motion_6d). Joints move by turning: positions that a file gives of joints other than the root are left out.
Shapes: T frames, J joints, E joints and ends, C = 3 + 6 J numbers of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.preprocess.rotations import Doubles, from_angles, from_six, to_angles, to_six

#: Word of a file behind which its frames stand.
_MOVES = "MOTION"
_PLACES = ("Xposition", "Yposition", "Zposition")
_TURNS = ("Xrotation", "Yrotation", "Zrotation")
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Skeleton:
    """Joints, each after its parent in the order of a file, and where they are at rest.

    Attributes:
        parents: Number of each joint's parent; -1 for the root, which is the first.
        offsets: From the parent, in the file's unit of length.
        channels: What the file gives of each joint, in its order: `Zrotation` and the like.
        ends: (joint, offset from it) of what follows the last joints: tips of toes and fingers.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: tuple[Vector, ...]
    channels: tuple[tuple[str, ...], ...]
    ends: tuple[tuple[int, Vector], ...]

    def __post_init__(self) -> None:
        path = list[int]()
        for joint, parent in enumerate(self.parents):
            while path and path[-1] != parent:
                path.pop()
            if bool(path) != bool(joint):
                raise ShapeError(f"joint `{self.names[joint]}` does not stand behind its parent's other joints")
            path.append(joint)

    @property
    def numbers(self) -> int:
        """Numbers of a frame: 3 + 6 J."""
        return 3 + 6 * len(self.names)

    @property
    def given(self) -> int:
        """Numbers of a frame of the file."""
        return sum(map(len, self.channels))

    def fits(self, other: Skeleton) -> bool:
        """Whether frames of the one mean the same of the other: equal joints; bones may differ in length."""
        return (self.names, self.parents) == (other.names, other.parents)

    def order(self, joint: int) -> tuple[int, ...]:
        """Axes about which a joint is turned in a file that is written: the file's, where it turns about all three."""
        found = tuple(_TURNS.index(name) for name in self.channels[joint] if name in _TURNS)
        return found if len(set(found)) == len(found) == 3 else (2, 0, 1)


def parse_bvh(text: str) -> tuple[Skeleton, Doubles, float]:
    """(skeleton, frames (T, C), frames a second) of a file's text.

    Raises:
        DataError: It is no BVH, ends too soon, or holds what is no number.
    """
    head, found, body = text.partition(_MOVES)
    skeleton = parse_skeleton(head)
    lines = body.lstrip().split("\n", 2)
    if not found or len(lines) < 2:
        raise DataError("cannot read motion: the BVH ends before its frames: MOTION, Frames and Frame Time are missing")
    count, time = (_after(line, name) for line, name in zip(lines, ("Frames:", "Frame Time:"), strict=False))
    if count != int(count) or count < 1 or not 0 < time < 1e4:
        raise DataError(f"cannot read motion: a BVH of {count:g} frames, {time:g} seconds each")
    words = (lines[2] if len(lines) > 2 else "").split()
    expected = int(count) * skeleton.given
    if len(words) != expected:
        whole, rest = divmod(len(words), skeleton.given)
        where = f"ends in frame {whole + 1}" if len(words) < expected and rest else f"holds {whole} frames"
        raise DataError(
            f"cannot read motion: the BVH says {int(count)} frames of {skeleton.given} numbers, and {where}",
            help="write the file again or drop the row",
        )
    try:
        numbers = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"cannot read motion: among the frames of the BVH: {error}") from None
    if not np.isfinite(numbers).all():
        frame = int(np.flatnonzero(~np.isfinite(numbers))[0]) // skeleton.given
        raise DataError(f"cannot read motion: frame {frame} of the BVH holds what is no finite number")
    return skeleton, to_frames(skeleton, numbers.reshape(-1, skeleton.given)), 1 / time


def parse_skeleton(text: str) -> Skeleton:
    """The skeleton of a file, or of its HIERARCHY alone.

    Raises:
        DataError: It is none: what stands there, and what should.
    """
    words = text.partition(_MOVES)[0].replace("{", " { ").replace("}", " } ").split()
    if not words or words[0] != "HIERARCHY":
        raise DataError("cannot read motion: a BVH begins with HIERARCHY", help="give a BVH file, or its HIERARCHY")
    reader = _Hierarchy(iter(words[1:]))
    try:
        reader.read()
    except (StopIteration, RecursionError):
        raise DataError(
            "cannot read motion: the HIERARCHY of the BVH ends before its joints do",
            help="it may be cut off: write it again",
        ) from None
    if not reader.names:
        raise DataError("cannot read motion: the HIERARCHY of the BVH has no ROOT")
    if not any(name in _TURNS for names in reader.channels for name in names):
        raise DataError("cannot read motion: no joint of the BVH turns")
    return Skeleton(
        tuple(reader.names), tuple(reader.parents), tuple(reader.offsets), tuple(reader.channels), tuple(reader.ends)
    )


class _Hierarchy:
    """Reads the words of a HIERARCHY."""

    def __init__(self, words: Iterator[str]) -> None:
        self.words = words
        self.names: list[str] = []
        self.parents: list[int] = []
        self.offsets: list[Vector] = []
        self.channels: list[tuple[str, ...]] = []
        self.ends: list[tuple[int, Vector]] = []

    def read(self) -> None:
        for word in self.words:
            if word != "ROOT" or self.names:
                what = "a second ROOT" if word == "ROOT" else f"`{word}` where ROOT belongs"
                raise DataError(f"cannot read motion: the HIERARCHY of the BVH has {what}")
            self._joint(-1)

    def _joint(self, parent: int) -> None:
        name = list[str]()
        while (word := next(self.words)) != "{":
            name.append(word)
        own = len(self.names)
        self.names.append(" ".join(name))
        self.parents.append(parent)
        self.offsets.append((0.0, 0.0, 0.0))
        self.channels.append(())
        while (word := next(self.words)) != "}":
            if word == "OFFSET":
                self.offsets[own] = self._vector()
            elif word == "CHANNELS":
                self.channels[own] = self._channels()
            elif word == "JOINT":
                self._joint(own)
            elif word == "End":
                self._end(own)
            else:
                raise DataError(
                    f"cannot read motion: `{word}` in joint `{self.names[own]}` of the BVH",
                    help="allowed: OFFSET, CHANNELS, JOINT, End Site",
                )

    def _end(self, parent: int) -> None:
        while next(self.words) != "{":
            pass
        while (word := next(self.words)) != "}":
            if word == "OFFSET":
                self.ends.append((parent, self._vector()))

    def _vector(self) -> Vector:
        x, y, z = (_number(next(self.words), "an OFFSET") for _ in range(3))
        return x, y, z

    def _channels(self) -> tuple[str, ...]:
        names = tuple(next(self.words) for _ in range(int(_number(next(self.words), "a number of CHANNELS"))))
        for name in names:
            if name not in (*_PLACES, *_TURNS):
                raise DataError(
                    f"cannot read motion: channel `{name}` of the BVH", help="allowed: Xposition, Zrotation"
                )
        return names


def to_frames(skeleton: Skeleton, given_TG: npt.NDArray[np.floating]) -> Doubles:
    """(T, C) frames of the numbers of a file (T, G)."""
    given = np.asarray(given_TG, dtype=np.float64)
    root_T3 = np.zeros((len(given), 3))
    six = list[Doubles]()
    place = 0
    for joint, names in enumerate(skeleton.channels):
        own = given[:, place : place + len(names)]
        place += len(names)
        turns = [number for number, name in enumerate(names) if name in _TURNS]
        six.append(to_six(from_angles(own[:, turns], [_TURNS.index(names[number]) for number in turns])))
        for number, name in enumerate(names):
            if name in _PLACES and not joint:
                root_T3[:, _PLACES.index(name)] = own[:, number]
    return np.concatenate([root_T3, *six], 1)


def matrices(frames_TC: npt.NDArray[np.floating]) -> Doubles:
    """(T, J, 3, 3) rotations of the joints."""
    return from_six(frames_TC[:, 3:].reshape(len(frames_TC), -1, 6))


def positions(skeleton: Skeleton, frames_TC: npt.NDArray[np.floating]) -> Doubles:
    """(T, E, 3) where the joints are, and behind them the ends: forward kinematics."""
    own_TJ33 = matrices(frames_TC)
    turned, places = list[Doubles](), list[Doubles]()
    for joint, (parent, offset) in enumerate(zip(skeleton.parents, skeleton.offsets, strict=True)):
        if parent < 0:
            turned.append(own_TJ33[:, joint])
            places.append(np.asarray(frames_TC[:, :3], dtype=np.float64) + offset)
        else:
            turned.append(turned[parent] @ own_TJ33[:, joint])
            places.append(places[parent] + turned[parent] @ np.array(offset))
    ends = [places[joint] + turned[joint] @ np.array(offset) for joint, offset in skeleton.ends]
    return np.stack([*places, *ends], 1)


def bones(skeleton: Skeleton) -> tuple[tuple[int, int], ...]:
    """(from, to) of each bone among the places of `positions`."""
    joints = [(parent, joint) for joint, parent in enumerate(skeleton.parents) if parent >= 0]
    return (*joints, *((joint, len(skeleton.names) + number) for number, (joint, _) in enumerate(skeleton.ends)))


def hierarchy(skeleton: Skeleton) -> str:
    """The HIERARCHY of a file, as `write_bvh` writes it."""
    lines = ["HIERARCHY"]

    def joint(number: int, depth: int) -> None:
        tabs = "\t" * depth
        turns = " ".join(_TURNS[axis] for axis in skeleton.order(number))
        lines.append(f"{tabs}{'JOINT' if depth else 'ROOT'} {skeleton.names[number]}")
        lines.append(f"{tabs}{{")
        lines.append(f"{tabs}\tOFFSET {_spelt(skeleton.offsets[number])}")
        lines.append(f"{tabs}\tCHANNELS {3 if depth else 6} {'' if depth else ' '.join(_PLACES) + ' '}{turns}")
        for child, parent in enumerate(skeleton.parents):
            if parent == number:
                joint(child, depth + 1)
        for parent, offset in skeleton.ends:
            if parent == number:
                lines.extend((f"{tabs}\tEnd Site", f"{tabs}\t{{", f"{tabs}\t\tOFFSET {_spelt(offset)}", f"{tabs}\t}}"))
        lines.append(f"{tabs}}}")

    joint(0, 0)
    return "\n".join(lines) + "\n"


def write_bvh(skeleton: Skeleton, frames_TC: npt.NDArray[np.floating], rate: float) -> str:
    """The text of a file; `rate` in frames a second."""
    own_TJ33 = matrices(frames_TC)
    angles = [to_angles(own_TJ33[:, joint], skeleton.order(joint)) for joint in range(len(skeleton.names))]
    numbers = np.concatenate([np.asarray(frames_TC[:, :3], dtype=np.float64), *angles], 1)
    lines = "\n".join(" ".join(f"{number:.6f}" for number in row) for row in numbers.tolist())
    return f"{hierarchy(skeleton)}MOTION\nFrames: {len(numbers)}\nFrame Time: {1 / rate:.8f}\n{lines}\n"


def _spelt(vector: Vector) -> str:
    return " ".join(f"{number:.6f}" for number in vector)


def _after(line: str, name: str) -> float:
    """The number behind `name` in a line."""
    head, found, number = line.strip().partition(name)
    if not found or head:
        raise DataError(f"cannot read motion: `{line.strip()[:40]}` where `{name}` belongs in the BVH")
    return _number(number.strip(), name)


def _number(word: str, what: str) -> float:
    try:
        found = float(word)
    except ValueError:
        raise DataError(f"cannot read motion: `{word[:40]}` is no number for {what} of the BVH") from None
    if not np.isfinite(found):
        raise DataError(f"cannot read motion: `{word[:40]}` is no finite number for {what} of the BVH")
    return found
