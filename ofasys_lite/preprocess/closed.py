"""Closed sets in token ids: one declared row a value (`=yes`), or pieces and `<close>` for all values of the set."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.preprocess.vocabulary import Vocabulary


def closed_sequences(vocabulary: Vocabulary, values: Sequence[str]) -> tuple[tuple[int, ...], ...]:
    """Ids of every value, in order, none a prefix of another.

    One id each if the run declared the row `=value` of all of them; otherwise the pieces of each and `<close>`, so that
    the values of one set always compete at the same places.

    Raises:
        DataError: The set is empty or names a value twice.
    """
    return tuple(_table(vocabulary, tuple(values)).values())


def closed_value(vocabulary: Vocabulary, ids: Iterable[int], values: Sequence[str]) -> str:
    """The value of a closed set that ids spell."""
    found = _values(vocabulary, tuple(values)).get(tuple(map(int, ids)))
    if found is None:
        raise DataError("decoded ids spell no value of the closed set", help="decode under the slot's automaton")
    return found


def closed_ids(vocabulary: Vocabulary, value: str, values: Sequence[str]) -> list[int]:
    """Ids of `value` within the closed set `values`; DataError with near names if it is not in it."""
    table = _table(vocabulary, tuple(values))
    if value not in table:
        raise DataError(f"`{value}` is not in the closed set", help=did_you_mean(value, values))
    return list(table[value])


@functools.lru_cache(maxsize=256)
def _values(vocabulary: Vocabulary, values: tuple[str, ...]) -> MappingProxyType[tuple[int, ...], str]:
    return MappingProxyType({ids: value for value, ids in _table(vocabulary, values).items()})


@functools.lru_cache(maxsize=256)
def _table(vocabulary: Vocabulary, values: tuple[str, ...]) -> MappingProxyType[str, tuple[int, ...]]:
    if not values:
        raise DataError("the closed set is empty", help="give at least one value")
    if len(set(values)) != len(values):
        double = next(v for v in values if values.count(v) > 1)
        raise DataError(f"the closed set names `{double}` twice", help="name each value once")
    rows = [vocabulary.find(f"={value}") for value in values]
    if None not in rows:
        return MappingProxyType({v: (r,) for v, r in zip(values, rows, strict=True) if r is not None})
    close = vocabulary.control("close")
    table = {value: (*vocabulary.encode(value), close) for value in values}
    _told_apart(table)
    return MappingProxyType(table)


def _told_apart(table: Mapping[str, tuple[int, ...]]) -> None:
    """DataError if two values are spelt alike, as pieces that lose case spell `Red` and `red`."""
    seen: dict[tuple[int, ...], str] = {}
    for value, ids in table.items():
        if ids in seen:
            help = "the text model tells them not apart; write them otherwise, or make the set smaller"
            raise DataError(f"`{seen[ids]}` and `{value}` of the closed set are written alike", help=help)
        seen[ids] = value
