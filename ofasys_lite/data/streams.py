"""Opens what a card gives as a stream: files, addresses and pipes, data of the hub, Python objects without a length."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ofasys_lite.data.copies import data_file, unpacked
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.passing_rows import FirstRows
from ofasys_lite.data.readers.delimited import Dialect
from ofasys_lite.data.readers.memory import hugging_face_rows
from ofasys_lite.data.readers.passing import Part, head_of, is_pipe
from ofasys_lite.data.readers.sniff import HEAD, LOOK, head_dialect, refuse_head
from ofasys_lite.data.readers.stream import FileStream, IterableStream, ObjectStream, Stream
from ofasys_lite.data.spec import Spec, file_format, parse_spec
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.web import is_web

#: Where a process reads what is written into it.
_STANDARD = "/dev/stdin"
#: Formats that have to be read whole, and what to do.
_WHOLE = {
    "json": "one list has to be read whole: write an object a line (jsonl), or leave `stream` out",
    "coco": "boxes and pictures stand in two lists, which have to be read whole: leave `stream` out",
    "folder": "the files of a folder have to be listed: leave `stream` out, or write them into tars",
}
#: What can be read only once, by path and how it is read: a check and the training after it get the same rows.
_PIPES: dict[tuple[str, str], Stream] = {}


def open_stream(
    spec: Mapping[str, Any],
    paths: Callable[[Spec], list[str]],
    media: Callable[[Spec], str],
    columns: Mapping[str, str] | None = None,
) -> FirstRows:
    """The beginning of what `spec` names, a mapping with `stream: true`; it leads to the rest.

    Args:
        paths: Gives the files of a spec.
        media: Gives the folder that relative paths of media start from, where the spec names one.
        columns: Slot column -> data column.

    Raises:
        DataError: It cannot be read so, is empty, or has not the columns.
    """
    return FirstRows.of(_opened(parse_spec(spec), paths, media), columns)


def of_object(rows: Any, name: str) -> FirstRows:
    """The beginning of what Python gives without a length.

    Args:
        rows: A function each call of which gives the rows anew, an iterable or iterator of dicts, a
            `datasets.IterableDataset`.
        name: What it is called in messages.

    Raises:
        DataError: It gives no rows.
    """
    stream = _of_object(rows, name)
    stream.buffer, stream.look = Spec().buffer, Spec().first
    return FirstRows.of(stream)


def _of_object(spec: Any, name: str) -> Stream:
    library = type(spec).__module__.partition(".")[0]
    if library == "datasets" and hasattr(spec, "state_dict"):
        return IterableStream(spec, name)
    # one of torch's may give each process other rows
    torch_like = any(base.__name__ == "IterableDataset" for base in type(spec).__mro__)
    if hasattr(spec, "__iter__"):
        return ObjectStream(spec, name, once=torch_like or iter(spec) is spec)
    if callable(spec):
        return ObjectStream(spec, name, once=False)
    raise DataError(
        f"{type(spec).__name__} gives no rows",
        help="a stream is a path, a generator function, an iterable of dicts, or a datasets.IterableDataset",
    )


def _opened(asked: Spec, paths: Callable[[Spec], list[str]], media: Callable[[Spec], str]) -> Stream:
    said = asked.hf or asked.path
    for key, value in (("gather", asked.gather), ("split", asked.ratios)):
        if value:
            raise DataError(
                f"{said} is given as a stream, and `{key}` needs rows by number",
                help="leave `stream` out, or name files with valid and test rows" if key == "split" else "leave it out",
            )
    for key, number in (("buffer", asked.buffer), ("first", asked.first)):
        if isinstance(number, bool) or not isinstance(number, int) or number < 1:
            what = "a shuffle buffer of" if key == "buffer" else "a look at the first"
            raise DataError(f"{said}: {what} {number} rows", help=f"`{key}` is a whole number of rows, 1 or more")
    if asked.hf:
        dataset = hugging_face_rows(asked.hf, asked.split, asked.config, streaming=True)
        return _set(IterableStream(dataset, f"hf:{asked.hf}:{asked.split}"), asked, media)
    if asked.path == "-" or (isinstance(asked.path, str) and is_pipe(asked.path)):
        return _pipe(asked, _STANDARD if asked.path == "-" else str(asked.path), media)
    found = paths(asked)
    if any(map(is_pipe, found)):
        raise DataError(f"{said}: a pipe among other files", help="one stream is files, or one pipe")
    return _set(_files(found, asked), asked, media)


def _set(stream: Stream, asked: Spec, media: Callable[[Spec], str]) -> Stream:
    stream.buffer, stream.look = asked.buffer, asked.first
    if asked.media:
        stream.base = media(asked)
        if isinstance(stream, FileStream):
            stream.files = tuple(replace(file, folder=stream.base) for file in stream.files)
    return stream


def _pipe(asked: Spec, path: str, media: Callable[[Spec], str]) -> Stream:
    """What comes through a pipe; the same stream however often a process opens it."""
    if not asked.format:
        raise DataError(f"{asked.path} has no ending that tells its format", help="say it, too: format: jsonl")
    kind = _streamed(file_format(path, asked), path)
    key = (os.path.realpath(path), repr(asked))
    if key not in _PIPES:
        if path == _STANDARD and os.isatty(0):
            help = "pipe rows into the command: cat rows.jsonl | ofasys-lite ..."
            raise DataError("standard input is a terminal, and no rows come from it", help=help)
        name = "standard input" if asked.path == "-" else path
        part = Part(path, name, _text(kind), folder=os.getcwd(), pipe=True)
        if kind == "parquet":
            raise DataError(f"{name}: a Parquet table is read from its end", help="write rows as jsonl or arrow")
        _PIPES[key] = _set(FileStream([part], asked.dialect(kind).check(name)), asked, media)
    return _PIPES[key]


def _files(paths: list[str], asked: Spec) -> Stream:
    """The rows of files, one after another."""
    parts = [_part(path, asked) for path in paths]
    first = parts[0]
    dialect, notes = Dialect(encoding=asked.encoding), list[str]()
    if first.kind in ("csv", "jsonl"):
        head, _ = head_of(first.path, LOOK)
        kind = file_format(paths[0], asked)
        refuse_head(head[:HEAD], first.name, kind, stream=True)
        dialect = asked.dialect(kind).check(first.name)
        if first.kind == "csv":
            dialect, notes = head_dialect(head, first.name, dialect, asked.separator is not None)
    return FileStream(parts, dialect, notes)


def _part(path: str, asked: Spec) -> Part:
    """One file of a stream; of an address or a packed file that must be read from its end a copy."""
    if os.path.isdir(path):
        raise DataError(f"{path} is a folder", help=_WHOLE["folder"])
    kind = _streamed(file_format(path, asked), path)
    file = DataFile(path)
    if kind == "parquet":
        file, _ = unpacked(data_file(path))
    name = path
    folder = path.partition("?")[0].rpartition("/")[0] if is_web(path) else file.folder
    packing = "" if kind == "parquet" or "." in kind else head_of(path, 0)[1]
    return Part(file.path, name, _text(kind), packing, "" if kind == "tar" else folder)


def _text(kind: str) -> str:
    """The format by which records are read: a tsv is a csv of another separator."""
    return "csv" if kind == "tsv" else kind


def _streamed(kind: str, path: str) -> str:
    """The format, where it can be read row by row."""
    if kind in _WHOLE:
        raise DataError(f"{Path(path).name} is given as a stream, and is {kind}", help=_WHOLE[kind])
    return kind
