"""predict over many rows: what is never replaced, what endings say, rows from the standard input."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny_worlds as worlds

from ofasys_lite import GeneralistModel
from ofasys_lite.commands.answers import items_of_lines, printed
from ofasys_lite.commands.app import main

ROWS = [{"id": f"r{n}", "title": f"word {n}", "colour": ("red", "green")[n % 2]} for n in range(8)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the finished run runs/paint and rows.csv."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("OFASYS_CACHE", str(home / "cache"))
        with (home / "rows.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]))
            writer.writeheader()
            writer.writerows(ROWS)
        data = dict.fromkeys(("train", "valid", "test"), str(home / "rows.csv"))
        card = worlds.task("paint", line="[TEXT:title] colour? -> [TEXT:colour,closed_set]", data=data)
        worlds.run([card], home / "runs" / "paint", steps=2)
        yield home


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OFASYS_CACHE", str(place / "cache"))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused is refused before a model is loaded."""
    monkeypatch.setattr(
        "ofasys_lite.generalist.generalist.Generalist.from_pretrained", lambda *_: pytest.fail("a model was loaded")
    )


HALF = "\ud83d"


def test_texts_that_no_encoding_holds_are_answered_and_written_in_every_form(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    rows = [{"id": f"{HALF}1", "title": "word 1"}, {"id": "b", "title": f"word {HALF}"}]
    (tmp_path / "half.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for ending in ("jsonl", "csv", "tsv", "parquet"):
        assert predict("--data", str(tmp_path / "half.jsonl"), "--out", str(tmp_path / f"out.{ending}")) == 1
        assert "1 of 2 rows could not be read" in capsys.readouterr().err
    told = list(map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines()))
    assert [row["id"] for row in told] == [f"{HALF}1", "b"]
    assert "half of a surrogate pair" in told[1]["error"]
    table = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text())))
    assert [row["id"] for row in table] == ["\\ud83d1", "b"]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252"])
def test_what_is_printed_fits_every_terminal(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encoding: str
) -> None:
    rows = [{"title": "\u0645\u0631 \U0001f44d", f"other{HALF}": 1}, {"title": HALF}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    screen = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    assert predict("--data", str(tmp_path / "rows.jsonl")) == 1
    told = screen.buffer.getvalue().decode(encoding).splitlines()
    assert [json.loads(line)["inputs"] for line in told] == [{"title": row["title"]} for row in rows]
    assert main(["check", "[TEXT:title] -> [TEXT:titel]", str(tmp_path / "rows.jsonl")]) == 1
    assert r"other\ud83d" in screen.buffer.getvalue().decode(encoding)
    assert main(["explain", "[TEXT:title] -> [TEXT:colour]"]) == 0


def test_what_is_printed_into_text_in_memory_and_streams_of_others_is_as_it_is() -> None:
    class Tee:
        def write(self, text: str) -> int:
            return len(text)

    streams: list[Any] = [io.StringIO(), Tee()]
    for stream in streams:
        assert printed({"a": "ä"}, stream) == '{"a": "ä"}'


def test_a_value_for_all_rows_is_told_where_the_rows_have_their_own(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("--data", "rows.csv", "title=word", "--limit", "1") == 0
    assert "note: `title` is 'word' for every row, as said; rows.csv's is not read" in capsys.readouterr().err


def test_what_is_not_read_of_a_long_input_is_told(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    long = "word " * 2000
    told = "note: slot [TEXT:title]: max_length=512 cuts"
    assert predict(f"title={long}") == 0
    assert f"{told} 1 of 1 value: what stands behind is not read" in capsys.readouterr().err
    (tmp_path / "long.jsonl").write_text("".join(json.dumps({"title": t}) + "\n" for t in (long, "short", long)))
    for out in ([], ["--out", str(tmp_path / "out.csv")]):
        assert predict("--data", str(tmp_path / "long.jsonl"), *out) == 0
        assert f"{told} 2 of 3 values" in capsys.readouterr().err
    lines = SimpleNamespace(buffer=io.BytesIO((tmp_path / "long.jsonl").read_bytes()))
    monkeypatch.setattr(sys, "stdin", lines)
    assert predict("--data", "-") == 0
    assert f"{told} 2 of 3 values" in capsys.readouterr().err
    assert predict("title=short") == 0
    assert "cuts" not in capsys.readouterr().err
    model = GeneralistModel.from_pretrained("runs/paint")
    with pytest.warns(UserWarning, match="max_length=512 cuts 1 of 1 value"):
        model("paint", title=long)
    with pytest.warns(UserWarning, match="max_length=512 cuts 1 of 2 values"):
        model.predict("paint", [{"title": long}, {"title": "short"}])


def predict(*more: str) -> int:
    return main(["predict", "runs/paint", "paint", *more])


@pytest.mark.usefixtures("no_model")
def test_an_output_never_replaces_what_is_read_and_nothing_else_unless_told(
    place: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = (place / "rows.csv").read_bytes()
    (tmp_path / "link.csv").symlink_to(place / "rows.csv")
    (place / "there.jsonl").write_text("precious")
    for out in ("rows.csv", "runs/../rows.csv", str(place / "rows.csv"), str(tmp_path / "link.csv")):
        assert predict("--data", "rows.csv", "--out", out, "--overwrite") == 1
        assert "is read, so it is not written over" in capsys.readouterr().err
        assert predict("--data", "rows.cs[v]", "--out", out) == 1
        assert "is read" in capsys.readouterr().err
    assert predict("--data", "rows.csv", "--out", "there.jsonl") == 1
    assert (
        "there.jsonl is there already\n  help: name another file, or replace it: --overwrite" in capsys.readouterr().err
    )
    assert predict("title=x", "--out", "rows.csv") == 1
    assert (place / "rows.csv").read_bytes() == before
    assert (place / "there.jsonl").read_text() == "precious"


@pytest.mark.usefixtures("no_model")
@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("runs", "no ending"),
        ("runs.jsonl/", "it is a folder"),
        ("rows.csv/x.jsonl", "rows.csv is a file, not a folder"),
        ("x.xlsx", "rows are not written so"),
        ("x.cvs", "did you mean `.csv`?"),
        ("/proc/none/x.csv", "cannot write"),
        (f"{'n' * 300}.csv", "name is too long"),
    ],
)
def test_an_output_of_no_use_is_told_before_a_model_is_loaded(
    place: Path, out: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "runs.jsonl").mkdir(exist_ok=True)
    assert predict("--data", "rows.csv", "--out", out) == 1
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("no_model")
def test_one_sample_is_not_written_as_what_it_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    for out in ("x.csv", "x.png", "x.parquet"):
        assert predict("title=x", "--out", out) == 1
        assert "this line writes no such thing" in capsys.readouterr().err


def test_endings_say_the_format_and_rows_carry_inputs_and_reference(place: Path) -> None:
    import pyarrow.parquet as pq

    for ending in ("jsonl", "csv", "tsv", "parquet"):
        assert predict("--data", "rows.csv", "--limit", "3", "--out", f"said/x.{ending}") == 0
    lines = [json.loads(line) for line in Path("said/x.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ["r0", "r1", "r2"]
    assert lines[1]["inputs"] == {"title": "word 1"}
    assert lines[1]["reference"] == {"colour": "green"}
    names = ["id", "inputs.title", "colour", "reference.colour", "score"]
    for ending, mark in (("csv", ","), ("tsv", "\t")):
        rows = list(csv.DictReader(io.StringIO(Path(f"said/x.{ending}").read_text()), delimiter=mark))
        assert list(rows[0]) == names
        assert [row["colour"] for row in rows] == [line["colour"] for line in lines]
        assert [row["reference.colour"] for row in rows] == ["red", "green", "red"]
    table = pq.read_table("said/x.parquet")
    assert table.column_names == names
    assert table.to_pylist()[2]["inputs.title"] == "word 2"
    assert sorted(os.listdir("said")) == ["x.csv", "x.jsonl", "x.parquet", "x.tsv"]
    assert predict("--data", "rows.csv", "--limit", "1", "--out", "said/x.csv", "--overwrite") == 0
    assert len(Path("said/x.csv").read_text().splitlines()) == 2


def test_a_device_takes_lines_of_json(capfd: pytest.CaptureFixture[str]) -> None:
    assert predict("--data", "rows.csv", "--limit", "2", "--out", "/dev/stdout") == 0
    assert [json.loads(line)["id"] for line in capfd.readouterr().out.splitlines()] == ["r0", "r1"]


def test_rows_come_from_the_standard_input_line_by_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '{"title": "a"}\n\nno row\n{"id": "x", "title": "b", "colour": "red"}\n{"text": "c"}\n[1]\n{"title": "d"}\n'
    text += '{"title": "e", "title": "f"}\n' + "[" * 100_000
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    assert predict("--data", "-") == 1
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    assert [row["id"] for row in found] == ["0", "1", "x", "3", "4", "5", "6", "7"]
    assert [sorted(row) for row in found[:3]] == [
        ["colour", "id", "inputs", "score"],
        ["error", "id", "inputs"],
        ["colour", "id", "inputs", "reference", "score"],
    ]
    assert "title" in found[3]["error"]
    assert "is no row" in found[4]["error"]
    assert "the key `title` stands twice" in found[6]["error"]
    assert "line 8 is not JSON" in found[7]["error"]
    assert "5 of 8 rows could not be read" in err


def test_a_line_is_answered_before_the_next_one_comes() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream, os.fdopen(writing, "wb", buffering=0) as sender:
        blocks = items_of_lines(stream, None, 10)
        for number in range(3):
            sender.write(b'{"q": %d}\n' % number)
            assert [item.row for item in next(blocks)] == [{"q": number}]
        sender.write(b'{"q": "half')
        sender.write(b' and half"}\n{"q": 4}\n{"q": 5}')
        sender.close()
        assert [item.row["q"] for block in blocks for item in block] == ["half and half", 4, 5]
