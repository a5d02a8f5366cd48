"""split(join(row)) = row, and whatever the automaton lets through splits and decodes: for every line and every card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from random_walks import random_walk

from ofasys_lite.cards import find_task, modalities, task_names
from ofasys_lite.data.permutation import sample_rng
from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import OfasysError
from ofasys_lite.layout.ready import DataSettings, ReadyTask, make_ready
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.codecs import codec_slots


def joined(task: ReadyTask, number: int, target: int) -> tuple[list[int], Mapping[str, Any]]:
    """The ids of a row's target as they are learned, and the row."""
    source = task.sources["train"]
    row = source.row(number)
    rng = sample_rng(0, task.card.name, source.ids(number), 0)
    example = task.maker.example(row, source.ids(number), rng, train=False)
    return [int(i) for p in example.targets[target].pieces for i in p.arrays["ids"]], row


def near(value: Any, wanted: Any, width: float) -> bool:
    """Equality, numbers within a bin of a box; columns that are not written are not compared."""
    if isinstance(value, dict) and isinstance(wanted, Mapping):
        return all(near(v, wanted[k], width) for k, v in value.items())
    if isinstance(value, list) and isinstance(wanted, (list, tuple, np.ndarray)):
        return len(value) == len(wanted) and all(near(v, w, width) for v, w in zip(value, wanted, strict=True))
    if isinstance(value, float) or isinstance(wanted, float):
        return abs(float(value) - float(wanted)) <= width
    return bool(value == wanted or str(value) == str(wanted))


def round_trip(task: ReadyTask, number: int, width: float) -> None:
    """Asserts split(join(row)) = row for all targets of a row."""
    for target in range(len(task.plan.templates[0].targets)):
        ids, row = joined(task, number, target)
        automaton = compile(task.maker.constraint(target, row))
        assert automaton.accepts(ids), (task.card.name, number)
        values = task.maker.values(target, automaton.split(ids), row)
        for column, value in values.items():
            assert near(value, row[column], width), (task.card.name, number, column, value, row[column])


def walks(task: ReadyTask, count: int) -> None:
    """Asserts that random legal outputs split and decode."""
    rng = np.random.default_rng(1)
    source = task.sources["train"]
    for number in range(count):
        row = source.row(number % len(source))
        for target in range(len(task.plan.templates[0].targets)):
            automaton = compile(task.maker.constraint(target, row))
            ids = random_walk(automaton, rng)
            values = task.maker.values(target, automaton.split(ids), row)
            learned = {s.column for s in task.plan.target_slots()} | {"objects"}
            assert values
            assert set(values) <= learned


@pytest.fixture(scope="module")
def tiny() -> dict[str, ReadyTask]:
    """The tiny tasks by name."""
    return {t.card.name: t for t in worlds.ready(worlds.tasks()).tasks}


@pytest.mark.parametrize("name", worlds.LINES)
def test_a_row_comes_back_from_its_target_ids(tiny: dict[str, ReadyTask], name: str) -> None:
    # 31 bins over at most 32 pixels
    for number in range(12):
        round_trip(tiny[name], number, width=0.55)


@pytest.mark.parametrize("name", worlds.LINES)
def test_a_random_legal_output_splits_and_decodes(tiny: dict[str, ReadyTask], name: str) -> None:
    walks(tiny[name], 30)


@pytest.fixture(scope="module")
def carded(request: pytest.FixtureRequest) -> ReadyTask:
    """A card of tasks/ on its prepared data."""
    plan = build_plan(find_task(request.param), modalities())
    if codec_slots(plan):
        pytest.skip("pictures come back from their codes in tests/decoding/test_decoding_codes.py")
    try:
        return make_ready([find_task(request.param)], modalities(), DataSettings(pieces=600)).tasks[0]
    except OfasysError as error:
        if "prepare" not in str(error) and "no such" not in str(error):
            raise
        pytest.skip(f"the data of {request.param} is not prepared: {error.message}")


@pytest.mark.slow
@pytest.mark.parametrize("carded", task_names(), indirect=True)
def test_every_card_gives_back_its_rows_and_decodes_what_is_legal(carded: ReadyTask) -> None:
    count = len(carded.sources["train"])
    for number in range(0, count, max(1, count // 200)):
        round_trip(carded, number, width=0.5)
    walks(carded, 100)


def test_the_lines_in_memory_write_every_modality_that_can_be_written() -> None:
    written = {s.modality for t in worlds.ready(worlds.tasks()).tasks for s in t.plan.target_slots()}
    # what is written in codes comes back in tests/decoding/test_decoding_codes.py; all at once, no ids are written;
    # behind a talk only its answer is written: tests/preprocess/test_chat_preprocess.py, tests/e2e/test_chat.py
    known = {c.name for c in modalities().values() if c.writes == "now" and not c.codecs and not c.writers}
    assert written == known - {"CHAT"}
