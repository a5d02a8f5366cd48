"""Attributes of slots that only their preprocessor can judge: told with their place, before any row is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ofasys_lite.cards.classes import load_class
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.errors import InstructionError, OfasysError
from ofasys_lite.instruction.places import place_of
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.segments import Plan, SlotSegment
from ofasys_lite.preprocess.base import Preprocess


def preprocess_class(path: str) -> type[Preprocess]:
    """The Preprocess a card names by dotted path; CardError if there is none."""
    found: type[Preprocess] = load_class(path, Preprocess, "preprocess")
    return found


def slot_class(slot: SlotSegment) -> type[Preprocess]:
    """The Preprocess of a slot, which knows its values; the base of all where its modality comes later."""
    return preprocess_class(slot.preprocess) if slot.preprocess else Preprocess


def overrides(tool: type[Preprocess], name: str) -> bool:
    """Whether a preprocessor has a method of its own of that name."""
    return next(one for one in tool.__mro__ if name in vars(one)) is not Preprocess


def wrong_attributes(card: TaskCard, plan: Plan, settings: Mapping[str, Mapping[str, Any]]) -> list[InstructionError]:
    """Every slot of the plan whose attributes its preprocessor refuses: `size=70`, a schema of no known form.

    A picture that a setting cuts is refused beside boxes, which would not follow.
    """
    found: dict[str, InstructionError] = {}
    slots = [slot for slot in plan.all_slots() if slot.preprocess]
    framed = any(preprocess_class(slot.preprocess).framed for slot in slots)
    for slot in slots:
        tool, own = preprocess_class(slot.preprocess), settings[slot.modality]
        try:
            tool.check_options(slot.options, own)
            if framed and (cut := tool.cut_by(own)):
                told = f"`{cut}` of {slot.modality} is {own[cut]}: it cuts pictures, and boxes would not follow"
                raise InstructionError(told, help=f"set modalities.{slot.modality}.{cut}=null")
        except OfasysError as error:
            place = place_of(card.instruction, _span(card.instruction, slot, error.message), card.origin)
            message = f"task {card.name}: {error.message}"
            wrong = InstructionError(message, code=error.code or "E107", place=place, help=error.help)
            found.setdefault(wrong.render(), wrong)
    return list(found.values())


def _span(line: str, slot: SlotSegment, message: str) -> Span:
    """Place of the attribute that a message names, the slot's where it names none."""
    text = line[slot.span.start : slot.span.end]
    for key, _ in slot.options:
        at = text.find(f"{key}=")
        if at >= 0 and key in message:
            start, depth, end = slot.span.start + at, 0, slot.span.start + at
            while end < slot.span.end and (depth or line[end] not in ",]"):
                depth += (line[end] == "(") - (line[end] == ")")
                end += 1
            return Span(start, end)
    return slot.span
