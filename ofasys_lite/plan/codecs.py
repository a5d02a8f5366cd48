"""`codec=dnd(...)` of a target slot: what it may say, and the codec's facts once it is known.

A line names a codec folder, `codec=dnd(codecs/digits,depth=2)`, or only its sizes, `codec=dnd(depth=2)`: then one is
trained on the training split before the run begins. Either way the plan that is trained holds the codec's hash and
sizes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.errors import did_you_mean
from ofasys_lite.instruction.syntax_tree import Slot, Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import GroupSegment, Plan, Segment, SlotSegment, option, walk, written_together


@dataclass(frozen=True, slots=True)
class _Key:
    kind: str
    low: float = 0
    high: float = 0
    choices: tuple[str, ...] = ()


#: What decides the codec itself.
TOKENIZER_KEYS = ("depth", "factor", "codes", "steps")
#: What decides how the model learns its codes.
MODEL_KEYS = ("layers", "feedback", "weights", "order", "anneal", "correct", "judges")
_KEYS: Mapping[str, _Key] = {
    "depth": _Key("int", 1, 16),
    "factor": _Key("int", 2, 64),
    "codes": _Key("int", 2, 65_536),
    "steps": _Key("int", 1, 10_000_000),
    "layers": _Key("choice", choices=("last", "even", "parallel", "flat")),
    "feedback": _Key("choice", choices=("true", "false")),
    "weights": _Key("numbers", 0, 1000),
    "order": _Key("choice", choices=("raster", "random")),
    "anneal": _Key("int", 0, 10_000_000),
    "correct": _Key("float", 0, 1),
    "judges": _Key("float", 0.001, 100),
}


def given_codec(
    planning: Planning, value: object, modality: ModalityCard, slot: Slot, written: bool
) -> CallValue | None:
    """The checked `codec=` of a slot, the modality's first codec where it writes with one and none is named.

    Args:
        value: The attribute's plain value, None where it is not given.
        written: The slot is learned on the target side.
    """
    if value is None:
        return CallValue(next(iter(modality.codecs))) if written and modality.codecs else None
    span = next((a.span for a in slot.attributes if a.key == "codec"), slot.span)
    if not modality.codecs:
        others = sorted({m.name for m in planning.modalities.values() if m.codecs})
        verb = "takes" if len(others) == 1 else "take"
        help = f"{' and '.join(others)} {verb} it; leave `codec` out" if others else "leave `codec` out"
        planning.error("E112", f"{modality.name} is not written by a codec", span, help)
        return None
    call = value if isinstance(value, CallValue) else CallValue(str(value))
    if call.name not in modality.codecs:
        help = did_you_mean(call.name, list(modality.codecs), f"{modality.name} has")
        planning.error("E113", f"`codec` cannot be `{call.name}`", span, help)
        return None
    return check_codec(planning, call, span)


def check_codec(planning: Planning, call: CallValue, span: Span) -> CallValue:
    """`call` with its arguments checked and sorted (E106, E107, E113, E207)."""
    if len(call.positional) > 1 or not all(isinstance(p, str) for p in call.positional):
        help = f"write codec={call.name}(codecs/mine,depth=2), or codec={call.name}(depth=2)"
        planning.error("E106", f"`codec={call.name}` takes one folder, and sizes by name", span, help)
    elif call.positional and call.positional[0] in _KEYS:
        key = str(call.positional[0])
        planning.error("E106", f"codec: `{key}` has no value", span, f"write {key}=..., or ./{key} for a folder")
    names = [key for key, _ in call.keyed]
    for key in sorted({key for key in names if names.count(key) > 1}):
        planning.error("E108", f"codec: `{key}` is given twice", span, "keep one of them")
    for key, value in call.keyed:
        spec = _KEYS.get(key)
        if spec is None:
            planning.error("E113", f"codec {call.name} has no `{key}`", span, did_you_mean(key, list(_KEYS)))
        else:
            _check(planning, key, value, spec, span)
    found = dict(call.keyed)
    if call.positional and "steps" in found:
        planning.error("E207", "`steps` trains a codec, and one is named", span, "leave one of them out")
    if "anneal" in found and found.get("order") != "random":
        planning.error("E207", "`anneal` means nothing without `order=random`", span, "write order=random too")
    if found.get("layers") == "flat" and any(key in found for key in ("feedback", "weights", "order", "correct")):
        help = "they are for codes with depth; leave them out of a flat sequence"
        planning.error("E207", "`layers=flat` beside feedback, weights, order or correct", span, help)
    if found.get("layers") == "parallel" and found.get("feedback") == "true":
        help = "heads on one layer do not see each other's codes; write layers=last, or leave `feedback` out"
        planning.error("E207", "`layers=parallel` has no feedback", span, help)
    if "judges" in found and found.get("correct", 0) != 0:
        help = "judges learn what real codes are; leave one of them out"
        planning.error("E207", "`judges` beside `correct`, which makes codes wrong", span, help)
    weights, depth = found.get("weights"), found.get("depth")
    if isinstance(weights, tuple) and isinstance(depth, int) and len(weights) != depth:
        planning.error("E207", f"{len(weights)} weights for codes of depth {depth}", span, "give one weight a depth")
    return CallValue(call.name, call.positional, tuple(sorted(call.keyed, key=lambda pair: pair[0])))


def _check(planning: Planning, key: str, value: object, spec: _Key, span: Span) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if spec.kind == "choice":
        if value not in spec.choices:
            planning.error("E113", f"codec: `{key}` cannot be `{value}`", span, did_you_mean(str(value), spec.choices))
        return
    if spec.kind == "numbers":
        if not isinstance(value, tuple) or not all(isinstance(v, (int, float)) and v >= 0 for v in value):
            planning.error("E106", f"codec: `{key}` takes numbers of at least 0", span, f"write {key}=(1,0.5)")
        elif not any(value):
            planning.error("E107", f"codec: all `{key}` are 0", span, "then nothing is learned; give one of them more")
        return
    if not number or (spec.kind == "int" and not isinstance(value, int)):
        kind = "a whole number" if spec.kind == "int" else "a number"
        planning.error("E106", f"codec: `{key}` takes {kind}", span, f"allowed: {spec.low:g} to {spec.high:g}")
    elif not spec.low <= float(str(value)) <= spec.high:
        help = f"allowed: {spec.low:g} to {spec.high:g}"
        planning.error("E107", f"codec: `{key}={value}` is out of range", span, help)
    elif key == "factor" and isinstance(value, int) and value & (value - 1):
        planning.error("E107", f"codec: `factor={value}` is no power of two", span, "write 2, 4, 8, 16, 32 or 64")


def codec_of(slot: SlotSegment) -> CallValue | None:
    """The slot's codec, or None."""
    found = option(slot.options, "codec")
    return found if isinstance(found, CallValue) else None


def with_codecs(plan: Plan, facts: Mapping[str, Mapping[str, object]]) -> Plan:
    """The plan with the codec of each slot named in `facts` (by key) known: hash and sizes instead of a folder.

    What the line says of the model's side (`layers`, `feedback`, `weights`, `order`, `correct`, `judges`) stays.
    """

    def known(segment: Segment) -> Segment:
        if isinstance(segment, GroupSegment):
            return replace(segment, alternatives=tuple(tuple(map(known, side)) for side in segment.alternatives))
        if not isinstance(segment, SlotSegment) or segment.key not in facts:
            return segment
        call = codec_of(segment)
        if call is None:
            return segment
        kept = {k: v for k, v in call.keyed if k in MODEL_KEYS}
        # plans are hashed; JSON knows lists only
        own = {k: tuple(v) if isinstance(v, list) else v for k, v in facts[segment.key].items()}
        keyed = tuple(sorted({**own, **kept}.items()))
        options = {**dict(segment.options), "codec": CallValue(call.name, (), keyed)}
        if "size" in facts[segment.key]:
            options["size"] = facts[segment.key]["size"]
        return replace(segment, options=tuple(sorted(options.items(), key=lambda pair: pair[0])))

    templates = tuple(replace(t, targets=tuple(tuple(map(known, side)) for side in t.targets)) for t in plan.templates)
    return replace(plan, templates=templates)


def codec_slots(plan: Plan) -> tuple[SlotSegment, ...]:
    """Target slots written in codes."""
    return tuple(s for side in plan.templates[0].targets for s in walk(side) if s.learned and codec_of(s) is not None)


def adapter_facts(slot: SlotSegment) -> dict[str, Any]:
    """What the slot's adapter is built with: the codec's facts, and what the line says of the model's side."""
    call = codec_of(slot)
    return {} if call is None else dict(call.keyed)


def adapter_suffix(slot: SlotSegment) -> str:
    """`:dnd-1a2b3c4d`: adapters are shared by slots of equal codec and equal settings of the model's side."""
    call = codec_of(slot)
    if call is None:
        return ""
    facts = dict(call.keyed)
    shown = repr((facts.get("hash"), sorted((k, v) for k, v in facts.items() if k in MODEL_KEYS)))
    # rows that see each other, some of them masked, and rows from left to right are not learned by the same heads
    together = "-together" if written_together(slot.options) else ""
    return f":{call.name}-{hashlib.sha256(shown.encode()).hexdigest()[:8]}{together}"
