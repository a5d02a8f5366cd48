"""What a card's `data:` may hold: a path, `recipe:split`, `hf:name:split`, or a mapping with the details."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ofasys_lite.data.copies import name_of
from ofasys_lite.data.readers.delimited import Dialect
from ofasys_lite.data.subset import as_said
from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.recipes.recipe import SPLITS

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
    *("path", "format", "separator", "quote", "escape", "encoding", "header"),
    *("media", "where", "gather", "box", "split", "stream", "buffer", "first", "hf", "config"),
)
#: Formats that are no endings.
_OTHERS = ("folder", "coco")
_SHEETS = ("xlsx", "xls", "ods")
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
    first: int = 20_000
    hf: str = ""
    split: str = ""
    ratios: tuple[float, ...] | None = None
    media: str = ""
    where: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gather: str = ""
    box: tuple[str, ...] = ()
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
        for key in ("separator", "quote", "escape", "encoding", "format", "media", "gather", "hf"):
            if key in values and not isinstance(values[key], str):
                raise DataError(f"`{key}` of a data source is {values[key]!r}, not text")
        if not isinstance(values.get("stream", False), bool):
            raise DataError(f"`stream` of a data source is {values['stream']!r}", help="write true or false")
        odd = [key for key in ("buffer", "first") if key in values and not values.get("stream")]
        if odd:
            raise DataError(f"`{odd[0]}` of a data source is for streams", help="write stream: true, too")
        values["header"] = tuple(str(name) for name in values.get("header") or ())
        values |= _split(values.pop("split", None)) | _box(values) | _where(values)
        if "path" in values:
            inner = parse_spec(values["path"])
            values["path"] = inner.path
            if inner.hf:
                values |= {"hf": inner.hf, "split": inner.split}
            elif values.get("split"):
                raise DataError(
                    f"`split: {values['split']}` chooses a split of a Hugging Face data set; this source is a file",
                    help="shares of its rows are written so: split: {train: 80, valid: 10, test: 10}",
                )
        elif not values.get("split"):
            raise DataError(f"hf:{values['hf']} needs a `split`", help="such as split: train")
        return Spec(**values)
    if isinstance(spec, (str, Path)):
        text = str(spec)
        if text.startswith("hf:") and not text.startswith("hf://"):
            name, colon, split = text[3:].rpartition(":")
            if not colon or not name or not split:
                raise DataError(
                    f"`{text}` does not say which split",
                    help="write hf:<name or folder>:<split>, such as hf:squad:train",
                )
            return Spec(hf=name, split=split)
        return Spec(path=text)
    return Spec(path=tuple(str(one) for one in spec))


def _split(value: Any) -> dict[str, Any]:
    """What `split` says: a split's name, or shares of train, valid and test in percent; DataError if neither."""
    if value is None or isinstance(value, str):
        return {"split": value or ""}
    form = "write the shares in percent: split: {train: 80, valid: 10, test: 10}"
    if not isinstance(value, Mapping):
        raise DataError(f"`split` of a data source is {value!r}", help=form)
    for name, share in value.items():
        if name not in SPLITS:
            raise DataError(f"`split` names `{name}`", help=did_you_mean(str(name), SPLITS, "splits"))
        if isinstance(share, bool) or not isinstance(share, (int, float)) or share < 0:
            raise DataError(f"`split` gives {share!r} to {name}", help=form)
    total = sum(value.values())
    if not any(abs(total - whole) < 1e-6 * whole for whole in (1, 100)) or not value.get("train"):
        raise DataError(f"the shares of `split` add up to {total:g}, {value.get('train', 0):g} of it train", help=form)
    whole = 100 / total
    return {"ratios": tuple(round(value.get(name, 0) * whole, 6) for name in SPLITS)}


def _where(values: Mapping[str, Any]) -> dict[str, Any]:
    """Columns and the values that rows must hold there, as text; DataError unless each is a value or a list of them."""
    where = values.get("where")
    if where is None:
        return {"where": {}}
    form = "columns with a value or a list of them: where: {split: test, language: [de, fr]}"
    if not isinstance(where, Mapping) or not where:
        raise DataError(f"`where` of a data source is {where!r}", help=form)
    found = {}
    for column, value in where.items():
        each = tuple(value) if isinstance(value, (list, tuple)) else (value,)
        if not each or not all(isinstance(one, (str, int, float)) for one in each):
            raise DataError(f"`where` asks column `{column}` for {value!r}", help=form)
        found[str(column)] = tuple(map(as_said, each))
    if values.get("stream"):
        raise DataError("`where` chooses rows by number; a stream has none", help="leave `stream` out")
    return {"where": found}


def _box(values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a box's corners; DataError unless they are four, of rows that are gathered."""
    box = values.get("box")
    if box is None:
        return {}
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(isinstance(name, str) for name in box):
        raise DataError(f"`box` of a data source is {box!r}", help="four columns: box: [xmin, ymin, xmax, ymax]")
    if not values.get("gather"):
        raise DataError("`box` is for rows that are gathered", help="say by which column: gather: image")
    return {"box": tuple(box)}


def file_format(path: str, asked: Spec) -> str:
    """The format of a file: what the card says (dotted: a reader of the user's), else what the name ends with."""
    if "." in asked.format:
        return asked.format
    if asked.format:
        if asked.format not in (*FORMATS, *_OTHERS):
            known = (*FORMATS, *_OTHERS)
            help = f"{did_you_mean(asked.format, known, 'formats')}; or the dotted path of a reader of yours"
            raise DataError(f"unknown format `{asked.format}`", help=help)
        return FORMATS.get(asked.format, asked.format)
    name = name_of(path).lower()
    parts = name.split(".")[1:]
    ending = parts[-1] if parts else ""
    if ending in PACKED and len(parts) > 1:
        ending = parts[-2]
    elif ending == "tgz":
        ending = "tar"
    if ending not in FORMATS:
        help = "save the sheet as csv" if ending in _SHEETS else did_you_mean(ending, FORMATS, "formats")
        raise DataError(
            f"{path}: the ending `.{ending}` is of no known format" if ending else f"{path} has no ending",
            help=f"{help}; or say it: {{path: {path}, format: csv}}",
        )
    return FORMATS[ending]
