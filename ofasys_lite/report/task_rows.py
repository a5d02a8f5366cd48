"""The rows of one task that an evaluation looks at: which of a split, their groups, and their values for baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.fields import MISSING, column_help, field, is_empty
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import DataError
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.metrics.sql import DATABASE_COLUMNS
from ofasys_lite.plan.segments import GroupSegment, Plan, SlotSegment, option, walk
from ofasys_lite.preprocess import audio, image, image_decode
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.media import locate

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["MEDIA", "TaskRows", "open_task", "spread"]

#: Modalities whose values are large.
MEDIA = frozenset({"IMAGE", "AUDIO", "VIDEO", "MOTION"})
_GREY = 128  # of hidden cells
_BASE64 = {"IMAGE": image_decode.BASE64_HEADS, "AUDIO": audio.BASE64_HEADS}


def open_task(card: TaskCard, data: Mapping[str, Any] | None = None) -> Mapping[str, RowSource]:
    """The sources of a task by split.

    Args:
        card: The task's card.
        data: Split -> source, in place of the card's; without `train` the card's is taken, for the baselines.

    Raises:
        DataError: A source that cannot be opened; a task that was trained on Python objects, which no file holds.
    """
    given = dict(card.data) if data is None else dict(data)
    if given and card.data.get("train") is not None:
        given.setdefault("train", card.data["train"])
    if not given:
        raise DataError(f"task {card.name} names no data", help="it was made for prediction only; train it first")
    for split, spec in given.items():
        if isinstance(spec, str) and spec.startswith("<") and spec.endswith(">"):
            raise DataError(
                f"task {card.name}: its {split} rows were Python objects ({spec[1:-1]}), which no file holds",
                help=f"give them: evaluate(model, Task({card.name!r}, line, data={{'train': rows, 'test': rows}}))",
            )
    try:
        sources, _ = open_card(card, given)
    except DataError as error:
        raise DataError(f"task {card.name}: {error.message}", help=error.help) from error
    for split, source in sources.items():
        for column in filter(None, (card.group, card.crossed)):
            if column not in source.columns:
                raise DataError(
                    f"task {card.name}: {split} has no column `{column}` to group by",
                    help=column_help(column, source.columns),
                )
    return sources


def spread(total: int, most: int | None) -> tuple[int, ...]:
    """At most `most` row numbers, evenly spread over `total` rows: files are often sorted.

    Example:
        >>> spread(10, 3)
        (0, 3, 6)
    """
    if most is None or most >= total:
        return tuple(range(total))
    return tuple(int(i) for i in np.arange(most) * total // most)


@dataclass(frozen=True, slots=True)
class TaskRows:
    """One split of a task as baselines and samples see it.

    Attributes:
        plan: The task's plan.
        maker: Lays rows out as the model reads them.
        source: The rows.
        group: Column of the groups; empty: each row its own.
        crossed: Column of groups that cross those; may be empty.
    """

    plan: Plan
    maker: ExampleMaker
    source: RowSource
    group: str = ""
    crossed: str = ""

    @property
    def name(self) -> str:
        """Task name."""
        return self.plan.task

    def value(self, i: int, column: str) -> Any:
        """The raw value of a column of row `i`; numbers name unnamed slots."""
        found = self.source.value(i, column)
        return field(self.source.row(i), column) if found is MISSING and column.isdigit() else found

    def group_of(self, i: int) -> str:
        """Name of the group of row `i`."""
        return str(self.source.value(i, self.group)) if self.group else self.source.ids(i)

    def inputs(self) -> tuple[tuple[str, str], ...]:
        """(column, modality) of everything left of the arrow; a group counts as one STRUCT under its list's name."""
        found: dict[str, str] = {}
        for segment in self.plan.templates[0].source:
            if isinstance(segment, SlotSegment):
                found[segment.column] = segment.modality
            elif isinstance(segment, GroupSegment) and segment.over is not None:
                found[segment.over] = "STRUCT"
            elif isinstance(segment, GroupSegment):
                found.update({slot.column: slot.modality for slot in walk((segment,))})
        return tuple(found.items())

    def input(self, i: int, column: str, modality: str) -> Any:
        """A source value as the model sees it: texts and pictures with masks, other media as bytes, path or object.

        Hidden cells of a picture are transparent. None where the row has none or it cannot be read.
        """
        try:
            if column in self.masked():
                return self._masked_image(i, column) if modality == "IMAGE" else self._masked_text(i, column)
            value = self.value(i, column)
            if is_empty(value):
                return None
            if modality in MEDIA:
                found = locate(value, self.source.base or None, modality.lower(), _BASE64.get(modality, ()))
                return value if found is None else found
        except DataError:
            return None
        return value

    def masked(self) -> frozenset[str]:
        """Columns of texts and pictures that the line masks."""
        slots = [s for s in self.plan.templates[0].source if isinstance(s, SlotSegment)]
        return frozenset(s.column for s in slots if s.modality in ("TEXT", "IMAGE") and option(s.options, "mask_ratio"))

    def _masked_image(self, i: int, column: str) -> Image.Image:
        """The picture as the model reads it, RGBA; hidden cells are grey and transparent."""
        from PIL import Image

        piece = self._piece(i, column)
        pixels_HW3 = image.picture(piece)
        hidden = piece.arrays["mask"].reshape(len(piece.arrays["lines"]), -1)
        cell = len(pixels_HW3) // len(hidden)
        hidden_HW = hidden.repeat(cell, 0).repeat(cell, 1)
        colours = np.where(hidden_HW[..., None], np.uint8(_GREY), pixels_HW3)
        alpha = np.where(hidden_HW, 0, 255).astype(np.uint8)
        return Image.fromarray(np.dstack([colours, alpha]))

    def _masked_text(self, i: int, column: str) -> str:
        vocabulary, text, run = self.maker.vocabulary, "", list[int]()
        mask = vocabulary.control("mask")
        for id_ in self._piece(i, column).arrays["ids"].tolist():
            if id_ == mask:
                text, run = f"{text}{vocabulary.decode(run)}<mask>", []
            else:
                run.append(id_)
        return text + vocabulary.decode(run)

    def _piece(self, i: int, column: str) -> Piece:
        """What the model reads of a source slot, its mask drawn as in evaluation."""
        row, id = self.source.row(i), self.source.ids(i)
        pieces = self.maker.source(row, id, sample_rng(0, self.name, id, 0)).sources[0].pieces
        place = 0
        for segment in self.plan.templates[0].source:
            if isinstance(segment, GroupSegment):
                raise DataError(f"`{column}` stands behind a group")
            if isinstance(segment, SlotSegment):
                if segment.column == column:
                    break
                if segment.optional and is_empty(field(row, segment.column, segment.exact)):
                    continue
            place += 1
        return pieces[place]

    def light(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The row without media and bytes, its database as a path that can be opened."""
        heavy = {column for column, modality in self.inputs() if modality in MEDIA}
        heavy |= {slot.column for slot in self.plan.target_slots() if slot.modality in MEDIA}
        found = {k: v for k, v in row.items() if k not in heavy and not isinstance(v, (bytes, bytearray))}
        for column in DATABASE_COLUMNS:
            value = found.get(column)
            if isinstance(value, str) and self.source.base and not Path(value).is_file():
                found[column] = str(Path(self.source.base) / value)
        return found

    def groups(self, numbers: Sequence[int]) -> list[str | tuple[str, str]]:
        """Group of each row, a pair where groups cross."""
        if not self.crossed:
            return [self.group_of(i) for i in numbers]
        return [(self.group_of(i), str(self.source.value(i, self.crossed))) for i in numbers]
