"""A list or record where one value is meant: how the line asks for what lies in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ofasys_lite.data.fields import opened_text
from ofasys_lite.errors import DataError
from ofasys_lite.plan.segments import SlotSegment

#: Keys of a record that are tried.
_KEYS = 40


def inside(slot: SlotSegment, value: Any, check: Callable[[Any], None]) -> tuple[bool, str]:
    """(whether the value is a list of what is meant, what to write instead); (False, "") where nothing in it is.

    Args:
        value: What stands in the row, maybe as the text of JSON.
        check: Raises DataError for what the slot cannot read.
    """
    held = opened_text(value)
    if isinstance(held, np.ndarray):
        held = list(held)
    kind, column = slot.modality, slot.column
    if isinstance(held, Mapping):
        key = _readable_key(held, check)
        return False, "" if key is None else f"name what is meant of the record, such as [{kind}:{column}.{key}]"
    if not isinstance(held, (list, tuple)) or not held:
        return False, ""
    first = held[0]
    if _reads(first, check):
        return True, f"for the first of them write [{kind}:{column}.0], for all of them ([{kind}])*<over={column}>"
    key = _readable_key(first, check) if isinstance(first, Mapping) else None
    if key is None:
        return False, ""
    group = f"([{kind}:{key}])*<over={column}>"
    return True, f"for the first of them write [{kind}:{column}.0.{key}], for all of them {group}"


def _readable_key(record: Mapping[Any, Any], check: Callable[[Any], None]) -> str | None:
    """The first key whose value can be read, dots for records within."""
    for key in list(record)[:_KEYS]:
        if _reads(record[key], check):
            return str(key)
        deeper = _readable_key(record[key], check) if isinstance(record[key], Mapping) else None
        if deeper is not None:
            return f"{key}.{deeper}"
    return None


def _reads(value: Any, check: Callable[[Any], None]) -> bool:
    if value is None or (isinstance(value, (bool, str)) and not value):
        return False
    try:
        check(value)
    except DataError:
        return False
    return True
