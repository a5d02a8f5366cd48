"""Names that stand twice, as columns of a table or as keys of a JSON object: no value is lost to another of its name.

Which is meant nobody can know, so each stands under its place, and who asks for the name is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from ofasys_lite.errors import DataError

#: Most lists and objects within each other that are read: all that walks through values calls itself for each.
DEEPEST = 200
#: What has to be in a text with white space between a key and its colon.
_SPACED = (" :", "\t", "\r", "\n")


def column_names(names: Iterable[Any]) -> tuple[str, ...]:
    """A name for every column of a table: its own, or its place where it has none or shares one.

    Columns that no line asks for need no name; of two alike neither bears it.

    Example:
        >>> column_names(["", "q", "a", "q"])
        ('column 1', 'q (column 2)', 'a', 'q (column 4)')
    """
    found = [str(name) for name in names]
    return tuple(name or f"column {place}" for place, name in enumerate(_placed(found), 1))


def _placed(names: Sequence[str]) -> list[str]:
    """The names, those that stand twice with their place behind them, or one further on where another is called so."""
    twice = {name for name, count in Counter(names).items() if count > 1 and name}
    taken, found = set(names), list[str]()
    for place, name in enumerate(names, 1):
        at = place
        while name in twice and f"{name} (column {at})" in taken:
            at += 1
        found.append(f"{name} (column {at})" if name in twice else name)
        taken.add(found[-1])
    return found


class Doubled(dict[str, Any]):
    """An object some of whose keys, `twice`, stand twice in it: each value under a name of its place.

    Who asks for such a key gets a DataError.
    """

    def __init__(self, items: Iterable[tuple[str, Any]], twice: Collection[str]) -> None:
        super().__init__(items)
        self.twice = frozenset(twice)

    def _check(self, key: object) -> None:
        if key in self.twice:
            raise self.error(str(key))

    def error(self, key: str = "") -> DataError:
        """What to say of a key, else of the first one."""
        key = key or min(self.twice)
        return DataError(f"the key `{key}` stands twice", help="which is meant nobody can know; keep one of them")

    def __contains__(self, key: object) -> bool:
        self._check(key)
        return super().__contains__(key)

    def __getitem__(self, key: str) -> Any:
        self._check(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As that of a dict; DataError for a key that stands twice."""
        self._check(key)
        return super().get(key, default)


def single(value: Any) -> Any:
    """`value`; DataError if it is an object in which a key stands twice."""
    if isinstance(value, Doubled):
        raise value.error()
    return value


def _as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    twice = [key for key, count in Counter(keys).items() if count > 1]
    # of keys without letters, too, neither is lost
    named = _placed([key or "column" if key in twice else key for key in keys])
    return Doubled(zip(named, [value for _, value in pairs], strict=True), twice)


def read_json(text: str | bytes) -> Any:
    """What a JSON text of a user's says; objects with a key twice are `Doubled`.

    They are looked for only where there may be some: that takes twice the time. Each key has a colon. So where a text
    has no more colons than the value has keys, no key was lost to another; nor where colons behind a quote are no more,
    and none stands behind white space.

    Raises:
        ValueError: It is none, or more than `DEEPEST` lists and objects stand within each other.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    try:
        found = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    opened = text.count("{") + text.count("[")
    if opened > DEEPEST and _deeper(found):
        raise _too_deep()
    keys = len(found) if opened == 1 and isinstance(found, dict) else _keys(found)
    if keys == text.count(":") or (keys == text.count('":') and not any(mark in text for mark in _SPACED)):
        return found
    del found  # large files are not held twice
    return json.loads(text, object_pairs_hook=_as_object)


def _too_deep() -> ValueError:
    return ValueError(f"more than {DEEPEST} lists and objects stand within each other")


def _deeper(value: Any) -> bool:
    """Whether more than `DEEPEST` lists and objects stand within each other."""
    level = [value]
    for _ in range(DEEPEST):
        inner = (part for each in level for part in (each.values() if isinstance(each, Mapping) else each))
        level = [part for part in inner if type(part) is dict or type(part) is list]
        if not level:
            return False
    return True


def _keys(value: Any) -> int:
    """Number of keys of all objects in a value; lists that begin with no object and no list are not looked into."""
    inner: Collection[Any]
    if type(value) is dict:
        count, inner = len(value), value.values()
    elif type(value) is list and value and type(value[0]) in (dict, list):
        count, inner = 0, value
    else:
        return 0
    for each in inner:
        if type(each) is dict or type(each) is list:
            count += _keys(each)
    return count
