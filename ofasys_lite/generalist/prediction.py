"""A sample that a model is asked about, and what it says of it, which knows how to show and save itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.errors import DataError
from ofasys_lite.generalist.value_files import Tools, files_in, replaced, save_value, write_file, written
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.image_values import ENDINGS, ImageValues, picture_bytes
from ofasys_lite.writing import claim_file

if TYPE_CHECKING:
    from PIL import Image

    from ofasys_lite.decoding.options import DecodeOptions
    from ofasys_lite.preprocess.base import Preprocess


@dataclass(frozen=True, slots=True)
class Request:
    """One sample to be predicted.

    Attributes:
        row: Raw values by column; targets need not be there, except `no_loss` ones.
        options: Decoding; None takes the task card's.
        own_holes: Transparent parts of a picture whose slot has `mask_ratio` are what is filled in, where it has any;
            else, as in evaluation, `mask_ratio` draws.
    """

    task: str
    row: Mapping[str, Any]
    id: str = "0"
    options: DecodeOptions | None = None
    folder: str | None = None
    own_holes: bool = False


@dataclass(frozen=True, slots=True)
class Prediction:
    """One sample's output.

    Attributes:
        values: Value per target column: text, [x0, y0, x1, y1], a record, a list of records of a group, a PIL image.
        score: Length-normalised log probability of the decoding; of several targets (`;;`) the sum of theirs; of a line
            with `<->` the cosine of two vectors.
        modalities: Modality per target column.
        image: The row's first image as it was given, for `save_box`; None without one.
        n_best: The best hypotheses with their scores, this one first, if several were asked for.
        sized: Columns whose boxes are [x, y, width, height] (`format=xywh`), not corners.
        codes: Codes (positions, depth) per target whose value is rendered of codes (images); of one within a group,
            `group.column`, those of all its pictures (pictures, positions, depth).
        tools: What knows the values of a column: how they look in text and how they are written to files.
    """

    task: str
    id: str
    values: Mapping[str, Any]
    score: float
    modalities: Mapping[str, str] = field(default_factory=dict)
    image: Any = None
    n_best: tuple[Prediction, ...] = ()
    sized: frozenset[str] = frozenset()
    codes: Mapping[str, Any] = field(default_factory=dict)
    tools: Tools = field(default_factory=dict, repr=False, compare=False)

    @property
    def value(self) -> Any:
        """The only target's value, or all values by column if there are several."""
        return next(iter(self.values.values())) if len(self.values) == 1 else dict(self.values)

    @property
    def text(self) -> str:
        """The value as text: text as it is, a picture as `<image 16 x 16>`, everything else as JSON."""
        values = replaced(dict(self.values), self.tools, lambda _, value, tool: tool.brief(value))
        value = next(iter(values.values())) if len(values) == 1 else values
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)

    def _file(self, what: str, help: str) -> tuple[Any, Preprocess]:
        """The only value of a kind (`""`: any) in a file of its own, and what knows it; DataError: none, or several."""
        found = [each for each in files_in(self.values, self.tools) if what in ("", each[2].kind)]
        if len(found) != 1:
            word = "pictures" if {what, *(tool.kind for _, _, tool in found)} <= {"", kinds.PICTURE} else "files"
            told = f"{len(found)} {word}: {', '.join(name for name, _, _ in found)}" if found else f"no {word[:-1]}"
            raise DataError(f"this prediction has {told}", help="take them from `values`" if found else help)
        return found[0][1], found[0][2]

    @property
    def picture(self) -> Image.Image:
        """The generated picture; DataError if there is none, or more than one (then they are among `values`)."""
        found: Image.Image = self._file(kinds.PICTURE, "picture is for lines with IMAGE right of the arrow")[0]
        return found

    @property
    def boxes(self) -> list[tuple[list[float], str]]:
        """([x0, y0, x1, y1] in pixels, label) of every box among the values; the label may be empty."""
        found: list[tuple[list[float], str]] = []
        for column, value in self.values.items():
            if column in self.tools and self.tools[column].kind == kinds.BOX and isinstance(value, list):
                boxes = [value] if _is_box(value) else value  # a group without `over` gives a list per column
                found.extend(
                    (self._corners(column, box), label)
                    for box, label in zip(boxes, self._labels(len(boxes)), strict=True)
                    if _is_box(box)
                )
                continue
            for record in value if isinstance(value, list) else ():
                if isinstance(record, Mapping):
                    box = next(((k, v) for k, v in record.items() if _is_box(v)), None)
                    label = next((str(v) for v in record.values() if isinstance(v, str)), "")
                    if box is not None:
                        found.append((self._corners(*box), label))
        return found

    def _labels(self, count: int) -> list[str]:
        """The texts that a group without `over` gives beside its boxes; empty ones if it gives none."""
        for value in self.values.values():
            if isinstance(value, list) and len(value) == count and all(isinstance(v, str) for v in value):
                return value
        return [""] * count

    def _corners(self, column: str, box: list[float]) -> list[float]:
        return [*box[:2], box[0] + box[2], box[1] + box[3]] if column in self.sized else box

    def save_box(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the image with the predicted boxes drawn on it; returns the path (`.png` where it has no ending).

        A file that is there is replaced only if `overwrite` says so; so do `save` and `save_image`.
        """
        boxes = self.boxes
        if not boxes or self.image is None:
            what = "no box" if not boxes else "no image"
            raise DataError(
                f"this prediction has {what} to draw", help="save_box is for lines with IMAGE in and BOX out"
            )
        from PIL import Image, ImageDraw, ImageOps

        from ofasys_lite.preprocess.image_decode import open_image

        # boxes refer to the picture as it is shown
        picture = ImageOps.exif_transpose(open_image(self.image, None, 100.0)).convert("RGB")
        factor = max(1, 256 // max(picture.size))
        big = picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST)
        draw = ImageDraw.Draw(big)
        for box, label in boxes:
            corners = [v * factor for v in box]
            draw.rectangle(corners, outline=(220, 40, 40), width=max(1, factor // 2))
            if label:
                draw.text((corners[0] + 2, corners[1] + 2), label, fill=(220, 40, 40))
        place = ImageValues.place(path)
        return write_file(picture_bytes(big, place.suffix), place, overwrite)

    def save(self, path: str | Path, overwrite: bool = False) -> Path:
        """Writes the values; returns the path.

        `.json`: as JSON, which names the files of generated pictures and the like beside it. Their endings: the
        generated picture, or the row's own with the predicted boxes drawn. Anything else: as text; of what stands in
        files of its own `.txt` alone.

        Raises:
            WriteError: The file is there and `overwrite` is not said, or it cannot be written.
        """
        place = Path(path)
        if any(files_in(self.values, self.tools)) and place.suffix not in (".json", ".txt"):
            return save_value(*self._file("", ""), place, overwrite)
        if place.suffix.lower() in ENDINGS:
            return self.save_box(place, overwrite)
        if place.suffix == ".json":
            claim_file(place, overwrite or place.is_file(), flag="overwrite=True")  # before files are written
            named = written(self.values, self.tools, place.parent, place.stem, overwrite=overwrite)
            text = json.dumps(named, ensure_ascii=False, indent=1) + "\n"
        else:
            text = self.text + "\n"
        return write_file(text, place, overwrite)


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(v, float) for v in value)
