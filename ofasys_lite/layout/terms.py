"""Loss terms of a plan: what the units of words, slots, groups and objectives on the encoder count for."""

from __future__ import annotations

from ofasys_lite.data.groups import group_key
from ofasys_lite.layout.learned import Term
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.segments import GroupSegment, LossSpec, Plan, Segment, SlotSegment, WordsSegment, walk

__all__ = ["Terms"]


class Terms:
    """Names the loss terms of a task.

    Args:
        plan: The task's plan.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def all(self) -> tuple[Term, ...]:
        """Every loss term the task can have."""
        found: dict[Term, None] = {}
        for template in self.plan.templates:
            for side in template.targets:
                for segment in side:
                    self._collect(segment, found)
            for slot in walk(template.source):
                found |= dict.fromkeys(self.loss(slot, loss) for loss in slot.losses)
        return tuple(found)

    def _collect(self, segment: Segment, found: dict[Term, None]) -> None:
        if isinstance(segment, WordsSegment):
            if self.plan.loss_on_words:
                found[self.words()] = None
        elif isinstance(segment, SlotSegment):
            if segment.learned:
                found |= dict.fromkeys(self.loss(segment, loss) for loss in segment.losses)
                found |= dict.fromkeys(self.judges(segment))
        else:
            if any(s.learned for s in walk((segment,))):
                found[self.group(segment)] = None
            for alternative in segment.alternatives:
                for inner in alternative:
                    self._collect(inner, found)

    def words(self) -> Term:
        """Of words with loss."""
        return Term(self.plan.task, "words", "token", 1.0)

    def group(self, group: GroupSegment) -> Term:
        """Of the controls that say whether another element follows, and which."""
        return Term(self.plan.task, f"{group_key(group)}:next", "token", 1.0)

    def judges(self, slot: SlotSegment) -> tuple[Term, ...]:
        """Of the verdicts on a slot's pictures: relevance, fidelity; none where its codec has no judges."""
        codec = codec_of(slot)
        weight = None if codec is None else codec.get("judges")
        if weight is None:
            return ()
        factor = slot.weight * float(str(weight))
        heads = ("relevance", "fidelity")
        return tuple(Term(self.plan.task, f"{slot.key}:{head}", "sample", factor) for head in heads)

    def loss(self, slot: SlotSegment, loss: LossSpec) -> Term:
        """Of an objective on a slot: called as the slot where the slot is written, else `slot:objective`."""
        if slot.learned:
            return Term(self.plan.task, slot.key, loss.unit, slot.weight * loss.weight)
        return Term(self.plan.task, f"{slot.key}:{loss.name}", loss.unit, loss.weight)
