"""What a card's `data:` may hold: a path, `recipe:split`, `hf:name:split`, or a mapping with the details."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.data.copies import name_of
from ofasys_lite.data.readers.dialect import Dialect
from ofasys_lite.errors import DataError, did_you_mean

__all__ = ["FORMATS", "PACKED", "PREPARED", "Spec", "file_format", "is_paths", "is_stream", "parse_spec"]

FORMATS = {
    "csv": "csv",
    "tsv": "tsv",
    "tab": "tsv",
    "jsonl": "jsonl",
    "ndjson": "jsonl",
    "json": "json",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "ipc": "arrow",
    "tar": "tar",
}
PACKED = ("gz", "bz2", "xz", "zst", "zip")
_KEYS = (
    "path",
    "format",
    "separator",
    "quote",
    "escape",
    "encoding",
    "header",
    "stream",
    "buffer",
    "hf",
    "split",
    "config",
)
PREPARED = re.compile(r"[A-Za-z][\w-]*:[A-Za-z]\w*")


@dataclass(frozen=True, slots=True)
class Spec:
    """A source as the card names it, its keys checked."""

    path: str | tuple[str, ...] = ""
    format: str = ""
    separator: str | None = None
    quote: str | None = None
    escape: str = ""
    encoding: str = "utf-8"
    header: tuple[str, ...] = ()
    stream: bool = False
    buffer: int = 1000
    hf: str = ""
    split: str = ""
    config: str | None = None

    def dialect(self, kind: str) -> Dialect:
        """How fields of a csv or tsv file are written; a tsv file has no quotes unless it or the card shows them."""
        separator = self.separator or ("\t" if kind == "tsv" else ",")
        quote = self.quote if self.quote is not None else ("" if kind == "tsv" else '"')
        return Dialect("\t" if separator == "\\t" else separator, quote, self.encoding, self.header, self.escape)


def is_stream(spec: Any) -> bool:
    """True if `spec` asks for a stream: it holds `stream: true`."""
    return isinstance(spec, Mapping) and spec.get("stream") is True


def is_paths(spec: Any) -> bool:
    """True for a list of paths."""
    return isinstance(spec, (list, tuple)) and bool(spec) and all(isinstance(one, (str, Path)) for one in spec)


def parse_spec(spec: str | Path | Mapping[str, Any] | Sequence[str | Path]) -> Spec:
    """The source that text, a list of paths or a card's mapping means; DataError on unknown keys and wrong types."""
    if isinstance(spec, Mapping):
        for key in spec:
            if key not in _KEYS:
                raise DataError(f"unknown key `{key}` of a data source", help=did_you_mean(str(key), _KEYS, "keys"))
        if ("path" in spec) == ("hf" in spec):
            raise DataError("a data source has either `path` or `hf`", help=f"it takes: {', '.join(_KEYS)}")
        values = dict(spec)
        for key in ("separator", "quote", "escape", "encoding", "format", "hf", "split"):
            if key in values and not isinstance(values[key], str):
                raise DataError(f"`{key}` of a data source is {values[key]!r}, not text")
        if not isinstance(values.get("stream", False), bool):
            raise DataError(f"`stream` of a data source is {values['stream']!r}", help="write true or false")
        values["header"] = tuple(str(name) for name in values.get("header") or ())
        if "path" in values:
            inner = parse_spec(values["path"])
            values["path"] = inner.path
            if inner.hf:
                values |= {"hf": inner.hf, "split": inner.split}
        elif not values.get("split"):
            raise DataError(f"hf:{values['hf']} needs a `split`", help="such as split: train")
        return Spec(**values)
    if isinstance(spec, (str, Path)):
        text = str(spec)
        if text.startswith("hf:"):
            name, colon, split = text[3:].rpartition(":")
            if not colon or not name or not split:
                raise DataError(
                    f"`{text}` does not say which split",
                    help="write hf:<name or folder>:<split>, such as hf:squad:train",
                )
            return Spec(hf=name, split=split)
        return Spec(path=text)
    return Spec(path=tuple(str(one) for one in spec))


def file_format(path: str, asked: Spec) -> str:
    """The format of a file: what the card says, else what the name ends with."""
    if asked.format:
        if asked.format not in FORMATS:
            raise DataError(f"unknown format `{asked.format}`", help=did_you_mean(asked.format, FORMATS, "formats"))
        return FORMATS[asked.format]
    name = name_of(path).lower()
    parts = name.split(".")[1:]
    ending = parts[-1] if parts else ""
    if ending in PACKED and len(parts) > 1:
        ending = parts[-2]
    elif ending == "tgz":
        ending = "tar"
    if ending not in FORMATS:
        raise DataError(
            f"{path}: the ending `.{ending}` is of no known format" if ending else f"{path} has no ending",
            help=f"{did_you_mean(ending, FORMATS, 'formats')}; or say it: {{path: {path}, format: csv}}",
        )
    return FORMATS[ending]
