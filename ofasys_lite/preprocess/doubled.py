"""Names that stand twice, as columns of a table or as keys of a JSON object: no value is lost to another of its name.

Which is meant nobody can know, so each stands under its place, and who asks for the name is told.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable
from typing import Any

#: What to do about a key that stands twice.
KEEP_ONE = "which is meant nobody can know; keep one of them"
#: What has to be in a text with white space between a key and its colon.
_SPACED = (" :", "\t", "\r", "\n")


def column_names(names: Iterable[Any]) -> tuple[str, ...]:
    """A name for every column of a table: its own, or its place where it has none or shares one.

    Columns that no line asks for need no name; which of two alike is meant nobody can know, so neither bears it.

    Example:
        >>> column_names(["", "q", "a", "q"])
        ('column 1', 'q (column 2)', 'a', 'q (column 4)')
    """
    found = [str(name) for name in names]
    twice = {name for name, count in Counter(found).items() if count > 1 and name}
    return tuple(
        f"{name} (column {place})" if name in twice else name or f"column {place}"
        for place, name in enumerate(found, 1)
    )


class Doubled(dict[str, Any]):
    """An object with a key twice: `key`; each of its values stands under a name of its place."""

    def __init__(self, items: Iterable[tuple[str, Any]], key: str) -> None:
        super().__init__(items)
        self.key = key


def as_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its pairs; of keys that stand twice each value keeps its place, as columns of a table do."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    keys = [key for key, _ in pairs]
    named = zip(column_names(keys), [value for _, value in pairs], strict=True)
    return Doubled(named, next(key for key in keys if keys.count(key) > 1))


def read_json(text: str | bytes) -> Any:
    """What a JSON text of a user's says; objects with a key twice are `Doubled`.

    Read by `as_object` only where a key may stand twice: that takes twice the time. Each key has a colon. So where a
    text has no more colons than the value has keys, no key was lost to another; nor where colons behind a quote are no
    more, and none stands behind white space.

    Raises:
        ValueError: It is none, or lists and objects stand within each other too deeply to be read.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    try:
        found = json.loads(text)
        keys = len(found) if text.count("{") == 1 and isinstance(found, dict) else _keys(found)
        if keys == text.count(":") or (keys == text.count('":') and not any(mark in text for mark in _SPACED)):
            return found
        return json.loads(text, object_pairs_hook=as_object)
    except RecursionError:
        raise ValueError("lists and objects stand within each other too deeply") from None


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
