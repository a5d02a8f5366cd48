"""What check promises, a training accepts: lines without words, labels that are empty, splits without rows."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from check_tables import CARDS, report_of
from rich.console import Console

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.cards import load_task_card
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.data.findings import shortened
from ofasys_lite.errors import DataError
from ofasys_lite.layout.bound import RowState
from ofasys_lite.layout.ready import Ready, make_ready
from ofasys_lite.recipes.recipe import split_of

TRAIN_IDS = [key for key in map(str, range(99)) if split_of(key) == "train"]
PIXELS = np.zeros((16, 16, 3), dtype=np.uint8)
WAVE = {"array": np.linspace(-0.5, 0.5, 8000, dtype=np.float32), "rate": 16000}
GRID = "schema=grid(rows=1,columns=2,values=(1,2))"

#: Lines without a word that a tokenizer could be trained on, and a row for each.
WORDLESS: dict[str, dict[str, Any]] = {
    "[IMAGE:i] -> [TEXT:a,closed_set]": {"i": PIXELS, "a": "red"},
    "[AUDIO:w] -> [TEXT:a,closed_set]": {"w": WAVE, "a": "red"},
    "[IMAGE:i] -> [BOX:b]": {"i": PIXELS, "b": [1, 2, 9, 9]},
    "[CATEGORY:c] -> [CATEGORY:d,closed_set]": {"c": "x", "d": "y"},
    f"[STRUCT:s,{GRID}] -> [STRUCT:t,{GRID}]": {"s": [[1, 2]], "t": [[2, 1]]},
    "[PHONE:p] -> [PHONE:q]": {"p": "AH B", "q": "B"},
    "([IMAGE:i])*<over=shots> -> ([TEXT:a,closed_set] [BOX:b,size=1])*<over=parts>": {
        "shots": [{"i": PIXELS}],
        "parts": [{"a": "red", "b": [0, 0, 1, 1]}],
    },
    "[IMAGE:i] -> [TEXT:a,closed_set] ;; [BOX:b?]": {"i": PIXELS, "a": "red"},
}


def task(line: str, rows: Sequence[dict[str, Any]], **card: Any) -> TaskCard:
    data = card.pop("data", {"train": list(rows)})
    return load_task_card({"instruction": line, "data": data, **card}, name="mine")


def prepared(card: TaskCard) -> Ready:
    assert check_tasks([card], CARDS).errors == ()
    return make_ready([card], CARDS, worlds.small_data())


@pytest.mark.parametrize("line", WORDLESS)
def test_a_line_without_words_needs_no_text_for_its_tokenizer(line: str) -> None:
    row = WORDLESS[line]
    task_ready = prepared(task(line, [row] * 9)).tasks[0]
    assert task_ready.maker.example(row, "0", np.random.default_rng(0), True).targets[0].count


@pytest.mark.parametrize("empty", ["", "   ", "\t", None, float("nan"), np.float32("nan")])
@pytest.mark.parametrize(
    "line",
    ["[TEXT:q] -> [TEXT:a,closed_set]", "[TEXT:q] -> [CATEGORY:a,closed_set]", "[TEXT:q] -> [TEXT:a]"],
)
def test_an_empty_label_is_no_class_and_its_row_is_left_out_by_check_and_training_alike(line: str, empty: Any) -> None:
    rows = [{"q": "x", "a": label} for label in ["yes", "no"] * 10]
    odd = {"q": "x", "a": empty}
    strict = report_of(line, [*rows, odd])
    assert [error.code for error in strict.errors] == ["E305"]
    ready = prepared(task(line, [*rows, odd])).tasks[0]
    assert all(not slot.closed or slot.closed.values == ("no", "yes") for slot in ready.plan.target_slots())
    with pytest.raises(DataError, match=r"column `a`: the (label|target) is empty"):
        ready.maker.example(odd, "x", None, True)


def test_an_empty_label_within_a_group_or_among_candidates_is_no_class() -> None:
    rows = [{"q": "x", "os": [{"a": "yes"}, {"a": label}], "c": ["yes", "", None]} for label in ["no"] * 20 + [" "]]
    group = prepared(task("[TEXT:q] -> ([TEXT:a,closed_set])*<over=os>", rows)).tasks[0]
    assert [slot.closed.values for slot in group.plan.target_slots() if slot.closed] == [("no", "yes")]
    with pytest.raises(DataError, match="the label is empty"):
        group.maker.example(rows[-1], "x", None, True)
    offered = prepared(task("[TEXT:q] -> [TEXT:a,closed_set=@c]", [{**row, "a": "yes"} for row in rows])).tasks[0]
    state = RowState(rows[0], None, False, None)
    assert state.context(offered.plan.target_slots()[0], rows[0], True).closed == ("yes",)


def test_phones_that_are_written_are_never_none() -> None:
    line = "[TEXT:q] -> [PHONE:p]"
    rows = [{"q": "x", "p": ["AH", "B"]}] * 20 + [{"q": "x", "p": []}]
    assert [error.code for error in report_of(line, rows).errors] == ["E304"]
    with pytest.raises(DataError, match="PHONE writes phones; found none"):
        prepared(task(line, rows)).tasks[0].maker.example(rows[-1], "x", None, True)


def test_too_many_unreadable_rows_are_told_before_the_first_step_as_the_quarantine_would() -> None:
    rows = [{"q": "x", "a": "" if i % 20 == 0 else "yes"} for i in range(400)]
    card = task("[TEXT:q] -> [TEXT:a,closed_set]", rows)
    (error,) = check_tasks([card], CARDS, rows=50).errors
    assert "20 of 400 rows looked at" in error.message
    assert "trainer.quarantine=0.2" in error.help
    report = check_tasks([card], CARDS, rows=50, tolerate=0.1)
    assert report.errors == ()
    assert any(note.endswith("20 of 400 rows looked at). Training leaves such rows out.") for note in report.notes)


def test_a_split_without_rows_is_a_note_and_one_task_without_training_rows_an_error() -> None:
    rows = [{"id": key, "q": "x", "a": "yes"} for key in TRAIN_IDS[:3]]
    notes = check_tasks([task("[TEXT:q] -> [TEXT:a]", rows)], CARDS).notes
    assert any("its test split has no rows: it is trained, and not evaluated" in note for note in notes)
    other = next(key for key in map(str, range(99)) if split_of(key) == "test")
    (error,) = check_tasks([task("[TEXT:q] -> [TEXT:a]", [{"id": other, "q": "x", "a": "yes"}])], CARDS).errors
    assert "all 1 rows fall into valid and test" in error.message


def test_a_training_says_each_note_once_and_few_of_a_task() -> None:
    notes = ["task a: one", "task a: one", "task a: one and more", *(f"task b: {i}" for i in range(9)), "plain"]
    found = shortened(notes)
    assert found[0] == "task a: one and more"
    assert found[1:] == [*(f"task b: {i}" for i in range(6)), "task b: 3 more notes: ofasys-lite check b", "plain"]


def test_notes_of_the_check_are_printed_before_the_first_step(tmp_path: Path) -> None:
    rows = [{"id": key, "q": "x", "a": "yes", "spare": 1} for key in TRAIN_IDS]
    told = io.StringIO()
    console = Console(file=told, width=200)
    fit(
        GeneralistModel("tiny"),
        Task("mine", "[TEXT:q] what? -> [TEXT:a,closed_set]", data=rows),
        **{"steps": 1, "folder": tmp_path / "r", "console": console, "workers": 0, "pieces": 300},
    )
    assert told.getvalue().count("columns of mine train that are not used: spare") == 1
    assert told.getvalue().count("its test split has no rows") == 1
