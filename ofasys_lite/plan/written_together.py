"""What can be written at all, and which token ids all together (`decode=mask_predict`)."""

from __future__ import annotations

from ofasys_lite.cards.classes import load_object
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.plan.language import LONGEST
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import GroupSegment, PlannedTemplate, SlotSegment, option, walk

_HELP = "leave `decode=mask_predict` out"


def check_in_rounds(planning: Planning, template: PlannedTemplate) -> None:
    """Notes slots that say `decode=mask_predict` and hold ids that depend on each other, or too many (E207)."""
    hidden = {
        slot.column
        for slot in walk(template.source)
        if option(slot.options, "mask_style") == "mass" and option(slot.options, "mask_ratio")
    }
    for side in template.written:
        grouped = {slot.key for segment in side if isinstance(segment, GroupSegment) for slot in walk((segment,))}
        for slot in (slot for slot in walk(side) if slot.in_rounds):
            wrong = _wrong(slot, slot.key in grouped, slot.column in hidden)
            if wrong is not None:
                planning.error("E207", wrong[0], slot.span, wrong[1])


def _wrong(slot: SlotSegment, grouped: bool, hidden: bool) -> tuple[str, str] | None:
    """(message, help) of why a slot cannot be written in rounds."""
    most, least = option(slot.options, "max_length"), option(slot.options, "min_length")
    if grouped:
        return f"`{slot.column}` is written in rounds within a group, whose elements are written one by one", _HELP
    if slot.closed is not None:
        return f"`{slot.column}` is one of a set, which is written from left to right", _HELP
    if not getattr(load_object(slot.preprocess, "preprocess"), "in_rounds", False):
        return f"{slot.modality} is written from left to right: which ids may follow depends on those before", _HELP
    if option(slot.options, "noise_ratio"):
        told = "`noise_ratio` means nothing where ids are written in rounds: what is fed is masked"
        return told, "leave `noise_ratio` out"
    if hidden:
        told = f"`mask_style=mass` has the target learn the hidden span of `{slot.column}`, from left to right"
        return told, "write another `mask_style`, or leave `decode=mask_predict` out"
    for key, value in (("max_length", most), ("min_length", least)):
        if isinstance(value, int) and value > LONGEST:
            return f"`{key}={value}`: rounds write {LONGEST} ids at most", f"write `{key}={LONGEST}`, or {_HELP}"
    return None


def only_reads(name: str, modality: ModalityCard) -> bool:
    """Whether an adapter is another one than that of written slots, and brings no preprocess that can write."""
    table = modality.adapter
    writer = table.get("written")
    if writer is None or table.get(name, writer) in (writer, table.get("default")):
        return False
    own = modality.preprocess.get(name)
    # what can be written says what it may be; the base class of all of them only refuses
    return own is None or sum("constraint" in vars(k) for k in load_object(own, "preprocess").__mro__) < 2
