"""Boxes as text: read, written, and what is no box."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from hypothesis import given, settings
from hypothesis import strategies as st

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.predicting import Request, predict
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.preprocess.base import RowContext
from ofasys_lite.preprocess.box_text import parsed, spelled
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS

TEXT = (("format", "text"),)
LINE = "[IMAGE:img] where is the [TEXT:label] one? -> [BOX:box,format=text]"


def tool() -> Any:
    found = worlds.ready([worlds.task("find", line=LINE)])
    return found, next(t for t in found.tasks[0].maker.preprocess.values() if t.framed)


@given(st.lists(st.integers(0, 998), min_size=2, max_size=2), st.integers(1, 999), st.integers(1, 999))
@settings(deadline=None, max_examples=50)
def test_text_of_a_box_says_it_to_a_thousandth(corner: list[int], wide: int, high: int) -> None:
    side = (320.0, 200.0)
    x0, y0 = corner
    box = [x0 / 1000 * 320, y0 / 1000 * 200, min(999, x0 + wide) / 1000 * 320, min(999, y0 + high) / 1000 * 200]
    found = parsed(spelled(box, side), side)
    assert found == pytest.approx(box, abs=1e-6)


def test_numbers_are_in_0_to_1000_without_it_and_a_written_box_has_an_area() -> None:
    assert spelled([0, 0, 32, 16], (32, 16)) == "(0,0),(999,999)"
    assert spelled([8, 4, 8, 4], (32, 16)) == "(250,250),(250,250)"
    assert spelled([8, 4, 8, 4], (32, 16), wide=True) == "(250,250),(251,251)"
    assert spelled([32, 16, 32, 16], (32, 16), wide=True) == "(998,998),(999,999)"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(1,2)",
        "(1,2),(3,4",
        "(1,2),(3,4),",
        "(5,2),(3,4)",
        "(1,2),(1,9)",
        "(1,2),(3,1000)",
        "(1.5,2),(3,4)",
        "(a,b),(c,d)",
        "(-1,2),(3,4)",
    ],
)
def test_what_is_no_box_of_the_form_is_none(text: str) -> None:
    assert parsed(text, (100.0, 100.0)) is None


def test_it_is_read_and_written_in_pieces_and_every_written_box_is_legal() -> None:
    found, box = tool()
    known = RowContext("target", frame=(40, 20))
    piece = box.encode([4.0, 2.0, 20.0, 10.0], TEXT, known)
    ids = piece.arrays["ids"]
    assert ids[-1] == CONTROL_IDS["close"]
    assert found.vocabulary.decode(ids[:-1]) == "(100,100),(500,500)"
    automaton = compile(box.constraint(TEXT, known))
    assert automaton.accepts(ids.tolist())
    assert box.decode(ids, TEXT, known) == [4.0, 2.0, 20.0, 10.0]
    assert box.decode(ids[2:], TEXT, known) is None
    read = box.encode([4.0, 2.0, 20.0, 10.0], TEXT, RowContext("source", frame=(40, 20)))
    assert read.arrays["ids"].tolist() == ids[:-1].tolist()
    assert box.rows_fixed(TEXT) == 18
    assert box.rows_fixed(()) == 4
    with pytest.raises(DataError, match="lies outside its image"):
        box.encode([4.0, 2.0, 80.0, 10.0], TEXT, known)
    longest = box.encode([19.99, 9.99, 39.99, 19.99], TEXT, known)
    assert automaton.accepts(longest.arrays["ids"].tolist())


def test_an_answer_that_is_no_box_is_none_and_counted() -> None:
    found = worlds.ready([worlds.task("find", line=LINE)])
    model = worlds.generalist(found)
    rows = worlds.rows(6)
    answers = predict(model, [Request("find", row) for row in rows])
    # an untrained model writes no box
    assert [answer.value for answer in answers if answer] == [None] * 6
    assert answers[0] is not None
    assert answers[0].boxes == []
    assert answers[0].text == "null"
    references = [row["box"] for row in rows]
    score = evaluate_metric("iou_at_0.5", [*references[:4], None, None], references)
    assert (score.value, score.details["answers_without_box"]) == (pytest.approx(4 / 6), 2)
    assert "answers_without_box" not in evaluate_metric("mean_iou", references, references).details
    objects = [[{"box": box, "label": "red"}] for box in references]
    broken = [[{"box": None, "label": "red"}], *objects[1:]]
    score = evaluate_metric("detection_f1", broken, objects)
    assert score.details["answers_without_box"] == 1
    assert score.value == pytest.approx(5 / 6)


def test_a_group_of_boxes_as_text_trains_and_splits() -> None:
    line = "[IMAGE:img] detect. -> ([BOX:box,format=text] [TEXT:label,closed_set=labels])*<over=objects,max=4>"
    found = worlds.ready([worlds.task("detect", line=line)])
    maker = found.tasks[0].maker
    row = worlds.rows(1)[0]
    example = maker.example(row, "1", np.random.default_rng(0), True)
    ids = [int(i) for piece in example.targets[0].pieces for i in piece.arrays["ids"]]
    split = compile(maker.constraint(0, row)).split(ids)
    values = maker.values(0, split, row)["objects"]
    assert [each["label"] for each in values] == [each["label"] for each in row["objects"]]
    for ours, theirs in zip(values, row["objects"], strict=True):
        assert ours["box"] == pytest.approx(theirs["box"], abs=0.05)
