"""Check says what is odd about labels: too many of them, only one, some that training lacks, metrics misspelt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from check_tables import CARDS, report_of

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.cards import load_task_card
from ofasys_lite.commands import app
from ofasys_lite.data.check_tasks import Report, check_tasks
from ofasys_lite.errors import CardError
from ofasys_lite.recipes.recipe import split_of


def ids(split: str, count: int) -> list[str]:
    return [key for key in map(str, range(100 * count)) if split_of(key) == split][:count]


def rows_of(split: str, labels: list[Any], **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": key, "q": "x", "a": label, **more} for key, label in zip(ids(split, len(labels)), labels, strict=True)
    ]


def checked(line: str, **data: Any) -> Report:
    card = load_task_card({"instruction": line, "data": data}, name="t")
    return check_tasks([card], CARDS)


def said(report: Report, text: str) -> bool:
    return any(text in note for note in report.notes)


CLOSED = "[TEXT:q] -> [TEXT:a,closed_set]"


def test_a_closed_set_of_about_as_many_values_as_rows_is_a_note() -> None:
    report = report_of(CLOSED, rows_of("train", [f"answer {i}" for i in range(60)]))
    assert report.errors == ()
    assert said(report, "the closed set of `a` has 60 values in 60 rows")
    assert not said(report_of(CLOSED, rows_of("train", [f"a{i % 25}" for i in range(60)])), "values in 60 rows")


def test_a_closed_set_of_one_value_is_a_note() -> None:
    assert said(report_of(CLOSED, rows_of("train", ["yes"] * 30)), "has one value, `yes`: there is nothing to choose")


def test_labels_that_differ_in_case_or_space_only_are_a_note() -> None:
    report = report_of(CLOSED, rows_of("train", ["yes", "no", "Yes", "no "] * 5))
    assert said(report, "`Yes` and `yes`, which differ in case or white space only, and 1 more such group")
    report = report_of(CLOSED, rows_of("train", ["yes", "no", "Yes", "yes "] * 5))
    assert said(report, "`Yes`, `yes` and `yes `, which differ in case or white space only")


def test_labels_that_look_alike_and_are_spelled_otherwise_in_unicode_are_a_note() -> None:
    report = report_of(CLOSED, rows_of("train", ["caf\u00e9", "cafe\u0301", "no"] * 10))
    assert said(report, "which differ in how Unicode spells their characters, case or white space only")


def test_few_rows_are_a_note() -> None:
    report = report_of(CLOSED, rows_of("train", ["yes", "no", "yes"]))
    assert said(report, "only 3 rows to train on")
    assert not said(report_of(CLOSED, rows_of("train", ["yes", "no"] * 20)), "rows to train on")


@pytest.mark.parametrize("group", [False, True])
def test_labels_that_only_other_splits_hold_are_told_with_their_number(group: bool) -> None:
    train = rows_of("train", ["yes", "no"] * 15)
    test = rows_of("test", ["yes", "maybe", "maybe"])
    line = CLOSED
    if group:
        train, test = ([{**row, "os": [{"a": row["a"]}]} for row in rows] for rows in (train, test))
        line = "[TEXT:q] -> ([TEXT:a,closed_set])*<over=os>"
    told = f"`{'os.' if group else ''}a`: `maybe` is in no training row, and never written: 2 in test"
    report = checked(line, train=[*train, *test])
    assert report.errors == ()
    assert said(report, told), report.notes


def test_labels_of_a_test_file_that_few_rows_hold_are_found_among_all_rows() -> None:
    test = [{"q": "x", "a": "maybe" if i == 777 else "yes"} for i in range(1000)]
    report = checked(CLOSED, train=rows_of("train", ["yes", "no"] * 15), valid=test[:5], test=test)
    assert said(report, "`maybe` is in no training row, and never written: 1 in test")


def test_names_that_are_read_and_that_training_lacks_are_told() -> None:
    line = "[CATEGORY:c] [PHONE:p] -> [TEXT:a]"
    train = rows_of("train", ["x"] * 30, c="cat", p="AH B")
    report = checked(line, train=[*train, *rows_of("test", ["x"], c="dog", p="AH ZH")])
    assert said(report, "`c`: `dog` is in no training row, and not read: 1 in test")
    assert said(report, "`p`: `ZH` is in no training row, and not read: 1 in test")


def test_values_of_a_set_that_no_row_has_are_told() -> None:
    line = "[TEXT:q] -> [TEXT:a,closed_set=(yes,no,perhaps)]"
    assert said(
        report_of(line, rows_of("train", ["yes", "no"] * 15)), "closed set of `a`: `perhaps` is in no training row"
    )


def test_a_misspelt_metric_is_told_by_check_and_before_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("d.csv").write_text("q,a\n" + "x,yes\nx,no\n" * 20)
    Path("t.yaml").write_text(
        "instruction: |\n  [TEXT:q] what? -> [TEXT:a,closed_set]\ndata: {train: d.csv}\nmetrics: [acuracy]\n"
    )
    assert app.main(["check", "t.yaml"]) == 1
    assert "task t: metric `acuracy` is not known. Did you mean `accuracy`?" in capsys.readouterr().err
    task = Task("t", CLOSED, data=rows_of("train", ["yes", "no"] * 9), metrics="acuracy")
    with pytest.raises(CardError, match="acuracy"):
        fit(GeneralistModel("tiny"), task, steps=1, folder=tmp_path / "r")
