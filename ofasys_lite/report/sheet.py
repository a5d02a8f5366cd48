"""A contact sheet of samples as one PNG: pictures with boxes, spectrograms, texts, predictions and references."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.metrics.baselines.problem import media_kind
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.shown import Shown
from ofasys_lite.report.blocks import Block, answer_look, input_look, value_block
from ofasys_lite.report.results import RunResults, Sample
from ofasys_lite.report.sample_pictures import PREDICTED, REFERENCE, boxes_of, picture, png, spectrogram
from ofasys_lite.writing import atomic, write_atomic

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["sample_sheet", "save_pictures"]

_WIDTH, _GAP = 260, 12  # pixels of a cell and between cells
_SIZE = 14
_MOST_LINES = 7


def sample_sheet(samples: Sequence[Sample], path: str | os.PathLike[str], columns: int = 4) -> Path:
    """The path of the written PNG: one cell per sample, `columns` in a row, rows as high as their highest cell."""
    from PIL import Image

    cells = [_cell(sample) for sample in samples]
    rows = [cells[start : start + columns] for start in range(0, len(cells), columns)]
    heights = [max(cell.height for cell in row) for row in rows]
    wide = max(1, min(columns, len(cells)))
    sheet = Image.new("RGB", (wide * (_WIDTH + _GAP) + _GAP, sum(heights) + _GAP * (len(rows) + 1)), "#e9ecef")
    top = _GAP
    for row, height in zip(rows, heights, strict=True):
        for number, cell in enumerate(row):
            sheet.paste(cell, (_GAP + number * (_WIDTH + _GAP), top))
        top += height + _GAP
    target = Path(path)
    with atomic(target) as partial:
        sheet.save(partial, "PNG")
    return target


def save_pictures(run: RunResults, folder: Path) -> list[Path]:
    """A sheet per task that writes pictures, `TASK.png`, and every generated one of its samples in `TASK/`.

    Returns the paths of the sheets; tasks that write no pictures get none.
    """
    found = []
    for task in run.tasks:
        drawn = [sample for sample in task.samples if _drawn(answer_look(sample, 0))]
        if not drawn:
            continue
        found.append(sample_sheet(drawn, folder / f"{task.task}.png"))
        for number, sample in enumerate(drawn):
            look = answer_look(sample, 0)
            data = None if look is None else png(look.picture)
            if data is not None:
                name = re.sub(r"[^\w.-]+", "_", sample.id)[:80]
                place = folder / task.task / f"{number:02}-{name}.png"
                write_atomic(place, data)
    return found


def _drawn(look: Shown | None) -> bool:
    return look is not None and look.picture is not None


def _image(look: Shown | None, *boxes: Sequence[Any]) -> Image.Image | None:
    """The picture or spectrogram of a source value; None for what is a text, record or table, or cannot be read."""
    if look is None:
        return None
    if look.picture is not None and media_kind(look.picture) == kinds.PICTURE:
        return picture(look.picture, *boxes)
    if look.sound is not None and media_kind(look.sound) == kinds.SOUND:
        return spectrogram(look.sound, _WIDTH - 16, 80)
    return None


def _cell(sample: Sample) -> Image.Image:
    from PIL import Image

    parts: list[Image.Image] = []
    boxes = (boxes_of(sample.prediction), boxes_of(sample.reference))
    for source in sample.inputs:
        look = input_look(source)
        image = _image(look, *boxes)
        if image is not None:
            image.thumbnail((_WIDTH - 16, _WIDTH - 16))
            parts.append(image)
        if look is not None and look.text:
            parts.append(_text(f"{source.column}: {look.text}", "#212529"))
        elif image is None and not isinstance(source.value, bytes):
            parts.append(_text(f"{source.column}: {_flat(value_block(source.value))}", "#212529"))
    mark = {True: "✓ ", False: "✗ ", None: ""}[sample.correct]
    looks = answer_look(sample, 0), answer_look(sample, 1)
    if any(map(_drawn, looks)):
        parts.append(_pair(looks, mark))
    elif sample.prediction is not None:
        parts.append(_text(f"{mark}model: {_said(looks[0], sample.prediction)}", _dark(PREDICTED)))
    if not _drawn(looks[1]):
        head = "" if sample.prediction is None else "reference: "
        parts.append(_text(head + _said(looks[1], sample.reference), _dark(REFERENCE)))
    cell = Image.new("RGB", (_WIDTH, 12 + sum(part.height + 6 for part in parts)), "#ffffff")
    top = 8
    for part in parts:
        cell.paste(part, (8, top))
        top += part.height + 6
    return cell


def _said(look: Shown | None, value: Any) -> str:
    """A value without a picture as lines of text."""
    return _flat(value_block(value)) if look is None else look.text


def _pair(looks: tuple[Shown | None, Shown | None], mark: str) -> Image.Image:
    """The generated picture, and the data's beside it."""
    from PIL import Image

    half = (_WIDTH - 16 - _GAP) // 2
    sides = [(f"{mark}model", looks[0], PREDICTED), ("reference", looks[1], REFERENCE)]
    pair = Image.new("RGB", (_WIDTH - 16, half + _SIZE + 6), "#ffffff")
    for number, (head, look, colour) in enumerate(s for s in sides if _drawn(s[1])):
        left = number * (half + _GAP)
        pair.paste(_text(head, _dark(colour)).crop((0, 0, half, _SIZE + 4)), (left, 0))
        image = None if look is None else picture(look.picture)
        if image is not None:
            image.thumbnail((half, half), Image.Resampling.BOX)
            pair.paste(image, (left, _SIZE + 6))
    return pair


def _flat(block: Block) -> str:
    """A block as lines of text."""
    if block.kind == "pairs":
        return "\n".join(f"{key}: {inner}" for key, inner in block.rows)
    if block.kind == "table":
        return "\n".join("  ".join(row) for row in ((block.head,) if block.head else ()) + block.rows)
    return block.text if block.kind == "text" else "(empty)"


def _text(text: str, colour: str) -> Image.Image:
    """The text in lines no wider than a cell, at most seven."""
    from PIL import Image, ImageDraw

    font = _font()
    lines = [line for part in text.splitlines() or [""] for line in _wrapped(part, font)]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], "…"]
    image = Image.new("RGB", (_WIDTH - 16, (_SIZE + 4) * len(lines)), "#ffffff")
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        draw.text((0, number * (_SIZE + 4)), line, fill=colour, font=font)
    return image


def _wrapped(text: str, font: FreeTypeFont | ImageFont) -> list[str]:
    lines, rest = [], text
    while font.getlength(rest) > _WIDTH - 16:
        end = len(rest) - 1
        while end > 1 and font.getlength(rest[:end]) > _WIDTH - 16:
            end -= 1
        space = rest.rfind(" ", 1, end + 1)
        cut = space if space > 0 else end
        lines.append(rest[:cut])
        rest = rest[cut:].lstrip()
    return [*lines, rest]


def _font() -> Any:
    """DejaVu Sans, which comes with matplotlib and knows most alphabets, else Pillow's own font."""
    from PIL import ImageFont

    try:
        import matplotlib
    except ImportError:
        return ImageFont.load_default(_SIZE)
    return ImageFont.truetype(os.path.join(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), _SIZE)


def _dark(colour: str) -> str:
    """The colour at two thirds of its brightness, for text on white."""
    return "#" + "".join(f"{int(colour[i : i + 2], 16) * 2 // 3:02x}" for i in (1, 3, 5))
