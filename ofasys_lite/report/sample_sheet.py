"""A contact sheet of samples as one PNG: pictures with boxes, spectrograms, texts, predictions and references."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.metrics.baselines.problem import media_kind
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.report.blocks import Block, answer_look, input_look, scaled, value_block
from ofasys_lite.report.results import RunResults, Sample
from ofasys_lite.report.sample_pictures import PREDICTED, REFERENCE, boxes_of, picture, png, spectrogram
from ofasys_lite.writing import write_atomic
from ofasys_lite.writing.contact_sheet import ContactSheet

if TYPE_CHECKING:
    from PIL import Image

_SHEET = ContactSheet(width=260, gap=12, lines=7)
_SIZE = 14


def sample_sheet(samples: Sequence[Sample], path: str | os.PathLike[str], columns: int = 4) -> Path:
    """The path of the written PNG: one cell per sample, `columns` in a row, rows as high as their highest cell."""
    return _SHEET.save(list(map(_cell, samples)), path, max(1, min(columns, len(samples))))


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
        return picture(look.picture, *(scaled(each, look.scale) for each in boxes))
    if look.sound is not None and media_kind(look.sound) == kinds.SOUND:
        return spectrogram(look.sound, _SHEET.inner, 80)
    return None


def _cell(sample: Sample) -> Image.Image:

    parts: list[Image.Image] = []
    boxes = (boxes_of(sample.prediction), boxes_of(sample.reference))
    for source in sample.inputs:
        look = input_look(source)
        image = _image(look, *boxes)
        if image is not None:
            image.thumbnail((_SHEET.inner, _SHEET.inner))
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
    return _SHEET.cell(parts)


def _said(look: Shown | None, value: Any) -> str:
    """A value without a picture as lines of text."""
    return _flat(value_block(value)) if look is None else look.text


def _pair(looks: tuple[Shown | None, Shown | None], mark: str) -> Image.Image:
    """The generated picture, and the data's beside it."""
    from PIL import Image

    half = (_SHEET.inner - _SHEET.gap) // 2
    sides = [(f"{mark}model", looks[0], PREDICTED), ("reference", looks[1], REFERENCE)]
    pair = Image.new("RGB", (_SHEET.inner, half + _SIZE + 6), "#ffffff")
    for number, (head, look, colour) in enumerate(s for s in sides if _drawn(s[1])):
        left = number * (half + _SHEET.gap)
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
    return _SHEET.text(text, colour, _SIZE)


def _dark(colour: str) -> str:
    """The colour at two thirds of its brightness, for text on white."""
    return "#" + "".join(f"{int(colour[i : i + 2], 16) * 2 // 3:02x}" for i in (1, 3, 5))
