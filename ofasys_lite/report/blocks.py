"""Values of samples as blocks that the template lays out: text, picture, sound, table, pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.metrics.baselines.problem import media_kind
from ofasys_lite.metrics.values import as_box, as_text
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.kinds import Shown
from ofasys_lite.preprocess.linear import as_struct
from ofasys_lite.report.results import Sample, SampleInput
from ofasys_lite.report.sample_pictures import boxes_of, data_uri, is_picture, picture, spectrogram, uri, wav_uri

_LONGEST = 600  # characters of a text that are shown
_MOST_ROWS = 12


@dataclass(frozen=True, slots=True)
class Block:
    """One thing to show.

    Attributes:
        kind: `text`, `picture`, `sound`, `table`, `pairs` or `nothing`.
        text: The text; beside a picture or a sound what else is to be said of it.
        picture: Data URI of a picture, which may move (or of a sound's spectrogram).
        sound: Data URI of a sound.
        head: Column names of a table.
        rows: Cells of a table, or (key, value) pairs.
        boxed: True if predicted and reference boxes are drawn in the picture.
    """

    kind: str
    label: str = ""
    text: str = ""
    picture: str = ""
    sound: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    boxed: bool = False


@dataclass(frozen=True, slots=True)
class SampleView:
    """A sample ready to be laid out: `mark` is `right`, `wrong` or empty."""

    inputs: tuple[Block, ...]
    prediction: Block | None
    reference: Block
    mark: str
    id: str


def sample_view(sample: Sample) -> SampleView:
    """The sample's blocks; boxes of both sides are drawn into its first picture."""
    sides = (boxes_of(sample.prediction), boxes_of(sample.reference))
    inputs, drawn = [], False
    for value in sample.inputs:
        boxes = ((), ()) if drawn else sides
        inputs.append(_input_block(value, *boxes))
        drawn = drawn or inputs[-1].kind == "picture"
    mark = {True: "right", False: "wrong", None: ""}[sample.correct]
    prediction = None if sample.prediction is None else _answer_block(sample, 0, "model")
    return SampleView(tuple(inputs), prediction, _answer_block(sample, 1, "reference"), mark, sample.id)


def input_look(source: SampleInput) -> Shown | None:
    """How a source value looks, as its modality says, else by its type; None: a text, record or table."""
    value = source.value
    if source.shown is not None or isinstance(value, str) or value is None:
        return source.shown
    sound = isinstance(value, Mapping) and {"array", "sampling_rate"} <= value.keys()
    by_type = sound or isinstance(value, (bytes, tuple)) or hasattr(value, "shape") or is_picture(value)
    kind = media_kind(value) if by_type else kinds.TEXT
    return Shown(picture=value) if kind == kinds.PICTURE else Shown(sound=value) if kind == kinds.SOUND else None


def answer_look(sample: Sample, side: int) -> Shown | None:
    """How the prediction (side 0) or the reference (1) looks; None: a text, record or table."""
    value = (sample.prediction, sample.reference)[side]
    return sample.looks[side] or (Shown(picture=value) if is_picture(value) else None)


def _answer_block(sample: Sample, side: int, label: str) -> Block:
    look = answer_look(sample, side)
    if look is None:
        return value_block((sample.prediction, sample.reference)[side])
    block = look_block(look, label)
    return block or Block("text", text="(no picture)")


def look_block(look: Shown, label: str, predicted: Sequence[Any] = (), reference: Sequence[Any] = ()) -> Block | None:
    """The block of how a value looks; None where its picture or sound cannot be read."""
    shot = look.picture
    if isinstance(shot, (bytes, Path)) or (shot is not None and media_kind(shot) == kinds.PICTURE):
        image = picture(shot, *(scaled(boxes, look.scale) for boxes in (predicted, reference)))
        if image is not None:
            boxed = bool(predicted or reference)
            shown = data_uri(image) if look.moving is None else uri(look.moving, _moving_type(look.moving))
            return Block("picture", label, look.text, shown, boxed=boxed)
    if look.sound is not None and media_kind(look.sound) == kinds.SOUND:
        return Block("sound", label, look.text, data_uri(spectrogram(look.sound)), wav_uri(look.sound))
    return Block("text", label, _short(look.text)) if look.text else None


def scaled(boxes: Sequence[Any], scale: float) -> list[Any]:
    """(box, label) pairs in the pixels of a picture that is `scale` times what the boxes were measured in."""
    return [(tuple(side * scale for side in box), label) for box, label in boxes]


def _moving_type(content: bytes) -> str:
    return "image/gif" if content.startswith(b"GIF") else "image/webp"


def _input_block(source: SampleInput, predicted: Sequence[Any], reference: Sequence[Any]) -> Block:
    label = f"{source.modality}:{source.column}"
    look = input_look(source)
    block = None if look is None else look_block(look, label, predicted, reference)
    if block is not None:
        return block
    if isinstance(source.value, bytes):
        return Block("text", label, text=f"({len(source.value):,} bytes that cannot be shown)")
    return value_block(source.value, label)


def value_block(value: Any, label: str = "") -> Block:
    """A value that is no picture or sound: grids and lists of records as tables, records as pairs, else text."""
    value = as_struct(value)
    if value is None or value == "" or value == [] or value == {}:
        return Block("nothing", label)
    box = as_box(value) if isinstance(value, (list, tuple)) else None
    if box is not None:
        return Block("text", label, text=", ".join(f"{number:.0f}" for number in box))
    if isinstance(value, Mapping):
        pairs = tuple((str(key), _cell(inner)) for key, inner in value.items())
        return Block("pairs", label, rows=pairs[:_MOST_ROWS])
    if isinstance(value, (list, tuple)):
        return _list_block(value, label)
    return Block("text", label, text=_short(as_text(value) if isinstance(value, str) else str(value)))


def _list_block(value: Sequence[Any], label: str) -> Block:
    if all(isinstance(row, Mapping) for row in value):
        head = tuple(dict.fromkeys(str(key) for row in value for key in row))
        rows = tuple(tuple(_cell(row.get(key, "")) for key in head) for row in value[:_MOST_ROWS])
        return Block("table", label, head=head, rows=rows)
    if all(isinstance(row, (list, tuple)) for row in value):
        return Block("table", label, rows=tuple(tuple(map(_cell, row)) for row in value[:_MOST_ROWS]))
    return Block("text", label, text=_short(", ".join(map(_cell, value))))


def _cell(value: Any) -> str:
    box = as_box(value) if isinstance(value, (list, tuple)) else None
    if box is not None:
        return ", ".join(f"{number:.0f}" for number in box)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, (list, tuple, Mapping)):
        return _short(json.dumps(value, ensure_ascii=False, default=str))
    return _short("" if value is None else str(value))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"
