"""Motion capture with words: the 15 clips of one human that the pybullet wheel ships, at several speeds and mirrored.

Frames are those of MOTION with a skeleton: the root's position, and the first two columns of each joint's rotation
(arXiv 1812.07035). The skeleton, DeepMimic's (arXiv 1804.02717), stands beside the rows as `skeleton.bvh`.
Shapes: T frames, J joints.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, numbered

MEMBER = "pybullet_data/data/motions/humanoid3d_{}.txt"
RATE = 15.0
LONGEST = 60
#: File -> what is said of it.
TEXTS = {
    "backflip": "a backflip",
    "cartwheel": "a cartwheel",
    "crawl": "crawling on hands and feet",
    "dance_a": "a dance with swinging arms",
    "dance_b": "a dance on the spot",
    "getup_facedown": "getting up from the belly",
    "getup_faceup": "getting up from the back",
    "jump": "a jump",
    "kick": "a kick",
    "punch": "a punch",
    "roll": "a roll on the floor",
    "run": "running",
    "spin": "a spin in the air",
    "spinkick": "a kick in a spin",
    "walk": "walking",
}
#: Speeds of each split; every clip is there in all of them, as it is and mirrored.
SPEEDS = {"train": (0.8, 0.88, 0.94, 1.0, 1.06, 1.12, 1.2), "valid": (0.91,), "test": (0.97, 1.15)}
#: Joint -> parent, offset from it in metres, numbers of the file (a quaternion or an angle about z).
JOINTS: dict[str, tuple[str, tuple[float, float, float], int]] = {
    "root": ("", (0.0, 0.0, 0.0), 4),
    "chest": ("root", (0.0, 0.236151, 0.0), 4),
    "neck": ("chest", (0.0, 0.223894, 0.0), 4),
    "right_hip": ("root", (0.0, 0.0, 0.084887), 4),
    "right_knee": ("right_hip", (0.0, -0.421546, 0.0), 1),
    "right_ankle": ("right_knee", (0.0, -0.40987, 0.0), 4),
    "right_shoulder": ("chest", (-0.02405, 0.2435, 0.18311), 4),
    "right_elbow": ("right_shoulder", (0.0, -0.274788, 0.0), 1),
    "left_hip": ("root", (0.0, 0.0, -0.084887), 4),
    "left_knee": ("left_hip", (0.0, -0.421546, 0.0), 1),
    "left_ankle": ("left_knee", (0.0, -0.40987, 0.0), 4),
    "left_shoulder": ("chest", (-0.02405, 0.2435, -0.18311), 4),
    "left_elbow": ("left_shoulder", (0.0, -0.274788, 0.0), 1),
}
ENDS = {
    "neck": (0.0, 0.175, 0.0),
    **dict.fromkeys(("right_ankle", "left_ankle"), (0.13, -0.04, 0.0)),
    **dict.fromkeys(("right_elbow", "left_elbow"), (0.0, -0.258947, 0.0)),
}
_PLACES, _TURNS = "Xposition Yposition Zposition", "Zrotation Xrotation Yrotation"


def order() -> list[str]:
    """The joints as a BVH has them: each behind its parent and what hangs on its sisters before it."""
    found = list[str]()

    def visit(name: str) -> None:
        found.append(name)
        for child, (parent, _, _) in JOINTS.items():
            if parent == name:
                visit(child)

    visit("root")
    return found


def skeleton() -> str:
    """The HIERARCHY of a BVH file."""

    def joint(name: str, depth: int) -> list[str]:
        channels = f"3 {_TURNS}" if depth else f"6 {_PLACES} {_TURNS}"
        lines = [f"{'JOINT' if depth else 'ROOT'} {name}", "{", _offset(JOINTS[name][1]), f"CHANNELS {channels}"]
        for child, (parent, _, _) in JOINTS.items():
            lines += joint(child, depth + 1) if parent == name else []
        lines += ["End Site", "{", _offset(ENDS[name]), "}"] if name in ENDS else []
        return [*lines, "}"]

    return "\n".join(["HIERARCHY", *joint("root", 0)]) + "\n"


def _offset(vector: tuple[float, float, float]) -> str:
    return "OFFSET " + " ".join(f"{number:g}" for number in vector)


def frames(content: dict[str, Any], speed: float) -> NDArray[np.float64]:
    """(T, 3 + 6 J) of a clip at RATE, played at a speed."""
    given = np.array(content["Frames"], dtype=np.float64)
    times = np.arange(len(given)) * given[0, 0]
    columns = {}
    place = 4
    for name, (_, _, width) in JOINTS.items():
        columns[name] = _columns(given[:, place : place + width])
        place += width
    whole = np.concatenate([given[:, 1:4], *(columns[name] for name in order())], 1)
    wanted = np.arange(min(LONGEST, math.floor(times[-1] / speed * RATE) + 1)) / RATE * speed
    return np.stack([np.interp(wanted, times, column) for column in whole.T], 1)


def _columns(given: NDArray[np.float64]) -> NDArray[np.float64]:
    """(T, 6) the first two columns of rotations given as quaternions (w, x, y, z) or as angles about z."""
    if given.shape[1] == 1:
        cos, sin, no = np.cos(given[:, 0]), np.sin(given[:, 0]), np.zeros(len(given))
        return np.stack([cos, sin, no, -sin, cos, no], 1)
    w, x, y, z = (given / np.linalg.norm(given, axis=1, keepdims=True)).T
    first = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
    second = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    return np.stack([*first, *second], 1)


def mirrored(clip: NDArray[np.float64]) -> NDArray[np.float64]:
    """Left and right changed: the axis z turned round."""
    names = order()
    other = {"left": "right", "right": "left"}
    found: NDArray[np.float64] = clip.copy()
    found[:, 2] *= -1
    for number, name in enumerate(names):
        side, _, rest = name.partition("_")
        twin = names.index(f"{other[side]}_{rest}") if side in other else number
        # with S = diag(1, 1, -1) the rotation R becomes S R S
        found[:, 3 + 6 * number : 9 + 6 * number] = clip[:, 3 + 6 * twin : 9 + 6 * twin] * [1, 1, -1, 1, 1, -1]
    return found


def build(wheels: Wheels, limits: Limits) -> Built:
    """A row for every clip, speed and side."""
    parts: dict[str, list[Row]] = {split: [] for split in SPEEDS}
    for name, text in TEXTS.items():
        content = json.loads(wheels.read("pybullet", MEMBER.format(name)))
        for split, speeds in SPEEDS.items():
            for speed in speeds:
                clip = frames(content, speed)
                for words, own in ((text, clip), (f"{text}, mirrored", mirrored(clip))):
                    rounded = np.round(own, 4).tolist()
                    parts[split].append({"group": f"{name}-{speed}", "text": words, "motion": name, "clip": rounded})
    return Built(numbered("mocap", parts, limits), {"skeleton.bvh": skeleton().encode()})
