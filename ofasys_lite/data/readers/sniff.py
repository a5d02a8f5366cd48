"""What a text file is, told by its own content: its separator, whether its quotes are marks, other formats in disguise.

Only what cannot be misread is taken, and a note says what was taken.
"""

from __future__ import annotations

import csv
import io
import re

import numpy as np

from ofasys_lite.data.array_cache import Arrays, cached_arrays
from ofasys_lite.data.file_access import DataFile
from ofasys_lite.data.readers.delimited import Dialect
from ofasys_lite.data.readers.lines import scan_records
from ofasys_lite.data.source import combined
from ofasys_lite.errors import DataError

#: Bytes at the beginning of a file by which its separator is told, and by which it is known to be no text.
LOOK = 1 << 16
HEAD = 512
_RECORDS = 20
_SEPARATORS = (";", "\t", "|", ",")
#: First bytes of files that are no text, whatever their names say -> what they are and what to do.
_FOREIGN = (
    (b"PAR1", "a Parquet file", "give format: parquet"),
    (b"ARROW1", "an Arrow file", "give format: arrow"),
    (b"PK\x03\x04", "a zip archive or an Excel workbook", "unpack it, or save the sheet as csv"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", "save the sheet as csv"),
    (b"SQLite format 3", "an SQLite database", "export the table as csv"),
    (b"\x89HDF", "an HDF5 file", "export the table as csv or parquet"),
    (b"%PDF", "a PDF", "give a table: csv, jsonl, parquet ..."),
    (b"version https://git-lfs", "a pointer of Git LFS, not the data", "fetch the data: git lfs pull"),
)
_HTML = re.compile(rb"\s*<(!doctype html|html|head|body)\b", re.IGNORECASE)
#: What a writer that quotes all text leaves bare: numbers, dates, truth values, marks of nothing.
_BARE = re.compile(r"[-+.\deE:/ T]*|true|false|null|n/?a|nan|-?inf", re.IGNORECASE)


def refuse_foreign(file: DataFile, kind: str) -> None:
    """Raises DataError if a file that is to be read as text is something else by its first bytes."""
    with file.open() as handle:
        refuse_head(handle.read(HEAD), file.name, kind)


def refuse_head(head: bytes, name: str, kind: str, stream: bool = False) -> None:
    """`refuse_foreign` for the first bytes of a file, `HEAD` of them.

    Args:
        stream: It is read as one: UTF-16 is not, with or without its mark.
    """
    for start, what, help in _FOREIGN:
        if head.startswith(start):
            raise DataError(f"{name} is to be read as {kind}, and is {what}", help=help)
    if head.count(b"\0") > len(head) // 20:
        help = "if it is UTF-16 without a mark, give encoding: utf-16-le"
        if stream:
            help = "if it is UTF-16, save it as UTF-8, or leave `stream` out"
        raise DataError(f"{name} is to be read as {kind}, and is no text: it holds null bytes", help=help)
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if kind in ("csv", "tsv") and start[:2] == b'{"':
        raise DataError(f"{name} is to be read as {kind}, and holds JSON", help="give format: jsonl")
    if kind == "jsonl" and start[:1] == b"[":
        raise DataError(f"{name} is to be read as jsonl, and holds a list", help="give format: json")
    if _HTML.match(head) or (head.lstrip()[:5] == b"<?xml" and kind != "json"):
        help = "open its address in a browser: a page that asks for a login, perhaps"
        raise DataError(f"{name} is to be read as {kind}, and is a web page or XML", help=help)


def sniffed(file: DataFile, digest: str, dialect: Dialect, separator: bool, quote: bool) -> tuple[Dialect, list[str]]:
    """(the dialect that the file itself shows, notes of what was taken).

    Args:
        separator: The card names the separator: it is not looked for.
        quote: The card says what quotes mean.
    """
    with file.open() as handle:
        dialect, notes = head_dialect(handle.read(LOOK), file.name, dialect, separator)
    if not quote and not dialect.quote:
        note, marks = _quotes(file, digest, dialect)
        notes += [note] if note else []
        dialect = dialect.with_(quote='"') if marks else dialect
    return dialect, notes


def head_dialect(head: bytes, name: str, dialect: Dialect, separator: bool) -> tuple[Dialect, list[str]]:
    """`sniffed` by the first bytes of a file, `LOOK` of them: without a look at all its quotes."""
    notes: list[str] = []
    text = head.decode(dialect.encoding, "replace").removeprefix("\ufeff")
    first = text.split("\n", 1)[0].strip()
    if len(first) == 5 and first.lower().startswith("sep=") and not separator:  # Excel's own first line
        dialect, separator = dialect.with_(separator=first[4], skip=1), True
    if not separator and dialect.separator not in first:
        found = _separator(text, len(head) < LOOK, dialect)
        if found:
            shown = "\\t" if found == "\t" else found
            notes.append(f'{name}: fields are separated by `{shown}`, as its lines show (separator: "{shown}")')
            dialect = dialect.with_(separator=found)
    return dialect, notes


def _separator(text: str, whole: bool, dialect: Dialect) -> str:
    """The mark that splits the first records into equally many fields, two or more; empty where none does."""
    for mark in _SEPARATORS:
        if mark == dialect.separator or mark not in text.split("\n", 1)[0]:
            continue
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, quotechar=dialect.quote or '"'))
        except csv.Error:  # what it is shows where it is read
            continue
        rows = [row for row in (rows if whole else rows[:-1])[:_RECORDS] if row]
        if len(rows) > 1 and len({len(row) for row in rows}) == 1 and len(rows[0]) > 1:
            return mark
    return ""


def _quotes(file: DataFile, digest: str, dialect: Dialect) -> tuple[str, bool]:
    """(note, whether quotes in a tab-separated file are marks around fields); looked through once, then kept."""
    key = combined(digest, dialect.separator, dialect.encoding)

    def build() -> Arrays:
        seen, marks = _look_at_quotes(file, dialect)
        return {"found": np.array([seen, marks], np.int64)}

    seen, marks = cached_arrays("quotes-2", key, build)["found"].tolist()
    if not seen:
        return "", False
    if marks:
        return f"{file.name}: quotes around fields are taken off, as its writer put them (quote: '' keeps them)", True
    return f"{file.name}: quotes are read as part of the text (quote: '\"' takes them off)", False


def _look_at_quotes(file: DataFile, dialect: Dialect) -> tuple[bool, bool]:
    """(some field begins with a quote, every record is what a writer of quotes writes).

    Such a writer quotes the fields that need it (pandas) or all that are text (R, pyarrow): what it wrote of its own
    fields again is the record. Any other quote stands for itself.
    """
    seen, needed, always = False, True, True
    separator = dialect.separator
    mark = separator.encode()
    try:
        with file.open() as handle:
            for _, _, record in scan_records(handle, file.name, mark, b'"'):
                if b'"' not in record:
                    always = always and all(map(_BARE.fullmatch, record.decode(dialect.encoding).split(separator)))
                    continue
                seen = seen or record.startswith(b'"') or mark + b'"' in record
                text = record.decode(dialect.encoding)
                fields = next(csv.reader([text], delimiter=separator, strict=True))
                needed = needed and text in (_written(fields, separator, "\n"), _written(fields, separator, "\r\n"))
                always = always and _all_quoted(text, fields, separator)
                if not needed and not always:
                    break
    except UnicodeError:
        return False, False  # told where its rows are read
    except (DataError, csv.Error, StopIteration):
        return True, False  # a quote that never closes is no mark
    return seen, seen and (needed or always)


def _written(fields: list[str], separator: str, end: str) -> str:
    out = io.StringIO()
    csv.writer(out, delimiter=separator, lineterminator=end).writerow(fields)
    return out.getvalue().removesuffix(end)


def _all_quoted(text: str, fields: list[str], separator: str) -> bool:
    """True if every field that is text stands in quotes in the record."""
    quoted = ['"' + field.replace('"', '""') + '"' for field in fields]
    rest = text
    for number, (bare, full) in enumerate(zip(fields, quoted, strict=True)):
        end = separator if number < len(fields) - 1 else ""
        if rest.startswith(full + end):
            rest = rest[len(full + end) :]
        elif _BARE.fullmatch(bare) and rest.startswith(bare + end):
            rest = rest[len(bare + end) :]
        else:
            return False
    return not rest
