"""Ways of writing a target, in one place: which there are, what each takes, which of them write all rows at once.

`decode=` of a slot, `decoding` of a task's card, a call and a command are held against these declarations
(`plan/decoding.py`). A modality's card declares ways of its own under `writers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ofasys_lite.cards.types import AttributeSpec, ModalityCard
from ofasys_lite.errors import listed

#: What an option of each type takes, in words; of another type, a word.
KINDS = {
    "int": "a whole number",
    "ints": "a whole number",
    "float": "a number",
    "floats": "a number",
    "flag": "true or false",
    "list": "a list such as (a,b)",
}
_NUMBERS = ("int", "ints", "float", "floats")


@dataclass(frozen=True, slots=True)
class Way:
    """A way of writing.

    Attributes:
        name: What stands behind `decode=`.
        what: What is written so: `token ids`, `codes`, or a modality.
        options: What it takes. Numbers of type `ints` or `floats` may be given for each depth of codes.
        together: All rows are written at once, in several passes; else from left to right.
    """

    name: str
    what: str
    options: tuple[AttributeSpec, ...]
    together: bool = False

    def option(self, key: str) -> AttributeSpec | None:
        """The option of that name, or None."""
        return next((spec for spec in self.options if spec.key == key), None)


_SEED = AttributeSpec("seed", "int", 0, default=0)
_DRAWN = (
    AttributeSpec("temperature", "floats", 1e-3, 100, default=1.0),
    AttributeSpec("top_k", "ints", 0, default=0),
    AttributeSpec("top_p", "floats", 1e-6, 1, default=1.0),
)
_GUIDED = (
    AttributeSpec("cfg", "float", 0, 100, default=1.0),
    AttributeSpec("cfg_from", "float", 0, 1, default=0.0),
    AttributeSpec("cfg_until", "float", 0, 1, default=1.0),
    AttributeSpec("negative", "str", default="", help="what guidance leads away from, not from an emptied source"),
)
_SEARCHED = (
    AttributeSpec("beam", "int", 1, default=1),
    AttributeSpec("n_best", "int", 1, default=1),
    AttributeSpec("length_penalty", "float", 0, 10, default=1.0),
    AttributeSpec("exact", "flag", default=False),
    AttributeSpec("renormalize", "flag", default=True),
    *_DRAWN,
    AttributeSpec("diversity", "float", 0, 0.99, default=0.0),
    AttributeSpec("no_repeat_ngram", "int", 0, default=0),
    AttributeSpec("no_repeat", "flag", default=False),
    AttributeSpec("min_length", "int", 0, default=0),
    AttributeSpec("max_length", "int", 1),
    _SEED,
)
_ROUNDS = (
    AttributeSpec("steps", "int", 1, default=12),
    AttributeSpec("candidates", "int", 1, default=1),
    AttributeSpec("patience", "int", 0, default=0),
)
_LENGTHS = (
    AttributeSpec("steps", "int", 1, default=12),
    AttributeSpec("lengths", "int", 1, 100, default=3, help="how many of the likeliest lengths are tried"),
)
_TOKENS = (
    *(Way(name, "token ids", _SEARCHED) for name in ("greedy", "beam", "sample")),
    Way("mask_predict", "token ids", (*_LENGTHS, *_GUIDED, _SEED), together=True),
)
_CODES = (
    Way("greedy", "codes", (*_GUIDED, _SEED)),
    Way("sample", "codes", (*_DRAWN, *_GUIDED, _SEED)),
    Way("mask_predict", "codes", (*_ROUNDS, *_DRAWN, *_GUIDED, _SEED), together=True),
)

#: Options that mean the same in every way; a writer of a card has `seed`, and the others where it declares them.
SHARED = tuple(spec.key for spec in (_SEED, *_GUIDED))


def _united(ways: tuple[Way, ...]) -> dict[str, Way]:
    """Ways by name, those of one name with the options of all of them."""
    found: dict[str, Way] = {}
    for way in ways:
        first = found.get(way.name, way)
        options = dict.fromkeys((*first.options, *way.options))
        found[way.name] = Way(way.name, "", tuple(options), first.together)
    return found


#: The ways of the package by name, each with all it takes, whatever it writes.
BUILT_IN: Mapping[str, Way] = _united((*_TOKENS, *_CODES))


def ways_of(modality: ModalityCard) -> tuple[Way, ...]:
    """Ways in which targets of a modality are written: those of codes, and its card's own; else those of token ids."""
    own = tuple(
        Way(name, modality.name, options if any(spec.key == "seed" for spec in options) else (*options, _SEED), True)
        for name, options in modality.writers.items()
    )
    return (*_CODES, *own) if modality.codecs else own or _TOKENS


def typed(value: object, spec: AttributeSpec) -> bool:
    """Whether a value, given in a line, a card, a call or a command, is of an option's type."""
    if spec.type in ("ints", "floats") and isinstance(value, (list, tuple)):
        return bool(value) and all(_number(each, spec) for each in value)
    if spec.type in _NUMBERS:
        return _number(value, spec)
    kinds: Mapping[str, type | tuple[type, ...]] = {"flag": bool, "list": (list, tuple), "str": str, "choice": str}
    return isinstance(value, kinds.get(spec.type, object))


def _number(value: object, spec: AttributeSpec) -> bool:
    number = isinstance(value, int) or (spec.type[:5] == "float" and isinstance(value, float) and math.isfinite(value))
    return number and not isinstance(value, bool)


def holds(value: Any, spec: AttributeSpec) -> bool:
    """Whether a value of an option's type is one of those that are allowed."""
    if spec.type in ("ints", "floats") and isinstance(value, (list, tuple)):
        return all(holds(each, spec) for each in value)
    if spec.type in _NUMBERS:
        return (spec.low is None or value >= spec.low) and (spec.high is None or value <= spec.high)
    return spec.type != "choice" or value in spec.choices


def allowed(spec: AttributeSpec, line: bool) -> str:
    """What is allowed, as an instruction line or as a card, command or call spells it."""
    about = f"; {spec.help}" if spec.help else ""
    if spec.type == "flag" or spec.choices:
        return listed("allowed", spec.choices or ("true", "false")) + about
    low = "" if spec.low is None else f"{spec.low:g}"
    bounds = f"from {low}" if spec.high is None else f"{low} to {spec.high:g}".strip()
    if spec.type not in _NUMBERS:
        bounds = KINDS.get(spec.type, "a word")
    elif spec.low is None and spec.high is None:
        bounds = "any number"
    if spec.type in ("ints", "floats"):
        values = "50,10" if spec.type == "ints" else "1,0.5"
        about = f", or for codes one for each depth: {f'({values})' if line else f'[{values}]'}{about}"
    return f"allowed: {'whole numbers ' if spec.type[:3] == 'int' else ''}{bounds}{about}"
