"""Recipes of conversations: what refers to earlier turns, and how long ones are cut."""

from __future__ import annotations

import random

import pytest

from ofasys_lite.recipes.chitchat import LONGEST, MOST, stretches, turns
from ofasys_lite.recipes.home_chat import PHRASES, TURNS, Call, talk
from ofasys_lite.recipes.intents import Sentence

LIGHT = Call("HassTurnOn", {"area": "kitchen", "brightness": "40", "domain": "light"})
LAMP = Call("HassTurnOff", {"name": "desk lamp"})


def test_a_call_is_its_intent_and_its_slots_by_name() -> None:
    assert str(LIGHT) == "HassTurnOn area=kitchen brightness=40 domain=light"


@pytest.mark.parametrize(
    ("kind", "calls", "changed"),
    [
        ("area", [LAMP, LIGHT], "area"),
        ("number", [LIGHT], "brightness"),
        ("name", [LIGHT, LAMP], "name"),
    ],
)
def test_a_turn_changes_one_slot_of_the_last_call_and_says_the_value(
    kind: str, calls: list[Call], changed: str
) -> None:
    found = TURNS[kind](calls, random.Random(1))
    assert found is not None
    words, call = found
    assert call.intent == calls[-1].intent
    assert {k for k in call.slots if call.slots[k] != calls[-1].slots[k]} == {changed}
    assert call.slots[changed] in words


def test_turns_undo_repeat_and_go_back() -> None:
    generator = random.Random(2)
    undone, again, first = (TURNS[kind]([LIGHT, LAMP], generator) for kind in ("undo", "again", "first"))
    assert undone is not None
    assert again is not None
    assert first is not None
    assert undone[1] == Call("HassTurnOn", {"name": "desk lamp"})
    assert again[1] == LAMP
    assert first[1] == LIGHT
    assert first[0] in PHRASES["first"]


def test_what_makes_no_sense_is_not_said() -> None:
    weather = [Call("HassGetWeather", {})]
    said = {kind for kind, turn in TURNS.items() if turn(weather, random.Random(3)) is not None}
    assert said == {"again"}


def test_a_talk_alternates_and_ends_with_a_call() -> None:
    requests = [Sentence("a", "light up", "HassTurnOn", {"area": "attic"}), Sentence("b", "mute it", "Mute", {})]
    kinds = set()
    for seed in range(60):
        messages, kind = talk(requests, random.Random(seed))
        roles = [message["role"] for message in messages if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert {"light up", "mute it"} <= {message["content"] for message in messages}
        assert (kind == "request") == (messages[-2]["content"] == "mute it")
        kinds.add(kind)
    assert {"request", "again", "first"} <= kinds


def said(count: int, length: int = 5) -> list[tuple[str, str]]:
    return [(f"p{i % 2}", "x" * length) for i in range(count)]


def test_neighbours_of_one_sender_are_one_turn() -> None:
    one, two = {"sender": "a", "text": " hi\n there "}, {"sender": "b", "text": "yes"}
    found = turns([[one, {**one, "text": "  "}, {**one, "text": "?"}], [two], [one]])
    assert found == [("a", "hi there ?"), ("b", "yes"), ("a", "hi there")]


def test_long_conversations_are_cut_into_stretches_that_end_with_the_assistant() -> None:
    found = list(stretches(said(2 * MOST + 3)))
    assert [len(each) for each in found] == [MOST, MOST, 2]
    assert all(each[0]["role"] == "user" and each[-1]["role"] == "assistant" for each in found)
    assert list(stretches(said(1))) == []
    assert list(stretches([("a", "x"), ("b", "y"), ("c", "z")])) == []
    assert list(stretches(said(4, LONGEST + 1))) == []
