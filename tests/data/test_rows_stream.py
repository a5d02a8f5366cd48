from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from ofasys_lite.data.rows import first_rows
from ofasys_lite.data.spec import is_stream
from ofasys_lite.errors import DataError

ROWS = [{"n": str(n)} for n in range(20)]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_a_stream_is_asked_for_by_key() -> None:
    assert is_stream({"path": "x", "stream": True})
    assert not is_stream({"path": "x"})
    assert not is_stream("x.csv")


def test_the_first_rows_of_a_stream_come_in_its_order(jsonl: Path) -> None:
    found = first_rows({"path": str(jsonl), "stream": True, "buffer": 8}, 7)
    assert [found.row(i)["n"] for i in range(len(found))] == list("0123456")


def test_compressed_files_and_all_formats_are_streamed(tmp_path: Path, jsonl: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist(ROWS)
    pq.write_table(table, tmp_path / "t.parquet")
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), table.schema) as out:
        out.write_table(table)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(jsonl.read_bytes()))
    (tmp_path / "t.csv").write_text("n\n" + "".join(row["n"] + "\n" for row in ROWS))
    (tmp_path / "t.json").write_text(json.dumps(ROWS))
    for n in range(20):
        (tmp_path / f"{n:02}.n").write_text(str(n))
    with tarfile.open(tmp_path / "t.tar.gz", "w:gz") as tar:
        for n in range(20):
            tar.add(tmp_path / f"{n:02}.n", f"{n:02}.n")
    for name in ("t.parquet", "t.arrow", "t.jsonl.gz", "t.csv", "t.json", "t.tar.gz"):
        rows = first_rows({"path": str(tmp_path / name), "stream": True}, 30).rows
        values = [row["n"].decode() if isinstance(row["n"], bytes) else row["n"] for row in rows]
        assert values == [row["n"] for row in ROWS], name


def test_slot_columns_of_a_stream_come_from_data_columns(jsonl: Path) -> None:
    found = first_rows({"path": str(jsonl), "stream": True}, 1, columns={"text": "n"})
    assert found.rows == [{"n": "0", "text": "0"}]


def test_a_data_set_of_the_hub_is_streamed(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "saved"))
    assert len(first_rows({"hf": str(tmp_path / "saved"), "split": "train", "stream": True}, 99)) == 20


def test_streams_that_make_no_sense_are_refused(tmp_path: Path, jsonl: Path) -> None:
    with pytest.raises(DataError, match="a shuffle buffer of 0 rows"):
        first_rows({"path": str(jsonl), "stream": True, "buffer": 0}, 1)
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="is empty"):
        first_rows({"path": str(tmp_path / "empty.jsonl"), "stream": True}, 1)


def test_a_broken_row_of_a_stream_says_where(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match=r"t.csv, row 2: 1 field"):
        first_rows({"path": str(tmp_path / "t.csv"), "stream": True}, 5)
    (tmp_path / "t.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"t.tar is no complete tar"):
        first_rows({"path": str(tmp_path / "t.tar"), "stream": True}, 5)
