"""Cheap lengths of raw values, for dealing samples to ranks and packs: nothing is decoded, headers are enough."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ofasys_lite.data.array_cache import cached_arrays
from ofasys_lite.data.fields import MISSING, as_list
from ofasys_lite.data.source import RowSource, combined
from ofasys_lite.errors import DataError

__all__ = ["KINDS", "column_lengths", "length_hint", "length_of"]

KINDS = ("text", "image", "width", "height", "audio", "list")
# arrays of a source live as long as it does; the key is its identity plus column and kind
_ATTRIBUTE = "_lengths"


def length_hint(source: RowSource, i: int, column: str, kind: str) -> int | None:
    """A cheap length of one value, from the source's index; None if it cannot be told.

    The first call for a column measures all rows once and keeps the result by content hash.

    Args:
        source: Where the row stands.
        i: Row number from 0 on.
        column: Column, dotted names allowed.
        kind: `text` (UTF-8 bytes), `image` (pixels), `width`, `height`, `audio` (samples at 16 kHz) or `list`
            (elements).
    """
    whole, row = source.origin(i)
    found = int(column_lengths(whole, column, kind)[row])
    return None if found < 0 else found


def column_lengths(source: RowSource, column: str, kind: str) -> NDArray[np.int64]:
    """The lengths (rows,) of one column, -1 where a value has none; measured once, kept by content hash.

    Raises:
        DataError: On an unknown kind.
    """
    if kind not in KINDS:
        raise DataError(f"unknown kind of length `{kind}`", help=f"one of {', '.join(KINDS)}")
    kept: dict[tuple[str, str], NDArray[np.int64]] = source.__dict__.setdefault(_ATTRIBUTE, {})
    if (column, kind) not in kept:
        key = combined(source.fingerprint, column, kind, source.base if kind not in ("text", "list") else "")
        arrays = cached_arrays("lengths-2", key, lambda: {"lengths": _measure(source, column, kind)})
        kept[column, kind] = arrays["lengths"]
    return kept[column, kind]


def _measure(source: RowSource, column: str, kind: str) -> NDArray[np.int64]:
    """The lengths of all rows; unreadable rows get -1 and meet their error where they are used."""
    out = np.full(len(source), -1, np.int64)
    for i in range(len(source)):
        try:
            out[i] = length_of(source.value(i, column), kind, source.base or None)
        except DataError:
            continue
    return out


def length_of(value: Any, kind: str, folder: str | None = None) -> int:
    """The length of one raw value, -1 if it has none; raises DataError if it cannot be read.

    Args:
        value: Raw value of a row.
        kind: One of KINDS.
        folder: Folder of relative media paths.
    """
    if value is MISSING or value is None:
        return -1
    if kind == "text":
        return _text_bytes(value)
    if kind == "list":
        return len(as_list(value, "value"))
    if kind == "audio":
        return _audio_samples(value, folder)
    from ofasys_lite.preprocess.image_decode import header_size

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL warns of huge pictures; decoding decides about them
        height, width = header_size(value, folder, float("inf"))
    return {"image": width * height, "width": width, "height": height}[kind]


def _text_bytes(value: Any) -> int:
    """UTF-8 bytes of text, or of the text that a value without one has; lists and records: the sum of their parts."""
    if isinstance(value, str):
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, Mapping):
        return sum(_text_bytes(key) + _text_bytes(part) for key, part in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_text_bytes(part) + 1 for part in value)
    return len(str(value))


def _audio_samples(value: Any, folder: str | None) -> int:
    """Samples that a recording has at 16 kHz: of an array directly, of a file from its header.

    An array without a rate counts as it is.
    """
    rate: Any = None
    if isinstance(value, Mapping) and "array" in value:
        rate, value = value.get("sampling_rate", value.get("rate")), value["array"]
    if isinstance(value, (tuple, list)) and len(value) == 2 and hasattr(value[0], "__len__"):
        value, rate = value  # (array, rate)
    if isinstance(value, (list, tuple, np.ndarray)):
        try:
            return _at_16k(max(np.shape(value), default=0), rate)
        except ValueError:
            raise DataError("cannot read audio: an array of uneven parts") from None
    from ofasys_lite.preprocess.audio_values import BASE64_HEADS
    from ofasys_lite.preprocess.media import locate

    found = locate(value, folder, "audio", BASE64_HEADS)
    if found is None:
        return -1
    import soundfile

    try:
        info = soundfile.info(io.BytesIO(found) if isinstance(found, bytes) else str(found))
    except (soundfile.LibsndfileError, RuntimeError) as error:
        said = getattr(error, "error_string", error)
        raise DataError(f"cannot read audio: {said}") from None
    return _at_16k(int(info.frames), info.samplerate)


def _at_16k(frames: int, rate: Any) -> int:
    known = isinstance(rate, (int, float, np.number)) and rate > 0
    return round(frames * 16_000 / float(rate)) if known else frames
