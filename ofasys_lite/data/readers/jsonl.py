"""jsonl: one object per line, with random access; json: one list of objects, or COCO's, held in memory."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.data.file_access import DataFile, is_url
from ofasys_lite.data.readers.lines import Progress, check_encoding, decode, record_offsets
from ofasys_lite.data.readers.memory import ListSource
from ofasys_lite.data.source import RowSource, combined, row_error
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.doubled import Doubled, read_json

# columns are those of the first rows together: a row may leave some out
_LOOK = 1000
_HELP = 'each line holds one row, such as {"image": "a.png", "answer": "red"}'


class JsonLinesSource(RowSource):
    """Rows of a jsonl file; its columns are the keys met in the first 1000 rows.

    Raises:
        DataError: If it is empty, or its first line is no object.
    """

    def __init__(self, file: DataFile, encoding: str = "utf-8", progress: Progress | None = None) -> None:
        self.file = file
        digest = file.digest()
        self.encoding = check_encoding(encoding, file.name)
        self._fingerprint = combined("jsonl", digest, self.encoding)
        self.name = file.name
        self.base = file.folder
        self._records = record_offsets(file, digest, progress=progress)
        if not len(self._records):
            raise DataError(f"{file.name} is empty", help=_HELP)
        self.columns = ()
        names = dict.fromkeys(self.row(0))
        for i in range(1, min(len(self), _LOOK)):
            try:
                names.update(dict.fromkeys(self.row(i)))
            except DataError:
                continue  # a broken row is reported where it is used
        self.columns = tuple(names)

    def __len__(self) -> int:
        return len(self._records)

    def row(self, i: int) -> dict[str, Any]:
        """Row `i`: what its JSON object holds; DataError if a key stands twice that did not so in the first rows."""
        start, stop = self._records[self.check_row(i)].tolist()
        return line_row(self.file.read(start, stop), self.encoding, self.place(i), self.columns)


def line_row(record: bytes, encoding: str, place: str, columns: Collection[str]) -> dict[str, Any]:
    """The object of one line.

    Args:
        columns: Keys of the rows before; none where there were none.

    Raises:
        DataError: With the place, if it is none, or a key stands twice that did not so in the rows before.
    """
    found = _parse(record, encoding, place)
    if not isinstance(found, Doubled):
        return found
    if columns and not found.keys() <= set(columns):
        error = found.error()
        raise DataError(f"{place}: {error.message}", help=error.help)
    return dict(found)  # columns that stand twice are told of by those who look for them


def _help_for(text: str) -> str:
    """What to do about a line that is no JSON, by the forms that are often taken for lines of JSON."""
    if text in ("{", "[", "[{"):
        return f"{_HELP}; an object over several lines is none: write a list of them, [...], and give `format: json`"
    if text.endswith("},"):
        return f"{_HELP}; without a comma behind it"
    return _HELP


def _parse(record: bytes, encoding: str, place: str) -> dict[str, Any]:
    """The object of one line; DataError with the place if it is none."""
    text = decode(record, encoding, place)
    try:
        found = read_json(text)
    except json.JSONDecodeError as error:
        shown = text[max(0, error.pos - 20) : error.pos + 20]
        what = f"bad JSON at character {error.pos + 1}: {error.msg} (near `{shown}`)"
        raise row_error(place, what, help=_help_for(text.strip())) from None
    except ValueError as error:  # numbers of thousands of digits, lists in lists in lists
        raise row_error(place, f"bad JSON: {error}", help=_HELP) from None
    if not isinstance(found, dict):
        raise row_error(place, f"found {type(found).__name__} `{text[:40]}`, not an object", help=_HELP)
    return found


def json_source(file: DataFile) -> ListSource:
    """The rows of a json file that holds one list of objects.

    Raises:
        DataError: If it is not JSON, not a list, or an element is no object.
    """
    with file.open() as handle:
        content = handle.read()
    if not content.strip():
        raise DataError(f"{file.name} is empty", help="it holds one list of objects, or is a jsonl file")
    try:
        rows = read_json(content)
    except ValueError as error:
        where = str(error)
        if isinstance(error, json.JSONDecodeError):
            where = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise DataError(
            f"{file.name}: bad JSON at {where}", help="for one object per line give `format: jsonl`"
        ) from None
    if is_coco(rows):
        return coco_source(file, rows)
    key, rows = _listed(rows)
    if not isinstance(rows, list):
        help = (
            'write [{"a": 1}, {"a": 2}] (pandas: to_json(orient="records")), '
            'or COCO\'s {"images": [...], "annotations": [...], "categories": [...]}'
        )
        raise DataError(f"{file.name} holds one {type(rows).__name__}, not a list of rows", help=help)
    source = ListSource(rows, file.name, base=file.folder, fingerprint=combined("json", file.digest()))
    source.notes = (f"{file.name}: its rows are the list `{key}`",) if key else ()
    return source


def _listed(content: Any) -> tuple[str, Any]:
    """(key, rows) where an object holds one list of objects, as `{"version": 1, "data": [...]}`; else as it is."""
    if not isinstance(content, dict):
        return "", content
    lists = [key for key, value in content.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    return (lists[0], content[lists[0]]) if len(lists) == 1 else ("", content)


def is_coco(content: Any) -> bool:
    """True for a json object with lists of images and of annotations."""
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in ("images", "annotations"))


def coco_source(file: DataFile, content: Mapping[str, Any]) -> ListSource:
    """Rows `id`, `file`, `width`, `height` and `objects` (records `box`, `label`), and `captions` where there are some.

    Boxes are corners (x0, y0, x1, y1) in pixels. Crowds (`iscrowd`) and what has neither box nor caption are left out.

    Raises:
        DataError: An image without id or file, an annotation without image, a box of another form.
    """
    rows = {}
    for number, image in enumerate(content["images"], 1):
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            raise DataError(f"{file.name}: image {number} has no `id` or no `file_name`", help="it is not COCO's form")
        sizes = {key: image[key] for key in ("width", "height") if key in image}
        if image["id"] in rows:
            what = f"{file.name}: image {number} has the `id` of another, {image['id']}"
            raise DataError(what, help="it is not COCO's form: ids are unique")
        rows[image["id"]] = {"id": str(image["id"]), "file": image["file_name"], **sizes, "objects": []}
    names = {
        each.get("id"): str(each.get("name")) for each in content.get("categories") or () if isinstance(each, dict)
    }
    left: Counter[str] = Counter()
    objects = 0
    for number, each in enumerate(content["annotations"], 1):
        place = f"{file.name}, annotation {number}"
        row = rows.get(each.get("image_id")) if isinstance(each, dict) else None
        if row is None:
            raise DataError(f"{place}: its `image_id` is of no image", help="it is not COCO's form, or cut off")
        if each.get("iscrowd"):
            left["crowds"] += 1
        elif "bbox" in each:
            row["objects"].append(_annotated(each, names, place))
            objects += 1
        elif not isinstance(each.get("caption"), str):
            left["annotations without `bbox`"] += 1
        if isinstance(each.get("caption"), str):
            row.setdefault("captions", []).append(each["caption"])
    source = ListSource(
        list(rows.values()), file.name, _pictures(file, rows), combined("coco-1", file.digest(), file.folder)
    )
    source.notes = tuple(_told(file, source, objects, len(names), left))
    return source


def _annotated(annotation: Mapping[str, Any], names: Mapping[Any, str], place: str) -> dict[str, Any]:
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


def _told(file: DataFile, source: ListSource, objects: int, classes: int, without: Mapping[str, int]) -> Iterator[str]:
    said = ", ".join(f"{count:,} {what}" for what, count in without.items())
    left = f" ({said} left out)" if said else ""
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
