"""Rows known by what they hold: one number a row, over the columns that a line reads, wherever the row stands.

A row that moves in its file, or comes in another file or format, keeps its number. Values count as text; of pictures,
sounds and films (bytes, or a local file that a path names) the size and three blocks count, so that large data stay
cheap to look at. Not looked at: files behind URLs, and columns that the line does not read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.attributes import overrides, slot_class
from ofasys_lite.data.columns import lacking, segment_uses, uses
from ofasys_lite.data.fields import MISSING
from ofasys_lite.data.source import RowSource, combined, names_medium
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import Plan, Segment

Hashes = NDArray[np.int64]

#: Bytes of a block of a medium.
_BLOCK = 8192
#: Rows that are looked at to learn whether a source names files, or gives a row twice alike.
_LOOK = 16
#: Of a row that cannot be read; no other row has it.
UNREADABLE = 0


def _nothing() -> Hashes:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Contents:
    """Which rows a task was trained on.

    Attributes:
        columns: What was looked at of each row.
        train_N: Hashes of the training rows, in their order.
        known_K: Those that stood in its valid or test split as well, so that meeting them there is no news; sorted.
        earlier_M: Hashes of rows of earlier trainings that are no training rows any more; sorted.
    """

    columns: tuple[str, ...]
    train_N: Hashes
    known_K: Hashes = field(default_factory=_nothing)
    earlier_M: Hashes = field(default_factory=_nothing)

    @property
    def digest(self) -> str:
        """Hash of the training rows in their order."""
        return hashlib.blake2b(self.train_N.astype("<i8").tobytes(), digest_size=16).hexdigest()

    def trained(self, hashes_N: Hashes) -> NDArray[np.bool_]:
        """True for rows that were trained on, but for those that always stood in both."""
        seen_N = np.isin(hashes_N, self.train_N) | np.isin(hashes_N, self.earlier_M)
        new_N: NDArray[np.bool_] = seen_N & (hashes_N != UNREADABLE) & ~np.isin(hashes_N, self.known_K)
        return new_N

    def doubled(self, hashes_N: Hashes) -> NDArray[np.bool_]:
        """True for rows that stood among the training rows and in another split from the start."""
        return np.isin(hashes_N, self.known_K)

    def after(self, old: Contents) -> Contents:
        """These, where the rows of `old` were trained on before."""
        before = np.union1d(old.train_N, old.earlier_M)
        return replace(self, earlier_M=np.setdiff1d(before, self.train_N))

    def change(self, old: Contents) -> str:
        """What is different from the training rows of `old`; empty where nothing is."""
        if self.digest == old.digest:
            return ""
        (values, counts), (others, before) = (np.unique(h, return_counts=True) for h in (self.train_N, old.train_N))
        every = np.union1d(values, others)
        more = _counts(every, values, counts) - _counts(every, others, before)
        new, gone = int(more.clip(min=0).sum()), int((-more).clip(min=0).sum())
        if not new and not gone:
            return f"its {len(self.train_N)} training rows stand in another order"
        was, now = len(old.train_N), len(self.train_N)
        if was == now:
            return f"{new} of its {now} training rows hold other values"
        return f"it had {was} training rows and has {now}: {new} are new, {gone} are gone"


def _counts(every: Hashes, values: Hashes, counts: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.zeros(len(every), np.int64)
    found[np.searchsorted(every, values)] = counts
    return found


def read_columns(plan: Plan) -> tuple[str, ...]:
    """The columns whose values make a row what it is for a line, in alphabetical order."""
    return tuple(sorted({use.column for use in uses(plan)}))


def hashes_of(plan: Plan, sources: Mapping[str, RowSource]) -> dict[str, Hashes]:
    """`row_hashes` of each split that has some, over the columns that the line reads."""
    columns = read_columns(plan)
    found = {split: row_hashes(source, columns) for split, source in sources.items()}
    return {split: hashes for split, hashes in found.items() if hashes is not None}


def contents_of(plan: Plan, hashes: Mapping[str, Hashes]) -> Contents | None:
    """The training rows of a task, beside its other splits; None where reading a row twice gives two values."""
    train = hashes.get("train")
    if train is None:
        return None
    others = [each for split, each in hashes.items() if split != "train"]
    rest = np.unique(np.concatenate(others)) if others else _nothing()
    known = np.intersect1d(train, rest)
    return Contents(read_columns(plan), train, known[known != UNREADABLE])


def row_hashes(source: RowSource, columns: Sequence[str], numbers: Sequence[int] | None = None) -> Hashes | None:
    """(N,) a number per row, equal for rows that hold the same; None where a row is not the same twice.

    Args:
        numbers: Which rows; None takes all, and keeps the result by the source's fingerprint unless rows name files.
    """
    first = range(min(_LOOK, len(source)))
    names_files: list[bool] = []
    once, twice = (
        [_hash_of(values, source.base, names_files.append) for values in source.values(first, columns)]
        for _ in range(2)
    )
    if once != twice:
        return None

    def build(rows: Sequence[int]) -> Hashes:
        found = (_hash_of(values, source.base) for values in source.values(rows, columns))
        return np.fromiter(found, np.int64, len(rows))

    if numbers is not None:
        return build(numbers)
    if any(names_files):
        return build(range(len(source)))
    key = combined(source.fingerprint, source.base, *columns)
    return cached_arrays("contents-1", key, lambda: {"rows": build(range(len(source)))})["rows"]


def media_key(source: RowSource, columns: Sequence[str]) -> str:
    """The source's fingerprint; where its rows name files, with what these hold: a key for what is made of pictures."""
    names_files: list[bool] = []
    for values in source.values(range(min(_LOOK, len(source))), columns):
        _hash_of(values, source.base, names_files.append)
    if not any(names_files):
        return source.fingerprint
    hashes = row_hashes(source, columns)
    return combined(source.fingerprint, b"" if hashes is None else hashes.tobytes())


def _hash_of(values: Sequence[Any] | DataError, base: str, files: Callable[[bool], None] | None = None) -> int:
    try:
        return UNREADABLE if isinstance(values, DataError) else values_hash(values, base, files)
    except DataError:
        return UNREADABLE


def values_hash(values: Iterable[Any], base: str, files: Callable[[bool], None] | None = None) -> int:
    """A number for some values, equal where they hold the same.

    Args:
        base: Folder of relative paths.
        files: Called for each value that names a file.
    """
    state = hashlib.blake2b(digest_size=8)
    for value in values:
        said = _said(value, base, files)
        state.update(b"%d:" % len(said))
        state.update(said)
    return int.from_bytes(state.digest(), "little", signed=True) or 1


@lru_cache(maxsize=4096)  # names of fields
def _key(name: str) -> bytes:
    return json.dumps(name).encode()


def _said(value: Any, base: str, files: Callable[[bool], None] | None) -> bytes:
    """What a value says, as bytes that do not depend on how a format holds it."""
    if isinstance(value, (int, float)):
        return b"%d" % value if type(value) is int else str(value).encode()
    if isinstance(value, str):
        found = _of_file(value, base)
        if found is not None and files is not None:
            files(True)
        return value.encode("utf-8", "surrogatepass") if found is None else found
    if value is None or value is MISSING:
        return b""
    if isinstance(value, (bytes, bytearray)):
        return _blocks(len(value), lambda start, stop: bytes(value[start:stop]))
    if isinstance(value, (dict, Mapping)):  # dict first: asking an abstract class costs more
        parts = [(str(key), _said(inner, base, files)) for key, inner in sorted(value.items(), key=lambda e: str(e[0]))]
        return b"{" + b",".join(_key(key) + b":%d:" % len(part) + part for key, part in parts) + b"}"
    if isinstance(value, (list, tuple)):
        return b"[" + b",".join(b"%d:" % len(part) + part for part in (_said(v, base, files) for v in value)) + b"]"
    if hasattr(value, "numpy"):  # torch tensors
        value = value.numpy()
    if hasattr(value, "tobytes") and (getattr(value, "shape", ()) != () or hasattr(value, "mode")):
        shape = getattr(value, "shape", getattr(value, "size", ""))
        kind = getattr(value, "dtype", getattr(value, "mode", ""))
        return f"{shape}{kind}".encode() + hashlib.blake2b(value.tobytes(), digest_size=16).digest()
    return str(value).encode("utf-8", "surrogatepass")


def _of_file(text: str, base: str) -> bytes | None:
    """What stands for a medium that `text` names by its path; None where it names none that lies here."""
    if len(text) > 1024 or "." not in text or "\0" in text or "://" in text or not names_medium(text):
        return None
    try:
        with open(os.path.join(base, os.path.expanduser(text)), "rb") as handle:

            def read(start: int, stop: int) -> bytes:
                handle.seek(start)
                return handle.read(stop - start)

            return _blocks(os.fstat(handle.fileno()).st_size, read)
    except OSError:
        return None


def _blocks(size: int, read: Callable[[int, int], bytes]) -> bytes:
    """Hash of the size, the first, the middle and the last block of some content."""
    state = hashlib.blake2b(b"%d:" % size, digest_size=16)
    if size <= 3 * _BLOCK:
        state.update(read(0, size))
    else:
        for start in (0, (size - _BLOCK) // 2, size - _BLOCK):
            state.update(read(start, start + _BLOCK))
    return state.digest()


#: A note of a check that leaves the comparison to the training, which reads every row anyway.
NOT_COMPARED = "too many rows to look here for rows of valid and test among those of train: training tells of them"

#: Bytes of media in the rows themselves above which a check would take minutes to compare them.
_MOST = 1 << 29
_SIZED = 20


def shared_rows(plan: Plan, splits: Mapping[str, RowSource]) -> list[str]:
    """Notes of how many rows of valid and test are rows of train too, or have the input of one.

    Rows are alike as `row_hashes` says; files are compared by what they hold.
    """
    read = _columns([side for template in plan.templates for side in template.read])
    written = _columns([side for template in plan.templates for side in template.written])
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
    looked = min(_SIZED, len(source))
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
