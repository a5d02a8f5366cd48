"""Kinds of values: what metrics, baselines, reports and files need to know of a value; and how it looks to a person.

A Preprocess says of which kind its values are (`kind`); nobody asks for the name of a modality.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

#: Words; also the kind of a modality that says nothing else.
TEXT = "text"
#: One name out of a set.
CATEGORY = "category"
#: Sounds of speech, separated by spaces.
PHONE = "phone"
#: Four numbers, in pixels of the row's picture.
BOX = "box"
#: A list of records with a box each: of groups, not of a modality.
DETECTION = "detection"
#: A record, a list, a table: any JSON value.
STRUCT = "struct"
#: A picture: a PIL image, an array, or bytes or path of an image file.
PICTURE = "image"
#: A clip of moving pictures: frames, or bytes or path of a film or an animation.
VIDEO = "video"
#: A sound: samples with their rate, or bytes or path of a sound file.
SOUND = "audio"
#: Arrays of numbers that are none of these: motions, series, clouds of points.
NUMBERS = "numbers"
#: Names of candidates, nearest first: what a side of `<->` finds of the other, not of a modality.
RANKING = "ranking"

KINDS = (TEXT, CATEGORY, PHONE, BOX, DETECTION, STRUCT, PICTURE, VIDEO, SOUND, NUMBERS, RANKING)
#: Kinds that are compared as one text.
TEXTS = frozenset({TEXT, CATEGORY})
#: Kinds whose values are large and no text: JSON and tables do not hold them.
MEDIA = frozenset({PICTURE, VIDEO, SOUND, NUMBERS})


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a person sees or hears it; what is empty is left out.

    Attributes:
        text: Beside the picture and the sound, or alone.
        picture: PIL image, (h, w, 3) uint8 array, or bytes or path of an image file; boxes are drawn into it.
        sound: (samples (n,), rate in Hz), or bytes or path of a sound file.
        moving: Bytes of an animated GIF or WebP, where `picture` is a still of what moves.
        scale: Pixels of the picture per pixel of the value, by which boxes are drawn.
    """

    text: str = ""
    picture: Any = None
    sound: Any = None
    moving: bytes | None = None
    scale: float = 1.0
