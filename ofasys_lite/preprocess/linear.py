"""JSON values <-> the linear form of STRUCT, in token ids.

value  = record | list | string | number | TRUE | FALSE | NULL
record = RECORD { KEY text CLOSE value } END      list = LIST { value } END
string = STRING text CLOSE                        number = NUMBER { character } CLOSE

A number is spelt in JSON's canonical text, one character an id: every character of `0123456789+-.eE` is one piece of
every vocabulary, since byte fallback gives a piece to each byte. So equal numbers are equal ids, and 1 and 1.0 differ.
"""

from __future__ import annotations

import functools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Json
from ofasys_lite.preprocess.doubled import read_json, single
from ofasys_lite.preprocess.plain import HALF, plain
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: What numbers are made of.
CHARACTERS = "0123456789+-.eE"
#: Names of the control rows of the linear form.
NAMES = ("record", "list", "key", "string", "number", "true", "false", "null", "close", "end")
#: Deepest nesting that is read at all; what a target may have is the `depth` of its constraint.
_DEEPEST = 64
_LONGEST_NUMBER = 400


def read_struct(value: Any, uncased: bool = False) -> Any:
    """`value` as a JSON value: dict, list, str, int, float, bool or None.

    Text that begins with `{` or `[` is read as JSON; arrays and tuples become lists, number keys become text.

    Raises:
        DataError: Text that begins like JSON and is not, numbers that are not finite, types that JSON does not know.
    """
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(f"STRUCT reads JSON; found {len(value)} bytes that are not UTF-8") from None
    if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
        try:
            value = read_json(value)
        except ValueError as error:
            help = "write valid JSON, or text that does not begin with { or ["
            raise DataError(f"STRUCT: the text begins like JSON and is not: {error}", help=help) from None
    return _plain(value, uncased, 0)


def _plain(value: Any, uncased: bool, depth: int) -> Any:
    if depth > _DEEPEST:
        raise DataError(f"STRUCT: JSON nested deeper than {_DEEPEST}")
    if isinstance(value, np.ndarray):
        value = value.tolist()
    elif not isinstance(value, (Mapping, list, tuple)):
        value = plain(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value.lower() if uncased else value)
    if isinstance(value, (int, float)):
        return _finite(value)
    if isinstance(value, Mapping):
        found: dict[str, Any] = {}
        for key, inner in single(value).items():
            if not isinstance(key, (str, int, float)) or isinstance(key, bool):
                raise DataError(f"STRUCT: a record has the key {key!r}", help="keys are text or numbers")
            name = _text(str(key).lower() if uncased else str(key))
            if name in found:
                raise DataError(f"STRUCT: a record has the key `{name}` twice", help="keys differ in more than case")
            found[name] = _plain(inner, uncased, depth + 1)
        return found
    if isinstance(value, (list, tuple)):
        return [_plain(inner, uncased, depth + 1) for inner in value]
    help = "STRUCT reads dicts, lists, text, numbers, true, false, null, and JSON as text"
    raise DataError(f"STRUCT: found {type(value).__name__}", help=help)


def _text(value: str) -> str:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise DataError("STRUCT: text holds half of a surrogate pair, which is no character", help=HALF) from None
    return value


def _finite(value: float) -> float:
    if isinstance(value, float) and not math.isfinite(value):
        raise DataError(f"STRUCT: the number {value} is not JSON", help="write null, or leave the key out")
    if isinstance(value, int) and abs(value) >= 10**_LONGEST_NUMBER:
        raise DataError(f"STRUCT: a number of more than {_LONGEST_NUMBER} digits", help="write it as text")
    return value


@functools.lru_cache(maxsize=16)
def linear(vocabulary: Vocabulary) -> Linear:
    """The linear form in the ids of `vocabulary`; made once per vocabulary."""
    return Linear(vocabulary)


class Linear:
    """Writes and reads the linear form with one vocabulary.

    Attributes:
        controls: Ids by name.
        digits: Ids by character of numbers.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.controls = {name: vocabulary.control(name) for name in NAMES}
        self.digits = {c: vocabulary.encode(c)[0] for c in CHARACTERS}
        self._characters = {id: c for c, id in self.digits.items()}

    def constraint(self, most: int, depth: int, only: tuple[str, ...] = ()) -> Json:
        """What a value of at most `most` ids may be."""
        low, high = self.vocabulary.text_low, self.vocabulary.text_high
        return Json(low, high, tuple(self.controls.items()), tuple(self.digits.items()), most, depth, only)

    def write(self, value: Any, most: int, depth: int) -> list[int]:
        """Ids of `value` (from `read_struct`), at most `most`: longer ones lose whole elements and entries at the end.

        Raises:
            DataError: Deeper than `depth`.
        """
        ids = self._write(value, depth)
        return ids if len(ids) <= most else self._cut(value, most, depth)

    def _write(self, value: Any, depth: int) -> list[int]:
        c = self.controls
        if value is None or isinstance(value, bool):
            return [c["null" if value is None else "true" if value else "false"]]
        if isinstance(value, str):
            return [c["string"], *self.vocabulary.encode(value), c["close"]]
        if isinstance(value, (int, float)):
            return [c["number"], *(self.digits[x] for x in json.dumps(value)), c["close"]]
        if depth == 0:
            help = "flatten it, or raise `depth` in the settings of the modality's card"
            raise DataError("STRUCT: the value is nested too deeply", help=help)
        if isinstance(value, Mapping):
            entries = [i for key, inner in value.items() for i in (*self._key(key), *self._write(inner, depth - 1))]
            return [c["record"], *entries, c["end"]]
        return [c["list"], *(i for inner in value for i in self._write(inner, depth - 1)), c["end"]]

    def _key(self, key: str) -> list[int]:
        return [self.controls["key"], *self.vocabulary.encode(key), self.controls["close"]]

    def _cut(self, value: Any, most: int, depth: int) -> list[int]:
        """At most `most` (1 or more) ids: whole elements as far as they fit, the first one that does not is cut."""
        c = self.controls
        if isinstance(value, str) and most >= 2:
            return [c["string"], *self.vocabulary.encode(value)[: most - 2], c["close"]]
        if not isinstance(value, (Mapping, list)) or most < 2:
            ids = self._write(value, depth)
            return ids if len(ids) <= most else [c["null"]]
        found = [c["record" if isinstance(value, Mapping) else "list"]]
        entries = (
            [(self._key(k), v) for k, v in value.items()] if isinstance(value, Mapping) else [([], v) for v in value]
        )
        for number, (key, inner) in enumerate(entries):
            ids = self._write(inner, depth - 1)
            room = most - len(found) - 1 - len(key)
            if len(ids) <= room:
                found += [*key, *ids]
                continue
            # a list loses whole elements, unless its first is too long; an entry with a list or record in it is cut
            if room >= 2 and (number == 0 or (key and isinstance(inner, (Mapping, list)))):
                found += [*key, *self._cut(inner, room, depth - 1)]
            break
        return [*found, c["end"]]

    def read(self, ids: Sequence[int], start: int = 0) -> tuple[Any, int]:
        """The value that begins at `start`, and the place behind it; DataError if the ids are not in the form."""
        c = self.controls
        if start >= len(ids):
            raise DataError("STRUCT: the ids stop in the middle of a value")
        head, place = ids[start], start + 1
        simple = {c["true"]: True, c["false"]: False, c["null"]: None}
        if head in simple:
            return simple[head], place
        if head in (c["string"], c["number"]):
            end = self._find(ids, place, c["close"])
            inner = ids[place:end]
            return (self.vocabulary.decode(inner) if head == c["string"] else self._number(inner)), end + 1
        if head == c["list"]:
            items: list[Any] = []
            while self._at(ids, place) != c["end"]:
                item, place = self.read(ids, place)
                items.append(item)
            return items, place + 1
        if head != c["record"]:
            raise DataError(f"STRUCT: no value begins with {self.vocabulary.name(head)}")
        record: dict[str, Any] = {}
        while self._at(ids, place) == c["key"]:
            end = self._find(ids, place, c["close"])
            key = self.vocabulary.decode(ids[place + 1 : end])
            record[key], place = self.read(ids, end + 1)
        if ids[place] != c["end"]:
            raise DataError(f"STRUCT: {self.vocabulary.name(ids[place])} stands where a key or the end must")
        return record, place + 1

    def _at(self, ids: Sequence[int], place: int) -> int:
        if place >= len(ids):
            raise DataError("STRUCT: the ids stop in the middle of a value")
        return ids[place]

    def _find(self, ids: Sequence[int], place: int, id: int) -> int:
        while self._at(ids, place) != id:
            place += 1
        return place

    def _number(self, ids: Sequence[int]) -> int | float:
        """The number; what is too large for a float becomes the largest one."""
        text = "".join(self._characters.get(i, "?") for i in ids)
        try:
            found: int | float = json.loads(text) if len(text) <= _LONGEST_NUMBER else float(text)
        except ValueError:
            raise DataError(f"STRUCT: `{text[:40]}` is not a number") from None
        if isinstance(found, int):
            return found
        return max(-sys.float_info.max, min(sys.float_info.max, found))


def as_struct(value: Any) -> Any:
    """The structure in `value`, nothing refused: JSON text is read, other text and None stay what they are."""
    if isinstance(value, str) and value.strip()[:1] in ("{", "["):
        try:
            return read_json(value)
        except ValueError:
            return value
    return value.tolist() if hasattr(value, "tolist") else value


def without_none(value: Any) -> Any:
    """A structure without keys that hold nothing: tables store every key of every record."""
    if isinstance(value, Mapping):
        return {str(key): without_none(inner) for key, inner in single(value).items() if inner is not None}
    return [without_none(inner) for inner in value] if isinstance(value, (list, tuple)) else value
