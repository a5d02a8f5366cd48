from __future__ import annotations

import hashlib
import json
import pickle
import re
from pathlib import Path

import pytest
import yaml

from ofasys_lite.data.rows import open_source
from ofasys_lite.data.splits import SplitView, open_splits
from ofasys_lite.errors import DataError
from ofasys_lite.layout.costs import size_hint
from ofasys_lite.preprocess.text import TextPreprocess
from ofasys_lite.recipes.recipe import SPLITS, split_of

ROWS = [{"id": f"r{n}", "image": f"i{n // 4}", "q": f"question {n}"} for n in range(1200)]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))


def test_a_key_has_one_split_for_ever() -> None:
    percent = int(hashlib.sha1(b"cat").hexdigest(), 16) % 100
    assert split_of("cat") == ("train" if percent < 80 else "valid" if percent < 90 else "test")
    for key in map(str, range(600)):  # the borders, to the percent
        percent = int(hashlib.sha1(key.encode()).hexdigest(), 16) % 100
        assert split_of(key) == ("train" if percent < 80 else "valid" if percent < 90 else "test")
    counts = [sum(split_of(str(n)) == split for n in range(10_000)) for split in SPLITS]
    assert [round(count / 100) for count in counts] == pytest.approx([80, 10, 10], abs=1.5)


def test_views_part_the_rows_and_keep_groups_together() -> None:
    source = open_source(ROWS)
    views = [SplitView(source, split, "image") for split in SPLITS]
    ids = [{view.ids(i) for i in range(len(view))} for view in views]
    assert sum(map(len, ids)) == len(ROWS)
    groups = [{view.value(i, "image") for i in range(len(view))} for view in views]
    assert not groups[0] & groups[1]
    assert not groups[0] & groups[2]
    assert not groups[1] & groups[2]
    assert len({view.fingerprint for view in views}) == 3


def test_a_view_names_rows_as_their_file_does() -> None:
    view = SplitView(open_source(ROWS), "test")
    row = view.original(3)
    assert view.place(3) == f"list, row {row + 1}"
    assert view.row(3) == ROWS[row]
    assert size_hint(view, 3, "q", TextPreprocess) == (len(ROWS[row]["q"]),)
    assert pickle.loads(pickle.dumps(view)).row(3) == ROWS[row]


def test_splits_that_the_card_does_not_name_come_from_train() -> None:
    splits, notes = open_splits({"train": ROWS}, group_column="image")
    assert [len(splits[split]) for split in SPLITS] == pytest.approx([960, 120, 120], abs=60)
    assert sum(len(splits[split]) for split in SPLITS) == 1200
    sizes = [f"{len(splits[split]):,} {split}" for split in SPLITS]
    assert notes == (f"valid and test come from list, by sha1 of the column `image`: {', '.join(sizes)}",)


def test_a_tiny_table_may_leave_a_split_empty_and_says_so() -> None:
    keys = [key for key in map(str, range(99)) if split_of(key) == "train"][:3]
    splits, notes = open_splits({"train": [{"id": key} for key in keys]})
    assert [len(splits[split]) for split in SPLITS] == [3, 0, 0]
    assert notes[0].endswith("by sha1 of the sample id: 3 train, 0 valid, 0 test")
    assert notes[1:] == (
        "its valid split has no rows: it is not validated; name some in `data`",
        "its test split has no rows: it is trained, and not evaluated; name some in `data`",
    )


def test_train_keeps_the_rows_of_a_split_that_has_a_source_of_its_own() -> None:
    splits, notes = open_splits({"train": ROWS, "test": ROWS[:5]})
    assert len(splits["test"]) == 5
    assert len(splits["train"]) + len(splits["valid"]) == 1200
    assert notes[0].startswith("valid comes from list, by sha1 of the sample id: ")


def test_nothing_is_taken_from_train_if_all_splits_are_named() -> None:
    splits, notes = open_splits({"train": ROWS, "valid": ROWS[:7], "test": ROWS[:5]}, columns={"text": "q"})
    assert [len(splits[split]) for split in SPLITS] == [1200, 7, 5]
    assert notes == ()
    assert splits["test"].row(0)["text"] == "question 0"


def test_rows_without_a_group_go_by_their_id(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,g\n" + "".join(f"r{n},a\n" for n in range(9)) + "cut\n")
    views = [SplitView(open_source(tmp_path / "t.csv"), split, "g") for split in SPLITS]
    assert sum(map(len, views)) == 10


def test_wrong_splits_are_refused_with_the_near_name() -> None:
    source = open_source(ROWS)
    with pytest.raises(DataError, match="unknown split `vald`"):
        SplitView(source, "vald")
    with pytest.raises(DataError, match="no column `imag` to split by") as caught:
        SplitView(source, "valid", "imag")
    assert "did you mean `image`" in caught.value.help
    with pytest.raises(DataError, match="unknown split `tran`") as caught:
        open_splits({"tran": ROWS})
    assert "did you mean `train`" in caught.value.help
    with pytest.raises(DataError, match="no data to train on"):
        open_splits({"test": ROWS})
    with pytest.raises(DataError, match="all 1 rows fall into valid and test"):
        open_splits({"train": [{"id": next(str(n) for n in range(99) if split_of(str(n)) == "test")}]})


MARKED = [{"id": str(n), "split": ("train", "dev", "test")[n % 3], "n": n % 4, "ok": n % 2 == 0} for n in range(24)]


def marked(tmp_path: Path, **where: object) -> list[str]:
    path = tmp_path / "marked.csv"
    path.write_text("id,split,n,ok\n" + "".join(f"{r['id']},{r['split']},{r['n']},{r['ok']}\n" for r in MARKED))
    source = open_source({"path": str(path), "where": where})
    assert [source.place(i) for i in range(2)] == [f"{path}, row {int(source.ids(i)) + 1}" for i in range(2)]
    return [source.ids(i) for i in range(len(source))]


def test_a_column_of_the_data_chooses_rows(tmp_path: Path) -> None:
    assert marked(tmp_path, split="dev") == [r["id"] for r in MARKED if r["split"] == "dev"]
    assert marked(tmp_path, split=["dev", "test"], n=2) == [
        r["id"] for r in MARKED if r["split"] != "train" and r["n"] == 2
    ]


def test_values_of_where_are_compared_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "marked.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in MARKED))
    assert len(open_source({"path": str(path), "where": {"ok": True}})) == 12
    assert len(open_source({"path": str(path), "where": {"n": "3"}})) == 6


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"spilt": "dev"}, "has no column `spilt`[\\s\\S]*did you mean `split`"),
        ({"split": "tests"}, "no row has `tests` in column `split`[\\s\\S]*did you mean `test`"),
        ({"split": {}}, "`where` asks column `split` for {}"),
        ("dev", "`where` of a data source is 'dev'[\\s\\S]*where: {split: test"),
    ],
)
def test_a_where_that_chooses_nothing_is_told(tmp_path: Path, where: object, told: str) -> None:
    path = tmp_path / "marked.csv"
    path.write_text("id,split\n1,train\n2,test\n")
    with pytest.raises(DataError) as error:
        open_source({"path": str(path), "where": where})
    assert re.search(told, str(error.value))


def test_a_column_that_says_the_splits_and_is_not_followed_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "marked.csv"
    path.write_text("id,split,n\n" + "".join(f"{r['id']},{r['split']},{r['n']}\n" for r in MARKED))
    _, notes = open_splits({"train": str(path)})
    (note,) = (n for n in notes if "is not followed" in n)
    assert "column `split`" in note
    data = yaml.safe_load(note.partition("to follow it: ")[2])
    assert set(data) == set(SPLITS)
    splits, notes = open_splits(data, base=tmp_path)
    assert [len(splits[name]) for name in SPLITS] == [8, 8, 8]
    assert not any("is not followed" in n for n in notes)
    assert not any("is not followed" in n for n in open_splits({"train": ROWS})[1])
