"""Rows that stand in train and in valid or test: how many there are, by what the line reads of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.columns import lacking, segment_uses
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.memory import feed
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Plan, Segment

__all__ = ["shared_rows"]

#: Modalities whose values may be paths of files.
_FILES = frozenset({"IMAGE", "AUDIO", "VIDEO"})
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
    media = frozenset(slot.column for slot in plan.all_slots() if slot.modality in _FILES)
    notes: list[str] = []
    train = splits["train"]
    for name in ("valid", "test"):
        split = splits[name]
        if lacking(plan, train) or lacking(plan, split):  # without one of their columns other rows look equal
            continue
        if not len(split) or not len(train) or max(_bytes(train, media), _bytes(split, media)) > _MOST:
            continue
        key = combined(train.fingerprint, split.fingerprint, train.base, split.base, *read, "->", *written)

        def build(split: RowSource = split) -> dict[str, Any]:
            every = {*read, *written}
            whole = _shared(train, split, sorted(every), media)
            inputs = _shared(train, split, sorted(read), media) if read and written else whole
            return {"found": np.array([whole, inputs], np.int64)}

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


def _told(name: str, count: int, whole: int, inputs: int) -> Iterable[str]:
    other = inputs - whole
    if whole:
        more = f"; {other:,} more have the input of one and another answer" if other and inputs < count else ""
        yield f"{whole:,} of {count:,} {name} rows are training rows too{more}"
    elif 0 < inputs < count:  # where all have one, the line reads classes, and is meant to
        yield f"{inputs:,} of {count:,} {name} rows have the input of a training row, and another answer"


def _columns(sides: Sequence[tuple[Segment, ...]]) -> frozenset[str]:
    """Columns that the slots and groups of some sides name."""
    return frozenset(use.column for side in sides for segment in side for use in segment_uses(segment))


def _shared(train: RowSource, split: RowSource, columns: Sequence[str], media: frozenset[str]) -> int:
    """How many rows of `split` equal a row of `train` in these columns."""
    roughly: dict[bytes, list[int]] = {}
    for i in range(len(train)):
        roughly.setdefault(_key(train, i, columns, media, False), []).append(i)
    known: dict[bytes, set[bytes]] = {}
    found = 0
    for i in range(len(split)):
        rough = _key(split, i, columns, media, False)
        if rough not in roughly or not rough:
            continue
        if rough not in known:
            known[rough] = {_key(train, j, columns, media, True) for j in roughly[rough]}
        found += _key(split, i, columns, media, True) in known[rough]
    return found


def _key(source: RowSource, i: int, columns: Sequence[str], media: frozenset[str], exact: bool) -> bytes:
    """Hash of a row's values, empty if it cannot be read; files count by size, or where `exact` by content."""
    state = hashlib.blake2b(digest_size=16)
    try:
        for column in columns:
            value = source.value(i, column)
            if column in media and isinstance(value, str) and len(value) < 1024 and "://" not in value:
                path = os.path.join(source.base, value)
                if os.path.isfile(path):
                    value = DataFile(path).digest() if exact else os.path.getsize(path)
            feed(state, None if value is MISSING else value)
    except (DataError, OSError):
        return b""
    return state.digest()
