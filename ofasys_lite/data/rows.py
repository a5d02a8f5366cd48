"""Opens whatever a card's `data:` names: files of every format, prepared folders, Hugging Face data, Python objects."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ofasys_lite.data.copies import data_file, unpacked
from ofasys_lite.data.file_access import is_url
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.paths import expand
from ofasys_lite.data.readers.arrow import ArrowSource
from ofasys_lite.data.readers.delimited import DelimitedSource
from ofasys_lite.data.readers.gathered import GatheredSource
from ofasys_lite.data.readers.jsonl import JsonLinesSource, json_source
from ofasys_lite.data.readers.lines import Progress
from ofasys_lite.data.readers.media_folders import FolderSource, media_in
from ofasys_lite.data.readers.memory import (
    DatasetSource,
    HuggingFaceSource,
    ListSource,
    hugging_face_rows,
    own_rows,
)
from ofasys_lite.data.readers.sniff import refuse_foreign, sniffed
from ofasys_lite.data.readers.tar import TarSource
from ofasys_lite.data.source import Chained, Mapped, NoRows, RowSource
from ofasys_lite.data.spec import FORMATS, PREPARED, Spec, file_format, is_paths, is_stream, parse_spec
from ofasys_lite.data.streams import open_stream
from ofasys_lite.data.subset import chosen
from ofasys_lite.errors import DataError, did_you_mean
from ofasys_lite.preprocess.absence import home


def open_source(
    spec: Any, *, base: Path | None = None, columns: Mapping[str, str] | None = None, progress: Progress | None = None
) -> RowSource:
    """The rows that `spec` names.

    Args:
        spec: Path or fsspec URL (csv, tsv, jsonl, json, parquet, arrow, feather, tar, maybe compressed; COCO's json; a
            folder of media; `{00..09}`, `*` and lists read as one table); `<recipe>:<split>` of prepared data;
            `hf:<name or folder>:<split>`; a dict with `path` or `hf` and details (`ofasys_lite.data.spec`); a list of
            dicts; a `datasets.Dataset`; any object with `__len__` and `__getitem__` that gives dicts; a RowSource.
        base: Folder that relative paths are looked for in first, such as a card's.
        columns: Slot column -> data column.
        progress: Called (what, done, in all) while an index is made for the first time.

    Raises:
        DataError: On everything that cannot be opened, with what to do.
    """
    source = _open(spec, base, progress)
    return Mapped(source, columns) if columns else source


def _open(spec: Any, base: Path | None, progress: Progress | None) -> RowSource:
    if isinstance(spec, RowSource):
        return spec
    if type(spec).__module__.partition(".")[0] == "datasets" and hasattr(spec, "column_names"):
        if isinstance(spec, dict) or not hasattr(spec, "__len__"):
            raise _no_rows(spec)
        return HuggingFaceSource(spec)
    if isinstance(spec, (str, Path, Mapping)) or is_paths(spec):
        asked = parse_spec(spec)
        if asked.stream:
            raise DataError(
                f"{asked.path or asked.hf} is given as a stream", help="this needs rows by number: leave `stream` out"
            )
        if asked.hf:
            rows = hugging_face_rows(asked.hf, asked.split, asked.config)
            return _shaped(HuggingFaceSource(rows, f"hf:{asked.hf}:{asked.split}"), asked, base)
        return _shaped(_open_files(_paths(asked, base), asked, base, progress), asked, base)
    if isinstance(spec, Sequence):
        return ListSource(spec)
    if hasattr(spec, "__len__") and hasattr(spec, "__getitem__"):
        return DatasetSource(spec)
    raise _no_rows(spec)


def _shaped(source: RowSource, asked: Spec, base: Path | None) -> RowSource:
    """The source as its mapping wants it: rows chosen and gathered, shares of splits noted."""
    if asked.media and asked.hf:
        source.base = _media(asked.media, base)
    if asked.where:
        source = chosen(source, asked.where)
    if asked.gather:
        source = GatheredSource(source, asked.gather, asked.box)
    source.ratios = asked.ratios
    return source


def _media(folder: str, base: Path | None) -> str:
    """The folder that relative paths of media start from; DataError if there is none."""
    if is_url(folder):
        return folder.rstrip("/")
    tried = [Path(home(folder))] if base is None else [base / home(folder), Path(home(folder))]
    for each in tried:
        if each.is_dir():
            return str(each)
    raise DataError(f"media: there is no folder {folder}", help=f"looked in {', '.join(map(str, tried))}")


def _no_rows(spec: Any) -> DataError:
    """The error for a Python object that is no source of rows by number."""
    kind = type(spec).__name__
    if kind.endswith("DatasetDict"):
        return DataError(
            f"{kind} holds several splits", help=f"choose one, such as dataset[{next(iter(spec), 'train')!r}]"
        )
    if hasattr(spec, "__iter__"):
        return DataError(
            f"{kind} has neither length nor random access",
            help="give a list of its rows, list(...); or train on it as a stream: Task(..., stream=True)",
        )
    return DataError(
        f"{kind} is no source of rows",
        help="give a path, URL, `recipe:split`, `hf:name:split`, a list of dicts or a map-style dataset",
    )


def _paths(asked: Spec, base: Path | None) -> list[str]:
    """The files of a source; prepared data found by recipe and split."""
    if isinstance(asked.path, str) and PREPARED.fullmatch(asked.path) and not Path(asked.path).exists():
        return [str(_prepared(asked.path))]
    if not asked.path:
        raise DataError("a data source has an empty path", help="name a file, `recipe:split` or `hf:name:split`")
    return expand(asked.path, base)


def _folder(path: str, forced: bool) -> RowSource:
    """The media in a folder, or an error that says what to write where it holds tables."""
    if not os.access(path, os.R_OK | os.X_OK):
        raise DataError(f"no right to look into {path}", help=f"chmod u+rx '{path}', or ask its owner")
    if any((Path(path) / name).exists() for name in ("state.json", "dataset_dict.json")):
        raise DataError(f"{path} is a folder of a Hugging Face data set", help=f"write hf:{path}:<split>")
    tables = sorted(one.name for one in Path(path).iterdir() if one.suffix[1:] in FORMATS)
    media = media_in(path)
    if tables and not forced:
        help = f"name its files, such as {path}/{tables[0]} or {path}/*{Path(tables[0]).suffix}"
        more = f"; its media are {{path: {path}, format: folder}}" if media else ""
        raise DataError(f"{path} is a folder", help=help + more)
    return FolderSource(path, media)


def _prepared(text: str) -> Path:
    """The file of prepared data that `recipe:split` names."""
    from ofasys_lite.recipes.preparation import data_root

    name, _, split = text.partition(":")
    root = data_root()
    path = root / name / f"{split}.parquet"
    if path.exists():
        return path
    if (root / name).is_dir():
        splits = sorted(one.stem for one in (root / name).glob("*.parquet"))
        raise DataError(f"prepared data `{name}` has no split `{split}`", help=did_you_mean(split, splits, "splits"))
    from ofasys_lite.recipes import recipe_names

    known = list(recipe_names())
    if name in known:
        raise DataError(f"data `{name}` is not prepared in {root}", help=f"run: ofasys-lite data prepare {name}")
    raise DataError(
        f"no prepared data `{name}` in {root}, and no recipe of that name", help=did_you_mean(name, known, "recipes")
    )


def _open_files(paths: Sequence[str], asked: Spec, base: Path | None, progress: Progress | None) -> RowSource:
    """The rows of some files as one table; one of several may be empty, as parts of a table sometimes are."""
    sources: list[RowSource] = []
    empty: NoRows | None = None
    for path in paths:
        try:
            sources.append(_open_file(path, asked, progress))
            if asked.media:
                sources[-1].base = _media(asked.media, base)
        except NoRows as error:
            empty = empty or error
    if empty is not None and not sources:
        raise empty
    return sources[0] if len(sources) == 1 else Chained(sources)


def _open_file(path: str, asked: Spec, progress: Progress | None) -> RowSource:
    """The rows of one file, or of a folder of media."""
    if "." in asked.format:
        return own_rows(path, asked.format)
    if Path(path).is_dir():
        return _folder(path, asked.format == "folder")
    if os.path.exists(path) and not os.path.isfile(path):
        raise DataError(
            f"{path} is a pipe or a device",
            help=f"rows are read more than once: write them to a file first, or train on a stream: {{path: {path}, "
            "stream: true, format: jsonl}",
        )
    kind = file_format(path, asked)
    file, encoding = unpacked(data_file(path), asked.encoding)
    if kind in ("csv", "tsv", "jsonl", "json", "coco"):
        refuse_foreign(file, kind)
    if kind in ("csv", "tsv"):
        dialect = asked.dialect(kind).with_(encoding=encoding).check(file.name)
        known = (asked.separator is not None, asked.quote is not None)
        dialect, notes = sniffed(file, file.digest(), dialect, *known)
        return DelimitedSource(file, dialect, progress, notes)
    if kind == "jsonl":
        return JsonLinesSource(file, encoding, progress)
    if kind in ("json", "coco"):
        return json_source(file)
    if kind == "tar":
        return TarSource(file, progress)
    return ArrowSource(file, kind, progress)


def open_training(
    spec: Any, *, base: Path | None = None, columns: Mapping[str, str] | None = None, progress: Progress | None = None
) -> RowSource:
    """The rows that a task is trained on: as `open_source`, and where `spec` asks for a stream its first rows.

    Raises:
        DataError: As `open_source`.
    """
    if isinstance(spec, FirstRows):
        return FirstRows.of(spec.stream, columns)
    if not is_stream(spec):
        return open_source(spec, base=base, columns=columns, progress=progress)
    return open_stream(spec, lambda asked: _paths(asked, base), lambda asked: _media(asked.media, base), columns)
