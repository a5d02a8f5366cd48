"""Rows a sample will have, estimated from cheap lengths: how steps are dealt to ranks and packs without decoding."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.groups import group_columns, raw_values, records
from ofasys_lite.data.lengths import length_hint, length_of
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import (
    GroupSegment,
    Plan,
    Segment,
    SlotSegment,
    ToolKey,
    WordsSegment,
    option,
    walk,
)
from ofasys_lite.preprocess.base import Preprocess

__all__ = ["row_lengths", "typical_rows"]

#: Bytes of text that make about one piece.
_BYTES = 3
Tools = Mapping[ToolKey, Preprocess]
Ints = NDArray[np.int64]


def row_lengths(plan: Plan, tools: Mapping[ToolKey, Preprocess], source: RowSource, index: int) -> tuple[int, int]:
    """(source rows, target rows) of row `index`, estimated alike on every rank."""
    template = plan.templates[0]
    read = sum(_segment(s, tools, source, index) for s in template.source)
    written = sum(_segment(s, tools, source, index) for side in template.targets for s in side)
    return read, written


#: Length of a value of which nothing is known, by kind: bytes, pixels, samples at 16 kHz, elements.
TYPICAL = {"text": 60, "image": 224 * 224, "audio": 3 * 16_000, "list": 4}


def typical_rows(slot: SlotSegment, tool: Preprocess) -> int:
    """Rows of a value of typical length, where there is no data to look at."""
    fixed = _fixed(slot)
    return _rows(slot, tool, TYPICAL.get(tool.length_kind, 60)) if fixed is None else fixed


def _segment(segment: Segment, tools: Tools, source: RowSource, index: int) -> int:
    if isinstance(segment, WordsSegment):
        return _words(segment)
    if isinstance(segment, GroupSegment):
        return _group(segment, tools, source, index)
    fixed = _fixed(segment)
    if fixed is not None:
        return fixed
    tool = tools[segment.tool_key]
    return _rows(segment, tool, length_hint(source, index, segment.column, tool.length_kind) or 0)


def _words(segment: WordsSegment) -> int:
    return 1 + len(segment.text) // _BYTES


def _group(group: GroupSegment, tools: Tools, source: RowSource, index: int) -> int:
    """Rows of a group: those of the values that its elements hold, a control for each, and one that ends it."""
    counts_NE, sums_NE = _group_lengths(source, group, tools)
    elements = int(counts_NE[index, 0])
    kept = 1.0 if group.cut is None or not elements else min(1.0, group.cut / elements)
    rows = 0.0
    for number, slot in enumerate(walk((group,)), 1):
        count = int(counts_NE[index, number])
        if count:
            fixed, tool = _fixed(slot), tools[slot.tool_key]
            each = _rows(slot, tool, int(sums_NE[index, number]) // count) if fixed is None else fixed
            rows += count * (1 + each)
    words = [sum(_words(s) for s in side if isinstance(s, WordsSegment)) for side in group.alternatives]
    return 1 + round(kept * (elements * (1 + max(words, default=0)) + rows))


def _group_lengths(source: RowSource, group: GroupSegment, tools: Tools) -> tuple[Ints, Ints]:
    """(counts, sums of lengths) of the values in a group, by row and slot, measured once; number 0 is the elements."""
    slots = walk((group,))
    kinds = [tools[slot.tool_key].length_kind for slot in slots]
    named = [(s.key, s.column, s.exact, s.optional, kind) for s, kind in zip(slots, kinds, strict=True)]
    sides = [len(walk(side)) for side in group.alternatives]
    key = combined(source.fingerprint, group.over, group.by, group.spellings, sides, named, source.base)
    kept: dict[str, tuple[Ints, Ints]] = source.__dict__.setdefault("_group_lengths", {})
    if key not in kept:
        arrays = cached_arrays("group-lengths-1", key, lambda: _measured(source, group, slots, kinds))
        kept[key] = arrays["counts"], arrays["sums"]
    return kept[key]


def _measured(
    source: RowSource, group: GroupSegment, slots: tuple[SlotSegment, ...], kinds: list[str]
) -> dict[str, Ints]:
    """What `_group_lengths` gives; rows and values that cannot be read count as nothing."""
    counts_NE = np.zeros((len(source), len(slots) + 1), np.int64)
    sums_NE = np.zeros_like(counts_NE)
    number_of = {id(slot): number for number, slot in enumerate(slots)}
    for i in range(len(source)):
        try:
            row = {column: source.value(i, column) for column in group_columns(group)}
            counts_NE[i, 0] = len(records(group, row))
            for slot, value in raw_values((group,), row):
                number = number_of[id(slot)]
                counts_NE[i, number + 1] += 1
                if _fixed(slot) is None:
                    sums_NE[i, number + 1] += _length(value, kinds[number], source.base or None)
        except DataError:
            continue
    return {"counts": counts_NE, "sums": sums_NE}


def _length(value: Any, kind: str, folder: str | None) -> int:
    try:
        return max(0, length_of(value, kind, folder))
    except DataError:
        return 0


def _fixed(slot: SlotSegment) -> int | None:
    """Rows of a slot that always has the same number."""
    # candidates of a row are spelt, those of a set have a row each
    if (slot.closed is not None and slot.closed.kind != "candidates") or slot.modality == "CATEGORY":
        return 1
    return 4 if slot.modality == "BOX" else None


def _rows(slot: SlotSegment, tool: Preprocess, length: int) -> int:
    """Rows of a value of a length, within the slot's `max_length` or the modality's."""
    rows = tool.rows_of(length, slot.options)
    limit = option(slot.options, "max_length") or tool.settings.get("max_length")
    return min(rows, limit) if isinstance(limit, int) else rows
