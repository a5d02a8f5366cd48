"""Values of predictions and references brought to comparable forms; nothing here ever raises on a bad prediction."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

from ofasys_lite.metrics.score import Value
from ofasys_lite.preprocess.linear import as_struct


def as_text(value: Value) -> str:
    """The value as one string: None and NaN give the empty string, numbers theirs, structures their canonical JSON."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:  # a number of numpy
        value = value.item()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value if isinstance(value, str) else canonical(value)


def as_texts(value: Value) -> list[str]:
    """All accepted texts of a reference: a list of strings holds alternatives, anything else is one."""
    if isinstance(value, (list, tuple)) and value and all(isinstance(part, str) for part in value):
        return list(value)
    return [as_text(value)]


#: What makes another number of digits: a sign, point, comma, slash or colon before one, a percent sign behind one.
_OF_NUMBERS = re.compile(r"[-+.,/:](?=\d)|(?<=[-+])\.(?=\d)|(?<=\d)%")
_THOUSANDS = re.compile(r"(?<![\d.,])(\d{1,3})((?:,\d{3})+)(?![\d,])")
_DASHES = dict.fromkeys(map(ord, "\u2010\u2011\u2012\u2013\u2014\u2212"), "-")


def normalised_text(value: Value) -> str:
    """Text in NFKC, case folded, punctuation dropped, white space single; unchanged where that leaves nothing.

    What makes another number stays: -5 is not 5, 1.5 not 15, 1/2 not 12; 1,000 is 1000.

    Example:
        >>> normalised_text("  It's  A cat. "), normalised_text("(-1.5, 10:30, 1,000.)")
        ('its a cat', '-1.5 10:30 1000')
    """
    text = unicodedata.normalize("NFKC", as_text(value)).casefold().translate(_DASHES)
    text = _THOUSANDS.sub(lambda found: found[1] + found[2].replace(",", ""), text)
    kept = {found.start() for found in _OF_NUMBERS.finditer(text)}
    bare = "".join(c for i, c in enumerate(text) if i in kept or not unicodedata.category(c).startswith("P"))
    return " ".join(bare.split()) or " ".join(text.split())


def canonical(value: Value) -> str:
    """JSON with sorted keys, numbers and strings kept apart from nothing: 3, 3.0 and "3" are the same leaf."""
    return json.dumps(_plain(value), sort_keys=True, ensure_ascii=False)


def _plain(value: Value) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if hasattr(value, "tolist"):  # numpy arrays and scalars
        return _plain(value.tolist())
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return str(int(value))
    return str(value)


def as_box(value: Value) -> tuple[float, float, float, float] | None:
    """(x0, y0, x1, y1) in pixels, or None where the value is no box of positive size."""
    if isinstance(value, Mapping):
        value = value.get("box")
    if value is not None and hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)) or len(value) != 4:
        return None
    try:
        x0, y0, x1, y1 = (float(number) for number in value)
    except (TypeError, ValueError):
        return None
    if not all(map(math.isfinite, (x0, y0, x1, y1))) or x1 <= x0 or y1 <= y0:
        return None
    return x0, y0, x1, y1


def as_objects(value: Value) -> list[tuple[tuple[float, float, float, float] | None, str]]:
    """(box, label) of each object of a detection; a box that is none stays in the list as None and matches nothing."""
    value = as_struct(value)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, Sequence) or isinstance(value, (str, bytes)):
        return []
    objects = []
    for record in value:
        label = as_text(record.get("label")) if isinstance(record, Mapping) else ""
        objects.append((as_box(record), label.strip()))
    return objects
