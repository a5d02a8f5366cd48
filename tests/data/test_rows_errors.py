"""Everything that can be wrong with a source, and what is said about it."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.data import file_access
from ofasys_lite.data.file_access import Pool
from ofasys_lite.data.readers import arrow
from ofasys_lite.data.rows import open_source
from ofasys_lite.errors import DataError


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / ".cache"))
    monkeypatch.setenv("OFASYS_DATA", str(tmp_path / "prepared"))
    monkeypatch.chdir(tmp_path)


def tar_of(names: list[str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 3
            tar.addfile(info, io.BytesIO(b"abc"))
    return out.getvalue()


# file, its content, what is opened (None: the file), row that is read (None: opening fails), parts of message and help
FILES: list[tuple[str, bytes, Any, int | None, str, str]] = [
    ("qa.csv", b"q,a\n1,2\n", "qa.cvs", None, "no file qa.cvs", "did you mean `qa.csv`?"),
    ("qa.csv", b"q,a\n1,2\n", "dta/qa.csv", None, "no file dta/qa.csv", "there is no folder dta"),
    ("qa.csv", b"q,a\n1,2\n", "zzzzz.csv", None, "no file zzzzz.csv", "looked in"),
    ("qa.csv", b"q,a\n1,2\n", "x-{03..01}.csv", None, "{03..01} counts backwards", "write the smaller first"),
    ("qa.csvv", b"q,a\n1,2\n", None, None, "qa.csvv: the ending `.csvv` is of no known format", "did you mean `csv`?"),
    ("qa", b"q,a\n1,2\n", None, None, "qa has no ending", "{path: qa, format: csv}"),
    ("qa.csv", b"q", {"path": "qa.csv", "format": "parqet"}, None, "unknown format `parqet`", "mean `parquet`?"),
    ("qa.csv", b"", None, None, "qa.csv is empty", "its first line holds the column names"),
    ("qa.csv", b"1,7.5\n2,8\n", None, None, "first line looks like data, not like column names ('1')", "header: ["),
    ("qa.csv", b"q,a\n", None, None, "qa.csv has a header and no rows", "each line after the first is a row"),
    ("qa.csv", b"q", {"path": "qa.csv", "header": ["q", "q"]}, None, "`header` names `q` twice", ""),
    ("qa.csv", b"PAR1....", None, None, "qa.csv is to be read as csv, and is a Parquet file", "format: parquet"),
    ("qa.csv", b"PK\x03\x04..", None, None, "is a zip archive or an Excel workbook", "save the sheet as csv"),
    ("qa.jsonl", b"<!DOCTYPE html><html>", None, None, "is a web page or XML", "asks for a login"),
    ("qa.csv", b"q,a\n1,2\n1,2,3\n", None, 1, "qa.csv, row 2: 3 fields, and the header has 2 (q, a)", "quote fields"),
    ("qa.csv", b"q,a\n1,2\n5\n", None, 1, "qa.csv, row 2: 1 field, and the header has 2 (q, a)", "check the separator"),
    ("qa.csv", b'q,a\n1,"open\n5,6\n', None, None, "record 2 (from byte 4): a quote opens and never", "close it"),
    ("qa.csv", b'q,a\n1,"x"y\n', None, 0, "qa.csv, row 1: ',' expected after '\"'", 'write ""'),
    ("qa.csv", b"q,a\n1,\xe4\x96\n", None, 0, "byte 0xe4 at position 3 is not utf-8", "encoding: cp1252"),
    ("qa.csv", "q,a\n1,\u20ac".encode() + b"\xe4\n", None, 0, "byte 0xe4 at position 6 is not utf-8", "latin-1"),
    ("qa.csv", b"q,a\n1,\xe4\x96\n", {"path": "qa.csv", "encoding": "latin1"}, 0, "4 is not latin1", "cp1252"),
    ("qa.csv", b"q,a\n1,\x96\x81\n", {"path": "qa.csv", "encoding": "cp1252"}, 0, "4 is not cp1252", "neither latin-1"),
    ("qa.csv", b"q,a\n1,\x81\n", None, 0, "byte 0x81 at position 3 is not utf-8", "neither latin-1 nor cp1252"),
    ("qa.csv", b"q,a\n1,\xe4\n", None, 0, "qa.csv, row 1: byte 0xe4 at position 3 is not utf-8", "encoding: latin-1"),
    ("qa.csv", b"q,a\r1,2\r", None, None, "its lines end with carriage returns only", "Unix line ends"),
    ("qa.csv", b"q", {"path": "qa.csv", "encoding": "klingon"}, None, "unknown encoding `klingon`", "such as utf-8"),
    ("qa.csv", b"q", {"path": "qa.csv", "separator": "||"}, None, "separator is '||'", "one ASCII character"),
    ("qa.csv", b"q", {"path": "qa.csv", "quote": 1}, None, "`quote` of a data source is 1, not text", ""),
    ("qa.csv", b"q", {"path": "qa.csv", "sep": ";"}, None, "unknown key `sep` of a data source", "separator"),
    ("qa.csv", b"q", {"format": "csv"}, None, "a data source has either `path` or `hf`", "it takes: path"),
    ("qa.csv", b"q", {"path": "qa.csv", "stream": "yes"}, None, "`stream` of a data source is 'yes'", "true or false"),
    ("qa.csv", b"q", {"path": "qa.csv", "stream": True}, None, "qa.csv is given as a stream", "leave `stream` out"),
    ("qa.csv", b"q", "", None, "a data source has an empty path", "name a file"),
    ("qa.csv.gz", gzip.compress(b"q,a\n" * 99)[:-9], None, None, "qa.csv.gz is no complete gzip file", "write it"),
    ("qa.csv.bz2", b"BZh9 not really", None, None, "qa.csv.bz2 is no complete bzip2 file", "fetch or write"),
    ("qa.csv.xz", b"\xfd7zXZ not really", None, None, "qa.csv.xz is no complete xz file", "fetch or write"),
    ("qa.csv.zst", b"\x28\xb5\x2f\xfd not really", None, None, "qa.csv.zst is no complete zstd file", "fetch or write"),
    ("qa.jsonl", b'{\n "q": 1\n}\n', None, None, "row 1: bad JSON at character 2", "give `format: json`"),
    ("qa.jsonl", b'{"q": 1},\n{"q": 2}\n', None, None, "row 1: bad JSON", "without a comma behind it"),
    ("qa.jsonl", b"", None, None, "qa.jsonl is empty", "each line holds one row"),
    ("qa.jsonl", b'{"a": 1}\n{"a": }\n', None, 1, "qa.jsonl, row 2: bad JSON at character 7", "each line"),
    ("qa.jsonl", b'{"a": 1}\n[1]\n', None, 1, "qa.jsonl, row 2: found list `[1]`, not an object", "each line"),
    ("qa.json", b'{"a": 1}', None, None, "qa.json holds one dict, not a list of rows", '[{"a": 1}'),
    ("qa.json", b'{"a": 1}\n{"a": 2}', None, None, "qa.json: bad JSON at line 2, column 1", "format: jsonl"),
    ("qa.json", b"[1]", None, None, "qa.json, row 1: found int, not a dict", "such as"),
    ("qa.json", b"[]", None, None, "qa.json has no rows", ""),
    ("qa.parquet", b"PAR1 not really", None, None, "qa.parquet cannot be read as parquet", "cut off"),
    ("qa.arrow", b"ARROW1 not really", None, None, "qa.arrow cannot be read as arrow", "cut off"),
    ("s.tar", b"x" * 700, None, None, "s.tar is no complete tar", "write it again"),
    # cut off between two of its members
    ("s.tar", tar_of(["1.a", "2.a"])[:2048], None, None, "its end mark is missing: it was cut off", "write it again"),
    ("s.tar", tar_of(["1.a", "2.a"])[:2048], None, None, "its end mark", "head -c 1024 /dev/zero >> s.tar"),
    ("s.tar", tar_of(["1.a", "2.a"])[:1300], None, None, "truncated header at byte 1,024", "write it again"),
    ("s.tar", tar_of(["1.a", "2.a"])[:1024] + b"x" * 1024, None, None, "invalid header at byte 1,024", "it again"),
    ("s.tar", tar_of(["README"]), None, None, "s.tar holds no samples", "0001.jpg"),
    ("s.tar", tar_of(["1.a", "2.a", "1.b"]), None, None, "the files of sample 1 do not stand together", "--sort=name"),
    ("s.tar", tar_of(["1.a", "1.a"]), None, None, "sample 1 has the file .a twice", ""),
    ("s.tar", tar_of(["1.json"]), None, 0, "s.tar, row 1, column json: bad JSON", ""),
    ("s.tar", tar_of(["1.npy"]), None, 0, "s.tar, row 1, column npy: cannot read array", ""),
    ("f/a.csv", b"q\n1\n", "f", None, "f is a folder", "f/a.csv or f/*.csv"),
    ("f/state.json", b"{}", "f", None, "f is a folder of a Hugging Face data set", "hf:f:<split>"),
    ("f/state.json", b"{}", "hf:f", None, "`hf:f` does not say which split", "hf:<name or folder>:<split>"),
    ("f/state.json", b"{}", {"hf": "f"}, None, "hf:f needs a `split`", "split: train"),
    ("prepared/digits/train.parquet", b"", "digits:tran", None, "`digits` has no split `tran`", "mean `train`?"),
    ("x", b"", "digits:train", None, "data `digits` is not prepared", "ofasys-lite data prepare digits"),
    ("x", b"", "digitz:train", None, "no prepared data `digitz`", "did you mean `digits`?"),
    ("x", b"", {"path": "/dev/null", "format": "csv"}, None, "/dev/null is a pipe or a device", "to a file first"),
    ("x", b"", "x.xlsx", None, "no file x.xlsx", ""),
    ("x", b"", "parts/*.csv", None, "no file matches parts/*.csv", "paths start from"),
    ("x.xlsx", b"", None, None, "the ending `.xlsx` is of no known format", "save the sheet as csv"),
    ("x.csv", b'{"q": 1}\n', None, None, "x.csv is to be read as csv, and holds JSON", "format: jsonl"),
    ("x.jsonl", b'[\n {"q": 1}\n]', None, None, "x.jsonl is to be read as jsonl, and holds a list", "format: json"),
    ("x.csv", "q,a\n".encode("utf-16-le"), None, None, "holds null bytes", "encoding: utf-16-le"),
    ("pics\\x.csv", b"", "pics\\y.csv", None, "a backslash is a part of a name", "with slashes: pics/y.csv"),
    ("Data.csv", b"", "data.csv", None, "capitals count, and there is Data.csv", "did you mean `Data.csv`?"),
    ("x", b"", "memory://nowhere/x.csv", None, "no file memory://nowhere/x.csv", ""),
    ("x", b"", "abc://nowhere/x.csv", None, "abc://nowhere/x.csv cannot be opened", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "spec", "row", "message", "help"), FILES, ids=[case[4][:60] for case in FILES]
)
def test_a_source_that_cannot_be_read_says_where_and_what_to_do(
    name: str, content: bytes, spec: Any, row: int | None, message: str, help: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    opened = name if spec is None else spec
    if row is None:
        with pytest.raises(DataError) as caught:
            open_source(opened)
    else:
        source = open_source(opened)
        with pytest.raises(DataError) as caught:
            source.row(row)
    assert message in caught.value.message
    assert help in caught.value.help


class NoDicts:
    def __len__(self) -> int:
        return 2

    def __getitem__(self, i: int) -> tuple[int, int]:
        return i, i


OBJECTS: list[tuple[Any, str, str]] = [
    ([], "list has no rows", ""),
    ([{"a": 1}, 3], "list, row 2: found int, not a dict", "such as"),
    (NoDicts(), "NoDicts, row 1: `NoDicts[0]` gives tuple, not a dict", "let __getitem__ give a dict"),
    (iter([{"a": 1}]), "list_iterator has neither length nor random access", "a list of its rows"),
    (5, "int is no source of rows", "give a path"),
]


@pytest.mark.parametrize(("spec", "message", "help"), OBJECTS)
def test_an_object_that_gives_no_rows_is_refused(spec: Any, message: str, help: str) -> None:
    with pytest.raises(DataError) as caught:
        open_source(spec)
    assert message in caught.value.message
    assert help in caught.value.help


def test_a_dict_of_splits_is_refused_with_the_split_to_choose() -> None:
    import datasets

    splits = datasets.DatasetDict({"train": datasets.Dataset.from_list([{"a": 1}])})
    with pytest.raises(DataError, match="DatasetDict holds several splits") as caught:
        open_source(splits)
    assert "dataset['train']" in caught.value.help


def test_a_saved_data_set_names_its_splits(tmp_path: Path) -> None:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list([{"a": 1}])}).save_to_disk(str(tmp_path / "saved"))
    with pytest.raises(DataError, match="hf:saved has no split `tran`") as caught:
        open_source("hf:saved:tran")
    assert "did you mean `train`" in caught.value.help


def test_a_mapped_column_that_is_not_there_is_answered_with_the_near_name() -> None:
    with pytest.raises(DataError, match="column `answer` is to come from `answr`, which list does not have") as caught:
        open_source([{"question": "q", "answers": "a"}], columns={"answer": "answr"})
    assert caught.value.help == "did you mean `answers`? columns: question, answers"


def test_shards_with_other_columns_are_refused() -> None:
    Path("a-0.csv").write_text("q,a\n1,2\n")
    Path("a-1.csv").write_text("q,b\n1,2\n")
    with pytest.raises(
        DataError, match=r"a-0.csv and a-1.csv are read as one table, and only one of them has column `a`"
    ):
        open_source("a-{0..1}.csv")


def test_a_file_that_changed_under_a_run_is_told() -> None:
    Path("t.jsonl").write_text('{"a": "' + "x" * 100 + '"}\n' * 1 + '{"a": 2}\n')
    source = open_source("t.jsonl")
    Path("t.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match=r"t.jsonl has changed"):
        source.row(1)


def test_a_file_that_another_one_replaced_is_told() -> None:
    Path("t.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    source = open_source("t.jsonl")
    Path("new.jsonl").write_text('{"a": 3}\n{"a": 4}\n')
    os.replace("new.jsonl", "t.jsonl")
    source.file.release()
    with pytest.raises(DataError, match=r"t.jsonl has changed"):
        source.row(1)


def test_a_file_that_was_removed_is_told() -> None:
    Path("t.jsonl").write_text('{"a": 1}\n')
    source = open_source("t.jsonl")
    source.file.release()  # as in a worker, which opens it anew
    Path("t.jsonl").unlink()
    with pytest.raises(DataError, match=r"t.jsonl cannot be read: No such file"):
        source.row(0)


def test_an_unreadable_row_still_has_an_id() -> None:
    Path("t.csv").write_text("id,a\nx,1\ny\n")
    source = open_source("t.csv")
    assert [source.ids(i) for i in range(2)] == ["x", "1"]


def test_a_link_that_leads_nowhere_says_where_it_leads() -> None:
    Path("dead.csv").symlink_to("nowhere.csv")
    with pytest.raises(DataError, match=r"no file dead.csv: it is a link to nowhere.csv, which is not there"):
        open_source("dead.csv")


def test_a_file_one_may_not_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("t.csv").write_text("q\n1\n")

    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"t.csv cannot be opened: Permission denied") as caught:
        open_source("t.csv")
    assert "chmod u\\+r" in caught.value.help or "chmod u+r" in caught.value.help


@pytest.mark.parametrize(
    "name",
    [
        "日本語.csv",
        "data (1).csv",
        "a=b.csv",
        "a&b.csv",
        "#1.csv",
        "it's.csv",
        "[x].csv",
        "~backup.csv",
        "{a,b}.csv",
        "x*.csv",
        "who?.csv",
        "b:c.csv",
        "100%.csv",
        " x .csv",
    ],
)
def test_the_path_of_a_file_is_taken_literally(name: str) -> None:
    Path(name).write_text("q,a\nhello,yes\n")
    for spec in (name, {"path": name}, [name], Path(name)):
        assert open_source(spec).row(0) == {"q": "hello", "a": "yes"}
    assert open_source(name, base=Path.cwd()).name.endswith(name)


def test_the_home_is_written_as_a_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "x.csv").write_text("q\n1\n")
    assert len(open_source("~/x.csv")) == 1


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "arrow", "tar"])
def test_a_table_of_many_parts_keeps_few_files_open(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for room in (file_access, arrow):
        monkeypatch.setattr(room, "_OPEN", Pool(10))
    for number in range(40):
        path = Path(f"part-{number:03}.{kind}")
        table = pa.table({"txt": [str(number)]})
        if kind == "parquet":
            pq.write_table(table, path)
        elif kind == "arrow":
            with pa.ipc.new_file(str(path), table.schema) as out:
                out.write_table(table)
        elif kind == "tar":
            path.write_bytes(tar_of([f"{number}.txt"]))
        else:
            path.write_text(f"txt\n{number}\n" if kind == "csv" else f'{{"txt": "{number}"}}\n')
    before = len(os.listdir("/proc/self/fd"))
    source = open_source(f"part-*.{kind}")
    found = [source.row(i)["txt"] for i in (*range(40), 0, 39)]
    assert found == (["abc"] * 42 if kind == "tar" else [*map(str, range(40)), "0", "39"])
    assert len(os.listdir("/proc/self/fd")) <= before + 12


def test_a_folder_one_may_not_look_into_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: "locked" not in str(path))
    for name in ("locked", "locked/x.csv"):
        with pytest.raises(DataError, match="no right to look into locked") as caught:
            open_source(name)
        assert "chmod u+rx" in caught.value.help
