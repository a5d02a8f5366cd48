"""The parts of a plan bound to what lays them out: tools, objectives and terms are looked up once, not for each row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ofasys_lite.layout.learned import Objective, Term
from ofasys_lite.layout.terms import Terms
from ofasys_lite.plan.segments import (
    GroupSegment,
    LossSpec,
    PlannedTemplate,
    Segment,
    SlotSegment,
    ToolKey,
    WordsSegment,
    option,
    walk,
)
from ofasys_lite.preprocess.base import Piece, Preprocess
from ofasys_lite.preprocess.vocabulary import Vocabulary

__all__ = ["Binder", "Bound", "BoundGroup", "BoundSlot", "BoundTemplate", "BoundWords"]


@dataclass(frozen=True, slots=True)
class BoundWords:
    """Words.

    Attributes:
        piece: Their ids.
        term: What they count for where they carry loss.
    """

    piece: Piece
    term: Term | None


@dataclass(frozen=True, slots=True)
class BoundSlot:
    """A slot.

    Attributes:
        slot: As it was planned.
        tool: Its Preprocess.
        target: It stands on the target side.
        learned: Its objectives, and what each counts for.
        span: A span of the text is hidden, and the target learns it (MASS).
    """

    slot: SlotSegment
    tool: Preprocess
    target: bool
    learned: tuple[tuple[Objective, Term], ...]
    span: bool


@dataclass(frozen=True, slots=True)
class BoundGroup:
    """A repeated group.

    Attributes:
        group: As it was planned.
        target: It stands on the target side.
        alternatives: Its parts, per alternative.
        term: What its controls count for where it is learned.
    """

    group: GroupSegment
    target: bool
    alternatives: tuple[tuple[Bound, ...], ...]
    term: Term | None


Bound = BoundWords | BoundSlot | BoundGroup


@dataclass(frozen=True, slots=True)
class BoundTemplate:
    """One paraphrase.

    Attributes:
        source: Its source.
        targets: Its targets.
        readers: The slots of the source and their Preprocess, groups opened.
        drop: Probability with which its slots with `drop=` are emptied in training.
    """

    source: tuple[Bound, ...]
    targets: tuple[tuple[Bound, ...], ...]
    readers: tuple[tuple[SlotSegment, Preprocess], ...]
    drop: float


@dataclass(frozen=True, slots=True)
class Binder:
    """Binds the templates of a plan.

    Attributes:
        tools: Preprocessors by `tool_key`.
        vocabulary: The run's vocabulary.
        objectives: By (`tool_key`, loss).
        terms: Of the plan.
    """

    tools: Mapping[ToolKey, Preprocess]
    vocabulary: Vocabulary
    objectives: Mapping[tuple[ToolKey, LossSpec], Objective]
    terms: Terms

    def template(self, template: PlannedTemplate) -> BoundTemplate:
        """A template, bound."""
        slots = walk(template.source)
        return BoundTemplate(
            self._side(template.source, False),
            tuple(self._side(side, True) for side in template.targets),
            tuple((slot, self.tools[slot.tool_key]) for slot in slots),
            max((slot.drop for slot in slots), default=0.0),
        )

    def _side(self, segments: tuple[Segment, ...], target: bool) -> tuple[Bound, ...]:
        return tuple(self._bound(segment, target) for segment in segments)

    def _bound(self, segment: Segment, target: bool) -> Bound:
        if isinstance(segment, WordsSegment):
            term = self.terms.words() if target and self.terms.plan.loss_on_words else None
            return BoundWords(Piece.of_ids(self.vocabulary.encode(segment.text)), term)
        if isinstance(segment, GroupSegment):
            learned = target and any(slot.learned for slot in walk((segment,)))
            sides = tuple(self._side(side, target) for side in segment.alternatives)
            return BoundGroup(segment, target, sides, self.terms.group(segment) if learned else None)
        key = segment.tool_key
        learns = tuple((self.objectives[key, loss], self.terms.loss(segment, loss)) for loss in segment.losses)
        span = option(segment.options, "mask_style") == "mass" and bool(option(segment.options, "mask_ratio"))
        return BoundSlot(segment, self.tools[key], target, learns, span)
