"""A contact sheet of a prepared data set: pictures with their boxes, sounds drawn, texts and records written out."""

from __future__ import annotations

import colorsys
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.recipes.prepared_folders import Manifest, load_manifest, read_split
from ofasys_lite.recipes.recipe import Row
from ofasys_lite.writing.contact_sheet import ContactSheet, font

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image

COLUMNS = 4  # cells in a row
SHEET = ContactSheet(width=250, gap=10, lines=6)
HEAD = ContactSheet(width=COLUMNS * (SHEET.width + SHEET.gap) - SHEET.gap, gap=SHEET.gap, lines=2)
PICTURE = 192  # smallest height of an enlarged picture, in pixels
WAVE, SPECTROGRAM = 44, 80  # heights in pixels
HIDDEN = ("id", "group")


def contact_sheet(folder: Path, split: str, path: Path, rows: int = 24) -> Path:
    """The written PNG: `rows` rows spread evenly over a split, each in a cell with all its columns.

    Raises:
        DataError: The folder is not prepared, has no such split, or no row is asked for.
    """
    if rows < 1:
        raise DataError(f"a contact sheet of {rows} rows shows nothing", help="ask for at least 1 row")
    manifest = load_manifest(folder)
    found = read_split(folder, split)
    shown = [found[place * len(found) // rows] for place in range(rows)] if len(found) > rows else found
    counts = ", ".join(f"{name} {count:,}" for name, count in manifest.splits.items())
    title = HEAD.text(f"{manifest.recipe}: {manifest.title}", "#111111", 16)
    about = HEAD.text(f"{len(shown)} rows of {split} ({counts}) - {manifest.licence}", "#444444", 13)
    return SHEET.save([_cell(row, manifest) for row in shown], path, COLUMNS, HEAD.cell([title, about]))


def _cell(row: Row, manifest: Manifest) -> Image:
    """One row as a white card: pictures and sounds first, then each other column by name."""
    kinds = {name: kind for name, kind in manifest.columns.items() if name not in HIDDEN}
    boxes = _boxes(row, kinds)
    parts = [_picture(row[name], boxes) for name, kind in kinds.items() if kind == "image"]
    parts += [_film(row[name]) for name, kind in kinds.items() if kind == "video"]
    parts += [_sound(row[name]) for name, kind in kinds.items() if kind == "audio"]
    for name, kind in kinds.items():
        if kind not in ("image", "video", "audio"):
            parts += [SHEET.text(name, "#888888", 11), SHEET.text(_written(row[name], kind), "#111111", 13)]
    return SHEET.cell(parts)


def _boxes(row: Row, kinds: dict[str, str]) -> list[tuple[Sequence[float], str]]:
    found: list[tuple[Sequence[float], str]] = []
    for name, kind in kinds.items():
        if kind == "box":
            found.append((row[name], str(row.get("label", ""))))
        elif kind == "objects":
            found += [(each["box"], each["label"]) for each in row[name]]
    return found


def _picture(content: bytes, boxes: Sequence[tuple[Sequence[float], str]]) -> Image:
    """The picture, enlarged by a whole number so that its pixels show, with its boxes."""
    from PIL import Image, ImageDraw

    plain = Image.open(io.BytesIO(content)).convert("RGB")
    scale = max(1, min((SHEET.inner) // plain.width, PICTURE // plain.height))
    picture = plain.resize((plain.width * scale, plain.height * scale), Image.Resampling.NEAREST)
    picture.thumbnail((SHEET.inner, SHEET.inner))
    factor = picture.width / plain.width
    draw = ImageDraw.Draw(picture)
    for place, (box, label) in enumerate(boxes):
        red, green, blue = colorsys.hsv_to_rgb(place * 0.61 % 1, 0.75, 1)
        colour = (int(255 * red), int(255 * green), int(255 * blue))
        x0, y0, x1, y1 = (value * factor for value in box)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=2)
        draw.text((x0 + 3, y0 + 1), label, colour, font(12))
    return picture


def _film(content: bytes) -> Image:
    """The frames of an animation side by side, in lines of four."""
    from PIL import Image, ImageSequence

    frames = [frame.convert("RGB") for frame in ImageSequence.Iterator(Image.open(io.BytesIO(content)))]
    wide, high = (SHEET.inner - 9) // 4, 3 + frames[0].height * (SHEET.inner - 9) // 4 // frames[0].width
    sheet = Image.new("RGB", (SHEET.inner, -(-len(frames) // 4) * high), "white")
    for place, frame in enumerate(frames):
        shown = frame.resize((wide, high - 3), Image.Resampling.NEAREST)
        sheet.paste(shown, (place % 4 * (wide + 3), place // 4 * high))
    return sheet


def spectrogram(samples: NDArray[np.float32], window: int = 256, hop: int = 64) -> NDArray[np.uint8]:
    """Grey (frequency, time) picture of the last 60 dB below the loudest, low frequencies at the bottom."""
    padded = np.pad(samples, (0, max(0, window - len(samples))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window)[::hop] * np.hanning(window)
    power = 20 * np.log10(np.abs(np.fft.rfft(frames)) + 1e-6)
    scaled = np.clip((power - power.max() + 60) / 60, 0, 1)
    grey: NDArray[np.uint8] = (255 * (1 - scaled.T[::-1])).astype(np.uint8)
    return grey


def _sound(content: bytes) -> Image:
    """The wave form over the spectrogram, with duration and rate."""
    import soundfile
    from PIL import Image, ImageDraw

    samples, rate = soundfile.read(io.BytesIO(content), dtype="float32")
    wide = SHEET.inner
    picture = Image.new("RGB", (wide, WAVE + SPECTROGRAM + 16), "white")
    draw = ImageDraw.Draw(picture)
    pieces = np.array_split(samples, wide)
    for x, piece in enumerate(pieces):
        low, high = (float(piece.min()), float(piece.max())) if len(piece) else (0.0, 0.0)
        draw.line((x, WAVE / 2 * (1 - high), x, WAVE / 2 * (1 - low)), fill="#1f6feb")
    grey = Image.fromarray(spectrogram(samples)).resize((wide, SPECTROGRAM))
    picture.paste(grey, (0, WAVE))
    draw.text((0, WAVE + SPECTROGRAM), f"{len(samples) / rate:.2f} s, {rate} Hz", "#666666", font(11))
    return picture


def _written(value: Any, kind: str) -> str:
    """A value as text: records key by key, grids row by row with dots for blanks, boxes as whole pixels."""
    if kind == "record":
        return "\n".join(f"{key}: {', '.join(v) if isinstance(v, list) else v}" for key, v in value.items())
    if kind == "grid":
        return "\n".join(" ".join(str(digit or "·") for digit in line) for line in value)
    if kind == "motion":
        return f"{len(value)} frames of {len(value[0])} numbers"
    if kind == "box":
        return ", ".join(f"{number:g}" for number in value)
    if kind == "turns":
        return "\n".join(f"{each['role']}: {each['content']}" for each in value)
    if kind == "objects":
        return "; ".join(f"{each['label']} ({', '.join(f'{n:g}' for n in each['box'])})" for each in value)
    return "; ".join(value) if kind == "list" else str(value)
