"""The rows of one task that an evaluation looks at: which of a split, their groups, and their values for baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.attributes import overrides, slot_class
from ofasys_lite.data.contents import Contents, read_columns, row_hashes
from ofasys_lite.data.fields import MISSING, column_help, field, is_empty
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.data.source import RowSource
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import DataError
from ofasys_lite.layout.examples import ExampleMaker
from ofasys_lite.metrics.sql import DATABASE_COLUMNS
from ofasys_lite.plan.segments import GroupSegment, Options, Plan, SlotSegment, option, walk
from ofasys_lite.preprocess import kinds
from ofasys_lite.preprocess.base import Piece, Preprocess
from ofasys_lite.preprocess.kinds import Shown

#: What stands for the modality of a list of records.
_GROUP = "STRUCT"


def open_task(card: TaskCard, data: Mapping[str, Any] | None = None) -> Mapping[str, RowSource]:
    """The sources of a task by split.

    Args:
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


@dataclass(frozen=True, slots=True)
class Input:
    """A column of which something is given.

    Attributes:
        modality: What its values are; a list of records is captioned as a structure.
        tool: What knows its values; None for a list of records.
        one: A row holds one value; else a list of them.
        given: Options of a target's slot that goes on from what the row has: only that part is given. Else None.
    """

    column: str
    modality: str
    tool: Preprocess | None = None
    one: bool = True
    given: Options | None = None

    @property
    def media(self) -> bool:
        """Whether its values are large and no text."""
        return self.tool is not None and self.tool.kind in kinds.MEDIA


@dataclass(frozen=True, slots=True)
class TaskRows:
    """One split of a task as baselines and samples see it.

    Attributes:
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

    @property
    def side(self) -> int:
        """The side that is given: the source; of `<->` the one without closed set, or the left."""
        named = self.plan.named_slot()
        return 0 if named is None else 1 - named[0]

    def inputs(self, side: int | None = None) -> tuple[Input, ...]:
        """Everything that is given, or on one side of `<->`; a group with `over=` is one input by its list's name.

        What a target goes on from is given, too, unless a side is asked for.
        """
        found: dict[str, Input] = {}
        for segment in self.plan.templates[0].read[self.side if side is None else side]:
            if isinstance(segment, GroupSegment) and segment.over is not None:
                found[segment.over] = Input(segment.over, _GROUP, one=False)
            elif isinstance(segment, (SlotSegment, GroupSegment)):
                for slot in walk((segment,)):
                    tool = self.maker.preprocess[slot.tool_key]
                    found[slot.column] = Input(slot.column, slot.modality, tool, segment is slot)
        for slot in () if side is not None else self.plan.target_slots():
            tool = self.maker.preprocess[slot.tool_key]
            if tool.goes_on and slot.learned:
                found.setdefault(slot.column, Input(slot.column, slot.modality, tool, given=slot.options))
        return tuple(found.values())

    def input(self, i: int, read: Input) -> Any:
        """A source value as the model sees it: texts and pictures with masks, media as bytes, path or object.

        Hidden cells of a picture are transparent. None where the row has none or it cannot be read.
        """
        try:
            if read.tool is not None and read.column in self.masked():
                return read.tool.seen(self._piece(i, read.column))
            value = self.value(i, read.column)
            if is_empty(value):
                return None
            if read.tool is not None and read.given is not None:
                return read.tool.given(value, read.given)
            return value if read.tool is None else read.tool.located(value, self.source.base or None)
        except DataError:
            return None

    def shown(self, read: Input, value: Any) -> Shown | None:
        """How a value that `input` gave looks; None: as the text, record or table that it is."""
        return None if read.tool is None or not read.one or value is None else read.tool.show(value)

    def masked(self) -> frozenset[str]:
        """Columns whose slots hide a part of what is read."""
        slots = [s for side in self.plan.templates[0].read for s in side if isinstance(s, SlotSegment)]
        hides = (s for s in slots if option(s.options, "mask_ratio") and overrides(slot_class(s), "seen"))
        return frozenset(s.column for s in hides)

    def _piece(self, i: int, column: str) -> Piece:
        """What the model reads of a source slot, its mask drawn as in evaluation."""
        row = self.source.row(i)
        id = self.source.ids(i, row)
        sides = self.plan.templates[0].read
        side = next(n for n, side in enumerate(sides) if column in {s.column for s in walk(side)})
        pieces = self.maker.source(row, id, sample_rng(0, self.name, id, 0)).sources[side].pieces
        place = 0
        for segment in sides[side]:
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
        sides = range(len(self.plan.templates[0].read))
        heavy = {read.column for side in sides for read in self.inputs(side) if read.media}
        heavy |= {slot.column for slot in self.plan.target_slots() if slot_class(slot).kind in kinds.MEDIA}
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


#: What is done with such rows: stop, leave them out, judge them as well.
SEEN = ("refuse", "drop", "keep")


def without_seen(
    plan: Plan, source: RowSource, numbers: tuple[int, ...], contents: Contents | None, split: str, seen: str
) -> tuple[tuple[int, ...], str]:
    """(numbers of the rows that are judged, what should be said of them; empty where all is well).

    Args:
        contents: Which rows the task was trained on; None where that is not known.
        split: Its name. Training rows are judged where `train` is asked for.
        seen: `refuse`, `drop` or `keep`.

    Raises:
        DataError: Rows were trained on, and `seen` is `refuse`, or none is left.
    """
    task = plan.task
    if split == "train":
        return numbers, ""
    if contents is None or contents.columns != read_columns(plan):
        return numbers, f"task {task}: which rows it was trained on is not known"
    hashes = row_hashes(source, contents.columns, None if len(numbers) == len(source) else numbers)
    if hashes is None:
        return numbers, f"task {task}: {source.name} gives a row twice in two ways: which were trained on is not known"
    trained_N = contents.trained(hashes)
    if not trained_N.any():
        return numbers, _doubled(task, split, contents.doubled(hashes))
    count, rest = int(trained_N.sum()), int((~trained_N).sum())
    name = source.name.removesuffix(f" ({split})")
    told = f"task {task}: {count} of {len(hashes)} {split} rows ({name}) were trained on"
    if seen == "keep":
        return numbers, f"{told}; they are judged, too (seen=keep)"
    if seen == "drop" and rest:
        kept = tuple(n for n, was in zip(numbers, trained_N.tolist(), strict=True) if not was)
        return kept, f"{told} and are left out; the other {rest} are judged (seen=drop)"
    way = f"seen=drop judges the other {rest}, " if rest else ""
    raise DataError(
        told if rest or seen == "refuse" else f"{told}: none is left",
        help=f"rows or their order have changed since; give the data it was trained with, or: {way}seen=keep all",
    )


def _doubled(task: str, split: str, doubled_N: NDArray[np.bool_]) -> str:
    """A note of rows that stand in both splits from the start: the data's own affair, but a reader should know."""
    count, total = int(doubled_N.sum()), len(doubled_N)
    if not count:
        return ""
    be, rows = ("equals", "a training row") if count == 1 else ("equal", "training rows")
    return f"task {task}: {count} of {total} {split} rows {be} {rows}"
