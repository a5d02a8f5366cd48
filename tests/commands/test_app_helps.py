"""What a help or message of the package names exists: keys of runs and cards, attributes, verbs, flags."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from ofasys_lite.cards.find import modalities
from ofasys_lite.cards.load import TASK_KEYS
from ofasys_lite.commands import compose, flags
from ofasys_lite.commands.app import VERBS
from ofasys_lite.commands.run_keys import _DATA, _top_keys
from ofasys_lite.model.config import ModelConfig
from ofasys_lite.plan.codecs import MODEL_KEYS, TOKENIZER_KEYS
from ofasys_lite.plan.decoding import option_names
from ofasys_lite.plan.language import GROUP, LANGUAGE, OBJECTIVES, RENAMED
from ofasys_lite.training.settings import MODEL_SWITCHES, TrainSettings

PACKAGE = Path(__file__).parents[2] / "ofasys_lite"
INSIDE = {
    "trainer": {*(f.name for f in fields(TrainSettings)), *MODEL_SWITCHES},
    "data": {*_DATA, "train", "valid", "test"},
    "model": {f.name for f in fields(ModelConfig)},
    "decoding": {*option_names()},
}
#: Placeholders that stand for any key or name; blanks of f-strings are read as NAME.
ANY = {"KEY", "NAME"}
#: Verbs whose parser is Hydra's.
HYDRA = ("train", "evaluate")
#: Parts of verbs that have flags of their own.
PARTS = {"codec": ("train", "encode", "show"), "data": ("list", "prepare", "show")}
#: `key=` in backticks that is no attribute, key of a run or key of a card: why it may stand there.
KEYS_ELSEWHERE = {"key": "stands for any key, `key=value`"}
#: Flags of other programs: the program that must be named before them.
FLAGS_ELSEWHERE = {
    "--sort": "tar",
    "--local-dir": "hf download",
    "--no-deps": "pip",
    "--only-binary": "pip",
    "--dest": "pip",
    "--version": "ofasys-lite",
}


def written(node: ast.AST) -> str | None:
    """The text of a string or f-string, its blanks as NAME; None for what is neither."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(written(each) or "" if isinstance(each, ast.Constant) else "NAME" for each in node.values)
    return None


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
        docs |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            text = None if id(node) in docs else written(node)
            if text is not None:
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", text  # type: ignore[attr-defined]
    for path in sorted((PACKAGE.parent / "presets").rglob("*.yaml")):
        yield path.name, path.read_text(encoding="utf-8")


TEXTS = [(place, text) for place, text in texts() if " " in text or "=" in text]


@cache
def attributes() -> frozenset[str]:
    """Attributes of slots and groups, and arguments of their values, of the language and of every modality card."""
    declared = {spec.key for spec in (*LANGUAGE, *GROUP)} | set(RENAMED)
    for card in modalities().values():
        declared |= {spec.key for spec in card.attributes}
    arguments = {*option_names(), *TOKENIZER_KEYS, *MODEL_KEYS}
    for objective in OBJECTIVES.values():
        arguments |= set(objective.arguments)
    return frozenset(declared | arguments)


@cache
def flags_of(verb: str) -> frozenset[str]:
    """Every flag that a verb, or a part of it, takes."""
    if verb in HYDRA:
        return frozenset(flag for flag in compose._VALUED | compose._BARE if flag.startswith("--"))
    made: list[flags.FlagParser] = []
    begin = flags.FlagParser.__init__

    def kept(self: flags.FlagParser, *args: object, **kwargs: object) -> None:
        begin(self, *args, **kwargs)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(flags.FlagParser, "__init__", kept)
        with contextlib.suppress(SystemExit):
            importlib.import_module(VERBS[verb][0]).main(["--help"])
    return frozenset(flag for parser in made for flag in parser._option_string_actions if flag.startswith("--"))


def wrong_attributes(text: str) -> list[str]:
    """What stands in backticks, or in a slot, as an attribute or key and is none."""
    known = {*attributes(), *TASK_KEYS, *_top_keys("train"), *_top_keys("evaluate"), *KEYS_ELSEWHERE, *ANY}
    named = re.findall(r"`(\w+)=[^`\n]*`", text)
    for slot in re.findall(r"\[[A-Z]{2,}(?::[\w?@>.]+)?,([^\[\]\n]*)\]", text):
        inner = re.sub(r"\([^()]*\)", "", slot)
        named += [part.partition("=")[0].strip() for part in inner.split(",") if "=" in part or "=" not in inner]
    return [name for name in named if name not in known and name not in ("...", "attributes")]


def wrong_flags(place: str, text: str) -> list[str]:
    """Flags that a text names and the verb has not: the verb named before them, else the module's own, else any."""
    own = place.removeprefix("commands/").partition(".py")[0]
    wrong = []
    for found in re.finditer(r"(?<![\w`-])--([a-z][\w-]*)", text):
        flag, before = found[0], text[: found.start()]
        if FLAGS_ELSEWHERE.get(flag, "\0") in before:
            continue
        verbs = re.findall(r"ofasys-lite ([a-z]+)\b[^;\n`]*(?:\\\n[^;\n`]*)?$", before)
        if verbs[-1:] and verbs[-1] in VERBS:
            known = flags_of(verbs[-1])
        elif place.startswith("commands/") and own in VERBS:
            known = flags_of(own)
        else:
            known = frozenset().union(*map(flags_of, VERBS))
        if flag not in known:
            wrong.append(flag)
    return wrong


def wrong_commands(text: str) -> list[str]:
    """Commands that a text names and the program has not: verbs, and parts of verbs."""
    wrong = []
    for verb, word in re.findall(r"(?<![\w/])ofasys-lite ([a-z]+)\b(?: ([a-z]+)(?![\w=:/.]))?", text):
        if verb not in VERBS or (word and verb in PARTS and word not in PARTS[verb]):
            wrong.append(f"{verb} {word}".strip())
    return wrong


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


def bare_keys(text: str) -> list[str]:
    """Keys of the trainer that are told to be typed without their group; calls in Python (`fit(lr=1e-3)`) may."""
    inner = INSIDE["trainer"] - _top_keys("train") - attributes()
    typed = re.sub(r"(?:fit|Trainer|build|MyOptimizer)\([^()]*(?:\(|\))", "", text)
    return [key for key in re.findall(r"(?<![\w.`'\"])(\w+)=(?!=)", typed) if key in inner]


def test_keys_of_the_trainer_that_a_help_names_can_be_typed_as_they_stand() -> None:
    assert [(place, wrong) for place, text in TEXTS if (wrong := bare_keys(text))] == []


def test_a_key_without_its_group_would_be_seen() -> None:
    assert bare_keys("say how many: devices=2 (with trainer.precision=fp32)") == ["devices"]
    assert bare_keys("Trainer(lr=1e-3), or trainer.devices=2") == []


def test_attributes_that_a_help_names_exist() -> None:
    assert [(place, wrong) for place, text in TEXTS if (wrong := wrong_attributes(text))] == []


def test_flags_that_a_help_names_exist() -> None:
    assert [(place, wrong) for place, text in TEXTS if (wrong := wrong_flags(place, text))] == []


def test_commands_that_a_help_names_exist() -> None:
    assert [(place, wrong) for place, text in TEXTS if (wrong := wrong_commands(text))] == []


@pytest.mark.parametrize(
    ("help", "wrong"),
    [
        ("write `max_lenght=`", ["max_lenght"]),
        ("write `max_length=40`", []),
        ("write [BOX:b,siez=1]", ["siez"]),
        ("write `[BOX:b,size=1]`", []),
        ("write [TEXT:a,closed_sett]", ["closed_sett"]),
        ("write [IMAGE:a,codec=dnd(depth=2),decode=sample(cfg=2)]", []),
    ],
)
def test_an_attribute_that_is_none_would_be_seen(help: str, wrong: list[str]) -> None:
    assert wrong_attributes(help) == wrong


@pytest.mark.parametrize(
    ("place", "help", "wrong"),
    [
        ("commands/predict.py:1", "name another file, or --overwrite", []),
        ("commands/predict.py:1", "name another file, or --force", ["--force"]),
        ("commands/check.py:1", "replace it: --overwrite", ["--overwrite"]),
        ("data/rows.py:1", "run: ofasys-lite check NAME --rows 9", []),
        ("data/rows.py:1", "run: ofasys-lite check NAME --analyze", ["--analyze"]),
        ("data/rows.py:1", "look at all: --everything", ["--everything"]),
        ("data/rows.py:1", "tar --sort=name, then --sort", []),
        ("data/rows.py:1", "say --sort", ["--sort"]),
    ],
)
def test_a_flag_that_is_none_would_be_seen(place: str, help: str, wrong: list[str]) -> None:
    assert wrong_flags(place, help) == wrong


@pytest.mark.parametrize(
    ("help", "wrong"),
    [
        ("run: ofasys-lite data prepare digits", []),
        ("run: ofasys-lite data fetch digits", ["data fetch"]),
        ("run: ofasys-lite fit", ["fit"]),
        ("run: ofasys-lite explain LINE", []),
    ],
)
def test_a_command_that_is_none_would_be_seen(help: str, wrong: list[str]) -> None:
    assert wrong_commands(help) == wrong
