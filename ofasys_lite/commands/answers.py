"""Answers to many rows: read from a source or line by line, predicted in blocks, written as the file's ending says."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import DataError, did_you_mean, needed
from ofasys_lite.generalist.calls import slot_columns
from ofasys_lite.generalist.value_files import files_in, written
from ofasys_lite.preprocess.doubled import Doubled, read_json
from ofasys_lite.writing import as_utf8, atomic, behind, special

if TYPE_CHECKING:
    from ofasys_lite.data.source import RowSource
    from ofasys_lite.generalist.cut_inputs import CutInputs
    from ofasys_lite.generalist.generalist import Generalist
    from ofasys_lite.generalist.prediction import Prediction, Request

#: Endings of files of answers.
ENDINGS = (".jsonl", ".csv", ".tsv", ".parquet")
#: Names beside the columns in what is written.
_OURS = frozenset({"id", "inputs", "reference", "score", "n_best", "error"})
_CHUNK = 1 << 16
#: What does not go into the name of a file.
_UNFIT = re.compile(r"[^\w.-]+")


@dataclass(frozen=True, slots=True)
class Item:
    """One row to be answered.

    Attributes:
        folder: Folder of relative media paths.
        error: Why it cannot be read; empty if it can.
    """

    number: int
    id: str
    row: Mapping[str, Any]
    folder: str | None = None
    error: str = ""


def items_of_source(source: RowSource, total: int, most: int) -> Iterator[list[Item]]:
    """Blocks of at most `most` rows, the first `total` of a source."""
    for start in range(0, total, most):
        block = []
        for i in range(start, min(total, start + most)):
            try:
                row = source.row(i)
                block.append(Item(i, source.ids(i, row), row, source.base or None))
            except DataError as error:
                block.append(Item(i, source.ids(i), {}, error=error.message))
        yield block


def items_of_lines(stream: BinaryIO, limit: int | None, most: int) -> Iterator[list[Item]]:
    """Blocks of rows from lines of JSON, as they come: a line that is there alone is answered before the next."""
    number, rest, over = 0, b"", False
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)
    while not over and (limit is None or number < limit):
        part = read(_CHUNK)
        over = not part
        *lines, rest = (rest + part).split(b"\n")
        if over and rest:
            lines, rest = [*lines, rest], b""
        lines = [line for line in lines if line.strip()]
        lines = lines if limit is None else lines[: limit - number]
        for start in range(0, len(lines), most):
            yield [_item(line, number + start + n) for n, line in enumerate(lines[start : start + most])]
        number += len(lines)


def _item(line: bytes, number: int) -> Item:
    try:
        row = read_json(line)
    except ValueError as error:
        return Item(number, str(number), {}, error=f"line {number + 1} is not JSON: {error}")
    if not isinstance(row, dict):
        what = f"line {number + 1} is no row: {line[:40].decode('utf-8', 'replace')}"
        return Item(number, str(number), {}, error=f'{what}; write {{"column": value, ...}}')
    if isinstance(row, Doubled):
        return Item(number, str(number), {}, error=f"line {number + 1}: {row.error().message}")
    return Item(number, str(row.get("id") or number), row)


@dataclass(frozen=True, slots=True)
class Answering:
    """How rows are answered.

    Attributes:
        columns: Slot column -> data column, as the task's card has it.
        values: Column -> value that holds for all rows.
        options: Decoding in place of the task's, or None.
        files: Folder of values that stand in files of their own (generated pictures), or None.
        nearest: Instead of a prediction, what some rows find among candidates; takes what `Index.nearest` takes.
        cuts: Counts inputs that are not read to their end.
    """

    model: Generalist
    task: str
    columns: Mapping[str, str]
    values: Mapping[str, Any]
    inputs: Sequence[str]
    options: DecodeOptions | None
    files: Path | None
    nearest: Callable[[Sequence[Request], dict[int, str]], list[Any]] | None = None
    cuts: CutInputs | None = None

    def block(self, items: Sequence[Item]) -> list[dict[str, Any]]:
        """What is written for some rows: id, inputs, values, score and reference, or id with the error."""
        from ofasys_lite.generalist.predicting import predict
        from ofasys_lite.generalist.prediction import Request

        requests, at = [], list[int]()
        found: list[dict[str, Any]] = []
        for place, item in enumerate(items):
            row = {**slot_columns(self.columns, item.row), **self.values}
            found.append({"id": item.id, "inputs": shown_columns(row, self.inputs)})
            if item.error:
                found[place]["error"] = item.error
                continue
            requests.append(Request(self.task, row, item.id, self.options, item.folder, True))
            at.append(place)
        if self.cuts is not None:
            self.cuts.see(requests)
        reasons: dict[int, str] = {}
        if self.nearest is not None:
            for number, matches in enumerate(self.nearest(requests, reasons)):
                key = "error" if number in reasons else "nearest"
                found[at[number]][key] = reasons.get(number, matches)
            return found
        for number, prediction in enumerate(predict(self.model, requests, skip_unreadable=True, reasons=reasons)):
            place = at[number]
            if prediction is None:
                found[place]["error"] = reasons.get(number, "cannot be read")
                continue
            # a name of its own for each file: ids may be equal
            name = f"{items[place].number}-{_UNFIT.sub('_', prediction.id)[:80]}"
            found[place].update(as_json(prediction, None if self.files is None else (self.files, name)))
            reference = shown_columns(requests[number].row, prediction.values)
            found[place].update({"reference": reference} if reference else {})
        return found


def tell_values(values: Mapping[str, Any], columns: Mapping[str, str], source: RowSource) -> None:
    """Says which columns of the rows are not read, because one value was given for all of them.

    Args:
        columns: Slot column -> data column.
    """
    from ofasys_lite.data.source import has_column

    for name, value in values.items():
        if has_column(source.columns, columns.get(name, name)):
            told = f"note: `{name}` is {value!r:.60} for every row, as said; {source.name}'s is not read"
            print(told, file=sys.stderr)


def shown_columns(row: Mapping[str, Any], columns: Sequence[str] | Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that text can hold; sounds and pictures by their paths, else left out."""
    found = {name: _shown(field(row, name)) for name in columns}
    return {name: value for name, value in found.items() if value is not MISSING}


def _shown(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return _shown(value.item())
    if isinstance(value, Mapping):
        if {"bytes", "array"} & set(value):  # a picture or sound of Hugging Face data
            return _shown(value.get("path")) if value.get("path") else MISSING
        inner = {str(key): _shown(each) for key, each in value.items()}
        return {key: each for key, each in inner.items() if each is not MISSING}
    if isinstance(value, (list, tuple)):
        return [each for each in map(_shown, value) if each is not MISSING]
    if value is MISSING or isinstance(value, (bytes, bytearray)) or hasattr(value, "getbbox") or hasattr(value, "ndim"):
        return MISSING
    return str(value)


def as_json(prediction: Prediction, place: tuple[Path, str] | None) -> dict[str, Any]:
    """Values by column with the score; below `values` where a column is called like what stands beside them.

    What stands in files of its own is written to `place` (folder, beginning of the names); paths stand in its place.
    """
    found = {**_values(prediction, place), "score": round(prediction.score, 4)}
    if len(prediction.n_best) > 1:
        # hypotheses come from a beam, which writes no pictures
        found["n_best"] = [{**_values(each, None), "score": round(each.score, 4)} for each in prediction.n_best]
    return found


def _values(prediction: Prediction, place: tuple[Path, str] | None) -> dict[str, Any]:
    values = dict(prediction.values)
    if place is not None and any(files_in(values, prediction.tools)):
        values = written(values, prediction.tools, place[0], place[1], whole=True, overwrite=True)
    return {"values": values} if _OURS & set(values) else values


def kind_of(out: Path) -> str:
    """The format of a file of answers, by its ending: what is no file (`/dev/stdout`) takes lines of JSON.

    Raises:
        DataError: No such ending, or a package that it needs is missing.
    """
    kind = out.suffix.lower()
    if special(out):
        return ".jsonl"
    if kind not in ENDINGS:
        what = "has no ending" if not kind else f"ends with {kind}, and rows are not written so"
        raise DataError(f"--out {out} {what}", help=f"{did_you_mean(kind, ENDINGS)}, such as --out {out.stem}.jsonl")
    if kind == ".parquet":
        needed("pyarrow", str(out), "data", ", or write .jsonl or .csv")
    return kind


@contextmanager
def writing_rows(out: Path | None) -> Iterator[Callable[[Sequence[Mapping[str, Any]]], None]]:
    """A function that takes blocks of answers: to stdout they go at once, into a file whole or not at all."""
    if out is None:
        yield lambda rows: _print(rows)
        return
    kind, gathered = kind_of(out), list[Mapping[str, Any]]()
    with atomic(behind(out)) as partial:
        if kind == ".jsonl":
            with partial.open("w", encoding="utf-8", errors="backslashreplace") as file:
                yield lambda rows: file.writelines(map(_line, rows))
            return
        yield gathered.extend
        rows = [_flat(row) for row in gathered]
        if kind == ".parquet":
            _write_parquet(rows, partial)
        else:
            partial.write_bytes(as_utf8(_table(rows, "\t" if kind == ".tsv" else ",")))


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False) + "\n"


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    sys.stdout.writelines(f"{printed(row)}\n" for row in rows)
    sys.stdout.flush()


def printed(value: Any, stream: TextIO | None = None) -> str:
    """`value` as one line of JSON that `stream` (stdout) can write: in ASCII if its encoding is no UTF."""
    encoding = getattr(sys.stdout if stream is None else stream, "encoding", None) or "utf-8"
    return json.dumps(value, ensure_ascii=not encoding.lower().startswith("utf"))


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """One level: `inputs.q`, `reference.a`; what was below `values` as `values.a`."""
    found: dict[str, Any] = {}
    for key, value in row.items():
        if key in ("inputs", "reference", "values") and isinstance(value, Mapping):
            found.update({f"{key}.{name}": inner for name, inner in value.items()})
        else:
            found[key] = value
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """All names in order, what tells of the answer after the answers."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    late = [name for name in ("score", "n_best", "error") if name in names]
    references = [name for name in names if name.startswith("reference.")]
    return [*(name for name in names if name not in (*late, *references)), *references, *late]


def _table(rows: Sequence[Mapping[str, Any]], separator: str) -> str:
    text = io.StringIO()
    names = _columns(rows)
    writer = csv.writer(text, delimiter=separator, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
    return text.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _write_parquet(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name in _columns(rows):
        values = [_in_utf8(row.get(name)) for row in rows]
        try:
            arrays[name] = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):  # of several types: as JSON
            arrays[name] = pa.array([None if value is None else _cell(value) for value in values])
        if pa.types.is_null(arrays[name].type) or pa.types.is_struct(arrays[name].type):
            arrays[name] = pa.array([None if value is None else _cell(value) for value in values], pa.string())
    pq.write_table(pa.table(arrays), path)


def _in_utf8(value: Any) -> Any:
    """`value` with halves of surrogate pairs spelled out, which Arrow's texts cannot hold."""
    if isinstance(value, str):
        return value if value.isascii() else as_utf8(value).decode("utf-8")
    if isinstance(value, Mapping):
        return {_in_utf8(key): _in_utf8(each) for key, each in value.items()}
    return [_in_utf8(each) for each in value] if isinstance(value, (list, tuple)) else value


def local_files(spec: Any) -> list[str]:
    """The files of this machine that a data source names, as far as its text tells."""
    import glob

    if isinstance(spec, Mapping):
        return [path for value in spec.values() for path in local_files(value)]
    if isinstance(spec, (list, tuple)):
        return [path for value in spec for path in local_files(value)]
    if not isinstance(spec, (str, Path)):
        return []
    path = os.path.expanduser(str(spec))
    return [path, *glob.glob(path)]
