"""One-coloured pictures with their names, and lines that align them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ofasys_lite.run.run_folder import RunFolder

SORT = "[IMAGE:img] <-> a photo of a [TEXT:label,closed_set,loss=siglip(block=8)]"
PAIRS = "[IMAGE:img,loss={}] <-> a photo of [TEXT:cap]"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 50, 230), "white": (250, 250, 250)}


def rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """One-coloured pictures of some brightness, named; no two are alike."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        label = sorted(COLOURS)[number % 4]
        pixels = np.clip(np.array(COLOURS[label]) + rng.integers(-25, 25, (16, 16, 3)), 0, 255).astype(np.uint8)
        found.append({"id": f"r{seed}-{number}", "img": pixels, "cap": f"a {label} one", "label": label, "n": number})
    return found


def told_apart(count: int) -> list[dict[str, Any]]:
    """The same with a caption of its own each."""
    return [{**row, "cap": f"{row['cap']} {row['n']}"} for row in rows(count)]


DATA = {"train": rows(64), "valid": rows(12, 1), "test": rows(24, 2)}


def logged(folder: Path, kind: str, task: str) -> list[dict[str, Any]]:
    return [r for r in RunFolder(folder).history() if r["kind"] == kind and r.get("task") == task]
