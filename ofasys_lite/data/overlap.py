"""Rows that stand in train and in valid or test: how many there are, by what the line reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ofasys_lite.data.attributes import overrides, slot_class
from ofasys_lite.data.columns import lacking, segment_uses
from ofasys_lite.data.contents import UNREADABLE, Hashes, row_hashes
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Plan, Segment

#: A note of a check that leaves the comparison to the training, which reads every row anyway.
NOT_COMPARED = "too many rows to look here for rows of valid and test among those of train: training tells of them"

#: Bytes of media in the rows themselves above which a check would take minutes to compare them.
_MOST = 1 << 29
_LOOK = 20


def shared_rows(plan: Plan, splits: Mapping[str, RowSource]) -> list[str]:
    """Notes of how many rows of valid and test are rows of train too, or have the input of one.

    Rows are alike as `row_hashes` says; files are compared by what they hold.
    """
    read = _columns([template.source for template in plan.templates])
    written = _columns([side for template in plan.templates for side in template.targets])
    media = frozenset(slot.column for slot in plan.all_slots() if overrides(slot_class(slot), "located"))
    # where a line only reads or only writes, a row is its input
    parts = [sorted(read), sorted(read | written)] if read and written else [sorted(read | written)]
    notes: list[str] = []
    train = splits["train"]
    known: list[Hashes | None] = []
    for name in ("valid", "test"):
        split = splits[name]
        if lacking(plan, train) or lacking(plan, split):  # without one of their columns other rows look equal
            continue
        if not len(split) or not len(train):
            continue
        if max(_bytes(train, media), _bytes(split, media)) > _MOST:
            notes += [] if NOT_COMPARED in notes else [NOT_COMPARED]
            continue
        known = known or [row_hashes(train, columns) for columns in parts]
        found = [_shared(row_hashes(split, columns), rows) for columns, rows in zip(parts, known, strict=True)]
        notes += _told(name, len(split), found[-1], found[0])
    return notes


def _shared(rows_N: Hashes | None, train_M: Hashes | None) -> int:
    """How many rows are among those of train; 0 where a row is not the same twice."""
    if rows_N is None or train_M is None:
        return 0
    return int(np.count_nonzero(np.isin(rows_N, train_M) & (rows_N != UNREADABLE)))


def _bytes(source: RowSource, media: frozenset[str]) -> float:
    """About how many bytes of media the rows hold, told by the first of them."""
    looked = min(_LOOK, len(source))
    held = 0
    for i in range(looked):
        for column in media:
            try:
                value = source.value(i, column)
            except DataError:
                continue
            held += len(value) if isinstance(value, (bytes, str)) else 0
    return held / looked * len(source)


def doubled_rows(split: str, count: int, whole: int) -> str:
    """The note of `whole` of `count` rows that stand in train as well."""
    are = "is a training row" if whole == 1 else "are training rows"
    return f"{whole:,} of {count:,} {split} rows {are} too"


def _told(name: str, count: int, whole: int, inputs: int) -> Iterable[str]:
    other = inputs - whole
    if whole:
        has = "has" if other == 1 else "have"
        more = f"; {other:,} more {has} the input of one and another answer" if other and inputs < count else ""
        yield f"{doubled_rows(name, count, whole)}{more}"
    elif 0 < inputs < count:  # where all have one, the line reads classes, and is meant to
        has = "has" if inputs == 1 else "have"
        yield f"{inputs:,} of {count:,} {name} rows {has} the input of a training row, and another answer"


def _columns(sides: Sequence[tuple[Segment, ...]]) -> frozenset[str]:
    """Columns that the slots and groups of some sides name."""
    return frozenset(use.column for side in sides for segment in side for use in segment_uses(segment))
