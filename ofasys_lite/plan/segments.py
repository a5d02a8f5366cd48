"""The plan: what a line means once cards have given its words a meaning. Hashable, printable, free of torch.

A plan is built by `ofasys_lite.plan.build.build_plan` and is everything the rooms below need to know of a line.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, is_dataclass

from ofasys_lite.cards.ways import BUILT_IN, Way
from ofasys_lite.instruction.syntax_tree import Span
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.plan.language import BLOCK, TEXT_ADAPTER

_NOWHERE = Span(0, 0)

# Options are a sorted tuple of pairs, so that plans hash; `option(options, key, default)` reads one.
Options = tuple[tuple[str, object], ...]

# Modalities may share classes and differ in their settings.
ToolKey = tuple[str, str, str]


def option(options: Options, key: str, default: object = None) -> object:
    """The value of `key`, or `default`."""
    for name, value in options:
        if name == key:
            return value
    return default


def written_together(options: Options) -> bool:
    """Whether `decode=` of a slot names a way that writes all rows at once."""
    call = option(options, "decode")
    # what the package does not have is a card's writer
    return isinstance(call, CallValue) and (call.name not in BUILT_IN or BUILT_IN[call.name].together)


@dataclass(frozen=True, slots=True)
class LossSpec:
    """One objective of a slot.

    Attributes:
        name: `cross_entropy` (target slots), `ctc`, of a whole line `clip` and `siglip`,
            or a later one (`mlm`, `mae`, `dpo`, `diffusion`).
        unit: What one loss unit is: `token`, `frame`, `position`, `sample` or `pair`.
        options: Arguments of the call, e.g. (("column", "text"),) for `ctc(text)`.
    """

    name: str
    unit: str
    weight: float = 1.0
    options: Options = ()


@dataclass(frozen=True, slots=True)
class ClosedSet:
    """The values a target slot may take.

    Attributes:
        kind: `column` (values of the training column, frozen in the run), `inline`, `named`, `file`,
            `candidates` (per row).
        name: Set name, file name or candidates column; empty for `column` and `inline`.
        values: The values; empty for `column` until frozen, and for `candidates`.
    """

    kind: str
    name: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WordsSegment:
    """Prompt text."""

    text: str
    span: Span


@dataclass(frozen=True, slots=True)
class SlotSegment:
    """One slot.

    Attributes:
        key: Name of the slot within its task: the column, with `over.` before it inside a group with `over=`.
            The loss term of a target slot is (task, key).
        column: Data column (the slot's number as text if unnamed).
        exact: The column was quoted: no nested path.
        optional: A row without the column drops the slot.
        rejected: Second column of a preference pair, or None.
        preprocess: Dotted path of the Preprocess.
        adapter: Dotted path of the Adapter.
        options: Typed values of the attributes (sorted pairs), defaults of the card included.
        learned: True if the slot's elements carry loss (target side, no `no_loss`).
        losses: Objectives: cross entropy on learned target slots, `ctc` and later ones on source slots.
        weight: Factor on the slot's losses.
        drop: Probability with which the slot is emptied in training.
        column_span: Place of the column's name in the line (the slot's own where it has no name).
        ways: Ways in which it may be written, if it is learned.
        named: (column, attribute) of further columns of the row that its attributes name, if it is learned.
    """

    key: str
    modality: str
    column: str
    exact: bool
    optional: bool
    rejected: str | None
    preprocess: str
    adapter: str
    options: Options
    learned: bool
    losses: tuple[LossSpec, ...]
    weight: float
    closed: ClosedSet | None
    drop: float
    span: Span
    column_span: Span = _NOWHERE
    ways: tuple[Way, ...] = ()
    named: tuple[tuple[str, str], ...] = ()

    def way(self, name: str) -> Way | None:
        """The way of that name in which it may be written, or None."""
        return next((way for way in self.ways if way.name == name), None)

    @property
    def tool_key(self) -> ToolKey:
        """What decides how its values are prepared: modality (for the settings), preprocess and adapter."""
        return self.modality, self.preprocess, self.adapter

    @property
    def tokens(self) -> bool:
        """Whether its elements are token ids of the vocabulary, where it is not written in codes."""
        return self.adapter == TEXT_ADAPTER

    @property
    def in_rounds(self) -> bool:
        """Whether it is token ids that are written all together (`decode=mask_predict`)."""
        return self.learned and self.tokens and written_together(self.options)


@dataclass(frozen=True, slots=True)
class GroupSegment:
    """A repeated group.

    Attributes:
        alternatives: One tuple of segments per alternative.
        over: List column whose records are walked; None: the slots' columns are lists of equal length.
        by: Field of a record that names the alternative; None with one alternative.
        spellings: (value in lower case, alternative index) pairs for `by`.
        least: Smallest number of elements promised.
        most: Largest number promised, or None.
        cut: Elements above this number are cut (`max=`), or None.
        keep: Which elements a cut keeps: `first`, `last` or `random`.
        order: `given` or `random`.
        over_span: Place of `over=` in the line (the group's own without it).
    """

    alternatives: tuple[tuple[Segment, ...], ...]
    over: str | None
    by: str | None
    spellings: tuple[tuple[str, int], ...]
    least: int
    most: int | None
    cut: int | None
    keep: str
    order: str
    span: Span
    over_span: Span = _NOWHERE


Segment = WordsSegment | SlotSegment | GroupSegment


@dataclass(frozen=True, slots=True)
class PlannedTemplate:
    """One paraphrase: source segments, one tuple of segments per target (`;;`), or two aligned sides (`<->`).

    Attributes:
        source: Left of the arrow.
        targets: Right of the arrow, whether it is written (`->`) or read (`<->`).
    """

    source: tuple[Segment, ...]
    targets: tuple[tuple[Segment, ...], ...]
    align: bool = False

    @property
    def read(self) -> tuple[tuple[Segment, ...], ...]:
        """What the encoder reads, a sequence each: the source, or both sides of `<->`."""
        return (self.source, *self.targets) if self.align else (self.source,)

    @property
    def written(self) -> tuple[tuple[Segment, ...], ...]:
        """What the decoder writes, a sequence each; nothing beside `<->`."""
        return () if self.align else self.targets


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the rooms below need to know of a task's line.

    Attributes:
        line: Canonical text of the line.
        templates: One per paraphrase; targets are the same in all.
        loss_on_words: Words right of the arrow carry loss.
        cannot_train: Reasons, each one sentence, why this line plans but cannot be trained yet; empty if it can.
        notes: Warnings for explain and check (accepted old spellings and the like).
        alignment: How the two sides of `<->` are learned; None where there is an arrow. (`line` says it, too: it is no
            part of the hash.)
    """

    task: str
    line: str
    templates: tuple[PlannedTemplate, ...]
    loss_on_words: bool = False
    cannot_train: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    alignment: LossSpec | None = None

    @property
    def hash(self) -> str:
        """16 hexadecimal digits of all that the line means: words, options, losses, frozen closed sets; no places."""
        text = repr((self.task, self.line, self.loss_on_words, _meaning(self.templates)))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def slots(self) -> tuple[SlotSegment, ...]:
        """All slots of the first template: source, then targets; groups opened."""
        first = self.templates[0]
        return tuple(s for side in (first.source, *first.targets) for s in walk(side))

    def all_slots(self) -> tuple[SlotSegment, ...]:
        """All slots of all templates: paraphrases may read a column in another way."""
        return tuple(s for t in self.templates for side in (t.source, *t.targets) for s in walk(side))

    def decoding(self) -> dict[str, object]:
        """Decoding options that `decode=` of the target slots gives (all the same), by a card's names in `decoding`."""
        found: dict[str, object] = {}
        for slot in self.target_slots():
            call = option(slot.options, "decode")
            if isinstance(call, CallValue):
                found.update({"method": call.name, **call.options()})
        return found

    def ways(self) -> dict[str, Way]:
        """Ways that decoding of the line may name: those of the package, unless only writers of cards are at work."""
        found = {way.name: way for slot in self.target_slots() for way in slot.ways}
        own = {name: way for name, way in found.items() if name not in BUILT_IN}
        return own if own and len(own) == len(found) else {**BUILT_IN, **own}

    def target_slots(self) -> tuple[SlotSegment, ...]:
        """All slots of what the first template writes; groups opened."""
        return tuple(s for side in self.templates[0].written for s in walk(side))

    def read_slots(self) -> tuple[SlotSegment, ...]:
        """All slots of what the first template reads, a side after the other; groups opened."""
        return tuple(s for side in self.templates[0].read for s in walk(side))

    def side_names(self) -> tuple[str, ...]:
        """What the sides of `<->` are called: by their columns, where these are the same by `left` and `right`."""
        names = [" + ".join(dict.fromkeys(s.key for s in walk(side))) for side in self.templates[0].read]
        return tuple(names) if len(set(names)) == len(names) else ("left", "right")

    def named_slot(self) -> tuple[int, SlotSegment] | None:
        """(number of the side, slot) of `<->` that takes one of a closed set, into which rows are sorted, or None."""
        sides = self.templates[0].read if self.alignment is not None else ()
        found = ((number, slot) for number, side in enumerate(sides) for slot in walk(side) if slot.closed is not None)
        return next(found, None)

    def judged(self) -> tuple[str, ...]:
        """Columns that a metric can judge: what is written; of `<->` the closed set's, or the sides looked for."""
        if self.alignment is None:
            return tuple(slot.column for slot in self.target_slots() if slot.learned)
        named = self.named_slot()
        return self.side_names() if named is None else (named[1].column,)

    @property
    def block(self) -> int:
        """How many samples are drawn together: 1, or so many that a pair has others to be told from."""
        return 1 if self.alignment is None else int(str(option(self.alignment.options, "block", BLOCK)))


def walk(segments: tuple[Segment, ...]) -> tuple[SlotSegment, ...]:
    """The slots in `segments`, groups opened, in order."""
    found: list[SlotSegment] = []
    for segment in segments:
        if isinstance(segment, SlotSegment):
            found.append(segment)
        elif isinstance(segment, GroupSegment):
            for alternative in segment.alternatives:
                found.extend(walk(alternative))
    return tuple(found)


def _meaning(value: object) -> object:
    """`value` with dataclasses as (name, fields) without places and what follows from the rest, for its repr."""
    if isinstance(value, tuple):
        return tuple(_meaning(item) for item in value)
    if is_dataclass(value) and not isinstance(value, type):
        kept = (f.name for f in fields(value) if not f.name.endswith("span") and f.name not in ("ways", "named"))
        return (type(value).__name__, *((name, _meaning(getattr(value, name))) for name in kept))
    return value
