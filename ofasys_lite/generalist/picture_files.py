"""Pictures among a prediction's values: found, named, written as files, replaced where JSON is wanted."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.writing import behind, claim_file, holds, write_atomic

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["ENDINGS", "brief", "is_picture", "picture_place", "pictures_in", "replaced", "save_picture", "written"]

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


def is_picture(value: Any) -> bool:
    """Whether the value is a PIL image."""
    return hasattr(value, "getbbox")


def brief(image: Image.Image) -> str:
    """What stands for a picture in text: `<image 16 x 16>`."""
    return f"<image {image.width} x {image.height}>"


def pictures_in(value: Any, name: str = "") -> Iterator[tuple[str, Image.Image]]:
    """(name, picture) of every picture in a value; the name is the way to it: `img`, or `pages-0-img` in a group."""
    if is_picture(value):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from pictures_in(inner, f"{name}-{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from pictures_in(inner, f"{name}-{number}" if name else str(number))


def replaced(value: Any, by: Callable[[str, Image.Image], str], name: str = "") -> Any:
    """The value with `by(name, picture)` in the place of each picture."""
    if is_picture(value):
        return by(name, value)
    if isinstance(value, Mapping):
        return {key: replaced(inner, by, f"{name}-{key}" if name else str(key)) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(inner, by, f"{name}-{n}" if name else str(n)) for n, inner in enumerate(value)]
    return value


def picture_place(path: str | Path) -> Path:
    """Where a picture is written: `path`, with `.png` if it has no ending; DataError if no picture ends like that."""
    from PIL import Image

    place = Path(path)
    place = place if place.suffix else place.with_name(f"{place.name}.png")
    if place.suffix.lower() not in Image.registered_extensions():
        help = did_you_mean(place.suffix, ENDINGS, "such as")
        raise DataError(f"cannot write {place}: no picture ends like that", help=help)
    return place


def save_picture(image: Image.Image, path: str | Path, overwrite: bool = False) -> Path:
    """Writes a picture; the path, `.png` where it has no ending.

    Raises:
        DataError: No picture ends like that.
        WriteError: The file is there and `overwrite` is not said, or it cannot be written.
    """
    from PIL import Image

    place, data = picture_place(path), io.BytesIO()
    image.save(data, format=Image.registered_extensions()[place.suffix.lower()])
    if not holds(place, data.getvalue()):
        claim_file(place, overwrite, flag="overwrite=True")
        write_atomic(behind(place), data.getvalue())
    return place


def written(
    values: Mapping[str, Any], folder: Path, stem: str, whole: bool = False, overwrite: bool = False
) -> dict[str, Any]:
    """The values with pictures written to `folder` and their file names (`whole`: paths) in their place.

    The only picture is `STEM.png`, several are `STEM-column.png`.
    """
    several = len(list(pictures_in(values))) > 1

    def by(name: str, image: Image.Image) -> str:
        path = save_picture(image, folder / f"{stem}{'-' + name if several else ''}.png", overwrite)
        return str(path) if whole else path.name

    found: dict[str, Any] = replaced(dict(values), by)
    return found
