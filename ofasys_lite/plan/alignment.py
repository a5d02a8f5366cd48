"""What `<->` asks of a line: which loss tells its pairs apart, in blocks of how many; what has no place beside it."""

from __future__ import annotations

from collections.abc import Sequence

from ofasys_lite.errors import did_you_mean
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.language import ALIGNMENTS
from ofasys_lite.plan.planning import Planning
from ofasys_lite.plan.segments import LossSpec, PlannedTemplate, SlotSegment, WordsSegment, walk

#: Attributes of what is written that a side of `<->` may have: a side that takes one of a set is told by its names.
ALIGNED = frozenset({"closed_set"})

#: What to write instead of attributes that have no place beside `<->`.
BESIDE_ALIGNMENT = {
    "weight": "the pairs of the line are one loss: write loss=clip(weight=2)",
    "no_loss": "both sides are read, and no slot has a loss of its own; leave it out",
}


def note_alignment(planning: Planning, call: CallValue, span: Span) -> None:
    """Notes `loss=clip(block=64)` of a slot, said of the whole line, and what is wrong with it (E106, E111, E113)."""
    if not planning.align:
        help = f"`{call.name}` tells the pairs of two sides apart: [IMAGE:img,loss={call.name}] <-> [TEXT:cap]"
        planning.error("E111", f"`loss={call.name}` belongs to a line with `<->`", span, help)
        return
    card = ALIGNMENTS[call.name]
    keys = (*card.arguments, "weight")
    for key in (key for key, _ in call.keyed if key not in keys):
        planning.error("E113", f"objective {call.name} has no `{key}`", span, did_you_mean(key, keys))
    if call.positional:
        planning.error("E106", f"`{call.name}` takes its arguments by name", span, f"write {call.name}(block=64)")
    weight, block = call.get("weight", 1.0), call.get("block", 2)
    if isinstance(weight, bool) or not isinstance(weight, (int, float)) or weight < 0:
        planning.error("E106", f"`weight` of {call.name} is a number of at least 0", span)
        weight = 1.0
    if isinstance(block, bool) or not isinstance(block, int) or block < 2:
        help = "a pair is told from the others of its block: block=32"
        planning.error("E106", f"`block` of {call.name} is a whole number from 2", span, help)
    options = tuple(pair for pair in call.keyed if pair[0] == "block")
    planning.alignments.append((LossSpec(call.name, card.unit, float(weight), options), span))


def aligned_by(planning: Planning, templates: Sequence[PlannedTemplate]) -> LossSpec | None:
    """How the line's pairs are learned; None for a line with an arrow. Notes a second loss beside another (E207)."""
    if not any(template.align for template in templates):
        return None
    said = dict.fromkeys(loss for loss, _ in planning.alignments)
    if len(said) > 1:
        first = planning.alignments[0][0]
        other, span = next(each for each in planning.alignments if each[0] != first)
        message = f"`loss={other.name}` beside another `loss={first.name}`"
        planning.error("E207", message, span, "the pairs of a line are learned by one loss: say it once")
    name = next(iter(ALIGNMENTS))
    return next(iter(said), LossSpec(name, ALIGNMENTS[name].unit))


def check_aligned(planning: Planning, template: PlannedTemplate) -> None:
    """Notes closed sets that cannot be the candidates of their side of `<->` (E207)."""
    if not template.align:
        return
    closed = [slot for side in template.read for slot in walk(side) if slot.closed is not None]
    for slot in closed[1:]:
        help = "what takes one of a set is told from its other values: leave `closed_set` out at one of the two"
        planning.error("E207", "two slots of `<->` take one of a set", slot.span, help)
    for slot in closed[:1]:
        side = next(side for side in template.read if slot in walk(side))
        others = [s for s in side if not isinstance(s, (WordsSegment, SlotSegment))] or len(walk(side)) > 1
        if slot.closed is not None and slot.closed.kind == "candidates":
            help = "name the values: closed_set, closed_set=(a,b), or a set of the card"
            planning.error("E207", "the candidates of `<->` are the same for all rows", slot.span, help)
        elif others or slot.optional:
            help = "leave words and this one slot on its side, or leave `closed_set` out"
            planning.error("E207", _ALONE, slot.span, help)


_ALONE = "a side of `<->` with `closed_set` is made of its values alone"
