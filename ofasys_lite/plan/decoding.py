"""How targets are decoded: which arguments there are, what they may be, and whether a line has a use for them.

`decode=` of a slot and `decoding` of a card say the same things; both are held against this table when the line is
planned, and again when a call gives others (`decoding/options.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.cards.yaml_nodes import plain, read_yaml
from ofasys_lite.errors import CardError, Place, did_you_mean, listed
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.language import CODE_DECODE_KEYS, DECODE_KEYS, WAYS
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import Plan, PlannedTemplate, SlotSegment, option, walk

__all__ = ["METHODS", "check_card_decoding", "check_decode", "check_ways", "method_of", "misfit", "mistake", "uneven"]

METHODS = WAYS


@dataclass(frozen=True, slots=True)
class _Range:
    kind: str
    low: float = 0
    high: float | None = None
    by_depth: bool = False

    @property
    def allowed(self) -> str:
        if self.kind == "flag":
            return "allowed: true, false"
        bounds = f"from {self.low:g}" if self.high is None else f"{self.low:g} to {self.high:g}"
        return f"allowed: {'whole numbers ' if self.kind == 'int' else ''}{bounds}"

    def help(self, line: bool) -> str:
        """What is allowed, as an instruction line or as a card, command or call spells it."""
        if not self.by_depth:
            return self.allowed
        values = "50,10" if self.kind == "int" else "1,0.5"
        return f"{self.allowed}, or for codes one for each depth: {f'({values})' if line else f'[{values}]'}"

    def typed(self, value: object) -> bool:
        if self.kind == "flag":
            return isinstance(value, bool)
        if self.by_depth and isinstance(value, (list, tuple)):
            return bool(value) and all(self._number(each) for each in value)
        return self._number(value)

    def _number(self, value: object) -> bool:
        number = isinstance(value, int) or (self.kind == "float" and isinstance(value, float) and value == value)
        return number and not isinstance(value, bool)

    def holds(self, value: Any) -> bool:
        if self.by_depth and isinstance(value, (list, tuple)):
            return all(map(self.holds, value))
        return self.kind == "flag" or (value >= self.low and (self.high is None or value <= self.high))


_RANGES: Mapping[str, _Range] = {
    "beam": _Range("int", 1),
    "n_best": _Range("int", 1),
    "length_penalty": _Range("float", 0, 10),
    "exact": _Range("flag"),
    "temperature": _Range("float", 1e-3, 100, by_depth=True),
    "top_k": _Range("int", 0, by_depth=True),
    "top_p": _Range("float", 1e-6, 1, by_depth=True),
    "no_repeat_ngram": _Range("int", 0),
    "min_length": _Range("int", 0),
    "max_length": _Range("int", 1),
    "seed": _Range("int", 0),
    "cfg": _Range("float", 0, 100),
    "cfg_from": _Range("float", 0, 1),
    "cfg_until": _Range("float", 0, 1),
    "steps": _Range("int", 1),
    "candidates": _Range("int", 1),
    "patience": _Range("int", 0),
}


def method_of(values: Mapping[str, Any]) -> str:
    """The method that options name; without one, a beam above 1 means `beam`."""
    beam = values.get("beam", 1)
    return str(values.get("method", "beam" if isinstance(beam, int) and beam > 1 else "greedy"))


def mistake(values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, help) of the first thing that is wrong with options by name; None if they can be meant."""
    for key in values:
        if key != "method" and key not in _RANGES:
            return f"unknown key `{key}`", did_you_mean(str(key), ["method", *_RANGES])
    method = method_of(values)
    if method not in METHODS:
        return f"method `{method}` is not known", did_you_mean(method, METHODS)
    for key, spec in _RANGES.items():
        value = values.get(key)
        absent = key not in values or (key == "max_length" and value is None)
        if not absent and not (spec.typed(value) and spec.holds(value)):
            return f"{key} is {value!r}", spec.help(line=False)
    return _contradiction(values, method)


def _contradiction(values: Mapping[str, Any], method: str) -> tuple[str, str] | None:
    """What typed options say against each other."""
    least, most = values.get("min_length", 0), values.get("max_length")
    begin, end = values.get("cfg_from", 0.0), values.get("cfg_until", 1.0)
    beam, best = values.get("beam", 1), values.get("n_best", 1)
    candidates, patience = values.get("candidates", 1), values.get("patience", 0)
    if most is not None and most < least:
        return f"max_length {most} is below min_length {least}", "nothing is that long"
    if begin >= end:
        return f"cfg_from {begin} is not below cfg_until {end}", "then there is no guidance; leave them out"
    if method != "beam" and beam > 1:
        return f"beam {beam} with method {method}", "write method: beam"
    if best > beam:
        return f"n_best {best} of a beam of {beam}", "n_best is at most beam"
    if method != "mask_predict" and (candidates > 1 or patience > 0):
        return f"candidates {candidates}, patience {patience} with method {method}", "they belong to mask_predict"
    return None


def _depths(values: Mapping[str, Any], codec: CallValue | None) -> tuple[str, str] | None:
    """What is wrong with options given for each depth, in a slot with this codec; an unknown depth is right."""
    flat = codec is not None and codec.get("layers") == "flat"
    depth = 1 if flat else None if codec is None else codec.get("depth")
    for key, value in values.items():
        if key in _RANGES and isinstance(value, (list, tuple)):
            if codec is None:
                return f"`{key}` is given for each depth, and token ids have none", "write one number"
            if depth is not None and len(value) != depth:
                what = "a flat sequence, which has depth 1" if flat else f"codes of depth {depth}"
                return f"{len(value)} values of `{key}` for {what}", "give one value, or one for each depth"
    return None


def check_decode(planning: Planning, span: Span, decode: CallValue, codec: CallValue | None) -> None:
    """Notes arguments that `decode=` does not have or that cannot be, and ways of decoding that come later.

    Args:
        planning: Takes the mistakes.
        span: Place of the attribute.
        decode: Its value.
        codec: What the slot is written with, None for token ids.
    """
    codes = codec is not None
    if decode.name == "mask_predict" and not codes:
        planning.not_yet("`decode=mask_predict` of token ids is planned for a later version")
        return
    if decode.name == "beam" and codes:
        help = "write decode=sample(top_k=100,cfg=3.0), decode=greedy or decode=mask_predict(steps=12)"
        planning.error("E207", "codes are not written by a beam", span, help)
    keys = CODE_DECODE_KEYS[decode.name] if codes and decode.name in CODE_DECODE_KEYS else DECODE_KEYS
    allowed = listed(f"{decode.name} takes", keys)
    if decode.positional:
        planning.error("E106", f"`decode={decode.name}(...)` takes arguments by name", span, allowed)
    for key in (key for key, _ in decode.keyed if key not in keys):
        where = " of codes" if codes else ""
        other = "" if codes or key not in CODE_DECODE_KEYS["sample"] else "; it belongs to slots with a codec"
        near = did_you_mean(key, keys, f"{decode.name} takes")
        planning.error("E113", f"decoding{where} has no `{key}`", span, near + other)
    before = len(planning.errors)
    _check_values(planning, span, decode, keys)
    options = decode.options()
    wrong = _contradiction(options, decode.name) or _depths(options, codec) if len(planning.errors) == before else None
    if wrong is not None:
        planning.error("E207", f"decode: {wrong[0]}", span, wrong[1].replace("method: beam", "decode=beam"))


def _check_values(planning: Planning, span: Span, decode: CallValue, keys: tuple[str, ...]) -> None:
    names = [key for key, _ in decode.keyed]
    for key in sorted({key for key in names if names.count(key) > 1}):
        planning.error("E108", f"decode: `{key}` is given twice", span, "keep one of them")
    kinds = {"int": "a whole number", "float": "a number", "flag": "true or false"}
    for key, value in ((k, v) for k, v in decode.options().items() if k in keys):
        spec = _RANGES[key]
        if not spec.typed(value):
            planning.error("E106", f"decode: `{key}` takes {kinds[spec.kind]}", span, spec.help(line=True))
        elif not spec.holds(value):
            planning.error("E107", f"decode: `{key}={value}` is out of range", span, spec.help(line=True))


def check_ways(planning: Planning, template: PlannedTemplate) -> None:
    """Notes target slots that say different ways of decoding: a line has one (E207)."""
    first: tuple[SlotSegment, CallValue] | None = None
    for slot in (s for side in template.targets for s in walk(side)):
        decode = option(slot.options, "decode")
        if not isinstance(decode, CallValue):
            continue
        first = first or (slot, decode)
        if (decode.name, decode.options()) != (first[1].name, first[1].options()):
            help = "give both the same `decode`, leave one of them out, or make two tasks of the line"
            message = f"`{slot.column}` is decoded in another way than `{first[0].column}`, and a line has one"
            planning.error("E207", message, slot.span, help)


def misfit(plan: Plan, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, help) of what the plan has no use for in options by name; None if it can be decoded so."""
    method, cfg, n_best = method_of(values), values.get("cfg", 1.0), values.get("n_best", 1)
    judged = values.get("candidates", 1) > 1 or values.get("patience", 0) > 0
    if n_best > 1 and len(plan.templates[0].targets) > 1:
        return (
            f"n_best {n_best}, but the line writes {len(plan.templates[0].targets)} targets, "
            "each with hypotheses of its own",
            "leave n_best out, or ask for one target a line",
        )
    coded = [s for s in plan.target_slots() if s.learned and codec_of(s) is not None]
    if coded and method == "beam":
        return "codes are not written by a beam", "decode=sample, greedy or mask_predict"
    if not coded and (cfg != 1 or method == "mask_predict"):
        what = f"cfg {cfg:g}" if cfg != 1 else "mask_predict"
        return f"{what}: this line writes no codes", "it is for targets with a codec"
    ways = [option(s.options, "decode") for s in coded]
    together = any(isinstance(way, CallValue) and way.name == "mask_predict" for way in ways)
    if together and method in ("greedy", "sample"):
        return f"{method}: this line was learned with mask_predict", "decode=mask_predict(steps=12)"
    if method == "mask_predict" and not together:
        return "mask_predict: this line was learned from left to right", "decode=sample or greedy"
    if judged and any(codec.get("judges") is None for codec in map(codec_of, coded) if codec):
        help = "train it with codec=dnd(...,judges=0.1), or leave them out"
        return "candidates, patience: this line was learned without judges", help
    wrong = uneven(plan, values)
    if wrong is not None:
        return wrong
    if cfg != 1 and not any(s.drop > 0 for s in walk(plan.templates[0].source)):
        return "cfg compares with an emptied source, and this line has no slot with `drop=`", ""
    return None


def uneven(plan: Plan, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, help) of options for each depth that do not fit the plan's codecs; None if they do.

    Token ids beside codes take what the first depth has.
    """
    slots = [s for s in plan.target_slots() if s.learned]
    coded = [s for s in slots if codec_of(s) is not None]
    found = [_depths(values, codec_of(s)) for s in coded or slots]
    return next((each for each in found if each is not None), None)


def _idle(plan: Plan, method: str, keys: Iterable[str]) -> tuple[str, str] | None:
    """(message, help) of the first key that nothing of the line asks for: what `decode=` of its slots would refuse."""
    slots = [s for s in plan.target_slots() if s.learned]
    coded = [codec_of(s) is not None for s in slots]
    known = {"method", *(() if slots and all(coded) else DECODE_KEYS)}
    known |= set(CODE_DECODE_KEYS.get(method, ())) if any(coded) else set()
    for key in keys:
        if key not in known:
            what = "codes" if any(coded) else "token ids"
            return f"`{key}` does nothing: {method} of {what} has none", listed("it takes", sorted(known))
    return None


def check_card_decoding(card: TaskCard, plan: Plan) -> None:
    """Raises CardError where the card's `decoding` cannot be, or cannot be for its line."""
    if not card.decoding:
        return
    values = {**plan.decoding(), **card.decoding}
    wrong = mistake(values)
    if wrong is None and not plan.cannot_train:
        wrong = misfit(plan, values) or _idle(plan, method_of(values), card.decoding)
    if wrong is not None:
        raise CardError(f"task {card.name}: decoding: {wrong[0]}", place=_place(card), help=wrong[1])


def _place(card: TaskCard) -> Place | None:
    """Where the card's file says `decoding`; None where it came from elsewhere (a command line, Python)."""
    if not card.path or not Path(card.path).is_file():
        return None
    item = read_yaml(Path(card.path))
    found = {key.text: (key.place, value) for key, value in item.pairs()} if item.kind == "map" else {}
    place, value = found.get("decoding", (None, None))
    return place if value is not None and plain(value) == dict(card.decoding) else None
