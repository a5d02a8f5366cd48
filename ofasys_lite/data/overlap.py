"""Rows that stand in train and in valid or test: how many there are, by what the line reads of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.attributes import overrides, slot_class
from ofasys_lite.data.columns import lacking, segment_uses
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.memory import feed
from ofasys_lite.data.source import RowSource, combined, values_of
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Plan, Segment

__all__ = ["NOT_COMPARED", "doubled_rows", "shared_rows"]

#: A note of a check that leaves the comparison to the training, which reads every row anyway.
NOT_COMPARED = "too many rows to look here for rows of valid and test among those of train: training tells of them"

#: Bytes of media in the rows themselves above which a check would take minutes to compare them.
_MOST = 1 << 29
_LOOK = 20


def shared_rows(plan: Plan, splits: Mapping[str, RowSource]) -> list[str]:
    """Notes of how many rows of valid and test are rows of train too, or have the input of one.

    Files are compared by content, where their sizes are alike.

    Args:
        plan: What the line reads and writes.
        splits: The rows of train, valid and test.
    """
    read = _columns([template.source for template in plan.templates])
    written = _columns([side for template in plan.templates for side in template.targets])
    media = frozenset(slot.column for slot in plan.all_slots() if overrides(slot_class(slot), "located"))
    # where a line only reads or only writes, a row is its input
    parts = [sorted(read), sorted(written - read)] if read and written else [sorted(read | written)]
    notes: list[str] = []
    train = splits["train"]
    known: list[_Known] = []
    for name in ("valid", "test"):
        split = splits[name]
        if lacking(plan, train) or lacking(plan, split):  # without one of their columns other rows look equal
            continue
        if not len(split) or not len(train):
            continue
        if max(_bytes(train, media), _bytes(split, media)) > _MOST:
            notes += [] if NOT_COMPARED in notes else [NOT_COMPARED]
            continue
        key = combined(train.fingerprint, split.fingerprint, train.base, split.base, *read, "->", *written)

        def build(split: RowSource = split) -> dict[str, Any]:
            known[:] = known or [_Known(train, parts, media)]
            return {"found": np.array(known[0].shared(split), np.int64)}

        whole, inputs = cached_arrays("shared-1", key, build)["found"].tolist()
        notes += _told(name, len(split), whole, inputs)
    return notes


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


class _Known:
    """The rows of train by what they hold.

    Args:
        train: The rows.
        parts: Columns of the input, and those of the answer; or all of them in one part.
        media: Columns whose values may be paths of files.
    """

    def __init__(self, train: RowSource, parts: Sequence[Sequence[str]], media: frozenset[str]) -> None:
        self.train, self.parts, self.media = train, parts, media
        self.rough: list[dict[bytes, list[int]]] = [{} for _ in parts]
        self.exact: dict[bytes, set[bytes]] = {}
        for i in range(len(train)):
            for rough, key in zip(self.rough, self.keys(train, i, False), strict=True):
                rough.setdefault(key, []).append(i)

    def shared(self, split: RowSource) -> tuple[int, int]:
        """(how many rows of `split` equal a row of train, how many have the input of one)."""
        found = [0] * len(self.parts)
        for i in range(len(split)):
            keys = self.keys(split, i, False)
            for part, key in enumerate(keys):
                if not key or key not in self.rough[part]:
                    continue
                if self.media:
                    if key not in self.exact:
                        rows = self.rough[part][key]
                        self.exact[key] = {self.keys(self.train, j, True)[part] for j in rows}
                    found[part] += self.keys(split, i, True)[part] in self.exact[key]
                else:
                    found[part] += 1
        return found[-1], found[0]

    def keys(self, source: RowSource, i: int, exact: bool) -> list[bytes]:
        """Hashes of a row's input and of all of it, empty if it cannot be read.

        Files count by size, or where `exact` by content.
        """
        state = hashlib.blake2b(digest_size=16)
        found: list[bytes] = []
        try:
            values = iter(values_of(source, i, [column for part in self.parts for column in part]))
            for part in self.parts:
                for column, value in zip(part, values, strict=False):
                    feed(state, self._said(source, column, value, exact))
                found.append(state.digest())
        except (DataError, OSError):
            return [b""] * len(self.parts)
        return found

    def _said(self, source: RowSource, column: str, value: Any, exact: bool) -> Any:
        if value is MISSING:
            return None
        if column in self.media and isinstance(value, str) and len(value) < 1024 and "://" not in value:
            path = os.path.join(source.base, value)
            if os.path.isfile(path):
                return DataFile(path).digest() if exact else os.path.getsize(path)
        return value
