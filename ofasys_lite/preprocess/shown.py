"""How a value looks to a person: what reports and contact sheets lay out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Shown:
    """A value as a person sees or hears it; what is empty is left out.

    Attributes:
        text: Beside the picture and the sound, or alone.
        picture: PIL image, (h, w, 3) uint8 array, or bytes or path of an image file; boxes are drawn into it.
        sound: (samples (n,), rate in Hz), or bytes or path of a sound file.
    """

    text: str = ""
    picture: Any = None
    sound: Any = None
