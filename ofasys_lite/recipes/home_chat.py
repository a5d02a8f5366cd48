"""Talks with a home that answers with calls: requests of Home Assistant's templates, and turns that refer to them.

A call is the intent and its slots in words: `HassTurnOn area=kitchen domain=light`. What a turn such as "and in the
garage?" or "undo that" asks for stands only in the turns before it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ofasys_lite.recipes.fetch import Wheels, contents
from ofasys_lite.recipes.intents import NAMES, SENTENCES_PER_TEMPLATE, WILDCARDS, Sentence, read_sentences
from ofasys_lite.recipes.recipe import SPLITS, Built, Limits, Row, numbered, pick

_WORDS = contents("home_chat.json")
#: What is said, by kind of turn; `{}` is a value.
PHRASES: Mapping[str, list[str]] = _WORDS["phrases"]
SYSTEM: list[str] = _WORDS["system"]
_OPPOSITE = {
    "HassTurnOn": "HassTurnOff",
    "HassTurnOff": "HassTurnOn",
    "HassPauseTimer": "HassUnpauseTimer",
    "HassUnpauseTimer": "HassPauseTimer",
    "HassMediaPlayerMute": "HassMediaPlayerUnmute",
    "HassMediaPlayerUnmute": "HassMediaPlayerMute",
    "HassIncreaseTimer": "HassDecreaseTimer",
    "HassDecreaseTimer": "HassIncreaseTimer",
    "HassListAddItem": "HassListRemoveItem",
    "HassListRemoveItem": "HassListAddItem",
}
_NUMBERS = ("brightness", "temperature", "position", "percentage", "volume_level")


@dataclass(frozen=True, slots=True)
class Call:
    """What the home does."""

    intent: str
    slots: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join([self.intent, *(f"{name}={value}" for name, value in sorted(self.slots.items()))])

    def with_slot(self, name: str, value: str) -> Call:
        """The same with another value."""
        return Call(self.intent, {**self.slots, name: value})


#: (words, call) of a turn that refers to the calls before it, the last of them last; None where there is none to say.
Turn = Callable[[list[Call], random.Random], "tuple[str, Call] | None"]


def _slot(kind: str, name: str, values: list[str] | None = None) -> Turn:
    """A turn that changes one slot of the last call."""

    def said(calls: list[Call], generator: random.Random) -> tuple[str, Call] | None:
        own = calls[-1].slots.get(name)
        known = values or next((names for names in NAMES.values() if own in names), [])
        others = [value for value in known if value != own]
        if own is None or not others:
            return None
        value = pick(others, generator)
        return pick(PHRASES[kind], generator).format(value), calls[-1].with_slot(name, value)

    return said


def _number(calls: list[Call], generator: random.Random) -> tuple[str, Call] | None:
    name = next((name for name in _NUMBERS if calls[-1].slots.get(name, "").isdigit()), None)
    if name is None:
        return None
    low, high = (5, 30) if name == "temperature" else (1, 100)
    value = str(low + int(generator.random() * (high - low + 1)))
    return pick(PHRASES["number"], generator).format(value), calls[-1].with_slot(name, value)


def _undone(calls: list[Call], generator: random.Random) -> tuple[str, Call] | None:
    intent = _OPPOSITE.get(calls[-1].intent)
    return None if intent is None else (pick(PHRASES["undo"], generator), Call(intent, calls[-1].slots))


def _again(calls: list[Call], generator: random.Random) -> tuple[str, Call] | None:
    return pick(PHRASES["again"], generator), calls[-1]


def _first(calls: list[Call], generator: random.Random) -> tuple[str, Call] | None:
    return None if str(calls[0]) == str(calls[-1]) else (pick(PHRASES["first"], generator), calls[0])


TURNS: Mapping[str, Turn] = {
    "area": _slot("area", "area", WILDCARDS["area"]),
    "floor": _slot("floor", "floor", WILDCARDS["floor"]),
    "name": _slot("name", "name"),
    "number": _number,
    "undo": _undone,
    "again": _again,
    "first": _first,
}


def talk(requests: list[Sentence], generator: random.Random) -> tuple[list[dict[str, str]], str]:
    """(messages, kind of the last turn): the requests in their order, the last one followed by what refers to it.

    A quarter of the talks ends with a request.
    """
    messages = [] if generator.random() < 0.5 else [{"role": "system", "content": pick(SYSTEM, generator)}]
    calls, kinds = list[Call](), list[str]()

    def say(kind: str, words: str, call: Call) -> None:
        calls.append(call)
        kinds.append(kind)
        messages.append({"role": "user", "content": words})
        messages.append({"role": "assistant", "content": str(call)})

    for number, request in enumerate(requests, 1):
        say("request", request.text, Call(request.intent, request.slots))
        # none or one in between; at the end none in a quarter, else one or two
        most = 2 if number < len(requests) else 4
        for _ in range(min(int(generator.random() * most), 2)):
            fitting = {kind: found for kind, turn in TURNS.items() if (found := turn(calls, generator)) is not None}
            kind = pick(sorted(fitting), generator)
            say(kind, *fitting[kind])
    return messages, kinds[-1]


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row a talk; each is about the sentences of one split, and its group is the template of the last request."""
    rows: dict[str, list[Row]] = {}
    sentences = read_sentences(wheels, SENTENCES_PER_TEMPLATE)
    for split in SPLITS:
        rows[split] = []
        for number, last in enumerate(sentences[split]):
            generator = random.Random(f"home_chat {split} {number}")
            before = [pick(sentences[split], generator) for _ in range(int(generator.random() * 3))]
            messages, kind = talk([*before, last], generator)
            rows[split].append({"group": last.template, "messages": messages, "kind": kind})
    return Built(numbered("home_chat", rows, limits))
