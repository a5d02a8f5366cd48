"""Names and ids that are no Unicode text: files of other encodings, halves of surrogate pairs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny_worlds as worlds

from ofasys_lite.data.permutation import key_of
from ofasys_lite.data.rows import open_source
from ofasys_lite.writing import write_atomic

HALF = "\ud83d"


def test_a_file_whose_name_is_of_another_encoding_is_trained_on(tmp_path: Path) -> None:
    path = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.csv")
    lines = [f"word {n},{('red', 'green')[n % 2]}" for n in range(30)]
    Path(path).write_text("\n".join(["title,colour", *lines]) + "\n")
    source = open_source(path)
    assert source.row(1) == {"title": "word 1", "colour": "green"}
    card = worlds.task("paint", line="[TEXT:title] colour? -> [TEXT:colour,closed_set]", data={"train": path})
    worlds.run([card], tmp_path / "run", steps=1)
    assert "caf" in (tmp_path / "run" / "export" / "README.md").read_text()


def test_ids_with_half_a_pair_are_ids_like_others() -> None:
    assert key_of(f"{HALF}1") != key_of(f"{HALF}2")
    assert key_of("a") == key_of("a")


def test_json_that_is_written_holds_them_as_json_spells_them(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a.json", json.dumps({"id": HALF}, ensure_ascii=False))
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"id": HALF}


@pytest.mark.parametrize("number", [0, 5])
def test_rows_with_such_ids_are_sampled(tmp_path: Path, number: int) -> None:
    rows = [{"id": f"{HALF}{n}", "title": f"word {n}", "colour": ("red", "green")[n % 2]} for n in range(30)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = open_source(str(tmp_path / "a.jsonl"))
    assert source.ids(number, source.row(number)) == f"{HALF}{number}"
