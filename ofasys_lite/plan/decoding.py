"""How targets are decoded: whether what is said of it can be meant, and whether the line has a use for it.

`decode=` of a slot and `decoding` of a card say the same things. Which ways there are, and what each takes, is declared
in `cards/ways.py` and in the modalities' cards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ofasys_lite.cards.classes import load_object
from ofasys_lite.cards.types import AttributeSpec, ModalityCard, TaskCard
from ofasys_lite.cards.ways import BUILT_IN, KINDS, Way, allowed, holds, typed, ways_of
from ofasys_lite.cards.yaml_nodes import plain, read_yaml
from ofasys_lite.errors import CardError, Place, did_you_mean, listed
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import LossSpec, Plan, PlannedTemplate, SlotSegment, option, walk, written_together


def option_names(ways: Mapping[str, Way] = BUILT_IN) -> tuple[str, ...]:
    """Names of all that decoding in these ways may be given."""
    return tuple(dict.fromkeys(("method", *(spec.key for way in ways.values() for spec in way.options))))


def method_of(values: Mapping[str, Any], ways: Mapping[str, Way] = BUILT_IN) -> str:
    """The method that options name; without one, a beam above 1 means `beam`, and else the first way is meant."""
    beam = values.get("beam", 1)
    return str(values.get("method", "beam" if isinstance(beam, int) and beam > 1 else next(iter(ways))))


def mistake(values: Mapping[str, Any], ways: Mapping[str, Way] = BUILT_IN) -> tuple[str, str] | None:
    """(message, help) of the first thing that is wrong with options by name; None if they can be meant."""
    return _unfit(values, ways) or _contradiction(values, ways[method_of(values, ways)])


def _unfit(values: Mapping[str, Any], ways: Mapping[str, Way]) -> tuple[str, str] | None:
    """What is unknown, of the wrong type or out of range."""
    names, method = option_names(ways), method_of(values, ways)
    for key in values:
        if key not in names:
            return f"unknown key `{key}`", did_you_mean(str(key), names)
    if method not in ways:
        return f"method `{method}` is not known", did_you_mean(method, ways)
    for key, value in values.items():
        spec = _option(key, ways[method], ways)
        absent = spec is None or (value is None and spec.default is None)
        if spec is not None and not absent and not (typed(value, spec) and holds(value, spec)):
            return f"{key} is {value!r}", allowed(spec, line=False)
    return None


def _option(key: str, way: Way, ways: Mapping[str, Way]) -> AttributeSpec | None:
    """What an option may be: as the way has it, else as another one has it; None for `method`."""
    return next((spec for each in (way, *ways.values()) if (spec := each.option(key)) is not None), None)


def _contradiction(values: Mapping[str, Any], way: Way) -> tuple[str, str] | None:
    """What typed options say against each other."""
    if way.name not in BUILT_IN:
        return None
    least, most = values.get("min_length", 0), values.get("max_length")
    begin, end = values.get("cfg_from", 0.0), values.get("cfg_until", 1.0)
    beam, best = values.get("beam", 1), values.get("n_best", 1)
    if most is not None and most < least:
        return f"max_length {most} is below min_length {least}", "nothing is that long"
    if begin >= end:
        return f"cfg_from {begin} is not below cfg_until {end}", "then there is no guidance; leave them out"
    if way.name != "beam" and beam > 1:
        return f"beam {beam} with method {way.name}", "write method: beam"
    if best > beam:
        return f"n_best {best} of a beam of {beam}", "n_best is at most beam"
    if values.get("diversity", 0.0) and best < 2:
        return "diversity of one answer", "it is of lists: write n_best: 10 of beam: 50"
    from_left = {spec.key for each in BUILT_IN.values() if not each.together for spec in each.options}
    for key, value in () if way.together else values.items():
        spec = _option(key, way, BUILT_IN)
        if spec is not None and value != spec.default and key not in from_left:
            return _nothing(key, way.name, way.options)
    return None


def _nothing(key: str, what: str, options: Iterable[AttributeSpec]) -> tuple[str, str]:
    return f"`{key}` does nothing: {what} has none", listed("it takes", sorted({"method", *(o.key for o in options)}))


def _depths(values: Mapping[str, Any], way: Way, codec: CallValue | None) -> tuple[str, str] | None:
    """What is wrong with options given for each depth, in a slot with this codec; an unknown depth is right."""
    flat = codec is not None and codec.get("layers") == "flat"
    depth = 1 if flat else None if codec is None else codec.get("depth")
    for key, value in values.items():
        spec = _option(key, way, BUILT_IN)
        if spec is not None and spec.type in ("ints", "floats") and isinstance(value, (list, tuple)):
            if codec is None:
                return f"`{key}` is given for each depth, and token ids have none", "write one number"
            if depth is not None and len(value) != depth:
                what = "a flat sequence, which has depth 1" if flat else f"codes of depth {depth}"
                return f"{len(value)} values of `{key}` for {what}", "give one value, or one for each depth"
    return None


def written_by(
    planning: Planning, span: Span, decode: object, losses: tuple[LossSpec, ...], modality: ModalityCard
) -> object:
    """`decode` of a target that a writer of its card writes: what the line says, else what its objective asks.

    Args:
        planning: Takes the mistake: a writer that cannot write what was learned (E207).
    """
    first, *_ = modality.writers
    learned = [modality.objectives[loss.name].writer or first for loss in losses if loss.name in modality.objectives]
    fits = learned[0] if learned else first
    if not isinstance(decode, CallValue):
        return CallValue(fits)
    if decode.name in modality.writers and decode.name != fits:
        objective = losses[0].name if losses else ""
        message = f"`decode={decode.name}` cannot write what `loss={objective}` learned"
        planning.error("E207", message, span, f"leave it out, or write decode={fits}")
    return decode


def planned_decode(
    planning: Planning, span: Span, decode: CallValue, modality: ModalityCard, codec: CallValue | None
) -> CallValue:
    """`decode=` of a slot as the plan holds it: a writer of a card has a value for each of its options.

    Args:
        planning: Takes the mistakes: arguments that the way does not have or that cannot be (E106, E107, E108, E113,
            E207).
        codec: What the slot is written with, None for anything but codes.
    """
    way = next(way for way in ways_of(modality) if way.name == decode.name)
    keys = [spec.key for spec in way.options]
    before = len(planning.errors)
    if decode.positional:
        help = listed(f"{way.name} takes", keys)
        planning.error("E106", f"`decode={way.name}(...)` takes arguments by name", span, help)
    for key in (key for key, _ in decode.keyed if key not in keys):
        known = BUILT_IN.get(way.name, way).option(key)
        other = "; it belongs to slots with a codec" if known is not None and way.what == "token ids" else ""
        help = did_you_mean(key, keys, f"{way.name} takes") + other
        planning.error("E113", f"`decode={way.name}` has no `{key}`", span, help)
    names = [key for key, _ in decode.keyed]
    for key in sorted({key for key in names if names.count(key) > 1}):
        planning.error("E108", f"decode: `{key}` is given twice", span, "keep one of them")
    options = decode.options()
    for spec in (spec for spec in way.options if spec.key in options):
        key, value = spec.key, options[spec.key]
        if not typed(value, spec):
            kind = KINDS.get(spec.type, "a word")
            planning.error("E106", f"decode: `{key}` takes {kind}", span, allowed(spec, line=True))
        elif not holds(value, spec):
            planning.error("E107", f"decode: `{key}={value}` is out of range", span, allowed(spec, line=True))
    if len(planning.errors) == before:
        wrong = _contradiction(options, way) or _depths(options, way, codec)
        if wrong is not None:
            planning.error("E207", f"decode: {wrong[0]}", span, wrong[1].replace("method: beam", "decode=beam"))
    if way.name not in modality.writers:
        return decode
    # an empty text says nothing, and plans of before are what they were
    defaults = {spec.key: spec.default for spec in modality.writers[way.name] if spec.default != ""}
    return CallValue(way.name, (), tuple(sorted({**defaults, **options}.items(), key=lambda pair: pair[0])))


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
    method, cfg, n_best = method_of(values, plan.ways()), values.get("cfg", 1.0), values.get("n_best", 1)
    judged = values.get("candidates", 1) > 1 or values.get("patience", 0) > 0
    if n_best > 1 and len(plan.templates[0].targets) > 1:
        return (
            f"n_best {n_best}, but the line writes {len(plan.templates[0].targets)} targets, "
            "each with hypotheses of its own",
            "leave n_best out, or ask for one target a line",
        )
    slots = [s for s in plan.target_slots() if s.learned]
    for slot in slots:
        way = slot.way(method)
        if way is None:
            names = [way.name for way in slot.ways]
            return f"`{method}` does not write {slot.ways[0].what}", f"decode={' or '.join(names)}"
        if way.together != written_together(slot.options):
            learned = "from left to right" if way.together else f"with {plan.decoding()['method']}"
            names = [each.name for each in slot.ways if each.together != way.together]
            return f"{method}: this line was learned {learned}", f"decode={' or '.join(names)}"
        own = option(slot.options, "decode")
        if way.name not in BUILT_IN and isinstance(own, CallValue) and own.name != way.name:
            learned = f"loss={slot.losses[0].name}" if slot.losses else "another objective"
            return f"{method} cannot write what {learned} learned", f"method: {own.name}"
    if judged and any(codec.get("judges") is None for codec in map(codec_of, slots) if codec):
        help = "train it with codec=dnd(...,judges=0.1), or leave them out"
        return "candidates, patience: this line was learned without judges", help
    wrong = uneven(plan, values)
    if wrong is not None:
        return wrong
    if cfg != 1 and (idle := _idle(plan, method, ["cfg"])) is not None:
        return idle
    if cfg != 1 and not any(s.drop > 0 for s in walk(plan.templates[0].source)):
        return "cfg compares with an emptied source, and this line has no slot with `drop=`", ""
    return wrong_negative(plan.templates[0], values)


def wrong_negative(template: PlannedTemplate, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, help) of a negative prompt that nothing reads; None if it has its use, or is not given."""
    if not values.get("negative"):
        return None
    if values.get("cfg", 1.0) == 1:
        return "negative: guidance leads away from it, and there is none", "write cfg=2 beside it"
    dropped = (load_object(s.preprocess, "preprocess") for s in walk(template.source) if s.drop > 0)
    if not any(getattr(tool, "text", False) for tool in dropped):
        help = "write drop=0.1 in the slot of the prompt: [TEXT:caption,drop=0.1]"
        return "negative: no slot with `drop=` of this line reads text", help
    return None


def uneven(plan: Plan, values: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message, help) of options for each depth that do not fit the plan's codecs; None if they do.

    Token ids beside codes take what the first depth has.
    """
    ways = plan.ways()
    way = ways[method_of(values, ways)]
    slots = [s for s in plan.target_slots() if s.learned]
    coded = [s for s in slots if codec_of(s) is not None]
    found = [_depths(values, way, codec_of(s)) for s in coded or slots]
    return next((each for each in found if each is not None), None)


def _idle(plan: Plan, method: str, keys: Iterable[str]) -> tuple[str, str] | None:
    """(message, help) of the first key that nothing of the line asks for: what `decode=` of its slots would refuse."""
    ways = [way for s in plan.target_slots() if s.learned and (way := s.way(method)) is not None]
    for key in keys:
        if ways and key != "method" and all(way.option(key) is None for way in ways):
            what = " and ".join(dict.fromkeys(way.what for way in ways))
            return _nothing(key, f"{method} of {what}", [spec for way in ways for spec in way.options])
    return None


def wrong_for(plan: Plan, values: Mapping[str, Any], said: Iterable[str]) -> tuple[str, str] | None:
    """(message, help) of what is wrong with decoding a line so; None if nothing is.

    Args:
        said: Names of those that were given; the others are the line's own.
    """
    if plan.alignment is not None and (given := list(said)):
        return f"{given[0]}: a line with `<->` writes nothing", "leave decoding options out"
    ways = plan.ways()
    wrong = _unfit(values, ways)
    if wrong is None and not plan.cannot_train:
        wrong = misfit(plan, values) or _idle(plan, method_of(values, ways), said)
    return wrong or _contradiction(values, ways[method_of(values, ways)])


def held_for(plan: Plan, held: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a line, and over them what is given; another method takes nothing of the line's that it has not."""
    method = given.get("method")
    kept = held if method is None else {key: value for key, value in held.items() if not _idle(plan, method, [key])}
    return {**kept, **given}


def check_card_decoding(card: TaskCard, plan: Plan) -> None:
    """Raises CardError where the card's `decoding` cannot be, or cannot be for its line."""
    if not card.decoding:
        return
    wrong = wrong_for(plan, held_for(plan, plan.decoding(), card.decoding), card.decoding)
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
