"""COCO's json of images and annotations: a row per image, its boxes and labels as a list of records."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.data.file_access import DataFile, is_url
from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.source import combined
from ofasys_lite.errors import DataError


def is_coco(content: Any) -> bool:
    """True for a json object with lists of images and of annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def coco_source(file: DataFile, content: Mapping[str, Any]) -> ListSource:
    """Rows `id`, `file`, `width`, `height` and `objects` (records `box`, `label`), and `captions` where there are some.

    Boxes are corners (x0, y0, x1, y1) in pixels. Crowds (`iscrowd`) are left out.

    Raises:
        DataError: An image without id or file, an annotation without image, a box of another form.
    """
    rows = {}
    for number, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise DataError(f"{file.name}: image {number} has no `id` or no `file_name`", help="it is not COCO's form")
        sizes = {key: image[key] for key in ("width", "height") if key in image}
        rows[image["id"]] = {"id": str(image["id"]), "file": image["file_name"], **sizes, "objects": []}
    names = {
        each.get("id"): str(each.get("name")) for each in content.get("categories") or () if isinstance(each, dict)
    }
    crowds = objects = 0
    for number, each in enumerate(content["annotations"], 1):
        place = f"{file.name}, annotation {number}"
        row = rows.get(each.get("image_id")) if isinstance(each, dict) else None
        if row is None:
            raise DataError(f"{place}: its `image_id` is of no image", help="it is not COCO's form, or cut off")
        if each.get("iscrowd"):
            crowds += 1
        elif "bbox" in each:
            row["objects"].append(_object(each, names, place))
            objects += 1
        if isinstance(each.get("caption"), str):
            row.setdefault("captions", []).append(each["caption"])
    source = ListSource(
        list(rows.values()), file.name, _pictures(file, rows), combined("coco-1", file.digest(), file.folder)
    )
    source.notes = tuple(_told(file, source, objects, len(names), crowds))
    return source


def _object(annotation: Mapping[str, Any], names: Mapping[Any, str], place: str) -> dict[str, Any]:
    """One record: corners and the category's name."""
    try:
        x, y, width, height = (float(number) for number in annotation["bbox"])
    except (TypeError, ValueError):
        raise DataError(f"{place}: `bbox` is {annotation['bbox']!r:.60}", help="[x, y, width, height]") from None
    record: dict[str, Any] = {"box": [x, y, round(x + width, 3), round(y + height, 3)]}
    if "category_id" in annotation:
        name = names.get(annotation["category_id"])
        if name is None:
            raise DataError(f"{place}: category {annotation['category_id']!r} has no name", help="see `categories`")
        record["label"] = name
    return record


def _told(file: DataFile, source: ListSource, objects: int, classes: int, crowds: int) -> Iterator[str]:
    left = f" ({crowds:,} crowds left out)" if crowds else ""
    yield (
        f"{file.name} is COCO's: {len(source):,} images, {objects:,} objects of {classes} classes{left}; "
        f"columns {', '.join(source.columns)}; boxes are corners in pixels"
    )
    if source.base != file.folder:
        yield f"{file.name}: its images are taken from {source.base} (media: names another folder)"


def _pictures(file: DataFile, rows: Mapping[Any, Mapping[str, Any]]) -> str:
    """The folder that the images' paths start from: the file's, or one beside it in which the first image is."""
    first = next((row["file"] for row in rows.values()), "")
    if is_url(file.folder) or not first or os.path.exists(os.path.join(file.folder, first)):
        return file.folder
    here = Path(file.folder)
    above = here.resolve().parent if here == Path(".") else here.parent
    places = [*_folders(here), above, *_folders(above), *_folders(above / "images"), *_folders(here / "images")]
    return next((str(place) for place in places if (place / first).is_file()), file.folder)


def _folders(place: Path) -> list[Path]:
    try:
        return sorted(one for one in place.iterdir() if one.is_dir())
    except OSError:
        return []
