"""csv and tsv as common writers leave them: separators, quotes, encodings, packings, headers nobody named."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.data.rows import open_source

ROWS = [["q", "a"], ["hello", "yes"], ["bye; now", "no"]]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / ".cache"))
    monkeypatch.chdir(tmp_path)


def written(name: str, rows: list[list[Any]] = ROWS, **how: Any) -> str:
    encoding = how.pop("encoding", "utf-8")
    with open(name, "w", newline="", encoding=encoding) as out:
        csv.writer(out, **how).writerows(rows)
    return name


def read(spec: Any) -> list[list[Any]]:
    source = open_source(spec)
    return [list(source.columns), *(list(source.row(i).values()) for i in range(len(source)))]


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_a_separator_that_the_lines_show_is_taken_with_a_note(mark: str) -> None:
    assert read(written("t.csv", delimiter=mark)) == ROWS
    (note,) = open_source("t.csv").notes
    assert note.startswith("t.csv: fields are separated by")


def test_commas_in_a_tsv_are_taken_with_a_note() -> None:
    assert read(written("t.tsv")) == ROWS
    assert "separated by `,`" in open_source("t.tsv").notes[0]


def test_a_separator_that_the_card_names_is_not_looked_for() -> None:
    assert read({"path": written("t.csv", ROWS[:2], delimiter=";"), "separator": ","})[0] == ["q;a"]
    assert read({"path": written("t.csv", delimiter="\t"), "separator": "\\t"}) == ROWS  # as it is spelt in a shell


def test_uneven_lines_show_no_separator() -> None:
    Path("t.csv").write_text("q;a\n1;2\n3;4;5\n")
    assert open_source("t.csv").columns == ("q;a",)


def test_the_line_by_which_excel_names_its_separator_is_no_header() -> None:
    Path("t.csv").write_text("sep=;\r\nq;a\r\nhello;yes\r\n")
    assert read("t.csv") == [["q", "a"], ["hello", "yes"]]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_texts_with_a_mark_of_their_encoding_are_read(encoding: str) -> None:
    rows = [["q", "a"], ["Grüße ☃", "yes\nno"]]
    name = written("t.csv", rows, encoding=encoding)
    if encoding.endswith("e"):  # the codecs of one byte order write no mark
        name = {"path": name, "encoding": encoding}  # type: ignore[assignment]
    assert read(name) == rows


def test_latin_1_is_told_by_the_byte_and_read_when_named() -> None:
    name = written("t.csv", [["q", "a"], ["Grüße", "ja"]], encoding="latin-1")
    assert read({"path": name, "encoding": "latin-1"})[1] == ["Grüße", "ja"]


QUOTED = [["q", "a"], ['he said "hi"', "yes"], ["two\nlines", "a\tb"], ["plain", "3"]]


@pytest.mark.parametrize("how", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])
def test_quotes_of_a_tsv_are_taken_off_where_a_writer_put_them(how: int) -> None:
    assert read(written("t.tsv", QUOTED, delimiter="\t", quoting=how)) == QUOTED
    assert "quotes around fields are taken off" in open_source("t.tsv").notes[0]


RAW = {
    "a quote that never closes": 'q\ta\n"hello\tyes\n',
    "quotes that belong to the text": 'q\ta\n"Yes"\tyes\nplain\tno\n',
    "a quote amid an unquoted field": 'q\ta\n"a ""b"""\tyes\nhe said "hi"\tno\n',
    "a quoted word at the start": 'q\ta\n"Crocodile" Dundee\tyes\n',
}


@pytest.mark.parametrize("content", RAW.values(), ids=RAW)
def test_quotes_of_a_tsv_stay_where_no_writer_would_have_put_them(content: str) -> None:
    Path("t.tsv").write_text(content)
    assert read("t.tsv") == [line.split("\t") for line in content.splitlines()]
    assert "quotes are read as part of the text" in open_source("t.tsv").notes[0]


def test_a_tsv_without_quotes_at_the_start_of_fields_has_no_note() -> None:
    Path("t.tsv").write_text('q\ta\n6" pipe\tyes\n')
    assert read("t.tsv")[1] == ['6" pipe', "yes"]
    assert open_source("t.tsv").notes == ()


def test_quotes_that_are_escaped_by_a_backslash_are_read_when_said() -> None:
    rows = [["q", "a"], ['he, "the one", said', "two\nlines"], ["back\\slash", "x"]]
    name = written("t.csv", rows, escapechar="\\", doublequote=False, quoting=csv.QUOTE_ALL)
    assert read({"path": name, "escape": "\\"}) == rows
    with pytest.raises(ValueError, match="escape"):
        read({"path": written("u.csv", rows[:2], escapechar="\\", doublequote=False), "quote": '"'})


PACKED = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def zstd(content: bytes) -> bytes:
    import pyarrow

    out = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(out, "zstd") as packed:
        packed.write(content)
    return bytes(out.getvalue())


@pytest.mark.parametrize("ending", [*PACKED, "zst"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "json"])
def test_packed_files_are_read_at_any_row(ending: str, kind: str) -> None:
    plain = {
        "csv": "q,a\nhello,yes\nbye,no\n",
        "tsv": "q\ta\nhello\tyes\nbye\tno\n",
        "jsonl": '{"q": "hello", "a": "yes"}\n{"q": "bye", "a": "no"}\n',
        "json": '[{"q": "hello", "a": "yes"}, {"q": "bye", "a": "no"}]',
    }[kind]
    Path(f"t.{kind}.{ending}").write_bytes(PACKED.get(ending, zstd)(plain.encode()))
    source = open_source(f"t.{kind}.{ending}")
    assert (source.row(1), source.row(0)) == ({"q": "bye", "a": "no"}, {"q": "hello", "a": "yes"})
    assert source.place(1) == f"t.{kind}.{ending}, row 2"


def test_a_zip_of_one_table_is_read() -> None:
    with zipfile.ZipFile("t.csv.zip", "w") as out:
        out.writestr("t.csv", "q,a\nhello,yes\n")
    assert read("t.csv.zip")[1] == ["hello", "yes"]


def test_columns_that_nobody_asks_for_need_no_name() -> None:
    Path("t.csv").write_text(",q,a,2020\n0,hello,yes,1\n")
    assert open_source("t.csv").row(0) == {"column 1": "0", "q": "hello", "a": "yes", "2020": "1"}


def test_numbers_that_pandas_counts_columns_with_are_names() -> None:
    Path("t.csv").write_text("0,1\nhello,yes\n")
    assert read("t.csv") == [["0", "1"], ["hello", "yes"]]


def test_one_part_of_many_may_be_empty_but_not_all() -> None:
    for number, body in enumerate(("q,a\n", "q,a\n1,2\n", "q,a\n")):
        Path(f"part-{number}.csv").write_text(body)
    assert len(open_source("part-*.csv")) == 1
    Path("part-1.csv").unlink()
    with pytest.raises(ValueError, match=r"part-0.csv has a header and no rows"):
        open_source("part-*.csv")
