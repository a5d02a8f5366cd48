"""What a line asks for that a model cannot do which reads its source as a prefix (`model.source=prefix`)."""

from __future__ import annotations

from collections.abc import Mapping

from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.plan.segments import Plan, SlotSegment, walk, written_together

_HELP = "train it with an encoder: model.source=encoder, model.encoder_layers above 0"


def wrong_with_prefix(plan: Plan, modalities: Mapping[str, ModalityCard]) -> tuple[str, str] | None:
    """(message, help) of why the line needs an encoder; None where a prefix does."""
    if plan.alignment is not None:
        return "`<->` compares states of an encoder, and this model reads its source as a prefix", _HELP
    for template in plan.templates:
        for side in template.read:
            for slot in walk(side):
                if slot.losses and not slot.learned:
                    told = f"`loss={slot.losses[0].name}` of `{slot.column}` learns states of an encoder"
                    return f"{told}, and this model reads its source as a prefix", _HELP
        for side in template.written:
            for slot in walk(side):
                if slot.learned and _by_writer(slot, modalities[slot.modality]):
                    told = f"`{slot.column}` is written by a writer of its own, which reads states of an encoder"
                    return f"{told}, and this model reads its source as a prefix", _HELP
    return None


def _by_writer(slot: SlotSegment, modality: ModalityCard) -> bool:
    """Whether its rows see each other, or are no ids and no codes."""
    own = [modality.objectives[loss.name] for loss in slot.losses if loss.name in modality.objectives]
    return written_together(slot.options) or any(each.together or each.writer for each in own)
