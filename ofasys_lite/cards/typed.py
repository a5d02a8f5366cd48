"""A data source typed on a command line: a path taken literally, or a list or mapping as a card writes it."""

from __future__ import annotations

import os
from typing import Any

import yaml

from ofasys_lite.errors import DataError


def typed_source(text: str) -> Any:
    """`text` as a path, or the list or mapping that it spells: `{path: d.csv, separator: ";"}`, `[a.csv, b.csv]`.

    A file that is called so comes first; braces around anything but `key: value` choose between names (`{a,b}.csv`);
    quotes around a name come off.

    Raises:
        DataError: Brackets or braces in which no list or mapping stands.

    Example:
        >>> typed_source("{path: d.csv, separator: ';'}"), typed_source("data (1).csv")
        ({'path': 'd.csv', 'separator': ';'}, 'data (1).csv')
    """
    if os.path.exists(os.path.expanduser(text)):
        return text
    bare = text.strip()
    if len(bare) > 1 and bare[0] in "\"'" and bare[-1] == bare[0]:
        return bare[1:-1].replace(f"\\{bare[0]}", bare[0])
    if bare[:1] + bare[-1:] not in ("{}", "[]"):
        return text
    try:
        found = _apart(yaml.safe_load(bare))
    except yaml.YAMLError:
        help = "write [a.csv, b.csv] or {path: a.csv, separator: ';'}; a name with marks in it stands in quotes"
        raise DataError(f"cannot read the list or mapping `{text}`", help=help) from None
    choice = isinstance(found, dict) and all(value is None for value in found.values())
    return text if choice else found


def _apart(value: Any) -> Any:
    """Keys that YAML took together with their values, because no blank follows the colon, taken apart."""
    if isinstance(value, list):
        return [_apart(each) for each in value]
    if not isinstance(value, dict):
        return value
    found: dict[str, Any] = {}
    for key, each in value.items():
        name, colon, rest = str(key).partition(":")
        if colon and each is None:
            found[name] = yaml.safe_load(rest)
        else:
            found[str(key)] = _apart(each)
    return found
