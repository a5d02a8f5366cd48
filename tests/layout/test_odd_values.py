"""Rows that users really have: broken lines, empty cells, odd kinds of values. Each is read or refused."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import soundfile
from example_worlds import WORDS, picture

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.data.attributes import preprocess_class
from ofasys_lite.data.fields import field
from ofasys_lite.data.rows import open_source
from ofasys_lite.errors import DataError, InstructionError
from ofasys_lite.layout.analyze import analyze
from ofasys_lite.layout.costs import size_of
from ofasys_lite.layout.ready import DataSettings, ReadyTask, make_ready
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.preprocess.audio import AudioPreprocess
from ofasys_lite.preprocess.base import Context, Preprocess, RowContext
from ofasys_lite.preprocess.image import ImagePreprocess
from ofasys_lite.preprocess.text import TextPreprocess
from ofasys_lite.preprocess.vocabulary import Vocabulary, train_pieces

CARDS = modalities()
ROWS = [{"id": str(i), "q": f"{WORDS} {i}", "a": "yes" if i % 2 else "no"} for i in range(20)]


def ready(line: str, source: Any) -> ReadyTask:
    """The task of a line whose three splits are `source`."""
    card = load_task_card({"instruction": line, "data": dict.fromkeys(("train", "valid", "test"), source)}, name="t")
    return make_ready([card], CARDS, DataSettings(pieces=340, bins=50)).tasks[0]


def labels(task: ReadyTask) -> Sequence[str]:
    """The closed set of the task's target."""
    closed = task.plan.target_slots()[-1].closed
    assert closed is not None
    return closed.values


def test_a_line_that_is_no_json_does_not_stop_the_reading_of_a_split(tmp_path: Path) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS) + '{"id": "20", "q":\n', encoding="utf-8")
    task = ready("[TEXT:q] -> [TEXT:a,closed_set]", str(path))
    assert labels(task) == ("no", "yes")
    with pytest.raises(DataError, match="bad JSON"):
        task.sources["train"].row(20)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000])
def test_json_that_python_cannot_hold_is_a_broken_row(tmp_path: Path, value: str) -> None:
    path = tmp_path / "qa.jsonl"
    path.write_text(json.dumps(ROWS[0]) + '\n{"q": ' + value + "}\n", encoding="utf-8")
    with pytest.raises(DataError, match="row 2: bad JSON"):
        open_source(str(path)).row(1)
    assert field({"a": "[" * 100_000}, "a.b") is not None


def test_a_closed_set_is_found_beside_a_group_of_lists_with_pictures() -> None:
    rows = [{**row, "img": [picture(8, 8)] * 2, "cap": ["a cat", "a dog"]} for row in ROWS]
    assert labels(ready("([IMAGE:img] [TEXT:cap])* [TEXT:q] -> [TEXT:a,closed_set]", rows)) == ("no", "yes")


def test_a_closed_set_is_found_beside_a_group_of_lists_with_alternatives() -> None:
    rows = [{**row, "kind": ["text", "category"], "x": ["a", "b"], "c": ["k", "k"]} for row in ROWS]
    task = ready("([TEXT:x]|[CATEGORY:c])*<by=kind> [TEXT:q] -> [TEXT:a,closed_set]", rows)
    assert labels(task) == ("no", "yes")
    assert "=k" in task.maker.vocabulary.declared


def test_slots_without_a_name_read_parquet_by_the_place_of_the_column(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"q": [row["q"] for row in ROWS], "a": [row["a"] for row in ROWS]})
    parquet.write_table(table, tmp_path / "qa.parquet")
    task = ready("[TEXT] -> [TEXT,closed_set]", str(tmp_path / "qa.parquet"))
    assert labels(task) == ("no", "yes")
    assert task.maker.lengths(task.sources["train"], 0)[0] > 10


def test_an_empty_cell_that_came_as_nan_is_neither_a_label_nor_text() -> None:
    rows = [*ROWS, {**ROWS[0], "a": float("nan")}]
    task = ready("[TEXT:q] -> [TEXT:a,closed_set]", rows)
    assert labels(task) == ("no", "yes")
    with pytest.raises(DataError, match="column `a`: the label is empty"):
        task.maker.example(rows[-1], "20", None, True)


def test_what_an_optional_slot_counts_as_absent_is_no_label() -> None:
    rows = [*ROWS, {**ROWS[0], "a": ""}, {**ROWS[0], "a": None}, {**ROWS[0], "a": float("nan")}]
    assert labels(ready("[TEXT:q] -> [TEXT:a?,closed_set]", rows)) == ("no", "yes")


def test_the_length_of_a_sound_is_known_however_it_is_given() -> None:
    file = io.BytesIO()
    soundfile.write(file, np.zeros(6000), 16000, format="WAV")
    samples = [0.0] * 6000
    given = (base64.b64encode(file.getvalue()).decode(), [samples, 16000], (samples, 16000), {"array": samples})
    assert [size_of(value, AudioPreprocess) for value in given] == [(6000,)] * 4


def test_boxes_of_no_size_are_refused_in_the_line() -> None:
    with pytest.raises(InstructionError, match="`size=0` is out of range"):
        ready("[BOX:b,size=0] [TEXT:q] -> [TEXT:a]", [{**row, "b": [0, 0, 0, 0]} for row in ROWS])


HUGE = 10**400
ODD: tuple[Any, ...] = (
    *(None, True, 0, -1, 2.5, HUGE, float("nan"), float("inf"), "", " ", "yes", "half \ud800", "\0", "\u2581"),
    *("[1,2,3,4]", "[1,2", '{"a":1}', "[" * 5000, "1e999,0,0,0", "/", "/etc", "x" * 5000, "data:", "nosuch://x"),
    *("data:image/png;base64,", "a\0b.png", "UklGR" + "A" * 100, "iVBORw0KGgo" + "A" * 100),
    *(b"", b"abc", b"\xff\xfe", bytearray(b"xx"), memoryview(b"zz"), [], [1], [0, 0, 1, HUGE], [0, 0, "1", "1"]),
    *([None] * 4, [[1, 2], [2, 1]], [[1], [2, 3]], ({}, 3), {}, {1: 2}, {"bytes": 3, "path": None}, {"path": 5}),
    *({"array": None}, {"array": [1, 2], "sampling_rate": 16000}, {"array": "x", "sampling_rate": 16000}),
    *(([0.1] * 5000, 16000), ([["a"]], 16000), (np.zeros((2, 5000), complex), 16000), np.zeros((2, 3, 4))),
    *(np.zeros(0), np.zeros((8, 8, 3), complex), np.array(["a"]), np.zeros((8, 8, 3), object), np.float32(2)),
    *(np.str_("yes"), np.bool_(True), object(), {1}, iter([1])),
)
GRID = CallValue("grid", (), (("rows", 2), ("columns", 2)))
RECORD = CallValue("record", (), (("a", "number"), ("b", "text"), ("optional", "b")))
OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "TEXT": ({}, {"spelled": True}, {"closed": ("yes", "no")}, {"mask_ratio": 0.5}, {"noise_ratio": 1.0}),
    "BOX": ({"size": 1.0}, {"frame": (8, 8)}, {}),
    "CATEGORY": ({}, {"closed": ("yes", "no")}),
    "PHONE": ({},),
    "STRUCT": ({}, {"max_length": 1}, {"schema": GRID}, {"schema": RECORD}),
    "IMAGE": ({}, {"size": 16}, {"mask_ratio": 0.5}),
    "AUDIO": ({}, {"max_length": 3}),
}


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """A small vocabulary with a row of every kind."""
    return Vocabulary(train_pieces([WORDS, "0123456789"] * 5, 340), 50, ("=yes", "=no", "phone:AA", "cell:1", "cell:2"))


SIDES: tuple[Literal["source", "target"], ...] = ("source", "target")


@pytest.mark.parametrize("name", OPTIONS)
def test_any_value_is_read_or_refused_and_never_a_crash(vocabulary: Vocabulary, name: str) -> None:
    card = CARDS[name]
    kind = preprocess_class(card.preprocess["default"])
    tool = kind(Context(dict(card.settings), vocabulary, name.lower()))
    for given in OPTIONS[name]:
        for side in SIDES:
            row = {key: given[key] for key in ("closed", "frame") if key in given}
            options = tuple((key, value) for key, value in sorted(given.items()) if key not in row)
            known = RowContext(side, np.random.default_rng(0), True, **row)
            for value in ODD:
                reads: tuple[Callable[[], object], ...] = (
                    partial(tool.encode, value, options, known),
                    partial(kind.check, value, options, dict(card.settings), known),
                    lambda v=value: list(kind.texts(v)),
                    lambda v=value, o=options: list(kind.declare(v, o, card.settings)),
                    partial(tool.frame, value),
                )
                for read in reads:
                    with suppress(DataError):
                        read()


@pytest.mark.parametrize("tool", [TextPreprocess, ImagePreprocess, AudioPreprocess])
def test_any_value_has_a_size_or_none_and_never_crashes(tool: type[Preprocess]) -> None:
    for value in ODD:
        with suppress(DataError):
            size = size_of(value, tool)
            assert size is None or min(size) >= 0


def test_an_analysis_counts_as_cut_what_max_length_cuts_on_each_side_and_not_what_masks_shorten() -> None:
    line = "fill: [TEXT:q,mask_ratio=0.3] -> [TEXT:q,max_length=4]"
    source, target = analyze(ready(line, ROWS), 20).slots
    assert (source.side, source.cut, source.limit) == ("source", 0, 512)
    assert (target.side, target.cut, target.limit) == ("target", 20, 4)
    assert set(target.counts) == {5}


def test_shards_of_several_folders_each_name_their_own_pictures(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(name.encode())
        (tmp_path / name / "x.csv").write_text(f"img,cap\n1.png,{name}\n", encoding="utf-8")
    source = open_source([str(tmp_path / "a" / "x.csv"), str(tmp_path / "b" / "x.csv")])
    assert source.row(0) == {"img": "1.png", "cap": "a"}
    assert source.row(1) == {"img": str(tmp_path / "b" / "1.png"), "cap": "b"}
    assert source.value(1, "img") == str(tmp_path / "b" / "1.png")
