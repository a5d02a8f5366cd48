"""A row is known by what it holds: in any file, format and place; fingerprints see every row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ofasys_lite.data.contents import media_key, row_hashes
from ofasys_lite.data.readers.memory import DatasetSource, ListSource
from ofasys_lite.data.rows import open_source
from ofasys_lite.data.splits import SplitView

ROWS = [{"id": str(n), "q": f"wo ist {n}? ü", "n": n, "x": n / 4, "tags": ["a", {"b": n}]} for n in range(40)]
COLUMNS = ("n", "q", "tags", "x")


def hashes(source: Any, columns: tuple[str, ...] = COLUMNS) -> list[int]:
    found = row_hashes(open_source(source), columns)
    assert found is not None
    return [int(value) for value in found]


def test_a_row_has_the_same_number_in_every_format(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    wanted = hashes(ROWS)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    (tmp_path / "a.json").write_text(json.dumps(ROWS), encoding="utf-8")
    plain = [{k: v for k, v in row.items() if k != "tags"} for row in ROWS]
    (tmp_path / "a.csv").write_text(
        "x,q,n,id\n" + "".join(f"{r['x']},{r['q']},{r['n']},{r['id']}\n" for r in plain), encoding="utf-8"
    )
    pyarrow.parquet.write_table(pa.Table.from_pylist(plain), tmp_path / "a.parquet")
    assert hashes(str(tmp_path / "a.jsonl")) == hashes(str(tmp_path / "a.json")) == wanted
    few = ("n", "q", "x")
    assert hashes(str(tmp_path / "a.csv"), few) == hashes(str(tmp_path / "a.parquet"), few) == hashes(ROWS, few)
    assert len(set(wanted)) == len(ROWS)


def test_numbers_travel_with_their_rows_and_depend_on_the_columns_that_are_read() -> None:
    wanted = hashes(ROWS)
    assert hashes(ROWS[::-1]) == wanted[::-1]
    assert hashes([{**row, "remark": 1} for row in ROWS]) == wanted
    assert hashes([{**row, "q": "other"} for row in ROWS])[3] != wanted[3]
    some = row_hashes(open_source(ROWS), COLUMNS, [7, 2])
    assert some is not None
    assert some.tolist() == [wanted[7], wanted[2]]


def test_columns_do_not_run_into_each_other() -> None:
    first, second = hashes([{"a": "xy", "b": ""}, {"a": "x", "b": "y"}], ("a", "b"))
    assert first != second


@pytest.mark.parametrize("kind", ["list", "dataset"])
def test_two_lists_that_differ_in_one_row_of_many_have_two_fingerprints(kind: str) -> None:
    def source(rows: list[dict[str, Any]]) -> Any:
        return ListSource(rows) if kind == "list" else DatasetSource(rows, "mine")

    rows: list[dict[str, Any]] = [{"a": n, "b": f"text {n}"} for n in range(20_000)]
    before = source(rows).fingerprint
    assert source([dict(row) for row in rows]).fingerprint == before
    for place, value in ((12_345, "other"), (19_999, np.zeros(2)), (1, 1.0), (2, True)):
        assert source([*rows[:place], {**rows[place], "b": value}, *rows[place + 1 :]]).fingerprint != before


def test_a_column_of_groups_that_changed_in_one_row_makes_other_splits() -> None:
    rows = [{"g": f"group {n}", "a": "x"} for n in range(20_000)]
    before = SplitView(ListSource(rows), "test", "g")
    changed = [{**row, "g": row["g"] if n != 7001 else "group 0"} for n, row in enumerate(rows)]
    after = SplitView(ListSource(changed), "test", "g")
    assert before.fingerprint != after.fingerprint


def test_files_that_rows_name_are_looked_into(tmp_path: Path) -> None:
    from PIL import Image

    def table(colour: int) -> Any:
        Image.new("RGB", (300, 300), (colour, 2, 3)).save(tmp_path / "p.bmp")
        (tmp_path / "t.csv").write_text("img,a\np.bmp,one\n", encoding="utf-8")
        return open_source(str(tmp_path / "t.csv"))

    columns = ("a", "img")
    first, key = hashes(table(1), columns), media_key(table(1), ("img",))
    assert hashes(table(1), columns) == first
    assert hashes(table(9), columns) != first
    assert media_key(table(9), ("img",)) != key == media_key(table(1), ("img",))
    assert media_key(table(1), ("a",)) == table(1).fingerprint


def test_a_row_that_cannot_be_read_equals_no_other(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('{"a": 1}\nbroken\n{"a": 2}\nbroken too\n', encoding="utf-8")
    assert [value == 0 for value in hashes(str(tmp_path / "t.jsonl"), ("a",))] == [False, True, False, True]


@pytest.mark.parametrize("wrapped", [False, True])
def test_values_of_a_row_are_those_of_its_columns_one_by_one(tmp_path: Path, wrapped: bool) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    from ofasys_lite.data.source import Mapped

    (tmp_path / "a.csv").write_text("id,q,n\n0,one,1\n1,two,2\n", encoding="utf-8")
    (tmp_path / "b.csv").write_text("id,q,n\n2,three,3\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text(
        '{"id": 0, "q": "one", "n": {"deep": 1}}\n{"id": 1, "q": "two"}\n', encoding="utf-8"
    )
    pyarrow.parquet.write_table(pa.Table.from_pylist([{"id": 0, "q": "one", "n": 1}]), tmp_path / "a.parquet")
    specs = [str(tmp_path / name) for name in ("a.csv", "[ab].csv", "a.jsonl", "a.parquet")]
    for spec in specs:
        source = open_source(spec)
        source = Mapped(SplitView(source, "train"), {"question": "q", "m": "n"}) if wrapped else source
        asked = ("question", "q", "m.deep", "gone", "1", "n") if wrapped else ("q", "n.deep", "gone", "1", "n")
        numbers = [*range(len(source)), 0]
        alone = [[source.value(i, column) for column in asked] for i in numbers]
        assert list(source.values(numbers, asked)) == alone, spec


@pytest.mark.parametrize("at_once", [1, 3, 1 << 24])
def test_many_rows_of_a_table_read_at_once_are_those_read_one_by_one(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    from ofasys_lite.data.readers import arrow
    from ofasys_lite.errors import DataError

    monkeypatch.setattr(arrow, "_ROWS", 4)  # a batch of the table
    monkeypatch.setattr(arrow, "_BYTES", at_once)
    days = [0, 1, 10**17, 3, None, 5, 6, 7, 8, 10**17]  # the third and the last are dates that nobody can write
    table = pa.table(
        {
            "day": pa.array(days, pa.timestamp("ms")),
            "n": pa.array([i / 10 for i in range(10)], pa.float32()),
            "deep": [{"a": i, "b": None} for i in range(10)],
            "picture": pa.array([{"bytes": b"x" * i, "path": None} for i in range(10)]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    source = open_source(str(tmp_path / "t.parquet"))

    def alone(i: int, columns: tuple[str, ...]) -> object:
        try:
            return [source.value(i, column) for column in columns]
        except DataError as error:
            return str(error)

    columns = ("n", "deep.a", "deep", "picture", "gone", "3")
    for asked in (columns[:4], columns, ("day", "n")):
        for numbers in (range(10), [7, 3, 3, 9, 0], range(1, 10, 2), []):
            found = [str(each) if isinstance(each, DataError) else each for each in source.values(numbers, asked)]
            assert found == [alone(i, asked) for i in numbers], (asked, numbers)
    assert any(isinstance(each, DataError) for each in source.values(range(10), ("day",)))
