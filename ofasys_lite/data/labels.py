"""Notes of labels, categories and phones that a split holds and the training rows, their source for slots, do not."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.attributes import overrides, preprocess_class
from ofasys_lite.data.groups import group_columns, raw_values
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import GroupSegment, SlotSegment, option, walk
from ofasys_lite.preprocess.text import read_text

#: Closed sets with more values look like free text.
_MANY = 1000
#: A set with fewer values may be as large as its rows.
_FEW = 20
#: Sources with as many rows keep their names in the cache.
_CACHED = 2000
#: Names shown of those that training lacks.
_SHOWN = 5

#: Slot key -> how often each name stands in some rows.
Names = dict[str, Counter[str]]


def names_in(
    source: RowSource,
    sides: Sequence[tuple[SlotSegment | GroupSegment, bool]],
    settings: Mapping[str, Mapping[str, Any]],
) -> Names:
    """The names in all rows of a source; rows that cannot be read are passed over."""
    named = tuple(s for s, _ in sides if any(map(_is_named, walk((s,)))))
    if not named:
        return {}
    if len(source) < _CACHED:
        return _counted(source, named, settings)
    meant = [(s.key, s.column, s.optional, s.learned, s.closed is None, s.preprocess, s.options) for s in walk(named)]
    groups = [(s.over, s.by, s.spellings) for s in named if isinstance(s, GroupSegment)]
    key = combined(source.fingerprint, meant, groups, sorted((k, repr(v)) for k, v in settings.items()))

    def build() -> dict[str, Any]:
        return {"json": np.frombuffer(json.dumps(_counted(source, named, settings)).encode(), np.uint8)}

    found = json.loads(cached_arrays("names-1", key, build)["json"].tobytes())
    return {slot: Counter(names) for slot, names in found.items()}


def _counted(
    source: RowSource, named: tuple[SlotSegment | GroupSegment, ...], settings: Mapping[str, Mapping[str, Any]]
) -> Names:
    """What `names_in` gives, of the slots and groups that have names."""
    columns = sorted({c for s in named for c in (group_columns(s) if isinstance(s, GroupSegment) else (s.column,))})
    found: Names = {slot.key: Counter() for slot in walk(named) if _is_named(slot)}
    for values in source.values(range(len(source)), columns):
        if isinstance(values, DataError):
            continue
        with suppress(DataError):
            for slot, value in raw_values(named, dict(zip(columns, values, strict=True))):
                if _is_named(slot):
                    counter = found[slot.key]
                    for name in _names(slot, value, settings):
                        counter[name] += 1
    return found


def of_column(slot: SlotSegment) -> bool:
    """True for a slot that takes the values of its training column."""
    return slot.closed is not None and slot.closed.kind == "column"


def _is_named(slot: SlotSegment) -> bool:
    """True for slots whose values need a row of the vocabulary that training data gives."""
    if slot.closed is not None:
        return slot.closed.kind != "candidates"
    # a schema declares the same rows whatever the value is
    declares = bool(slot.preprocess) and overrides(preprocess_class(slot.preprocess), "declare")
    return declares and option(slot.options, "schema") is None


def _names(slot: SlotSegment, value: Any, settings: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    if slot.closed is not None:
        yield read_text(value)
        return
    for name in preprocess_class(slot.preprocess).declare(value, slot.options, settings[slot.modality]):
        # rows are called `=red`, or by their kind: `phone:AH`
        yield name[1:] if name.startswith("=") else name.partition(":")[2] or name


def label_notes(slots: Sequence[SlotSegment], splits: Mapping[str, Names], rows: Mapping[str, int]) -> Iterator[str]:
    """What to say of the names of a task's slots."""
    for key, slot in {slot.key: slot for slot in slots}.items():
        train = splits["train"].get(key)
        if train is None:
            continue
        known = set(train)
        if of_column(slot):
            yield from _set_notes(key, train, rows["train"])
        elif slot.closed is not None:
            known = set(slot.closed.values)
            unused = [value for value in slot.closed.values if value not in train]
            if train and unused and len(known) <= _MANY:
                yield f"closed set of `{key}`: {_shown(unused)} in no training row"
        for split, names in splits.items():
            odd = [name for name in names.get(key, ()) if name not in known]
            if odd and split != "train":
                count = sum(names[key][name] for name in odd)
                what = "never written" if slot.learned else "not read"
                yield f"`{key}`: {_shown(odd)} in no training row, and {what}: {count} in {split}"


def _set_notes(key: str, train: Counter[str], rows: int) -> Iterator[str]:
    """What is odd about a closed set that comes from the training column."""
    count, total = len(train), train.total()
    if count == 1:
        yield f"the closed set of `{key}` has one value, `{next(iter(train))}`: there is nothing to choose"
    elif count > _FEW and count > total / 2:
        yield (
            f"the closed set of `{key}` has {count} values in {rows} rows: what seldom comes again is not learned as a "
            "class; leave `closed_set` out if it is free text"
        )
    elif count > _MANY:
        yield f"the closed set of `{key}` has {count} values"
    folded: dict[str, list[str]] = {}
    for name in train:
        # one character may be spelled by two, an accent behind its letter
        folded.setdefault(" ".join(unicodedata.normalize("NFKC", name).split()).casefold(), []).append(name)
    alike = [sorted(names) for names in folded.values() if len(names) > 1]
    if alike:
        named = [f"`{name}`" for name in alike[0][:_SHOWN]]
        more = f", and {len(alike) - 1} more such group{'' if len(alike) == 2 else 's'}" if len(alike) > 1 else ""
        shown = f"{', '.join(named[:-1])} and {named[-1]}"
        one = len({" ".join(name.split()).casefold() for name in alike[0]}) == 1
        how = "case or white space" if one else "how Unicode spells their characters, case or white space"
        yield f"the closed set of `{key}` holds {shown}, which differ in {how} only{more}"


def _shown(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name[:40]}`" for name in sorted(names)[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{shown}{more} {'is' if len(names) == 1 else 'are'}"
