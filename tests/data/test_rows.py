"""Every reader gives the same rows for the same table; indexes are built once; sources travel to workers."""

from __future__ import annotations

import csv
import io
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofasys_lite.data import array_cache
from ofasys_lite.data.rows import RowSource, open_source
from ofasys_lite.errors import DataError
from ofasys_lite.layout.costs import size_hint
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.text import TextPreprocess

TABLE = [
    {"id": "a1", "question": "what is it?", "answer": "a red, round ball"},
    {"id": "b2", "question": 'who said "hi"?', "answer": "ünï ☃"},
    {"id": "c3", "question": "two\nlines", "answer": ""},
    {"id": "d4", "question": " spaces kept ", "answer": "{x}\\n\t'"},
]
COLUMNS = ("id", "question", "answer")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path_factory.mktemp("cache")))


def write_csv(path: Path, separator: str = ",", line_end: str = "\n") -> Path:
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out, delimiter=separator, lineterminator=line_end)
        writer.writerow(COLUMNS)
        writer.writerows(row.values() for row in TABLE)
    return path


def write_jsonl(path: Path) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in TABLE), encoding="utf-8")
    return path


def write_tar(path: Path, rows: list[dict[str, Any]] = TABLE, kind: str = "txt") -> Path:
    with tarfile.open(path, "w") as tar:
        for row in rows:
            for name, value in row.items():
                content = value if isinstance(value, bytes) else str(value).encode()
                info = tarfile.TarInfo(f"data/{row['id']}.{name}" + (f".{kind}" if kind else ""))
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


def table() -> Any:
    import pyarrow as pa

    return pa.Table.from_pylist(TABLE)


def write_parquet(path: Path) -> Path:
    import pyarrow.parquet as pq

    pq.write_table(table(), path, row_group_size=2)
    return path


def write_arrow(path: Path, stream: bool = False) -> Path:
    import pyarrow as pa

    opener = pa.ipc.new_stream if stream else pa.ipc.new_file
    with opener(str(path), table().schema) as out:
        out.write_table(table(), max_chunksize=3)
    return path


class MapDataset:
    def __len__(self) -> int:
        return len(TABLE)

    def __getitem__(self, i: int) -> dict[str, str]:
        return TABLE[i]


def hugging_face(folder: Path) -> Any:
    import datasets

    return datasets.Dataset.from_list(TABLE)


def saved_hugging_face(folder: Path) -> str:
    import datasets

    datasets.DatasetDict({"train": datasets.Dataset.from_list(TABLE)}).save_to_disk(str(folder / "saved"))
    return f"hf:{folder / 'saved'}:train"


def in_memory_url(folder: Path) -> str:
    import fsspec

    with fsspec.open("memory://rows/table.csv", "wb") as out:
        out.write(write_csv(folder / "m.csv").read_bytes())
    return "memory://rows/table.csv"


def parquet_url(folder: Path) -> str:
    import fsspec

    with fsspec.open("memory://rows/table.parquet", "wb") as out:
        out.write(write_parquet(folder / "m.parquet").read_bytes())
    return "memory://rows/table.parquet"


def shards(folder: Path) -> str:
    for number in (0, 1):
        path = folder / f"part-{number:02}.jsonl"
        lines = [json.dumps(row) + "\n" for row in TABLE[2 * number : 2 * number + 2]]
        path.write_text("".join(lines))
    return str(folder / "part-{00..01}.jsonl")


def write_json(folder: Path) -> Path:
    path = folder / "t.json"
    path.write_text(json.dumps(TABLE, indent=1), encoding="utf-8")
    return path


MAKERS: dict[str, Callable[[Path], Any]] = {
    "csv": lambda folder: write_csv(folder / "t.csv"),
    "csv with Windows line ends": lambda folder: write_csv(folder / "t.csv", line_end="\r\n"),
    "csv with semicolons": lambda folder: {"path": str(write_csv(folder / "t.csv", ";")), "separator": ";"},
    "quoted tsv": lambda folder: {"path": str(write_csv(folder / "t.tsv", "\t")), "quote": '"'},
    "jsonl": lambda folder: str(write_jsonl(folder / "t.jsonl")),
    "json": write_json,
    "parquet": lambda folder: write_parquet(folder / "t.parquet"),
    "arrow file": lambda folder: write_arrow(folder / "t.arrow"),
    "arrow stream": lambda folder: write_arrow(folder / "t.arrow", stream=True),
    "feather by format": lambda folder: {"path": str(write_arrow(folder / "t.bin")), "format": "feather"},
    "list of dicts": lambda folder: TABLE,
    "map dataset": lambda folder: MapDataset(),
    "datasets": hugging_face,
    "datasets on disk": saved_hugging_face,
    "memory URL": in_memory_url,
    "parquet at a URL": parquet_url,
    "shards": shards,
    "list of paths": lambda folder: [shards(folder).replace("{00..01}", n) for n in ("00", "01")],
}


@pytest.fixture(params=MAKERS, ids=list(MAKERS))
def source(request: pytest.FixtureRequest, tmp_path: Path) -> RowSource:
    return open_source(MAKERS[request.param](tmp_path))


def test_every_reader_gives_the_same_rows(source: RowSource) -> None:
    assert source.columns == COLUMNS
    assert [source.row(i) for i in range(len(source))] == TABLE
    assert source.row(2) == TABLE[2]
    assert [source.ids(i) for i in range(len(source))] == ["a1", "b2", "c3", "d4"]
    assert [source.value(i, "answer") for i in (3, 0)] == [TABLE[3]["answer"], TABLE[0]["answer"]]
    assert size_hint(source, 1, "answer", TextPreprocess) == (len(TABLE[1]["answer"].encode()),)
    with pytest.raises(IndexError, match="there is no row 4"):
        source.row(4)


def test_every_source_travels_to_workers(source: RowSource) -> None:
    copy = pickle.loads(pickle.dumps(source))
    assert [copy.row(i) for i in range(len(copy))] == TABLE
    assert copy.fingerprint == source.fingerprint
    assert copy.columns == source.columns


def test_a_tar_of_samples_is_read_at_its_offsets(tmp_path: Path) -> None:
    rows = [{"id": f"{n:03}", "png": bytes([n]) * 1000, "json": json.dumps({"caption": f"cap {n}"})} for n in range(5)]
    source = open_source(write_tar(tmp_path / "s-00.tar", rows, kind=""), columns={"cap": "json.caption"})
    assert source.columns == ("__key__", "id", "png", "json", "cap")
    assert source.row(3)["png"] == b"\x03" * 1000
    assert source.row(3)["cap"] == "cap 3"
    assert source.value(4, "cap") == "cap 4"
    assert source.ids(3) == "data/003"
    assert size_hint(source, 2, "cap", TextPreprocess) == (5,)


def test_shards_of_tars_read_as_one_source(tmp_path: Path) -> None:
    for number in range(3):
        write_tar(tmp_path / f"s-{number}.tar", [{"id": f"{number}{k}", "txt": f"{number}-{k}"} for k in range(2)], "")
    source = open_source(str(tmp_path / "s-{0..2}.tar"))
    assert [source.row(i)["txt"] for i in range(6)] == ["0-0", "0-1", "1-0", "1-1", "2-0", "2-1"]
    assert source.place(5) == f"{tmp_path}/s-2.tar, row 2"


def test_numbers_lists_and_records_of_a_table_stay_what_they_are(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"n": 3, "x": 0.5, "list": [1, 2], "rec": {"a": {"b": "deep"}}, "img": {"bytes": b"png", "path": None}}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "t.parquet")
    source = open_source(tmp_path / "t.parquet", columns={"b": "rec.a.b", "second": "list.1"})
    kept = {"n": 3, "x": 0.5, "list": [1, 2], "rec": {"a": {"b": "deep"}}, "img": b"png"}
    assert source.row(0) == {**kept, "b": "deep", "second": 2}
    assert source.value(0, "rec.a.b") == "deep"


def test_media_of_hugging_face_data_are_not_decoded() -> None:
    import datasets
    from PIL import Image

    features = datasets.Features({"img": datasets.Image(), "n": datasets.Value("int64")})
    data = datasets.Dataset.from_dict({"img": [Image.new("RGB", (5, 4))], "n": [1]}, features=features)
    source = open_source(data)
    assert isinstance(source.row(0)["img"], bytes)
    assert size_hint(source, 0, "img", ImagePreprocess) == (20,)


def test_an_index_is_built_once_and_again_when_the_content_changes(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv")
    calls: list[tuple[str, int, int]] = []

    def scans() -> list[Path]:
        return sorted((array_cache.cache_folder() / "index").glob("lines-*"))

    one = open_source(path, progress=lambda *told: calls.append(told))
    (stored,) = scans()
    before = stored.stat().st_mtime_ns
    assert open_source(path).fingerprint == one.fingerprint
    assert scans() == [stored]
    assert stored.stat().st_mtime_ns == before
    os.utime(path, ns=(1, 1))
    with open(path, "a") as out:
        out.write("e5,new,row\n")
    again = open_source(path)
    assert len(again) == 5
    assert again.fingerprint != one.fingerprint
    assert len(scans()) == 2


def test_a_broken_index_is_built_again(tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv")
    open_source(path)
    (stored,) = (array_cache.cache_folder() / "index").glob("lines-*")
    stored.write_bytes(stored.read_bytes()[:40])
    assert open_source(path).row(3) == TABLE[3]


@pytest.mark.parametrize("maker", ["csv", "parquet", "jsonl"])
def test_a_cache_that_cannot_be_written_costs_only_time(
    maker: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "file" / "cache"))
    source = open_source(MAKERS[maker](tmp_path))
    assert [source.row(i) for i in range(4)] == TABLE
    assert pickle.loads(pickle.dumps(source)).row(1) == TABLE[1]


def _row_of(arguments: tuple[RowSource, int]) -> dict[str, Any]:
    return arguments[0].row(arguments[1])


def test_forked_workers_read_the_right_rows_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps({"n": n, "pad": "x" * (n % 50)}) + "\n" for n in range(2000)))
    source = open_source(path)
    assert source.row(0)["n"] == 0  # the file is open before the fork
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(_row_of, [(source, i) for i in range(0, 2000, 7)])
    assert [row["n"] for row in found] == list(range(0, 2000, 7))


def test_fingerprints_follow_the_content(tmp_path: Path) -> None:
    class Same(MapDataset):
        pass

    assert open_source(TABLE).fingerprint == open_source([dict(row) for row in TABLE]).fingerprint
    assert open_source(TABLE).fingerprint != open_source(TABLE[:3]).fingerprint
    assert open_source([{"x": np.zeros(3)}]).fingerprint != open_source([{"x": np.ones(3)}]).fingerprint
    assert open_source(TABLE).fingerprint != open_source(TABLE, columns={"q": "question"}).fingerprint
    assert open_source(MapDataset()).fingerprint != open_source(Same()).fingerprint
    csv_one, csv_two = write_csv(tmp_path / "a.csv"), write_csv(tmp_path / "b.csv")
    assert open_source(csv_one).fingerprint == open_source(csv_two).fingerprint


def test_prepared_data_is_named_by_recipe_and_split(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_DATA", str(tmp_path))
    (tmp_path / "digits").mkdir()
    write_parquet(tmp_path / "digits" / "train.parquet")
    assert open_source("digits:train").row(0) == TABLE[0]


def test_paths_are_looked_for_beside_the_card_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cards").mkdir()
    (tmp_path / "cards" / "x.csv").write_text("a\nbeside\n")
    (tmp_path / "x.csv").write_text("a\nhere\n")
    (tmp_path / "y.csv").write_text("a\nhere\n")
    monkeypatch.chdir(tmp_path)
    assert open_source("x.csv", base=tmp_path / "cards").row(0) == {"a": "beside"}
    assert open_source("y.csv", base=tmp_path / "cards").row(0) == {"a": "here"}
    assert open_source("x.csv").base == "."
    assert len(open_source(str(tmp_path / "*.csv"))) == 2


def test_core_formats_need_no_heavy_library(tmp_path: Path) -> None:
    write_csv(tmp_path / "t.csv")
    write_jsonl(tmp_path / "t.jsonl")
    write_tar(tmp_path / "t.tar")
    code = (
        "import sys; from ofasys_lite.data.rows import open_source; import ofasys_lite.layout.loader\n"
        "import ofasys_lite.data.mixture, ofasys_lite.data.splits, ofasys_lite.data.quarantine\n"
        f"for e in ('csv', 'jsonl', 'tar'): open_source(r'{tmp_path}/t.' + e).row(0)\n"
        "heavy = {'torch', 'lightning', 'pyarrow', 'datasets', 'fsspec', 'pandas', 'PIL', 'soundfile'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": os.getcwd()})


def test_a_source_without_a_fingerprint_says_what_to_define() -> None:
    class Mine(RowSource):
        name, columns = "mine", ("q",)

        def __len__(self) -> int:
            return 1

        def row(self, i: int) -> dict[str, Any]:
            return {"q": "a"}

    with pytest.raises(DataError, match=r"Mine has no fingerprint[\s\S]*define `fingerprint`"):
        _ = Mine().fingerprint
