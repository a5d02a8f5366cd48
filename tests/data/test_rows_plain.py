"""Values as people write them: the same text from every reader and from Python objects; labels by their names."""

from __future__ import annotations

import csv
import datetime
import decimal
import io
import json
import pickle
import tarfile
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ofasys_lite.api.task import as_source
from ofasys_lite.commands.app import main
from ofasys_lite.data.fields import field
from ofasys_lite.data.rows import open_source, open_training
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.clips import read_clip
from ofasys_lite.preprocess.doubled import read_json
from ofasys_lite.preprocess.linear import read_struct
from ofasys_lite.preprocess.plain import plain
from ofasys_lite.preprocess.struct import StructPreprocess
from ofasys_lite.preprocess.text import read_text

# how a value is written -> the value in the types of table libraries
WRITTEN: list[tuple[str, Any]] = [
    ("true", True),
    ("false", np.bool_(False)),
    ("0.1", np.float32(0.1)),
    ("0.1", np.float16(0.1)),
    ("7", np.int8(7)),
    ("1.50", decimal.Decimal("1.50")),
    ("1000", decimal.Decimal("1E+3")),
    ("2024-01-31", datetime.date(2024, 1, 31)),
    ("2024-01-31 12:30:00", datetime.datetime(2024, 1, 31, 12, 30)),
    ("2024-01-31 12:30:00", pandas.Timestamp("2024-01-31 12:30")),
    ("2024-01-31 12:30:00.5", np.datetime64("2024-01-31T12:30:00.500000000")),
    ("12:30:00", datetime.time(12, 30)),
    ("1:30:00", datetime.timedelta(minutes=90)),
    ("1:30:00", pandas.Timedelta(minutes=90)),
    ("1:30:00", np.timedelta64(90, "m")),
    ("2024-01-31 12:30:00.25+02:00", pandas.Timestamp("2024-01-31 12:30:00.25+02:00")),
    ("2024-01", pandas.Period("2024-01")),
    ("12345678-1234-5678-1234-567812345678", uuid.UUID("12345678123456781234567812345678")),
    ("0.1", np.array(0.1, np.float32)),
    ("x", np.str_("x")),
]


@pytest.mark.parametrize(("text", "value"), WRITTEN)
def test_a_value_is_read_as_people_write_it(text: str, value: Any) -> None:
    assert read_text(value) == text
    assert read_text(open_source([{"a": value}]).row(0)["a"]) == text


def test_a_tensor_of_one_number_is_that_number() -> None:
    import torch

    assert read_text(torch.tensor(0.1)) == "0.1"
    assert read_text(torch.tensor(3)) == "3"
    assert read_text(torch.tensor(0.5, dtype=torch.bfloat16)) == "0.5"


@pytest.mark.parametrize("value", [None, pandas.NaT, pandas.NA, np.datetime64("NaT"), decimal.Decimal("NaN")])
def test_what_libraries_have_for_nothing_is_nothing(value: Any) -> None:
    assert plain(value) is None
    with pytest.raises(DataError):
        read_text(value)


def frame() -> pandas.DataFrame:
    return pandas.DataFrame(
        {
            "yes": [True, False],
            "half": np.array([0.1, 2.5], np.float32),
            "price": [decimal.Decimal("1.50"), decimal.Decimal("2.00")],
            "day": [datetime.date(2024, 1, 31), datetime.date(2024, 2, 1)],
            "moment": pandas.to_datetime(["2024-01-31 12:30", "2024-02-01 00:00"]),
            "kind": pandas.Categorical(["cat", "dog"]),
            "empty": ["x", None],
        }
    )


WANTED = [
    ["true", "0.1", "1.50", "2024-01-31", "2024-01-31 12:30:00", "cat"],
    ["false", "2.5", "2.00", "2024-02-01", "2024-02-01 00:00:00", "dog"],
]


def as_parquet(folder: Path) -> Any:
    frame().to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


def as_feather(folder: Path) -> Any:
    frame().to_feather(folder / "t.feather")
    return folder / "t.feather"


def as_dataset(folder: Path) -> Any:
    import datasets

    return datasets.Dataset.from_pandas(frame())


def as_numpy_dataset(folder: Path) -> Any:
    return as_dataset(folder).with_format("numpy")


SOURCES = {
    "parquet": as_parquet,
    "feather": as_feather,
    "datasets": as_dataset,
    "datasets in numpy's format": as_numpy_dataset,
    "pandas": lambda folder: frame(),
    "pyarrow": lambda folder: pa.Table.from_pandas(frame()),
}


@pytest.mark.parametrize("make", SOURCES.values(), ids=SOURCES)
def test_every_reader_writes_a_table_alike(make: Any, tmp_path: Path) -> None:
    source = open_source(as_source(make(tmp_path)))
    rows = [source.row(i) for i in range(2)]
    assert [[read_text(row[name]) for name in list(row)[:6]] for row in rows] == WANTED
    assert rows[1]["empty"] is None
    assert pickle.loads(pickle.dumps(source)).row(0) == rows[0]


def test_floats_of_32_bits_in_lists_and_records_have_few_digits(tmp_path: Path) -> None:
    kind = pa.struct([("box", pa.list_(pa.float32())), ("score", pa.float32())])
    column = pa.array([{"box": [0.1, 0.2], "score": 0.3}], kind)
    pq.write_table(
        pa.table({"r": column, "signal": pa.array([[0.1] * 1000], pa.list_(pa.float32()))}), tmp_path / "t.parquet"
    )
    row = open_source(tmp_path / "t.parquet").row(0)
    halves = pa.table({"h": pa.array([np.float16(0.1)], pa.float16())})
    with pa.ipc.new_file(str(tmp_path / "t.arrow"), halves.schema) as out:
        out.write_table(halves)
    assert open_source(tmp_path / "t.arrow").row(0) == {"h": 0.1}
    assert row["r"] == {"box": [0.1, 0.2], "score": 0.3}
    assert row["signal"][0] == float(np.float32(0.1))  # signals are left as they are


def labelled() -> Any:
    import datasets

    names = datasets.ClassLabel(names=["negative", "positive"])
    features = datasets.Features(
        {
            "q": datasets.Value("string"),
            "label": names,
            "tags": datasets.Sequence(names),
            "record": {"kind": names},
            "records": [{"kind": names}],
        }
    )
    rows = [
        {"q": "bad", "label": 0, "tags": [1, 0], "record": {"kind": 1}, "records": [{"kind": 0}]},
        {"q": "none", "label": None, "tags": [], "record": {"kind": None}, "records": []},
        {"q": "hidden", "label": -1, "tags": [1], "record": {"kind": 0}, "records": [{"kind": 1}]},
    ]
    return datasets.Dataset.from_list(rows, features=features)


def saved(folder: Path) -> Any:
    labelled().save_to_disk(str(folder / "saved"))
    return f"hf:{folder / 'saved'}:train"


def arrow_shard(folder: Path) -> Any:
    labelled().save_to_disk(str(folder / "saved"))
    return folder / "saved" / "data-00000-of-00001.arrow"


def parquet(folder: Path) -> Any:
    labelled().to_parquet(str(folder / "t.parquet"))
    return folder / "t.parquet"


LABELLED = {
    "datasets": lambda folder: labelled(),
    "datasets in torch's format": lambda folder: labelled().with_format("torch"),
    "saved folder": saved,
    "Arrow file of a saved folder": arrow_shard,
    "parquet": parquet,
    "pyarrow table": lambda folder: labelled().data.table,
}


@pytest.mark.parametrize("make", LABELLED.values(), ids=LABELLED)
def test_class_labels_are_read_by_their_names(make: Any, tmp_path: Path) -> None:
    source = open_source(as_source(make(tmp_path)))
    first, none, hidden = (source.row(i) for i in range(3))
    assert first["label"] == "negative"
    assert first["tags"] == ["positive", "negative"]
    assert first["record"] == {"kind": "positive"}
    assert first["records"] == [{"kind": "negative"}]
    assert source.value(0, "label") == "negative"
    assert source.value(0, "record.kind") == "positive"
    assert none["label"] is None
    assert none["record"] == {}  # every key of every record is stored, used or not
    assert hidden["label"] is None  # -1: the data set hides it


def test_a_stream_of_a_data_set_reads_labels_by_their_names(tmp_path: Path) -> None:
    stream = open_training({"path": saved(tmp_path), "stream": True})
    assert [stream.row(i)["label"] for i in range(3)] == ["negative", None, None]


def test_a_stream_of_parquet_reads_labels_by_their_names(tmp_path: Path) -> None:
    stream = open_training({"path": str(parquet(tmp_path)), "stream": True})
    assert [stream.row(i)["label"] for i in range(2)] == ["negative", None]


def test_a_label_beyond_the_names_is_a_mistake_of_its_row(tmp_path: Path) -> None:
    metadata = {"huggingface": '{"info": {"features": {"l": {"names": ["a"], "_type": "ClassLabel"}}}}'}
    pq.write_table(pa.table({"l": [0, 7]}).replace_schema_metadata(metadata), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet")
    assert source.row(0) == {"l": "a"}
    with pytest.raises(DataError, match=r"t.parquet, row 2: the label 7 is none of the 1 classes"):
        source.row(1)


def twice(folder: Path, kind: str) -> RowSource:
    path = folder / f"t.{kind}"
    table = pa.Table.from_arrays([pa.array(["1"]), pa.array(["2"]), pa.array(["3"])], ["q", "q", "a"])
    if kind == "csv":
        path.write_text("q,q,a\n1,2,3\n")
    elif kind == "jsonl":
        path.write_text('{"q": "1", "q": "2", "a": "3"}\n')
    elif kind == "json":
        path.write_text('[{"q": "1", "q": "2", "a": "3"}]\n')
    elif kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(str(path), table.schema) as out:
            out.write_table(table)
    return open_source(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "parquet", "arrow"])
def test_of_columns_with_one_name_each_keeps_its_place(kind: str, tmp_path: Path) -> None:
    source = twice(tmp_path, kind)
    assert source.columns == ("q (column 1)", "q (column 2)", "a")
    assert source.row(0) == {"q (column 1)": "1", "q (column 2)": "2", "a": "3"}
    with pytest.raises(DataError, match="`x` is to come from `q`") as caught:
        open_source(source, columns={"x": "q"})
    assert caught.value.help.startswith("`q` is 2 columns; rename the one that is meant")


@pytest.mark.parametrize(
    "record",
    [
        '{"q": "1", "q": "2", "a": "3"}',
        '{"q" :"1","q" :"2","a": "3: "}',
        '{"q"\t:"1","q":"2"}',
        '{"q": {"x": 1, "x": 2}, "a": ["b: c", {"y": ":"}]}',
        '{"q": [[{"x": 1, "x": 2}]]}',
        '{"q": [1, {"x": 1, "x": 2}]}',
    ],
)
def test_a_key_that_stands_twice_is_noticed_in_every_row_of_jsonl(record: str, tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    plain = '{"q": "the colon \\": of a text", "a": {"b": [{"c" : 1}, {"c": "http://d"}], "e": []}}\n'
    path.write_text(plain * 1200 + record + "\n")
    source = open_source(path)
    assert source.columns == ("q", "a")
    assert source.row(1199) == json.loads(plain)
    if '"x"' in record:
        assert "x (column 2)" in str(source.row(1200))
    else:
        with pytest.raises(DataError, match=r"t.jsonl, row 1201: the key `q` stands twice"):
            source.row(1200)


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json", "tar", "nested"])
def test_a_key_that_stands_twice_within_a_value_is_told_where_it_is_asked_for(kind: str, tmp_path: Path) -> None:
    text, path = '{"q": "1", "q": "2", "a": "3"}', tmp_path / f"t.{'jsonl' if kind == 'nested' else kind}"
    if kind == "csv":
        with path.open("w", newline="") as out:
            csv.writer(out).writerows([["r"], [text]])
    elif kind == "jsonl":
        path.write_text(json.dumps({"r": text}) + "\n")
    elif kind == "tar":
        with tarfile.open(path, "w") as tar:
            member = tarfile.TarInfo("0.r.json")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    else:
        path.write_text(f'{{"r": {text}}}\n' if kind == "nested" else f'[{{"r": {text}}}]\n')
    row = open_source(path).row(0)
    column = "r.json" if kind == "tar" else "r"
    assert field(row, f"{column}.a") == "3"
    with pytest.raises(DataError, match="the key `q` stands twice"):
        field(row, f"{column}.q")
    for read in (read_struct, lambda value: StructPreprocess.read(value, ())):
        with pytest.raises(DataError, match="the key `q` stands twice"):
            read(row[column])


def test_each_key_that_stands_twice_is_told_of_and_no_value_is_lost() -> None:
    text = '{"a": 1, "a": 2, "c.d": 1, "c.d": 2, "a (column 1)": 3, "": 4, "b": {"array": [], "rate": 1, "rate": 2}}'
    found = read_json(text)
    assert list(dict.values(found)) == [1, 2, 1, 2, 3, 4, {"array": [], "rate (column 2)": 1, "rate (column 3)": 2}]
    assert {"a (column 1)", "", "b"} < set(found)
    for path in ("a", "c.d", "b.rate"):
        with pytest.raises(DataError, match="stands twice"):
            field({"r": found}, f"r.{path}")
    with pytest.raises(DataError, match="the key `rate` stands twice"):
        read_clip(found["b"], None)


def test_check_says_in_which_row_a_key_stands_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "t.jsonl"
    rows.write_text('{"q": {"a": 1}, "t": "x"}\n{"q": {"a": 1, "a": 2}, "t": "y"}\n')
    assert main(["check", "[TEXT:q.a] -> [TEXT:t]", str(rows)]) == 1
    assert "E304" in (told := capsys.readouterr().err)
    assert "the key `a` stands twice" in told
    assert "row 2" in told


@pytest.mark.parametrize("depth", [300, 700, 5000])
def test_what_stands_too_deep_is_an_error_of_its_row(depth: int, tmp_path: Path) -> None:
    deep = "[" * depth + "]" * depth
    (tmp_path / "t.jsonl").write_text(f'{{"q": 1}}\n{{"q": {deep}}}\n')
    (tmp_path / "t.json").write_text(f'[{{"q": {deep}}}]')
    with pytest.raises(DataError, match="row 2: bad JSON: more than 200 lists"):
        open_source(tmp_path / "t.jsonl").row(1)
    with pytest.raises(DataError, match="bad JSON at more than 200 lists"):
        open_source(tmp_path / "t.json")
    with pytest.raises(DataError, match="more than 200 lists"):
        read_struct(deep)


def test_a_data_frame_with_columns_of_one_name_keeps_both() -> None:
    source = open_source(as_source(pandas.DataFrame([[1, 2, 3]], columns=["q", "q", 0])))
    assert source.row(0) == {"q (column 1)": 1, "q (column 2)": 2, "0": 3}


def test_an_index_with_a_name_is_a_column_as_in_the_files_of_pandas() -> None:
    indexed = pandas.DataFrame({"id": ["x", "y"], "a": [1, 2]}).set_index("id")
    assert open_source(as_source(indexed)).row(1) == {"id": "y", "a": 2}
