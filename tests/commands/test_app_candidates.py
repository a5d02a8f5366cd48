"""predict on lines with `<->`: how alike a pair is, and what is nearest among candidates."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import tiny_worlds as worlds

from ofasys_lite.commands.app import main

ROWS = [{"id": f"r{n}", "title": f"word {n}", "colour": ("red", "green")[n % 2]} for n in range(8)]


def table(path: Path, rows: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the finished run runs/pair, rows.csv and colours.csv."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("OFASYS_CACHE", str(home / "cache"))
        table(home / "rows.csv", ROWS)
        table(home / "colours.csv", [{"id": name, "colour": name} for name in ("red", "green", "blue")])
        data = dict.fromkeys(("train", "valid", "test"), str(home / "rows.csv"))
        pair = worlds.task("pair", line="[TEXT:title,loss=clip(block=4)] <-> [TEXT:colour]", data=data)
        sort = worlds.task("sort", line="[TEXT:title,loss=clip(block=4)] <-> [TEXT:colour,closed_set]", data=data)
        worlds.run([pair, sort], home / "runs" / "pair", steps=2)
        yield home


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OFASYS_CACHE", str(place / "cache"))


def told(capsys: pytest.CaptureFixture[str], *more: str, code: int = 0) -> str:
    assert main(["predict", "runs/pair", *more]) == code
    found = capsys.readouterr()
    return found.err if code else found.out


def test_a_pair_has_a_similarity_and_a_closed_set_gives_a_class(capsys: pytest.CaptureFixture[str]) -> None:
    assert -1 <= float(told(capsys, "pair", "title=word 1", "colour=red")) <= 1
    assert told(capsys, "sort", "title=word 1").strip() in ("red", "green")


def test_candidates_are_told_nearest_first_of_one_sample_and_of_many(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    lines = told(capsys, "pair", "title=word 1", "--candidates", "colours.csv", "--top", "2").splitlines()
    assert len(lines) == 2
    assert {line.split()[1] for line in lines} < {"red", "green", "blue"}
    found = json.loads(told(capsys, "pair", "title=word 1", "--candidates", "colours.csv", "--json"))
    assert [set(each) for each in found] == [{"id", "score", "colour"}] * 3
    assert found[0]["score"] >= found[1]["score"] >= found[2]["score"]
    out = tmp_path / "found.jsonl"
    told(capsys, "pair", "--data", "rows.csv", "--candidates", "colours.csv", "--top", "1", "--out", str(out))
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [row["id"] for row in ROWS]
    assert [[each["id"] for each in row["nearest"]] for row in rows][1] == [found[0]["id"]]
    # the other way: colours ask, rows of both sides are looked through
    back = json.loads(told(capsys, "pair", "colour=red", "--candidates", "rows.csv", "--top", "1", "--json"))
    assert set(back[0]) == {"id", "score", "title"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["pair", "title=x"], "slot [TEXT:colour] has no value"),
        (["sort", "title=x", "--candidates", "colours.csv"], "the values of its closed set"),
        (["pair", "title=x", "--candidates", "titles.csv"], "one side asks and the other is looked for"),
        (["[TEXT:title] -> [TEXT:colour]", "title=x", "--candidates", "colours.csv"], "the line has no sides"),
    ],
)
def test_candidates_that_cannot_be_looked_through_are_refused_before_a_model_is_loaded(
    more: list[str], message: str, capsys: pytest.CaptureFixture[str], place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table(place / "titles.csv", [{"title": "word 1"}])
    monkeypatch.setattr(
        "ofasys_lite.generalist.generalist.Generalist.from_pretrained", lambda *_: pytest.fail("a model was loaded")
    )
    assert message in told(capsys, *more, code=1)
