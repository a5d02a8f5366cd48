"""Rows a sample will have, estimated from cheap sizes: how steps are dealt to ranks and packs without decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.groups import group_columns, raw_values, records
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.plan.language import MISMATCHED
from ofasys_lite.plan.segments import GroupSegment, Plan, Segment, SlotSegment, ToolKey, WordsSegment, option, walk
from ofasys_lite.preprocess.base import Preprocess, Size

# arrays of a source live as long as it does; the key is its identity plus column and measure
_ATTRIBUTE = "_sizes"


def size_hint(source: RowSource, i: int, column: str, tool: type[Preprocess]) -> Size | None:
    """A cheap size of one value, from the source's index; None if it cannot be told.

    The first call for a column measures all rows once and keeps the result by content hash.
    """
    whole, row = source.origin(i)
    found = column_sizes(whole, column, tool)[row].tolist()
    return None if found[0] < 0 else tuple(found)


def measure_name(tool: type[Preprocess]) -> tuple[str, bytes]:
    """What tells one way of measuring from another, for keys of caches."""
    function = getattr(tool.measure, "__func__", tool.measure)
    return f"{function.__module__}.{function.__qualname__}", function.__code__.co_code


def column_sizes(source: RowSource, column: str, tool: type[Preprocess]) -> NDArray[np.int64]:
    """The sizes (N, K) of one column, -1 where a value has none; measured once, kept by content hash."""
    kept: dict[object, NDArray[np.int64]] = source.__dict__.setdefault(_ATTRIBUTE, {})
    name = measure_name(tool)
    if (column, name) not in kept:
        if source.kept:
            key = combined(source.fingerprint, column, *name, source.base)
            arrays = cached_arrays("sizes-1", key, lambda: {"sizes": _measure(source, column, tool)})
            kept[column, name] = arrays["sizes"]
        else:
            kept[column, name] = _measure(source, column, tool)
    return kept[column, name]


def _measure(source: RowSource, column: str, tool: type[Preprocess]) -> NDArray[np.int64]:
    """The sizes of all rows; unreadable rows get -1 and meet their error where they are used."""
    out_NK = np.full((len(source), len(tool.typical)), -1, np.int64)
    for i, values in enumerate(source.values(range(len(source)), (column,))):
        if not isinstance(values, DataError):
            with suppress(DataError):
                size = size_of(values[0], tool, source.base or None)
                if size is not None:
                    out_NK[i] = size
    return out_NK


def size_of(value: Any, tool: type[Preprocess], folder: str | None = None) -> Size | None:
    """The size of one raw value, None if it has none; raises DataError if it cannot be read."""
    return None if value is MISSING or value is None else tool.measure(value, folder)


#: Bytes of text that make about one piece.
_BYTES = 3
Tools = Mapping[ToolKey, Preprocess]
Ints = NDArray[np.int64]


def row_lengths(plan: Plan, tools: Mapping[ToolKey, Preprocess], source: RowSource, index: int) -> tuple[int, int]:
    """(source rows, target rows) of row `index`, estimated alike on every rank."""
    template = plan.templates[0]
    read = sum(_segment(s, tools, source, index) for side in template.read for s in side)
    written = sum(_segment(s, tools, source, index) for side in template.written for s in side)
    # each side of `<->` ends with a row of its own
    return read + template.align * len(template.read), written


def typical_rows(slot: SlotSegment, tool: Preprocess) -> int:
    """Rows of a value of typical size, where there is no data to look at."""
    return _rows(slot, tool, tool.typical)


def _segment(segment: Segment, tools: Tools, source: RowSource, index: int) -> int:
    if isinstance(segment, WordsSegment):
        return _words(segment)
    if isinstance(segment, GroupSegment):
        return _group(segment, tools, source, index)
    tool = tools[segment.tool_key]
    # of a preference pair both are written
    columns = (segment.column,) if segment.rejected is None else (segment.column, segment.rejected)
    fixed = _fixed(segment, tool) is not None
    sizes = [None if fixed else size_hint(source, index, column, type(tool)) for column in columns]
    rows = sum(_rows(segment, tool, size or _nothing(tool)) for size in sizes)
    # and where one of another row stands beside, it is taken to be as long as they are
    return rows + rows // 2 if any(loss.name in MISMATCHED for loss in segment.losses) else rows


def _nothing(tool: Preprocess | type[Preprocess]) -> Size:
    """The size of a value that cannot be read."""
    return (0,) * len(tool.typical)


def _words(segment: WordsSegment) -> int:
    return 1 + len(segment.text) // _BYTES


def _group(group: GroupSegment, tools: Tools, source: RowSource, index: int) -> int:
    """Rows of a group: those of the values that its elements hold, a control for each, and one that ends it."""
    slots = walk((group,))
    counts_NE, sums = _group_sizes(source, group, [type(tools[slot.tool_key]) for slot in slots])
    elements = int(counts_NE[index, 0])
    kept = 1.0 if group.cut is None or not elements else min(1.0, group.cut / elements)
    rows = 0.0
    for number, slot in enumerate(slots):
        count = int(counts_NE[index, number + 1])
        if count:
            tool = tools[slot.tool_key]
            mean = tuple(total // count for total in sums[number][index].tolist())
            rows += count * (1 + _rows(slot, tool, mean))
    words = [sum(_words(s) for s in side if isinstance(s, WordsSegment)) for side in group.alternatives]
    return 1 + round(kept * (elements * (1 + max(words, default=0)) + rows))


def _group_sizes(source: RowSource, group: GroupSegment, tools: Sequence[type[Preprocess]]) -> tuple[Ints, list[Ints]]:
    """What is known of the values in a group, measured once.

    Returns:
        Counts (N, 1 + slots) by row, number 0 is the elements; and per slot the sums of its sizes (N, K).
    """
    slots = walk((group,))
    named = [(s.key, s.column, s.exact, s.optional, *measure_name(t)) for s, t in zip(slots, tools, strict=True)]
    sides = [len(walk(side)) for side in group.alternatives]
    own = source.fingerprint if source.kept else ""
    key = combined(own, group.over, group.by, group.spellings, sides, named, source.base)
    kept: dict[str, tuple[Ints, list[Ints]]] = source.__dict__.setdefault("_group_sizes", {})
    if key not in kept:
        if source.kept:
            arrays = cached_arrays("group-sizes-1", key, lambda: _measured(source, group, slots, tools))
        else:
            arrays = _measured(source, group, slots, tools)
        kept[key] = arrays["counts"], [arrays[f"sums{number}"] for number in range(len(slots))]
    return kept[key]


def _measured(
    source: RowSource, group: GroupSegment, slots: tuple[SlotSegment, ...], tools: Sequence[type[Preprocess]]
) -> dict[str, Ints]:
    """What `_group_sizes` gives; rows and values that cannot be read count as nothing."""
    counts_NE = np.zeros((len(source), len(slots) + 1), np.int64)
    sums = [np.zeros((len(source), len(tool.typical)), np.int64) for tool in tools]
    number_of = {id(slot): number for number, slot in enumerate(slots)}
    columns = tuple(group_columns(group))
    for i, values in enumerate(source.values(range(len(source)), columns)):
        if isinstance(values, DataError):
            continue
        row = dict(zip(columns, values, strict=True))
        with suppress(DataError):
            counts_NE[i, 0] = len(records(group, row))
            for slot, value in raw_values((group,), row):
                number = number_of[id(slot)]
                counts_NE[i, number + 1] += 1
                if _fixed(slot, tools[number]) is None:
                    sums[number][i] += _size(value, tools[number], source.base or None)
    return {"counts": counts_NE, **{f"sums{number}": each for number, each in enumerate(sums)}}


def _size(value: Any, tool: type[Preprocess], folder: str | None) -> Size:
    with suppress(DataError):
        return size_of(value, tool, folder) or _nothing(tool)
    return _nothing(tool)


def _fixed(slot: SlotSegment, tool: Preprocess | type[Preprocess]) -> int | None:
    """Rows of a slot that always has the same number."""
    # candidates of a row are spelt, those of a set have a row each
    return 1 if slot.closed is not None and slot.closed.kind != "candidates" else tool.rows_fixed(slot.options)


def _rows(slot: SlotSegment, tool: Preprocess, size: Size) -> int:
    """Rows of a value of a size, within the slot's `max_length` or the modality's."""
    fixed = _fixed(slot, tool)
    if fixed is not None:
        return fixed
    rows = tool.rows_of(size, slot.options)
    limit = option(slot.options, "max_length") or tool.settings.get("max_length")
    return min(rows, limit) if isinstance(limit, int) else rows
