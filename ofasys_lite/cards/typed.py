"""A data source typed on a command line: a path taken literally, or a mapping as a card writes it."""

from __future__ import annotations

import os
from typing import Any

import yaml

from ofasys_lite.errors import DataError

__all__ = ["typed_source"]


def typed_source(text: str) -> Any:
    """`text` as a path, or the mapping that it spells: `{path: d.csv, separator: ";"}`.

    A file that is called so comes first; braces around anything but `key: value` choose between names (`{a,b}.csv`).

    Raises:
        DataError: Braces with `path:` or `hf:` in them that are no mapping.

    Example:
        >>> typed_source("{path: d.csv, separator: ';'}")
        {'path': 'd.csv', 'separator': ';'}
    """
    bare = text.strip()
    if not (bare.startswith("{") and bare.endswith("}")) or os.path.exists(text):
        return text
    try:
        found = yaml.safe_load(bare)
    except yaml.YAMLError:
        found = None
    if isinstance(found, dict) and {"path", "hf"} & set(found):
        return found
    if "path:" in bare or "hf:" in bare:
        raise DataError(
            f"`{text}` is no mapping", help='a space stands behind each colon: {path: d.csv, separator: ";"}'
        )
    return text
