"""What a picture's header says, for checks: its size, how much it is reduced, how many pictures a file holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ofasys_lite.preprocess.base import Look
from ofasys_lite.preprocess.media import setting


def header_check(value: Any, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    """(height, width) by the header of the image that `value` holds, None where it lies elsewhere; DataError if none.

    Relative paths are looked up in `settings["folder"]`.
    """
    from ofasys_lite.preprocess.image_decode import header_size

    if _elsewhere(value, settings):
        return None
    most = setting(settings, "max_megapixels", 100.0, 1e-6)
    found: tuple[int, int] = header_size(value, settings.get("folder"), most)
    return found


def look_at_image(
    value: Any,
    settings: Mapping[str, Any],
    target: Callable[[int, int], tuple[int, int]],
    most: int | None,
    whole: bool,
) -> Look:
    """What `Preprocess.look` says of an image.

    Args:
        settings: As `check` has them.
        target: (height, width) it is resized to, of (height, width).
        most: Pixels above which it is reduced, which is worth a remark.
    """
    from ofasys_lite.preprocess.image_decode import open_image, pages, resized, turned

    if _elsewhere(value, settings):
        return Look()
    image = open_image(value, settings.get("folder"), setting(settings, "max_megapixels", 100.0, 1e-6))
    try:
        orientation = turned(image)
        width, height = image.size if orientation < 5 else image.size[::-1]
        high, wide = target(height, width)
        remarks = []
        if most is not None and width * height > most and (high, wide) != (height, width):
            remarks.append((f"max_pixels={most} reduces", f"{width} x {height} to {wide} x {high}"))
        if (count := pages(image)) > 1:
            remarks.append(("the first of several pictures is read in", f"one of {count}"))
        if whole:
            resized(image, high, wide, orientation, draft=image is not value)
    finally:
        if image is not value:
            image.close()
    return Look((width, height), width * height, tuple(remarks))


def _elsewhere(value: Any, settings: Mapping[str, Any]) -> bool:
    """True for texts that need a folder or a network to be looked at, as far as `check` may know."""
    if isinstance(value, Mapping) and value.get("bytes") is None:
        value = value.get("path")
    if not isinstance(value, str):
        return False
    is_url = "://" in value[:16] and not value.startswith("file://")
    relative = settings.get("folder") is None and not value.startswith("/") and len(value) < 256
    return is_url or (relative and not value.startswith("data:"))
