"""Values as people write them: what Python and table libraries have types for becomes text, a number or nothing.

| value | becomes |
|---|---|
| numbers of numpy, torch, pandas | the number with the fewest digits that mean it: float32 0.1 is 0.1 |
| decimals | text with all their digits: `1.50` |
| dates, times, moments, durations | text: `2024-01-31`, `12:30:00`, `2024-01-31 12:30:00` |
| NaT, NA | None |
| UUIDs | text |

Truth values stay truth values, which are written `true` and `false` where text is wanted.
"""

from __future__ import annotations

import datetime
import decimal
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from ofasys_lite.preprocess.doubled import Doubled

#: What is left as it is; by far the most values are of these.
_PLAIN = frozenset({str, int, float, bool, bytes, type(None)})

#: What to do about text that JSON could spell and nothing else can.
HALF = "a character was cut in two (an emoji, say), or bytes are no UTF-8: write the text anew, or leave the row out"


def all_plain(values: Iterable[Any]) -> bool:
    """Whether `plain` would leave all values as they are; quick, and false for some lists that it would leave."""
    return _PLAIN.issuperset(map(type, values))


def plain(value: Any) -> Any:
    """`value`, and what lists and records hold, without types that only some libraries know; media stay as they are."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if isinstance(value, Mapping):
        found = {key: plain(inner) for key, inner in value.items()}
        return Doubled(found.items(), value.twice) if isinstance(value, Doubled) else found
    if isinstance(value, (list, tuple)):
        return value if set(map(type, value)) <= _PLAIN else _elements(value)
    return _scalar(value)


def _elements(value: list[Any] | tuple[Any, ...]) -> list[Any] | tuple[Any, ...]:
    """The list or tuple with plain elements."""
    inner = [plain(one) for one in value]
    return inner if isinstance(value, list) else tuple(inner)


def plain_number(value: Any) -> Any:
    """A numpy number as Python's, a float of few bits with the digits that it is written with."""
    if isinstance(value, (np.float16, np.float32)):
        return float(str(value))
    return value.item()


def _scalar(value: Any) -> Any:
    if type(value).__name__ in ("NaTType", "NAType"):  # pandas', which need not be there
        return None
    if isinstance(value, decimal.Decimal):
        return format(value, "f") if value.is_finite() else None
    if isinstance(value, datetime.timedelta):  # pandas' own writes the days always
        return _time_text(str(datetime.timedelta(seconds=value.total_seconds())))
    if isinstance(value, (datetime.date, datetime.time)):
        return _time_text(str(value))
    if isinstance(value, uuid.UUID) or type(value).__name__ in ("Period", "Interval"):
        return str(value)
    if isinstance(value, str):  # numpy's, and enumerations of text
        return str(value)
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return _numpy_time(value)
    if isinstance(value, np.generic):
        return plain_number(value)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        # an array or tensor of one number; numpy knows how many bits it has
        return plain(np.asarray(value)[()]) if isinstance(value, np.ndarray) else plain(_of_tensor(value))
    return value


def _of_tensor(value: Any) -> Any:
    try:
        return value.detach().cpu().numpy()[()]
    except (AttributeError, TypeError, RuntimeError):  # bfloat16, and other libraries' numbers
        return value.item()


def _numpy_time(value: np.datetime64 | np.timedelta64) -> str | None:
    """Text of numpy's moments and durations."""
    if np.isnat(value):
        return None
    if isinstance(value, np.timedelta64):
        return _time_text(str(value.astype("timedelta64[us]").item()))
    return _time_text(str(value).replace("T", " "))


def _time_text(text: str) -> str:
    """The text without zeros at the end of a second's fraction: `12:30:00.5`."""
    return re.sub(r"(\.\d*?)0+(?=$|[-+])", lambda found: found[1].rstrip("."), text, count=1)
