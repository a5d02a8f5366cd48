"""Small talk of students with strangers: 7,168 written conversations of BYU's Chit-Chat Challenge, two people each.

Who writes first is the user, the other one the assistant. Long conversations are cut into stretches that end with the
assistant's turn, and overlap nowhere.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble

MEMBER = "chitchat_dataset/dataset.json"
#: Turns of a stretch, at least and at most, and characters of a turn at most.
LEAST, MOST, LONGEST = 2, 8, 300


def turns(messages: Sequence[Sequence[Mapping[str, Any]]]) -> list[tuple[str, str]]:
    """(sender, words) of each turn, neighbours of one sender joined, white space as single spaces."""
    found: list[tuple[str, str]] = []
    for group in messages:
        for message in group:
            words = re.sub(r"\s+", " ", str(message["text"])).strip()
            if not words:
                continue
            if found and found[-1][0] == message["sender"]:
                words = f"{found[-1][1]} {words}"
                found.pop()
            found.append((str(message["sender"]), words))
    return found


def stretches(said: Sequence[tuple[str, str]]) -> Iterator[list[dict[str, str]]]:
    """Messages of the stretches of a conversation of two; those with a turn that is too long are left out."""
    if len({sender for sender, _ in said}) != 2:
        return
    for start in range(0, len(said) - 1, MOST):
        part = said[start : start + MOST]
        part = part[: len(part) // 2 * 2]
        if len(part) >= LEAST and all(len(words) <= LONGEST for _, words in part):
            roles = ("user", "assistant")
            yield [{"role": roles[i % 2], "content": words} for i, (_, words) in enumerate(part)]


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row a stretch; those of a conversation stay in one split."""
    rows: list[Row] = []
    for name, conversation in json.loads(wheels.read("chitchat-dataset", MEMBER)).items():
        rows += [{"group": name, "messages": each} for each in stretches(turns(conversation["messages"]))]
    return Built(assemble("chitchat", rows, limits))
