"""Typed text -> what it means: lines, paths and names are taken as they are written, whatever marks stand in them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from typing import Any

from ofasys_lite.cards.load import TASK_KEYS
from ofasys_lite.cards.typed import typed_source
from ofasys_lite.commands.escapes import escape
from ofasys_lite.errors import CardError
from ofasys_lite.instruction.quotes import unquoted
from ofasys_lite.preprocess.absence import home

_ARGUMENT = re.compile(r"(?P<plus>\+{0,2})(?P<key>[^=~+\-'\"][^=]*)=(?P<value>.*)", re.DOTALL)
_LINE = re.compile(r"tasks\.[^.]+\.instruction")
_SOURCE = re.compile(r"tasks\.[^.]+\.(data(\.\w+){0,2}|columns)")
_TEXT = re.compile(r"tasks\.[^.]+\.(group|help|reference|columns\..+)")
#: Keys of a run and of `evaluate` that hold a path or a name.
_PLACES = frozenset(("name", "resume", "run", "checkpoint", "output"))
_PLACES_OF_DATA = frozenset(("data.root", "data.cache", "data.cards", "data.tokenizer"))
#: What stays a value of its own where a place is asked for.
_WORDS = frozenset(("null", "true", "false"))
_NONE = frozenset(("null", "none", "false", "off", "no", ""))
#: Groups of presets, and whether several may be chosen.
_GROUPS = {"tasks": True, "logger": True, "modalities": True, "model": False, "trainer": False, "data": False}
#: Help where several values stand for one run.
MANY = "-m makes one run of each: ofasys-lite train -m ...; a list is written in brackets: [0,1]"
_OPEN, _SHUT, _QUOTES = tuple("([{"), tuple(")]}"), ("'", '"')


def literal(arguments: Sequence[str], many: bool) -> list[str]:
    """The arguments in Hydra's grammar: lines, sources, paths and names quoted, so that every character is text.

    Keys of tasks, and of what parts begin with, need no `+`: their own readers know which there are, and offer the
    near name.

    Args:
        many: Whether this is a multirun, where a comma between values asks for one run each.

    Raises:
        CardError: Several values without `-m`, or a list or mapping that cannot be read.
    """
    none = {f"experiment={each}" for each in _NONE}
    return [_literal(argument, many) for argument in arguments if argument.lower() not in none]


def _literal(argument: str, many: bool) -> str:
    found = _ARGUMENT.fullmatch(argument)
    if argument[:1] in ("=", "@"):
        raise CardError(f"cannot read the argument `{argument}`", help="write key=value")
    if found is None:
        return "logger=[]" if argument == "~logger" else argument
    plus, key, text = found["plus"], found["key"], found["value"]
    if key.startswith("tasks."):
        _refuse_name(key, argument)
        if _LINE.fullmatch(key):
            return f"++{key}={_several(argument, _lines(text), many, _line)}"
        if _SOURCE.fullmatch(key):
            return f"++{key}={_several(argument, _values(text, many), many, _source)}"
        if _TEXT.fullmatch(key):
            return f"++{key}={_several(argument, _values(text, many), many, _line)}"
        known = key.count(".") < 2 or key.split(".")[2] in TASK_KEYS
        return f"++{key}={text if known else _line(text)}"  # of others the card's reader says what they are called
    if key.startswith("start.") and key not in ("start.path", "start.replay"):
        plus = "++"  # which modalities can begin with weights of others their cards say, and the run's own reader asks
    if key in _PLACES or (key.startswith("start.") and key != "start.replay"):
        return f"{plus}{key}={_several(argument, _values(text, many), many, _place)}"
    if key in _PLACES_OF_DATA:
        return f"{plus}{key}={_several(argument, _values(text, many), many, _places)}"
    if key in _GROUPS or key == "experiment":
        return f"{plus}{key}={_preset(key, text)}"
    if plus and key.startswith("hydra."):
        raise CardError(f"unknown key `{key}`", help="Hydra's own keys are changed without `+`")
    return argument


def _preset(group: str, text: str) -> str:
    """The choice of a group; what Hydra would answer with an error of its own is refused or read as a name."""
    if text.lower() in _NONE:
        if group not in ("tasks", "logger"):
            raise CardError(f"`{group}` is `{text}`", help=f"leave it out, or choose one: {group}=NAME")
        return "[]"
    if not _GROUPS.get(group) and text.startswith("["):
        raise CardError(f"`{group}` is `{text}`", help=f"one of them: {group}=NAME; with -m several are written a,b")
    return quoted(text) if re.fullmatch(r"[-+\d.e]+|true", text.lower()) else text


def _values(text: str, many: bool) -> list[str]:
    """The values of a sweep; the whole text where it is one value, or a file is called so."""
    if os.path.exists(home(text)):
        return [text]
    parts = [each.strip() for each in _cut(_chosen(text), _commas(_chosen(text), quotes=True))]
    return parts if many or all(os.path.exists(home(part)) for part in parts) else [text]


def _lines(text: str) -> list[str]:
    """The lines of a sweep, `"A -> B","C -> D"`; the whole text where it is one line."""
    inner = _chosen(text)
    commas = _commas(inner, quotes=False)
    if inner[:1] in _QUOTES and inner[-1:] in _QUOTES:  # commas of a prompt have no quotes on both sides
        commas = [
            at for at in commas if inner[:at].rstrip()[-1:] in _QUOTES and inner[at + 1 :].lstrip()[:1] in _QUOTES
        ]
    elif "|||" in inner:
        commas = []
    parts = [part.strip() for part in _cut(inner, commas)]
    return parts if len(parts) > 1 and all("->" in part for part in parts) else [text]


def _chosen(text: str) -> str:
    """What stands in Hydra's `choice(...)`; any other text as it is."""
    found = re.fullmatch(r"choice\((.*)\)", text.strip(), re.DOTALL)
    return text.strip() if found is None else found[1]


def _commas(text: str, quotes: bool) -> list[int]:
    """Offsets of the commas outside brackets (and outside quotes)."""
    found, depth, mark = [], 0, ""
    for place, char in enumerate(text):
        if place and text[place - 1] == "\\":
            continue
        if mark:
            mark = "" if char == mark else mark
        elif quotes and char in _QUOTES and text[:place].rstrip()[-1:] in ("", ",", *_OPEN):
            mark = char
        elif char in _OPEN:
            depth += 1
        elif char in _SHUT:
            depth = max(0, depth - 1)
        elif char == "," and not depth:
            found.append(place)
    return found


def _cut(text: str, places: Sequence[int]) -> list[str]:
    starts = [0, *(place + 1 for place in places)]
    return [text[start:stop] for start, stop in zip(starts, [*places, len(text)], strict=True)]


def _several(argument: str, values: Sequence[str], many: bool, written: Callable[[str], str]) -> str:
    """The values in Hydra's grammar; CardError for several where only one run is asked for."""
    if len(values) > 1 and not many:
        key = argument.partition("=")[0]
        raise CardError(f"`{key}` is given {len(values)} values", help=MANY)
    return ",".join(written(value) for value in values)


def _line(text: str) -> str:
    return quoted(escape(_bare(text)))


def _bare(text: str) -> str:
    """A line or name without the quotes around it."""
    found = unquoted(text)
    if found == text and len(text) > 1 and text[0] in "\"'" and text[-1] == text[0] and "->" not in text:
        return re.sub(rf"\\({text[0]})", r"\1", text[1:-1])
    return found


def _source(text: str) -> str:
    return "null" if text == "null" else _written(typed_source(text), escape)


def _place(text: str) -> str:
    return text.lower() if text.lower() in _WORDS else quoted(home(_bare(text)))


def _places(text: str) -> str:
    """One place or a list of them."""
    if text.lower() in _WORDS or not text:
        return text
    value = typed_source(text)
    return _written([home(str(each)) for each in value] if isinstance(value, list) else home(str(value)), str)


def _written(value: Any, literally: Callable[[str], str]) -> str:
    """A plain value in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(each, literally)}" for key, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(each, literally) for each in value) + "]"
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return str(value) if isinstance(value, (int, float)) else quoted(literally(str(value)))


def quoted(text: str) -> str:
    """The text between quotes as Hydra reads them: a backslash counts only in front of a quote."""
    inner = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text)
    return f'"{inner}"'


def _refuse_name(key: str, argument: str) -> None:
    """Hydra takes no other keys, and says so in its own words."""
    for part in key.split("."):
        if not re.fullmatch(r"[A-Za-z_$][A-Za-z0-9_$-]*|\d+", part):
            raise CardError(
                f"cannot read `{part}` in `{argument.partition('=')[0]}`",
                help="names typed here are of ASCII letters, digits, _ and -, a letter first; others go into a card",
            )
