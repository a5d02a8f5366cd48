"""No row that was trained on is judged in silence, wherever it stands now; data that changed are told, not skipped."""

from __future__ import annotations

import csv
import io
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
from rich.console import Console

from ofasys_lite import GeneralistModel, Task
from ofasys_lite import evaluate as evaluate_model
from ofasys_lite.commands.evaluate import EvaluateOptions, evaluate_run
from ofasys_lite.data.contents import NOT_COMPARED
from ofasys_lite.errors import CardError, DataError, OfasysError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.report.evaluate_model import evaluate
from ofasys_lite.report.validation import Validator
from ofasys_lite.run.run_folder import RunFolder

LINE = "[TEXT:q] what? -> [TEXT:a,closed_set]"
OTHER = "[TEXT:q] in short -> [TEXT:a]"
ROWS = [(f"i saw a {w} number {n}", kind) for n in range(40) for w, kind in (("plum", "fruit"), ("bus", "ride"))]


def write(path: Path, rows: Any, header: tuple[str, ...] = ("q", "a")) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run on a csv file with two tasks, which `world` copies."""
    folder = tmp_path_factory.mktemp("seen")
    write(folder / "d.csv", ROWS)
    cards = [
        worlds.task(n, {"train": str(folder / "d.csv")}, line=line) for n, line in (("mine", LINE), ("two", OTHER))
    ]
    worlds.run(cards, folder / "run", steps=2)
    return folder


@pytest.fixture
def world(finished: Path) -> Path:
    write(finished / "d.csv", ROWS)
    return finished


def judged(folder: Path, **more: Any) -> Any:
    return evaluate(Generalist.from_pretrained(folder / "run"), ["mine"], baselines=False, bootstrap=20, **more)


def test_the_data_it_was_trained_with_are_judged_without_a_word(world: Path) -> None:
    assert "rows trained on" not in judged(world).facts


def shuffled(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return random.Random(3).sample(rows, len(rows))


@pytest.mark.parametrize("how", ["reordered", "inserted", "first gone", "jsonl"])
def test_training_rows_that_now_stand_in_the_test_split_are_refused_with_their_number(world: Path, how: str) -> None:
    rows = {"inserted": [("a new one", "ride"), *ROWS], "first gone": ROWS[1:]}.get(how, shuffled(ROWS))
    data = None
    if how == "jsonl":
        text = "".join(json.dumps({"a": a, "more": 1, "q": q}) + "\n" for q, a in rows)
        (world / "d.jsonl").write_text(text, encoding="utf-8")
        data = {"mine": {"train": str(world / "d.jsonl")}}
    else:
        write(world / "d.csv", rows)
    with pytest.raises(DataError, match=r"task mine: \d+ of \d+ test rows \(.*\) were trained on") as caught:
        judged(world, data=data)
    assert "seen=drop" in caught.value.help
    count, total = (int(part) for part in caught.value.message.split() if part.isdigit())
    dropped = judged(world, data=data, seen="drop")
    assert dropped.tasks[0].metric.items == total - count
    assert f"{count} of {total} test rows" in dropped.facts["rows trained on"]
    kept = judged(world, data=data, seen="keep")
    assert kept.tasks[0].metric.items == total
    assert f"{count} of {total} test rows" in kept.facts["rows trained on"]


def test_a_file_of_its_own_for_the_test_that_holds_training_rows_is_refused(world: Path) -> None:
    write(world / "test.csv", [("never seen", "ride"), *ROWS[:5]])
    data = {"mine": {"test": str(world / "test.csv")}}
    with pytest.raises(DataError, match=r"task mine: \d of 6 test rows \(.*test.csv\) were trained on"):
        judged(world, data=data)
    write(world / "test.csv", [row for row in ROWS if "number 1" in row[0]])
    model = GeneralistModel.from_pretrained(world / "run")
    task = Task("mine", LINE, data={"test": str(world / "test.csv"), "train": str(world / "d.csv")})
    with pytest.raises(DataError, match="were trained on"):
        evaluate_model(model, task, baselines=False)
    assert evaluate_model(model, task, baselines=False, seen="keep").tasks[0].metric.items == 22


def test_the_training_split_is_judged_where_it_is_asked_for(world: Path) -> None:
    assert judged(world, split="train", limit=4).tasks[0].metric.items == 4


def test_rows_that_always_stood_in_both_splits_are_told_and_judged(tmp_path: Path) -> None:
    rows = [{"q": q, "a": a} for q, a in ROWS[:30]]
    card = worlds.task(
        "mine", {"train": rows, "valid": rows[:4], "test": [*rows[:3], {"q": "else", "a": "ride"}]}, line=LINE
    )
    model = worlds.run([card], tmp_path / "run", steps=1)
    results = evaluate(model, baselines=False, bootstrap=20)
    assert results.facts["rows trained on"] == "task mine: 3 of 4 test rows equal training rows"
    assert results.tasks[0].metric.items == 4


def test_pictures_under_other_names_are_known_by_what_they_hold(tmp_path: Path) -> None:
    from PIL import Image

    def row(place: str, number: int) -> dict[str, str]:
        path = tmp_path / place / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (16, 16), (number * 9, 100, 255 - number)).save(path)
        return {"img": str(path), "cap": f"number {number % 3}"}

    splits = {"train": [row("a", n) for n in range(9)], "valid": [row("a", 20)], "test": [row("a", 21)]}
    model = worlds.run([worlds.task("caption", splits)], tmp_path / "run", steps=1)
    for content in (row("b", 4), {**row("b", 4), "img": (tmp_path / "b" / "4.png").read_bytes()}):
        data = {"caption": {**splits, "test": [content, row("b", 22)]}}
        with pytest.raises(DataError, match="task caption: 1 of 2 test rows"):
            evaluate(model, data=data, baselines=False)


def test_an_export_that_does_not_know_its_rows_says_so(world: Path, tmp_path: Path) -> None:
    model = Generalist.from_pretrained(world / "run")
    model.contents.clear()
    model.save_pretrained(tmp_path / "old")
    results = evaluate(Generalist.from_pretrained(tmp_path / "old"), ["mine"], baselines=False, bootstrap=20)
    assert results.facts["rows trained on"] == "task mine: which rows it was trained on is not known"


def test_a_model_that_learned_on_knows_the_rows_of_both_trainings(world: Path, tmp_path: Path) -> None:
    start = Generalist.from_pretrained(world / "run")
    fresh = [{"q": f"another {n}", "a": "fruit"} for n in range(20)]
    other = [{"q": "else", "a": "ride"}]
    card = worlds.task("mine", {"train": fresh, "valid": other, "test": other}, line=LINE)
    worlds.run([card], tmp_path / "more", steps=1, start=start)
    model = Generalist.from_pretrained(tmp_path / "more")
    old = [{"q": q, "a": a} for q, a in ROWS]
    for rows, count in ((fresh[:2], 2), (old, sum(model.contents["mine"].earlier_M != 0))):
        with pytest.raises(DataError, match=f"{count} of {len(rows)} test rows"):
            evaluate(model, ["mine"], data={"mine": {"train": fresh, "test": rows}}, baselines=False)


def test_a_line_that_is_predicted_for_training_rows_says_how_many(
    world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofasys_lite.commands.predict import main

    for line in ("mine", LINE):
        main([str(world / "run"), line, "--data", str(world / "d.csv"), "--limit", "10"])
        assert "of 10 rows of" in (told := capsys.readouterr().err)
        assert "are rows that mine was trained on" in told


# ---------------------------------------------------------------------- columns and files that are gone


def told(cards: list[Any], folder: Path, **more: Any) -> list[str]:
    """The notes of a training."""
    out = io.StringIO()
    worlds.run(cards, folder, console=Console(file=out, width=1000), **more)
    return [line.removeprefix("note: ").rstrip() for line in out.getvalue().splitlines() if line.startswith("note: ")]


def test_a_run_that_goes_on_tells_which_rows_of_valid_and_test_were_trained_on(tmp_path: Path) -> None:
    def card(train: Any, valid: Any, test: Any) -> Any:
        splits = {"train": train, "valid": valid, "test": test}
        return worlds.task("mine", {k: [{"q": q, "a": a} for q, a in v] for k, v in splits.items()}, line=LINE)

    folder = tmp_path / "run"
    assert not any("earlier" in n for n in told([card(ROWS[:30], ROWS[30:34], ROWS[34:40])], folder, steps=1))
    # rows 25 to 29 have left train; row 24 stands in train and valid
    after = card(ROWS[:25], ROWS[24:34], ROWS[25:40])
    said = [
        "task mine: 5 of 10 valid rows were trained on earlier; validation leaves them out",
        "task mine: 5 of 15 test rows were trained on earlier; evaluation leaves them out",
    ]
    for steps in (2, 3):
        notes = told([after], folder, steps=steps, resume=True, changed_rows=steps == 2)
        assert [note for note in notes if "earlier" in note] == said
    model = Generalist.from_pretrained(folder)
    data = {"mine": dict(after.data)}
    results = evaluate(model, ["mine"], data=data, baselines=False, bootstrap=20, seen="drop")
    assert "5 of 15 test rows" in results.facts["rows trained on"]
    model.tasks["mine"] = replace(model.tasks["mine"], card=after)
    assert Validator(RunFolder(folder))(model, 3, 1.0) is not None
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["items"] for row in rows if row["kind"] == "valid"] == [5]


def test_a_training_compares_the_splits_that_a_check_did_not(tmp_path: Path) -> None:
    rows = [{"q": q, "a": a} for q, a in ROWS]
    card = worlds.task("mine", {"train": rows, "valid": rows[:4], "test": [{"q": "else", "a": "ride"}]}, line=LINE)
    notes = (f"task mine: {NOT_COMPARED}", "task mine: of the check")
    found = told([card], tmp_path / "run", steps=1, notes=notes)
    assert "task mine: 4 of 4 valid rows are training rows too" in found
    assert "task mine: of the check" in found
    assert not any(NOT_COMPARED in note for note in found)


def test_a_renamed_column_is_an_error_with_the_near_name(world: Path) -> None:
    write(world / "d.csv", ROWS, ("question", "a"))
    with pytest.raises(DataError) as caught:
        judged(world)
    assert "task mine: slot [TEXT:q] asks for column `q`; " in caught.value.message
    assert "did you mean `question`? rename it, or say it in the card: columns: {q: question}" in caught.value.help


def test_a_renamed_column_of_rows_to_predict_is_told_with_the_near_name(world: Path) -> None:
    from ofasys_lite.commands.predict import main

    write(world / "d.csv", ROWS, ("question", "a"))
    with pytest.raises(DataError, match=r"slot \[TEXT:q\] has no value") as caught:
        main([str(world / "run"), "mine", "--data", str(world / "d.csv"), "--limit", "10"])
    assert "did you mean `question`?" in caught.value.help


def test_a_file_that_is_gone_stops_all_tasks_and_names_it(world: Path) -> None:
    (world / "d.csv").unlink()
    with pytest.raises(OfasysError) as caught:
        evaluate_run(world / "run", EvaluateOptions(baselines=False, report=False))
    assert "task mine: no file" in caught.value.render()
    assert "task two: no file" in caught.value.render()


def test_rows_of_which_none_can_be_read_are_an_error(tmp_path: Path) -> None:
    rows = [{"img": pixels["img"], "cap": "a"} for pixels in worlds.rows(8)]
    gone = [{"img": "gone.png", "cap": f"number {n}"} for n in range(3)]
    model = worlds.run(
        [worlds.task("caption", {"train": rows, "valid": rows[:2], "test": gone})], tmp_path / "run", steps=1
    )
    with pytest.raises(DataError, match="task caption: none of 3 rows of list can be read; the first: "):
        evaluate(model, baselines=False)


def test_an_unknown_word_for_seen_is_refused(world: Path) -> None:
    with pytest.raises(CardError, match="seen=dropp: it is not known"):
        EvaluateOptions(seen="dropp")
    with pytest.raises(DataError, match="unknown value of seen `dropp`"):
        judged(world, seen="dropp")
