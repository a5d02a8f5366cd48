"""What rows of a task look like once they are read: rows per slot, what is cut off, and the time each stage takes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ofasys_lite.data.findings import Remarks
from ofasys_lite.data.groups import raw_values
from ofasys_lite.errors import DataError
from ofasys_lite.layout.bound import RowState
from ofasys_lite.layout.collate import collate
from ofasys_lite.layout.pack import Example
from ofasys_lite.layout.ready import ReadyTask
from ofasys_lite.plan.segments import SlotSegment, option

#: A limit that no value reaches.
_NO_LIMIT = 10**9
#: Examples collated at once, to time collation.
_PACK = 16


@dataclass(frozen=True, slots=True)
class SlotRows:
    """The lengths of one slot's values.

    Attributes:
        side: `source` or `target`.
        counts: Rows of the stream per value.
        cut: Number of values that `max_length` cuts.
        limit: `max_length`, or None.
    """

    side: str
    key: str
    modality: str
    counts: tuple[int, ...]
    cut: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """What sampled rows of one task look like.

    Attributes:
        broken: How many of them cannot be read, and the first reason.
        slots: Lengths by slot, source first.
        sources: Source rows per sample.
        targets: Target rows per sample.
        seconds: Mean seconds a sample takes, by stage: reading, preprocess, collation.
        closed: Number of values per closed set.
        remarks: What values of a slot have in common: pictures that are reduced, sounds that are resampled.
    """

    task: str
    rows: Mapping[str, int]
    sampled: int
    broken: tuple[int, str]
    slots: tuple[SlotRows, ...]
    sources: tuple[int, ...]
    targets: tuple[int, ...]
    seconds: Mapping[str, float]
    closed: Mapping[str, int]
    remarks: tuple[str, ...] = ()


def analyze(task: ReadyTask, rows: int) -> Analysis:
    """Reads `rows` rows of the training split, spread evenly over it, and measures them."""
    source = task.sources["train"]
    chosen = sorted({int(i) for i in np.linspace(0, len(source) - 1, min(rows, len(source)))})
    examples: list[Example] = []
    lengths: dict[tuple[str, SlotSegment], list[tuple[int, int]]] = {}
    broken, reason = 0, ""
    remarks = Remarks()
    reading = preprocess = 0.0
    for index in chosen:
        rng = np.random.default_rng((0, index))
        try:
            start = time.perf_counter()
            row = source.row(index)
            middle = time.perf_counter()
            examples.append(task.maker.example(row, source.ids(index, row), rng, True))
            preprocess += time.perf_counter() - middle
            reading += middle - start
            for side, slot, counts in _lengths(task, row, rng, remarks):
                lengths.setdefault((side, slot), []).append(counts)
        except DataError as error:
            broken, reason = broken + 1, reason or error.message
    start = time.perf_counter()
    for first in range(0, len(examples), _PACK):
        collate(examples[first : first + _PACK])
    collation = time.perf_counter() - start
    done = max(1, len(examples))
    return Analysis(
        task=task.card.name,
        rows={split: len(each) for split, each in task.sources.items()},
        sampled=len(chosen),
        broken=(broken, reason),
        slots=tuple(_slot_rows(task, *key, found) for key, found in lengths.items()),
        sources=tuple(sum(side.count for side in e.sources) for e in examples),
        targets=tuple(sum(target.count for target in e.targets) for e in examples),
        seconds={"reading": reading / done, "preprocess": preprocess / done, "collation": collation / done},
        closed={s.key: len(s.closed.values) for s in task.plan.slots() if s.closed is not None},
        remarks=tuple(remarks.lines("train")),
    )


def _lengths(
    task: ReadyTask, row: Mapping[str, Any], rng: np.random.Generator, remarks: Remarks
) -> Iterator[tuple[str, SlotSegment, tuple[int, int]]]:
    """(side, slot, (rows, rows without a limit)) of every value in `row`."""
    template = task.plan.templates[0]
    frame = task.maker.frame(row)
    for side, segments in (*(("source", t) for t in template.read), *(("target", t) for t in template.written)):
        for slot, value in raw_values(segments, row):
            tool = task.maker.preprocess[slot.tool_key]
            options, known = slot.options, RowState(row, None, False, frame).context(slot, row, side == "target")
            remarks.see(slot, tool.look(value, options, {**tool.settings, "folder": tool.context.folder}, known))
            count = tool.encode(value, options, replace(known, rng=rng)).count
            whole = count
            if _limit(task, slot):
                # without masks: another drawing of them would be of another length
                plain = tuple(pair for pair in options if pair[0] not in ("max_length", "mask_ratio"))
                bounded = (*plain, *(pair for pair in options if pair[0] == "max_length"))
                kept = tool.encode(value, bounded, known).count
                whole = count + tool.encode(value, (*plain, ("max_length", _NO_LIMIT)), known).count - kept
            yield side, slot, (count, whole)


def _limit(task: ReadyTask, slot: SlotSegment) -> int | None:
    if slot.closed is not None and slot.learned:
        return None
    settings = task.maker.preprocess[slot.tool_key].settings
    limit = option(slot.options, "max_length") or settings.get("max_length")
    return limit if isinstance(limit, int) else None


def _slot_rows(task: ReadyTask, side: str, slot: SlotSegment, found: list[tuple[int, int]]) -> SlotRows:
    cut = sum(whole > count for count, whole in found)
    return SlotRows(side, slot.key, slot.modality, tuple(count for count, _ in found), cut, _limit(task, slot))
