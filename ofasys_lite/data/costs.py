"""Rows a sample will have, estimated from cheap lengths: how steps are dealt to ranks and packs without decoding."""

from __future__ import annotations

from collections.abc import Mapping

from ofasys_lite.data.source import RowSource
from ofasys_lite.plan.types import GroupSegment, Plan, Segment, SlotSegment, ToolKey, WordsSegment, option, walk
from ofasys_lite.preprocess.base import Preprocess

__all__ = ["row_lengths", "typical_rows"]

#: Bytes of text that make about one piece.
_BYTES = 3
#: Rows of an element's parts beside its text.
_ELEMENT = 6


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
    return _within(slot, tool.rows_of(TYPICAL.get(tool.length_kind, 60), slot.options)) if fixed is None else fixed


def _segment(segment: Segment, tools: Mapping[ToolKey, Preprocess], source: RowSource, index: int) -> int:
    if isinstance(segment, WordsSegment):
        return 1 + len(segment.text) // _BYTES
    if isinstance(segment, GroupSegment):
        column = segment.over or walk((segment,))[0].column
        elements = source.length_hint(index, column, "list") or 1
        return 1 + min(elements, segment.cut or elements) * _ELEMENT * len(walk((segment,)))
    return _slot(segment, tools, source, index)


def _slot(slot: SlotSegment, tools: Mapping[ToolKey, Preprocess], source: RowSource, index: int) -> int:
    fixed = _fixed(slot)
    if fixed is not None:
        return fixed
    tool = tools[slot.tool_key]
    length = source.length_hint(index, slot.column, tool.length_kind) or 0
    return _within(slot, tool.rows_of(length, slot.options))


def _fixed(slot: SlotSegment) -> int | None:
    """Rows of a slot that always has the same number."""
    if slot.closed is not None or slot.modality == "CATEGORY":
        return 1
    return 4 if slot.modality == "BOX" else None


def _within(slot: SlotSegment, rows: int) -> int:
    limit = option(slot.options, "max_length")
    return min(rows, limit) if isinstance(limit, int) else rows
