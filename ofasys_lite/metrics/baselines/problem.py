"""What every baseline gets: training and test rows with the names of their columns, and readers of their values."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.metrics.score import Row, Value
from ofasys_lite.metrics.values import as_text, canonical
from ofasys_lite.preprocess import kinds

if TYPE_CHECKING:
    from PIL import Image

_IMAGE_STARTS = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*")
_AUDIO_STARTS = (b"fLaC", b"OggS", b"ID3", b"\xff\xfb", b"FORM")
_SUFFIXES = {
    kinds.PICTURE: {".png", ".jpg", ".jpeg", ".gif", ".bmp", ".webp", ".tif", ".tiff"},
    kinds.VIDEO: {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"},
    kinds.SOUND: {".wav", ".flac", ".ogg", ".mp3", ".opus"},
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One task as a baseline sees it.

    Attributes:
        train_rows: Rows to learn from, as dicts of plain values.
        test_rows: Rows to answer; their target column is never looked at, but by what foretells it.
        target_kind: Kind of its values (`preprocess.kinds`).
        metric: Name of the metric that judges the task, for baselines that are chosen by it on the training rows.
        higher: Whether more is better, where the metric does not say it itself.
    """

    train_rows: Sequence[Row]
    test_rows: Sequence[Row]
    inputs: tuple[str, ...]
    target: str
    target_kind: str
    seed: int = 0
    metric: str = ""
    higher: bool | None = None

    def targets(self) -> list[Value]:
        """Target value of every training row; of several accepted texts the first, as an answer is one text."""
        found = [row.get(self.target) for row in self.train_rows]
        if self.target_kind not in kinds.TEXTS:
            return found
        return [value[0] if isinstance(value, (list, tuple)) and value else value for value in found]

    def columns(self, kind: str) -> list[str]:
        """Input columns whose values are of a kind: texts, pictures, films or sounds."""
        rows = [*self.train_rows[:20], *self.test_rows[:5]]
        found = []
        for name in self.inputs:
            values = (row[name] for row in rows if row.get(name) is not None)
            first = next(values, None)
            if first is not None and media_kind(first) == kind:
                found.append(name)
        return found

    def texts(self, rows: Sequence[Row]) -> list[tuple[str, ...]]:
        """Texts (and structures as JSON) of each row's inputs, in the order of the columns; empty strings for gaps."""
        columns = self.columns(kinds.TEXT)
        return [tuple(as_text(row.get(name)) for name in columns) for row in rows]

    def questions(self, rows: Sequence[Row]) -> list[str]:
        """All texts of each row as one."""
        return [" ".join(parts) for parts in self.texts(rows)]


def media_kind(value: Value) -> str:
    """Picture, film, sound or text (anything that is none), by type, first bytes or suffix of an existing file.

    An animated picture is a picture.
    """
    value = _unwrapped(value)
    if isinstance(value, bytes):
        return _kind_of_bytes(value)
    if isinstance(value, (str, Path)):
        # no name of a file is longer than 255 bytes; asked about a longer text, the system raises
        suffix = Path(value).suffix.lower() if len(os.fsencode(Path(value).name)) < 256 else ""
        found = [kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes]
        return found[0] if found and Path(value).is_file() else kinds.TEXT
    if hasattr(value, "getbbox") or (hasattr(value, "ndim") and value.ndim in (2, 3)):
        return kinds.PICTURE
    if getattr(value, "ndim", 0) == 4:
        return kinds.VIDEO
    if (isinstance(value, tuple) and hasattr(value[0], "ndim")) or getattr(value, "ndim", 0) == 1:
        return kinds.SOUND
    return kinds.SOUND if isinstance(value, Mapping) and "array" in value else kinds.TEXT


def _kind_of_bytes(data: bytes) -> str:
    if data[:4] == b"RIFF":
        return {b"WEBP": kinds.PICTURE, b"AVI ": kinds.VIDEO}.get(data[8:12], kinds.SOUND)
    if data[4:8] == b"ftyp" or data.startswith(b"\x1aE\xdf\xa3"):
        return kinds.VIDEO
    if data.startswith(_IMAGE_STARTS):
        return kinds.PICTURE
    return kinds.SOUND if data.startswith(_AUDIO_STARTS) else kinds.TEXT


def _unwrapped(value: Any) -> Any:
    """The bytes or path inside the {"bytes", "path"} record of Hugging Face datasets."""
    if isinstance(value, Mapping) and "bytes" in value:
        return value["bytes"] if value["bytes"] is not None else value.get("path")
    return value


def media_source(value: Value) -> Any:
    """The value as a file-like object where it is bytes, as a path where it names a file, else unchanged."""
    value = _unwrapped(value)
    return io.BytesIO(value) if isinstance(value, bytes) else value


def image_of(value: Value) -> Image.Image | None:
    """The PIL image in a value, not yet decoded; None where there is none that can be opened."""
    from PIL import Image, UnidentifiedImageError

    source = media_source(value)
    if isinstance(source, Image.Image):
        return source
    if hasattr(source, "ndim"):
        return Image.fromarray(source)
    if source is None:
        return None
    try:
        if isinstance(source, (str, Path)):
            # a lazily opened file would stay open where only the size is asked for
            source = io.BytesIO(Path(source).read_bytes())
        return Image.open(source)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError):
        return None


def most_frequent(values: Iterable[Value]) -> Value:
    """The most frequent value; of equals the one that comes first in canonical order. None for no values."""
    kept: dict[str, Value] = {}
    counts: Counter[str] = Counter()
    for value in values:
        key = canonical(value)
        kept.setdefault(key, value)
        counts[key] += 1
    if not counts:
        return None
    return kept[min(counts, key=lambda key: (-counts[key], key))]
