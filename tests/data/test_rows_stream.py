from __future__ import annotations

import gzip
import itertools
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import pytest

from ofasys_lite.data.rows import open_stream
from ofasys_lite.data.spec import is_stream
from ofasys_lite.errors import DataError

ROWS = [{"n": str(n)} for n in range(20)]


@pytest.fixture
def jsonl(tmp_path: Path) -> Path:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def take(stream: Any, count: int) -> list[str]:
    return [row["n"] for row in itertools.islice(stream, count)]


def test_a_stream_is_asked_for_by_key() -> None:
    assert is_stream({"path": "x", "stream": True})
    assert not is_stream({"path": "x"})
    assert not is_stream("x.csv")


def test_every_epoch_of_a_stream_holds_every_row_once_in_another_order(jsonl: Path) -> None:
    found = take(open_stream({"path": str(jsonl), "stream": True, "buffer": 8}), 60)
    epochs = [found[at : at + 20] for at in (0, 20, 40)]
    assert all(sorted(epoch, key=int) == [row["n"] for row in ROWS] for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_a_buffer_of_one_keeps_the_order(jsonl: Path) -> None:
    assert take(open_stream({"path": str(jsonl), "stream": True, "buffer": 1}), 25) == [str(n % 20) for n in range(25)]


@pytest.mark.parametrize("taken", [0, 7, 20, 33])
def test_a_stream_goes_on_after_its_state(jsonl: Path, taken: int) -> None:
    spec = {"path": str(jsonl), "stream": True, "buffer": 5}
    whole = take(open_stream(spec, seed=3), 60)
    first = open_stream(spec, seed=3)
    take(first, taken)
    second = open_stream(spec, seed=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert take(second, 60 - taken) == whole[taken:]


def test_ranks_share_the_rows_of_a_stream(jsonl: Path) -> None:
    stream = pickle.loads(pickle.dumps(open_stream({"path": str(jsonl), "stream": True})))
    shares = [take(stream.share(rank, 3), count) for rank, count in ((0, 7), (1, 7), (2, 6))]
    assert sorted(itertools.chain(*shares), key=int) == [row["n"] for row in ROWS]


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
        rows = open_stream({"path": str(tmp_path / name), "stream": True}).first(30)
        values = [row["n"].decode() if isinstance(row["n"], bytes) else row["n"] for row in rows]
        assert values == [row["n"] for row in ROWS], name


def test_slot_columns_of_a_stream_come_from_data_columns(jsonl: Path) -> None:
    assert open_stream({"path": str(jsonl), "stream": True}, columns={"text": "n"}).first(1) == [
        {"n": "0", "text": "0"}
    ]


def test_iterable_objects_are_streams(tmp_path: Path) -> None:
    import datasets

    data = datasets.Dataset.from_list(ROWS)
    data.save_to_disk(str(tmp_path / "saved"))
    assert take(open_stream(data.to_iterable_dataset()), 40)
    assert len(open_stream({"hf": str(tmp_path / "saved"), "split": "train", "stream": True}).first(99)) == 20


def test_streams_that_make_no_sense_are_refused(jsonl: Path) -> None:
    with pytest.raises(DataError, match="a shuffle buffer of 0 rows"):
        open_stream({"path": str(jsonl), "stream": True, "buffer": 0})
    with pytest.raises(DataError, match="int is no source of rows"):
        open_stream(3)
    stream = open_stream({"path": str(jsonl), "stream": True})
    with pytest.raises(DataError, match="rank 2 of 2"):
        stream.share(2, 2)
    with pytest.raises(DataError, match="has no rows"):
        take(stream.share(30, 31), 1)


def test_a_broken_row_of_a_stream_says_where(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError, match=r"t.csv, row 2: 1 field"):
        open_stream({"path": str(tmp_path / "t.csv"), "stream": True}).first(5)
    (tmp_path / "t.tar").write_bytes(b"x" * 2000)
    with pytest.raises(DataError, match=r"t.tar is no complete tar"):
        open_stream({"path": str(tmp_path / "t.tar"), "stream": True}).first(5)
