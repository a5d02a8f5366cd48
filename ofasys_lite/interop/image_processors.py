"""How a house brings pictures to its tower: preprocessor_config.json of Hugging Face as settings of IMAGE's card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.errors import CheckpointError

#: What no house brings of an image adapter: rows of hidden cells, where cells lie, the last norm, the map to the
#: model's width; and what only runs with clips, or with `loss=mae`, have.
FRESH, SOMETIMES = ("mask", "place.", "norm.", "project."), ("motion.", "rebuilder.")
#: Pillow's numbers.
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}


@dataclass(frozen=True, slots=True)
class Pictures:
    """What a house does where no file says it.

    Attributes:
        mean: Of pixels of 0 to 1.
        deviation: Likewise.
        resample: Name of Pillow's filter.
        cut: The shorter side is resized and the middle cut out; else the picture is squeezed.
        bounds: Fewest and most pixels of a picture that keeps its proportions; None where all have one size.
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    resample: str
    cut: bool = False
    bounds: tuple[int, int] | None = None


def pictures_of(path: Path, plain: Pictures, pixels: int | None, cell: int, sized: bool) -> dict[str, Any]:
    """Settings of IMAGE: `size`, `crop`, `resample`, `min_pixels`, `max_pixels`, `pixel_mean`, `pixel_deviation`.

    Args:
        path: A folder, which may hold preprocessor_config.json; or a file.
        pixels: Sides of the pictures that the tower learned with.
        cell: Pixels a row is wide.
        sized: All pictures have one size; where that is no multiple of the cell, the next smaller one.

    Raises:
        CheckpointError: The file is damaged, or says something that no setting covers.
    """
    said = _read(path)
    mean, deviation = said.get("image_mean", plain.mean), said.get("image_std", plain.deviation)
    for key, value in (("image_mean", mean), ("image_std", deviation)):
        if (
            not isinstance(value, (list, tuple))
            or len(value) != 3
            or not all(isinstance(x, (int, float)) for x in value)
        ):
            raise CheckpointError(f"{path}: `{key}` of preprocessor_config.json is {value!r}", help="three numbers")
    if said.get("do_normalize", True) is False:
        mean, deviation = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    factor = said.get("rescale_factor", 1 / 255)
    if said.get("do_rescale", True) is False or not isinstance(factor, float) or abs(factor * 255 - 1) > 1e-3:
        told = f"{path}: preprocessor_config.json does not bring pixels to 0 to 1"
        raise CheckpointError(told, help="do_rescale: true and rescale_factor: 1 / 255 are read")
    resample = said.get("resample", plain.resample)
    name = _FILTERS.get(resample, "") if isinstance(resample, int) else str(resample)
    if name not in _FILTERS.values():
        raise CheckpointError(f"{path}: `resample` of preprocessor_config.json is {resample!r}", help=str(_FILTERS))
    found: dict[str, Any] = {"pixel_mean": list(mean), "pixel_deviation": list(deviation), "resample": name}
    if not sized:
        return {**found, "size": None, "crop": None, **_bounds(said, plain, path)}
    side = _side(said, "crop_size") if said.get("do_center_crop", plain.cut) else None
    whole = _side(said, "size")
    size = side or (whole if not said.get("do_center_crop", plain.cut) else None) or pixels or cell
    crop = (whole or size) if said.get("do_center_crop", plain.cut) else None
    return {**found, "size": max(cell, size // cell * cell), "crop": crop, "min_pixels": None, "max_pixels": None}


def _read(path: Path) -> Mapping[str, Any]:
    file = path / "preprocessor_config.json"
    if not path.is_dir() or not file.is_file():
        return {}
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file} is damaged: {error}", help="copy it again") from None
    if not isinstance(found, dict):
        raise CheckpointError(f"{file} is damaged: it holds no mapping", help="copy it again")
    return {key: value for key, value in found.items() if value is not None}


def _side(said: Mapping[str, Any], key: str) -> int | None:
    """Pixels of both sides, or of the shorter one; None where nothing is said."""
    value = said.get(key)
    if isinstance(value, Mapping):
        sides = {value[k] for k in ("height", "width", "shortest_edge") if k in value}
        if len(sides) != 1:
            help = "pictures that are not square are not read"
            raise CheckpointError(f"`{key}` of preprocessor_config.json is {dict(value)}", help=help)
        value = sides.pop()
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise CheckpointError(f"`{key}` of preprocessor_config.json is {value!r}", help="a number of pixels")
    return value


def _bounds(said: Mapping[str, Any], plain: Pictures, path: Path) -> dict[str, int]:
    """`min_pixels` and `max_pixels`, which newer files hold under `size`."""
    size = said.get("size")
    newer: Mapping[str, Any] = size if isinstance(size, Mapping) else {}
    low, high = plain.bounds or (1, 1)
    least = said.get("min_pixels", newer.get("shortest_edge", low))
    most = said.get("max_pixels", newer.get("longest_edge", high))
    if not all(isinstance(n, int) and n > 0 for n in (least, most)) or least > most:
        told = f"{path}: preprocessor_config.json asks for {least} to {most} pixels"
        raise CheckpointError(told, help="two whole numbers, the smaller one first")
    return {"min_pixels": least, "max_pixels": most}
