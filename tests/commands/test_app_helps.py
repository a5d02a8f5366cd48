"""What a help or message of the package names exists: keys of runs and cards, verbs, flags."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from ofasys_lite.cards.load import TASK_KEYS
from ofasys_lite.commands.app import VERBS
from ofasys_lite.commands.settings import _DATA, _SWITCHES, _top_keys
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.training.settings import TrainSettings

PACKAGE = Path(__file__).parents[2] / "ofasys_lite"
INSIDE = {
    "trainer": {*(f.name for f in fields(TrainSettings)), *_SWITCHES},
    "data": {*_DATA, "train", "valid", "test"},
    "model": {f.name for f in fields(ModelConfig)},
    "decoding": {f.name for f in fields(DecodeOptions)},
}
#: Placeholders that stand for any key or name.
ANY = {"KEY", "NAME"}


def texts() -> Iterator[tuple[str, str]]:
    """(place, text) of every text with a blank in it that a message or a help may show; docstrings are left out."""
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        docs = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", node.value
    for path in sorted((PACKAGE.parent / "presets").rglob("*.yaml")):
        yield path.name, path.read_text(encoding="utf-8")


TEXTS = [(place, text) for place, text in texts() if " " in text or "=" in text]


def test_there_are_helps_to_look_at() -> None:
    assert len(TEXTS) > 1000


@pytest.mark.parametrize("group", INSIDE)
def test_keys_of_a_group_that_a_help_names_exist(group: str) -> None:
    wrong = [
        (place, found[0])
        for place, text in TEXTS
        for found in re.finditer(rf"(?<![\w./`]){group}\.(\w+)(?==)|`{group}\.(\w+)`", text)
        if (found[1] or found[2]) not in INSIDE[group] | ANY
    ]
    assert wrong == []


def test_keys_of_tasks_that_a_help_names_exist() -> None:
    wrong = [
        (place, found[0])
        for place, text in TEXTS
        for found in re.finditer(r"tasks\.\w+\.(\w+)", text)
        if found[1] not in {*TASK_KEYS, *ANY}
    ]
    assert wrong == []


def test_keys_behind_a_verb_that_a_help_names_exist() -> None:
    wrong = []
    for place, text in TEXTS:
        for verb, rest in re.findall(r"ofasys-lite (train|evaluate) ([^;,`()\n]*)", text):
            for key in re.findall(r"(?<![\w.'\"+])([a-z]\w*)=", rest):
                if key not in _top_keys(verb) | {"experiment"}:
                    wrong.append((place, f"{verb} {key}="))
    assert wrong == []


def test_verbs_that_a_help_names_exist() -> None:
    named = {(place, verb) for place, text in TEXTS for verb in re.findall(r"(?<![\w/])ofasys-lite ([a-z]+)\b", text)}
    assert [each for each in named if each[1] not in VERBS] == []
