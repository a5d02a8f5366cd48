"""Every line of the table that parses and does not plan gives exactly its message."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import fields
from pathlib import Path
from types import ModuleType

import pytest
from plan_lines import CARDS, HERE, plan_of

from ofasys_lite.cards import load_task_card
from ofasys_lite.cards.ways import BUILT_IN, ways_of
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import ErrorGroup, InstructionError
from ofasys_lite.plan import build_plan


def _maker() -> ModuleType:
    if "make_language_errors" not in sys.modules:
        path = HERE.parents[1] / "docs" / "make_language_errors.py"
        spec = importlib.util.spec_from_file_location("make_language_errors", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_language_errors"] = module
        spec.loader.exec_module(module)
    return sys.modules["make_language_errors"]


BAD = _maker().read_bad_lines(HERE / "bad_lines.txt")


@pytest.mark.parametrize("bad", BAD, ids=[f"{number}-{'-'.join(bad.codes)}" for number, bad in enumerate(BAD)])
def test_a_line_that_does_not_plan_gives_exactly_this_message(
    bad: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InstructionError) as caught:
        plan_of(bad.line)  # type: ignore[attr-defined]
    assert caught.value.render() == bad.message  # type: ignore[attr-defined]


def test_the_table_shows_every_code_of_the_plan() -> None:
    assert {code for bad in BAD for code in bad.codes} == set(_maker().codes("E1", "E2"))
    assert len({bad.line for bad in BAD}) == len(BAD) >= 70


def test_every_message_points_at_its_mistake_and_says_what_to_do() -> None:
    for bad in BAD:
        assert "^" in bad.message
    without_help = [bad.line for bad in BAD if "help:" not in bad.message]
    assert len(without_help) <= 6, without_help


def test_decode_takes_what_decoding_takes_with_the_same_defaults() -> None:
    known = {f.name: f.default for f in fields(DecodeOptions) if f.name not in ("method", "settings")}
    assert {spec.key: spec.default for way in BUILT_IN.values() for spec in way.options} == known
    text = {spec.key for way in ways_of(CARDS["TEXT"]) if not way.together for spec in way.options}
    assert text.isdisjoint({"cfg", "cfg_from", "cfg_until", "negative", "steps", "lengths"})


def test_all_mistakes_of_a_line_come_at_once_with_their_places_in_the_card(tmp_path: Path) -> None:
    card = tmp_path / "t.yaml"
    card.write_text("# mine\ninstruction: |\n  [TEXT:q,foo]\n  -> [TEXT:a,max_length=0]\n", encoding="utf-8")
    with pytest.raises(ErrorGroup) as caught:
        build_plan(load_task_card(card), CARDS)
    places = [error.place.header() for error in caught.value.errors if error.place]
    assert places == [f"{card}:3:11", f"{card}:4:14"]


def test_a_closed_set_file_that_is_empty_or_doubled_is_refused(tmp_path: Path) -> None:
    card = tmp_path / "t.yaml"
    card.write_text("instruction: |\n  [TEXT:q] -> [TEXT:a,closed_set=set.txt]\n", encoding="utf-8")
    for content, what in (("\n\n", "is empty"), ("a\nb\na\n", "`a` stands twice")):
        (tmp_path / "set.txt").write_text(content, encoding="utf-8")
        with pytest.raises(InstructionError, match=what):
            build_plan(load_task_card(card), CARDS)
    (tmp_path / "set.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InstructionError, match="it is not UTF-8"):
        build_plan(load_task_card(card), CARDS)


def test_a_slot_without_its_brackets_is_told() -> None:
    with pytest.raises(InstructionError) as told:
        plan_of("TEXT:q what? -> TEXT:a")
    assert "did you mean `[TEXT:q]` for `TEXT:q`?" in told.value.help
    with pytest.raises(InstructionError) as told:
        plan_of("NOTE:q -> note:a")
    assert "did you mean" not in told.value.help


@pytest.mark.parametrize(
    ("line", "copied"),
    [
        ("[TEXT:q] what? -> [TEXT:q]", True),
        ("[TEXT:q] what? -> [TEXT:q,closed_set]", True),
        ("[TEXT:a] [TEXT:q,uncased] -> [TEXT:q,uncased]", True),
        ("[TEXT:q,mask_ratio=0.3] what? -> [TEXT:q]", False),
        ("[TEXT:q,drop=0.1] what? -> [TEXT:q]", False),
        ("[TEXT:q,uncased,no_punctuation] in full? -> [TEXT:q]", False),
        ("[TEXT:q] what? -> [TEXT:q,no_loss] [TEXT:a]", False),
        ("[TEXT:q,max_length=5] goes on? -> [TEXT:q]", False),
        ("[TEXT:q,max_length=5] what? -> [TEXT:q,max_length=5]", True),
        ("[IMAGE:q] larger? -> [IMAGE:q,codec=dnd,size=64]", True),
        ("[IMAGE:q,size=16] larger? -> [IMAGE:q,codec=dnd,size=64]", False),
        ("[TEXT:q] what? -> [PHONE:q]", False),
        ("[TEXT:q] what? -> [TEXT:a]", False),
    ],
)
def test_an_answer_that_stands_in_the_source_is_told(line: str, copied: bool) -> None:
    assert any("is copied" in note for note in plan_of(line).notes) == copied
