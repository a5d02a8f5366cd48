"""Repeated groups in a row: which records they walk, which alternative each takes, and all raw values of a line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ofasys_lite.data.fields import MISSING, Element, as_list, field, is_empty, missing
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import GroupSegment, Segment, SlotSegment, walk
from ofasys_lite.preprocess.text import read_text


def group_key(group: GroupSegment) -> str:
    """Name of a group among its target's values: the list column, or the first slot's column."""
    if group.over is not None:
        return group.over
    slots = walk(tuple(segment for alternative in group.alternatives for segment in alternative))
    return slots[0].key if slots else "group"


def opener(group: GroupSegment, alternative: int) -> str:
    """Name of the control that opens an element."""
    return "next" if len(group.alternatives) == 1 else f"alternative {alternative}"


def records(group: GroupSegment, row: Any) -> list[tuple[int, Any]]:
    """(alternative, record) per element of `group` in `row`, in given order, before any cut."""
    if group.over is None:
        return [(_alternative(group, record), record) for record in _columns(group, row)]
    value = field(row, group.over)
    if value is MISSING or value is None:
        raise missing(group.over, row)
    listed = [Element(r) if isinstance(r, Mapping) else r for r in as_list(value, group.over)]
    return [(_alternative(group, record), record) for record in listed]


def walked(group: GroupSegment) -> dict[str, SlotSegment | None]:
    """The list columns that a group without `over=` walks together: its slots', its inner groups', and that of `by=`.

    The slot is given where the column is a slot's.
    """
    found: dict[str, SlotSegment | None] = {}
    for segment in (s for alternative in group.alternatives for s in alternative):
        if isinstance(segment, SlotSegment):
            found[segment.column] = segment
        elif isinstance(segment, GroupSegment) and segment.over is not None:
            found[segment.over] = None
    if group.by is not None:
        found.setdefault(group.by, None)
    return found


def group_columns(group: GroupSegment) -> tuple[str, ...]:
    """The columns of a row that a group reads."""
    return (group.over,) if group.over is not None else tuple(walked(group))


def _columns(group: GroupSegment, row: Any) -> list[Any]:
    lists: dict[str, Any] = {}
    for column, slot in walked(group).items():
        value = field(row, column, slot is not None and slot.exact)
        if value is MISSING or value is None:
            if slot is not None and slot.optional:
                continue
            raise missing(column, row)
        lists[column] = as_list(value, column)
    lengths = {len(v) for v in lists.values()}
    if len(lengths) > 1:
        shown = ", ".join(f"`{k}` has {len(v)}" for k, v in lists.items())
        raise DataError(f"the lists of a group must be equally long: {shown}")
    return [{k: v[i] for k, v in lists.items()} for i in range(lengths.pop() if lengths else 0)]


def _alternative(group: GroupSegment, record: Any) -> int:
    if group.by is None:
        return 0
    value = field(record, group.by)
    table = dict(group.spellings)
    if value is MISSING or str(value).lower() not in table:
        shown = "is missing" if value is MISSING else f"is `{value}`"
        help = f"it names one of: {', '.join(table)}"
        where = "an element" if group.over is None else f"a record of `{group.over}`"
        raise DataError(f"`{group.by}` of {where} {shown}", help=help)
    return table[str(value).lower()]


def cut(elements: list[Any], most: int, keep: str, rng: np.random.Generator | None) -> list[Any]:
    """At most `most` elements, in their order: the `first`, the `last` or, where `rng` is given, `random` ones."""
    if keep == "last":
        return elements[-most:]
    if keep == "random" and rng is not None:
        return [elements[i] for i in sorted(rng.choice(len(elements), size=most, replace=False))]
    return elements[:most]


def candidates(record: Any, column: str, row: Any = None) -> tuple[str, ...]:
    """The labels that a row itself offers (`closed_set=@column`), once each, empty ones left out.

    Args:
        record: The row, or a record of it within a group: its own list goes before the row's.
        row: The whole row, where `record` is not it.
    """
    listed = field(record, column)
    listed = field(row, column) if listed is MISSING and row is not None else listed
    row = record if row is None else row
    if listed is MISSING or listed is None:
        raise missing(column, row)
    return tuple(dict.fromkeys(read_text(value) for value in as_list(listed, column) if not is_empty(value)))


def empty_target(slot: SlotSegment, column: str = "") -> DataError:
    """The error of a row with nothing to learn from: its target, the other `column`, its side of `<->` is empty."""
    what = "label" if slot.closed is not None else "target" if slot.learned else "side of `<->`"
    help = f"drop the row, or write [{slot.modality}:{slot.column}?] if it may be absent"
    return DataError(f"column `{column or slot.column}`: the {what} is empty", help=help)


def raw_values(segments: tuple[Segment, ...], row: Any) -> Iterator[tuple[SlotSegment, Any]]:
    """(slot, raw value) of every slot that `row` fills, groups opened, without absent columns and empty targets."""
    for segment in segments:
        if isinstance(segment, SlotSegment):
            value = field(row, segment.column, segment.exact)
            if not (value is MISSING or value is None or (is_empty(value) and (segment.optional or segment.learned))):
                yield segment, value
        elif isinstance(segment, GroupSegment):
            for alternative, record in records(segment, row):
                yield from raw_values(segment.alternatives[alternative], record)
