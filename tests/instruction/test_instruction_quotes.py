"""Quotes around a whole line come off; quotes inside a line stay."""

from __future__ import annotations

import pytest

from ofasys_lite.api.task import Task
from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.errors import InstructionError
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.quotes import unquoted
from ofasys_lite.plan import build_plan

LINE = "[TEXT:q] -> [TEXT:a]"
PROMPT = 'what does " [TEXT:q] " ask for? -> [TEXT:a]'


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ('"[TEXT:"my q"] -> [TEXT:a]"', '[TEXT:"my q"] -> [TEXT:a]'),
        (f'"{LINE}"', LINE),
        (f"'{LINE}'", LINE),
        (f"`{LINE}`", LINE),
        (f"“{LINE}”", LINE),
        (f"„{LINE}“", LINE),
        (f"‘{LINE}’", LINE),
        (f"« {LINE} »", LINE),
        (f"'\"{LINE}\"'", LINE),
        (f"\"'{LINE}'\"", LINE),
        (f"''{LINE}''", LINE),
        (f'\\"{LINE}\\"', LINE),
        (f'  "{LINE}"\n', LINE),
        (f'"{PROMPT}"', PROMPT),
        (r'"[TEXT:\"my q\"] -> [TEXT:a]"', '[TEXT:"my q"] -> [TEXT:a]'),
        ("'what's this? [TEXT:q] -> [TEXT:a]'", "what's this? [TEXT:q] -> [TEXT:a]"),
        (f'"{LINE} ||| {LINE} ;; [TEXT:b]"', f"{LINE} ||| {LINE} ;; [TEXT:b]"),
    ],
)
def test_quotes_around_a_line_come_off(typed: str, meant: str) -> None:
    assert unquoted(typed) == meant


@pytest.mark.parametrize(
    "line",
    [
        LINE,
        PROMPT,
        '"[TEXT:q]" -> "[TEXT:a]"',
        '[TEXT:"my q"] -> [TEXT:"a"]',
        "it's [TEXT:q] -> the guests' [TEXT:a]",
        '"no line"',
        '"',
        "",
    ],
)
def test_quotes_that_belong_to_a_line_stay(line: str) -> None:
    assert unquoted(line) == line


def test_no_stray_quote_reaches_a_plan_from_a_card_or_from_python() -> None:
    line = '"[TEXT:"my q"] what? -> [TEXT:a]"'
    wanted = unparse(parse('[TEXT:"my q"] what? -> [TEXT:a]'))
    assert unparse(parse(line)) == wanted
    assert build_plan(load_task_card({"instruction": line}, name="x"), modalities()).line == wanted
    assert build_plan(Task("x", line).card, modalities()).line == wanted


def test_places_stay_where_they_were_behind_an_outer_quote() -> None:
    with pytest.raises(InstructionError) as caught:
        parse('"[TXET:q] -> [TEXT:a]"')
    assert caught.value.place is not None
    assert caught.value.place.column == 3
