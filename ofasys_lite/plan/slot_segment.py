"""One slot of the tree -> one SlotSegment, with every mistake in its attributes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from ofasys_lite.cards.types import AttributeSpec, ModalityCard
from ofasys_lite.cards.ways import ways_of
from ofasys_lite.errors import InstructionError, did_you_mean, listed, nearest
from ofasys_lite.instruction.syntax_tree import Attribute, Bare, Call, ListValue, Slot, Span
from ofasys_lite.plan.alignment import ALIGNED, BESIDE_ALIGNMENT, note_alignment
from ofasys_lite.plan.attribute_values import CallValue, plain, scalar_text, typed
from ofasys_lite.plan.codecs import given_codec
from ofasys_lite.plan.decoding import planned_decode, written_by
from ofasys_lite.plan.language import (
    ALIGNMENTS,
    LANGUAGE,
    LOSSES_NOW,
    OBJECTIVES,
    PREFERENCES,
    REFUSED,
    RENAMED,
    TEXT_ADAPTER,
)
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import ClosedSet, LossSpec, Options, SlotSegment
from ofasys_lite.plan.sense import check_slot
from ofasys_lite.plan.written_together import only_reads

_PAIRED = f"it is learned by {', '.join(PREFERENCES)}: loss={PREFERENCES[0]}(beta=0.1)"
#: What of a card's table serves a slot that names nothing, the first that is there; by whether the slot is written.
_UNNAMED: Mapping[bool, tuple[str, ...]] = {True: ("written", "default"), False: ("default",)}
#: Names in a card's tables that say what a class is for.
_ROLES = ("default", "written")


class Builder(Planning):
    """Plans slots; a planning of what was found on the way."""

    __slots__ = ()

    def slot(self, slot: Slot, number: int, target: bool, prefix: str) -> SlotSegment | None:
        """The planned slot, or None where its modality is unknown (the parser has said so)."""
        modality = self.modalities.get(slot.type)
        if modality is None:
            names = sorted(self.modalities)
            self.error(
                "E102", f"no card declares the modality {slot.type}", slot.type_span, did_you_mean(slot.type, names)
            )
            return None
        self._side(modality, slot, target)
        values = read_attributes(self, _opened(slot.attributes), self._specs(modality), modality.name, target)
        self._pair(values, modality, slot)
        column = slot.column if slot.column is not None else str(number)
        learned = target and not values.get("no_loss", False)
        preprocess = self._named(values, "preprocess", modality.preprocess, modality, slot, learned)
        adapter = self._named(values, "adapter", modality.adapter, modality, slot, learned)
        codec = given_codec(self, values.pop("codec", None), modality, slot, learned)
        if codec is not None:
            values["codec"] = codec
            preprocess, adapter = (modality.codecs[codec.name][key] for key in ("preprocess", "adapter"))
        standard = LossSpec("cross_entropy", "token") if codec is not None else _standard(modality)
        tokens = learned and codec is None and standard.name == "cross_entropy" and "loss" not in values
        if tokens and modality.writes == "now" and adapter != TEXT_ADAPTER:
            help = (
                "what is written is token ids (the adapter of TEXT), codes (`codecs` of the modality's card), "
                "or has an objective of its own (`losses` of the card, with `standard: true`)"
            )
            message = f"nothing learns to write {modality.name}: its adapter {adapter or '(none)'} has no objective"
            self.error("E102", message, slot.span, help)
        check_slot(self, slot, values, learned=learned, target=target, modality=modality)
        values.pop("no_loss", None)
        decode = values.get("decode")
        weight = values.pop("weight", 1.0)
        drop = values.pop("drop", 0.0)
        if slot.rejected is not None and not target:
            self.error("E109", "a preference pair stands on the target side", slot.span, "move it right of `->`")
        closed = self._closed(values.pop("closed_set", None), slot)
        expected = self._preferred(standard, modality, slot) if learned and slot.rejected is not None else standard
        losses = self._losses(values.pop("loss", None), modality, slot, (expected,) if learned else (), target)
        span = next((a.span for a in slot.attributes if a.key == "decode"), slot.span)
        if learned and modality.writers and codec is None:
            decode = written_by(self, span, decode, losses, modality)
        if isinstance(decode, CallValue):
            values["decode"] = planned_decode(self, span, decode, modality, codec)
        if codec is not None and learned and slot.rejected is None:
            # all codes of a position are one unit
            losses = tuple(replace(loss, unit="position") for loss in losses)
        options: Options = tuple(sorted({**_defaults(modality, target), **values}.items(), key=lambda pair: pair[0]))
        return SlotSegment(
            key=f"{prefix}{column}",
            modality=modality.name,
            column=column,
            exact=slot.exact,
            optional=slot.optional,
            rejected=slot.rejected,
            preprocess=preprocess,
            adapter=adapter,
            options=options,
            learned=learned,
            losses=losses,
            weight=float(str(weight)),
            closed=closed,
            drop=float(str(drop)),
            span=slot.span,
            column_span=slot.column_span if slot.column is not None else slot.span,
            ways=ways_of(modality) if learned else (),
            named=_named_columns(modality, values) if learned else (),
        )

    def _side(self, modality: ModalityCard, slot: Slot, target: bool) -> None:
        read_only = target and any(a.key == "no_loss" for a in slot.attributes)
        can = modality.reads if not target or read_only else modality.writes
        if can == "never":
            verb = "written" if target else "read"
            self.error(
                "E102", f"{modality.name} cannot be {verb}", slot.type_span, "put it on the other side of the arrow"
            )
        elif can == "later":
            verb = "generating" if target else "reading"
            self.not_yet(f"{verb} {modality.name} is planned for a later version")

    def _specs(self, modality: ModalityCard) -> dict[str, AttributeSpec]:
        specs = {spec.key: spec for spec in (*LANGUAGE, *modality.attributes)}
        specs["decode"] = replace(specs["decode"], choices=tuple(way.name for way in ways_of(modality)))
        return specs

    def _pair(self, values: dict[str, object], modality: ModalityCard, slot: Slot) -> None:
        """An adapter and a preprocess of one name belong together: a slot that names one has both."""
        tables = {"adapter": modality.adapter, "preprocess": modality.preprocess}

        def own(name: object) -> bool:
            return name not in _ROLES and all(t.get(str(name), t["default"]) != t["default"] for t in tables.values())

        named = {key: str(values[key]) for key in tables if values.get(key) is not None}
        pair = next((name for name in named.values() if own(name)), None)
        if pair is None:
            return
        other = next((key for key, name in named.items() if name != pair), None)
        if other is not None:
            message = f"{other} `{named[other]}` does not go with `{pair}`, which has its own"
            self.error("E110", message, slot.span, f"leave `{other}` out")
        values.update(dict.fromkeys(tables, pair))

    def _named(
        self,
        values: dict[str, object],
        key: str,
        table: Mapping[str, str],
        modality: ModalityCard,
        slot: Slot,
        learned: bool,
    ) -> str:
        given = values.pop(key, None)
        standard = next(table[n] for n in _UNNAMED[learned] if n in table)
        name = "default" if given is None else str(given)
        span = next((a.span for a in slot.attributes if RENAMED.get(a.key, (a.key,))[0] == key), slot.span)
        if name in table and not learned and name not in _UNNAMED[True] and table[name] == table.get(_UNNAMED[True][0]):
            self.error("E110", f"{key} `{name}` is for {modality.name} that is written", span, f"leave `{key}` out")
        if key == "adapter" and learned and only_reads(name, modality):
            help = "leave `adapter` out; one that writes has a preprocess of the same name in its card"
            self.error("E110", f"adapter `{name}` reads {modality.name} and writes nothing", span, help)
        if name in table:
            # another name of the default is the default of slots that are written, too
            return standard if table[name] == table["default"] else table[name]
        if key == "preprocess":
            for other in self.modalities.values():
                # `[TEXT:text,preprocess=text_phone]`: OFASys lets a slot be read by another modality's preprocess;
                # that works where both are made of what one adapter embeds
                same = other.adapter.get("default") == modality.adapter.get("default")
                if same and name in other.preprocess and name != "default":
                    return other.preprocess[name]
        help = did_you_mean(name, [n for n in table if n not in _UNNAMED[True]], f"{modality.name} declares")
        self.error("E110", f"unknown {key} `{name}`", span, help)
        return next(iter(table.values()), "")

    def _closed(self, value: object, slot: Slot) -> ClosedSet | None:
        if not isinstance(value, Attribute):
            return None
        found = value.value
        if found is None:
            return ClosedSet("column")
        if isinstance(found, ListValue):
            texts = [scalar_text(item) for item in found.items]
            names = [t for t in texts if t is not None]
            doubled = sorted({n for n in names if names.count(n) > 1})
            if len(names) < len(texts) or doubled:
                what = (
                    f"`{doubled[0]}` stands twice in the closed set" if doubled else "a closed set holds plain values"
                )
                self.error("E206", what, value.span)
            return ClosedSet("inline", values=tuple(names))
        text = scalar_text(found)
        if text is None:
            self.error("E106", "`closed_set` takes nothing, (a,b), a name, a file or @column", value.span)
            return ClosedSet("column")
        if text.startswith("@"):
            return ClosedSet("candidates", name=text[1:])
        if "." in text or "/" in text:
            return self._set_file(text, value.span)
        if text not in self.card.sets:
            help = did_you_mean(text, sorted(self.card.sets), "the card's sets")
            self.error("E206", f"the card has no set `{text}`", value.span, help)
            return ClosedSet("named", name=text)
        return ClosedSet("named", name=text, values=tuple(self.card.sets[text]))

    def _set_file(self, name: str, span: Span) -> ClosedSet:
        path = (Path(self.card.path).parent if self.card.path else Path()) / name
        try:
            values = [line.rstrip("\r") for line in path.read_text(encoding="utf-8").split("\n")]
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or "").lower() if isinstance(error, OSError) else "it is not UTF-8"
            self.error(
                "E206", f"cannot read the closed set {path}: {why}", span, "one value a line, UTF-8, beside the card"
            )
            return ClosedSet("file", name=name)
        values = [v for v in values if v]
        doubled = sorted({v for v in values if values.count(v) > 1})[:1] if len(values) < 10_000 else []
        if not values or doubled:
            self.error("E206", f"{path} is empty" if not values else f"{path}: `{doubled[0]}` stands twice", span)
        return ClosedSet("file", name=name, values=tuple(values))

    def _losses(
        self, value: object, modality: ModalityCard, slot: Slot, standard: tuple[LossSpec, ...], target: bool
    ) -> tuple[LossSpec, ...]:
        if not isinstance(value, Attribute) or value.value is None:
            if isinstance(value, Attribute):
                self.error("E106", "`loss` takes an objective such as ctc(text)", value.span)
            return standard
        call = plain(value.value)
        call = call if isinstance(call, CallValue) else CallValue(str(call))
        if call.name in ALIGNMENTS:
            note_alignment(self, call, value.span)
            return standard
        pair = call.name in PREFERENCES
        if target and (slot.rejected is not None) != pair:
            if pair:
                message = f"{call.name} compares two columns"
                help = f"write [{modality.name}:chosen>rejected,loss={call.name}(beta=0.1)]"
            else:
                message, help = f"`loss={call.name}` knows of one column, and a preference pair has two", _PAIRED
            self.error("E207", message, value.span, help)
            return standard
        state = "now" if pair else modality.losses.get(call.name)
        if state is None:
            known_here = sorted({*modality.losses, *(ALIGNMENTS if self.align else ())})
            help = did_you_mean(call.name, known_here, f"{modality.name} takes")
            self.error("E111", f"{modality.name} has no objective `{call.name}`", value.span, help)
            return standard
        own = modality.objectives.get(call.name)
        known = own or OBJECTIVES.get(call.name)
        if known is None:
            help = f"its card names it; training has {', '.join(LOSSES_NOW)}"
            self.error("E111", f"no objective `{call.name}` is built", value.span, help)
            return standard
        side = known.side
        if side and (side == "target") != target:
            where = "right" if side == "target" else "left"
            what = f"`loss={call.name}` is an objective of a {side} slot"
            self.error("E109", what, value.span, f"move it {where} of `->`")
            return standard
        if own is not None and target and not standard:
            help = "leave one of the two out"
            self.error("E207", "`loss` means nothing on a slot with `no_loss`", value.span, help)
        if state == "later":
            self.not_yet(f"the objective {call.name} of {modality.name} is planned for a later version")
        if call.name == "ctc":
            return self._ctc(call, value.span)
        keys = (*known.arguments, "weight")
        for key in (key for key, _ in call.keyed if key not in keys):
            self.error("E113", f"objective {call.name} has no `{key}`", value.span, did_you_mean(key, keys))
        if call.positional:
            help = f"write {call.name}({keys[0]}=...)"
            self.error("E106", f"`{call.name}` takes its arguments by name", value.span, help)
        weight = call.get("weight", 1.0)
        if not isinstance(weight, (int, float)) or weight < 0:
            self.error("E106", f"`weight` of {call.name} is a number of at least 0", value.span)
            weight = 1.0
        keyed = tuple(pair for pair in call.keyed if pair[0] != "weight")
        return (LossSpec(call.name, known.unit, float(weight), keyed),)

    def _preferred(self, standard: LossSpec, modality: ModalityCard, slot: Slot) -> LossSpec:
        """What a preference pair is learned by where its line names no objective."""
        if standard.name != "cross_entropy":
            message = f"a preference pair needs a likelihood, and {modality.name} is learned by {standard.name}"
            self.error("E207", message, slot.span, "pairs are of token ids, or of codes")
        return LossSpec(PREFERENCES[0], "pair")

    def _ctc(self, call: CallValue, span: Span) -> tuple[LossSpec, ...]:
        unknown = [k for k, _ in call.keyed if k != "weight"]
        weight = call.get("weight", 1.0)
        if len(call.positional) != 1 or unknown or not isinstance(weight, (int, float)) or weight < 0:
            self.error(
                "E106", "ctc takes one column and a weight", span, "write loss=ctc(text) or loss=ctc(text,weight=0.3)"
            )
            return ()
        return (LossSpec("ctc", "token", float(weight), (("column", str(call.positional[0])),)),)


def _opened(attributes: tuple[Attribute, ...]) -> tuple[Attribute, ...]:
    """`adapter=name(key=value)` is `adapter=name,key=value`."""
    found: list[Attribute] = []
    for attribute in attributes:
        call = attribute.value
        keyed = isinstance(call, Call) and all(argument.key is not None for argument in call.arguments)
        if RENAMED.get(attribute.key, (attribute.key,))[0] != "adapter" or not isinstance(call, Call) or not keyed:
            found.append(attribute)
            continue
        found.append(replace(attribute, value=Bare(call.name, call.span)))
        found += [Attribute(str(a.key), a.value, a.span, a.span) for a in call.arguments]
    return tuple(found)


def _named_columns(modality: ModalityCard, values: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """(column, attribute) of what attributes of the slot name: a word, or what a call is given."""
    found: list[tuple[str, str]] = []
    for spec in (spec for spec in modality.attributes if spec.column and values.get(spec.key) is not None):
        value = values[spec.key]
        named: tuple[object, ...] = (value,)
        said = f"{spec.key}={value}"
        if isinstance(value, CallValue):
            named = (*value.positional, *(each for _, each in value.keyed))
            said = f"{spec.key}={value.name}(...)"
        found += [(name, said) for name in named if isinstance(name, str)]
    return tuple(dict.fromkeys(found))


def _standard(modality: ModalityCard) -> LossSpec:
    """What a target slot is learned by where its line names no objective."""
    own = next(((name, card.unit) for name, card in modality.objectives.items() if card.standard), None)
    return LossSpec("cross_entropy", "token") if own is None else LossSpec(*own)


def _defaults(modality: ModalityCard, target: bool) -> dict[str, object]:
    side = "target" if target else "source"
    return {s.key: s.default for s in modality.attributes if s.default is not None and s.side in ("both", side)}


def read_attributes(
    builder: Builder, attributes: tuple[Attribute, ...], specs: Mapping[str, AttributeSpec], owner: str, target: bool
) -> dict[str, object]:
    """Typed values by key; `closed_set` and `loss` stay attributes, since their forms are read by the slot."""
    values: dict[str, object] = {}
    seen: set[str] = set()
    for attribute in attributes:
        key, noted = RENAMED.get(attribute.key, (attribute.key, False))
        if noted:
            builder.note(f"`{attribute.key}=` is read as `{key}=`")
        if attribute.key in REFUSED:
            builder.error("E112", f"`{attribute.key}` means nothing here", attribute.key_span, REFUSED[attribute.key])
            continue
        spec = specs.get(key)
        if spec is None:
            _unknown(builder, attribute, specs, owner)
            continue
        if key in seen:
            builder.error("E108", f"`{attribute.key}` is given twice", attribute.span, "keep one of them")
            continue
        seen.add(key)
        if builder.align and key not in ALIGNED and (spec.side == "target" or key == "drop"):
            help = BESIDE_ALIGNMENT.get(key, "both sides are read, nothing is written; leave it out")
            builder.error("E109", f"`{attribute.key}` means nothing beside `<->`", attribute.key_span, help)
            continue
        if spec.side not in ("both", "target" if target else "source") and not (builder.align and key in ALIGNED):
            side = "target slot (right of `->`)" if spec.side == "target" else "source slot (left of `->`)"
            builder.error("E109", f"`{attribute.key}` belongs to a {side}", attribute.key_span, spec.help)
            continue
        if key in ("closed_set", "loss"):
            values[key] = attribute
            continue
        try:
            values[key] = typed(attribute, spec, builder.place(attribute.span))
        except InstructionError as error:
            builder.errors.append(error)
    return values


def _unknown(builder: Builder, attribute: Attribute, specs: Mapping[str, AttributeSpec], owner: str) -> None:
    names = sorted(specs)
    near = nearest(attribute.key, names)
    others = sorted(m.name for m in builder.modalities.values() if attribute.key in {s.key for s in m.attributes})
    hint = f"{' and '.join(dict.fromkeys(others))} take it;" if others else ""
    help = listed(f"{owner} takes", names, hint if near is None else f"did you mean `{near}`?")
    kind = "group" if owner == "a group" else "slot"
    builder.error("E105", f"unknown {kind} attribute `{attribute.key}`", attribute.key_span, help)
