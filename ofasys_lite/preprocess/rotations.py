"""Rotations in three forms: angles about axes, matrices, and the six numbers of arXiv 1812.07035.

Shapes: ... any, K angles of one rotation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.float64]


def turned_about(axis: int, degrees: Doubles) -> Doubles:
    """(..., 3, 3) rotations about one axis (0, 1, 2: x, y, z)."""
    angles = np.radians(degrees)
    one, two = (axis + 1) % 3, (axis + 2) % 3
    found = np.zeros((*angles.shape, 3, 3))
    found[..., axis, axis] = 1.0
    found[..., one, one] = found[..., two, two] = np.cos(angles)
    found[..., two, one] = np.sin(angles)
    found[..., one, two] = -found[..., two, one]
    return found


def from_angles(degrees_K: Doubles, axes: Sequence[int]) -> Doubles:
    """(..., 3, 3) of angles (..., K) in degrees: the product of their rotations in the order given, as BVH has it."""
    found = np.broadcast_to(np.eye(3), (*degrees_K.shape[:-1], 3, 3))
    for place, axis in enumerate(axes):
        found = found @ turned_about(axis, degrees_K[..., place])
    return found


def to_angles(matrices: Doubles, axes: Sequence[int]) -> Doubles:
    """(..., 3) angles in degrees about three different axes, of which `from_angles` makes the matrices again."""
    i, j, k = axes
    sign = 1.0 if (j - i) % 3 == 1 else -1.0
    middle = np.arcsin(np.clip(sign * matrices[..., i, k], -1, 1))
    first = np.arctan2(-sign * matrices[..., j, k], matrices[..., k, k])
    last = np.arctan2(-sign * matrices[..., i, j], matrices[..., i, i])
    # the middle one at a quarter turn: the outer two turn about the same axis, and the last may be none
    locked = np.abs(matrices[..., i, k]) > 1 - 1e-10
    first = np.where(locked, np.arctan2(sign * matrices[..., k, j], matrices[..., j, j]), first)
    return np.asarray(np.degrees(np.stack([first, middle, np.where(locked, 0.0, last)], -1)))


def to_six(matrices: Doubles) -> Doubles:
    """(..., 6) the first two columns of rotations: continuous, as no three or four numbers are (arXiv 1812.07035)."""
    return np.concatenate([matrices[..., 0], matrices[..., 1]], -1)


def from_six(six_numbers: npt.NDArray[np.floating]) -> Doubles:
    """(..., 3, 3) the rotation nearest to six numbers in the sense of Gram and Schmidt; any numbers give one."""
    six: Doubles = np.asarray(six_numbers, dtype=np.float64)
    first, rest = six[..., :3], six[..., 3:]
    # two columns that vanish or are parallel say nothing: the axes are taken for them
    first = _unit(first, (1.0, 0.0, 0.0))
    rest = rest - (first * rest).sum(-1, keepdims=True) * first
    smallest = np.eye(3)[np.abs(first).argmin(-1)]
    spare = smallest - (first * smallest).sum(-1, keepdims=True) * first
    second = _unit(rest, spare / np.linalg.norm(spare, axis=-1, keepdims=True))
    return np.stack([first, second, np.cross(first, second)], -1)


def _unit(vectors: Doubles, otherwise: Doubles | tuple[float, ...]) -> Doubles:
    """Vectors of length 1; `otherwise` for those that have none."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(lengths > 1e-8, vectors / np.maximum(lengths, 1e-8), otherwise)
