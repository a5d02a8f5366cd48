"""Pictures with classes for benchmarks: OpenMoji's drawings by category, Tux Paint's stamps by folder; split by motif.

Legend: N pictures.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ofasys_lite.recipes import emoji
from ofasys_lite.recipes.fetch import Wheels, fetch, pinned
from ofasys_lite.recipes.preparation import cache_folder, describe
from ofasys_lite.recipes.recipe import Limits, split_of

#: Pixels of both sides of a picture.
SIDE = 96
#: Stamps of these folders are letters and signs; classes with fewer pictures than this are left out.
_LETTERS, _FEWEST = "symbols/alphabets", 15

Rows = Mapping[str, list[dict[str, Any]]]


def emojis() -> Rows:
    """OpenMoji's drawings by category, nine of them, with the recipe's own split: variants of a motif in one."""
    sources = {source.package: source for source in describe("emoji").sources}
    cache = cache_folder()
    paths = {name: fetch(pinned(name), cache) for name in sources}
    built = emoji.build(Wheels(paths, cache), Limits(10_000, 10_000, 10_000), SIDE)
    return {split: [_row(r["image"], r["label"], r["group"]) for r in rows] for split, rows in built.splits.items()}


def stamps(folder: Path) -> Rows:
    """Tux Paint's stamps (photographs and drawings) by their first folder; 50 % train, 10 % valid, 40 % test.

    Args:
        folder: `usr/share/tuxpaint/stamps` of Debian's tuxpaint-stamps-default, unpacked.
    """
    found = list[dict[str, Any]]()
    for path in sorted(folder.rglob("*.png")):
        place = path.relative_to(folder).as_posix()
        if not place.startswith(_LETTERS) and "/" in place and not path.stem.endswith("_mirror"):
            found.append(_row(_square(path), place.split("/")[0], _motif(path)))
    counts = Counter(row["label"] for row in found)
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "valid": [], "test": []}
    for row in found:
        if counts[row["label"]] >= _FEWEST:
            splits[split_of(f"stamp {row['group']}", (50, 10, 40))].append(row)
    return splits


def _row(image: bytes, label: str, group: str) -> dict[str, Any]:
    return {"image": image, "label": label, "group": group}


def _motif(path: Path) -> str:
    """What is shown: the English caption's last word, so that all penguins are in one split; else the file's name."""
    text = path.with_suffix(".txt")
    line = text.read_text(encoding="utf-8", errors="replace").partition("\n")[0] if text.is_file() else path.stem
    words = re.findall(r"[a-z]+", line.lower()) or [path.stem.lower()]
    return words[-1]


def _square(path: Path) -> bytes:
    """The picture on white, within a square, as PNG."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    image.thumbnail((SIDE, SIDE), Image.Resampling.BICUBIC)
    whole = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 255))
    whole.alpha_composite(image, ((SIDE - image.width) // 2, (SIDE - image.height) // 2))
    buffer = io.BytesIO()
    whole.convert("RGB").save(buffer, format="PNG")
    return buffer.getvalue()
