"""A raw row -> an Example by a plan, and back: what a target may look like, and which values its ids spell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ofasys_lite.data.fields import MISSING, field, is_empty, missing
from ofasys_lite.data.groups import cut, empty_target, group_key, opener, records, walked
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.layout.costs import row_lengths
from ofasys_lite.layout.judged_targets import judged_targets
from ofasys_lite.layout.learned import Learned, Objective, Term
from ofasys_lite.layout.objectives import TOKENS
from ofasys_lite.layout.pack import Example, Rendered, Side, Target
from ofasys_lite.layout.row_state import RowState, row_context
from ofasys_lite.layout.terms import Terms
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.constraints import Constraint, Forced, Optional, Repeat, Series, Slotted
from ofasys_lite.plan.segments import (
    GroupSegment,
    LossSpec,
    Plan,
    PlannedTemplate,
    Segment,
    SlotSegment,
    ToolKey,
    WordsSegment,
    walk,
    written_together,
)
from ofasys_lite.preprocess.base import READ, Piece, Preprocess
from ofasys_lite.preprocess.media import naming
from ofasys_lite.preprocess.vocabulary import Vocabulary

__all__ = ["ExampleMaker"]

#: Most elements of a group in decoding where the line gives no bound.
_MOST = 64


class ExampleMaker:
    """Lays rows of one task out as Examples.

    Args:
        plan: The task's plan, closed sets frozen.
        preprocess: Preprocessors by `tool_key` of the plan's slots.
        vocabulary: The run's vocabulary.
        objectives: By (`tool_key`, loss) of the plan's slots.
    """

    def __init__(
        self,
        plan: Plan,
        preprocess: Mapping[ToolKey, Preprocess],
        vocabulary: Vocabulary,
        objectives: Mapping[tuple[ToolKey, LossSpec], Objective],
    ) -> None:
        self.plan = plan
        self.preprocess = preprocess
        self.vocabulary = vocabulary
        self.objectives = objectives
        self._terms = Terms(plan)
        self._causal = [[not any(map(self._together, walk(side))) for side in t.targets] for t in plan.templates]
        self._judged = any(self._terms.judges(slot) for slot in plan.target_slots())
        self._words: dict[str, Piece] = {}
        # boxes are bins of the image's own size; other lines need not look at it
        self._boxes = any(tool.framed for tool in preprocess.values())

    def terms(self) -> tuple[Term, ...]:
        """Every loss term the task can have."""
        return self._terms.all()

    def lengths(self, source: RowSource, index: int) -> tuple[int, int]:
        """(source rows, target rows) of a row, estimated without decoding it."""
        return row_lengths(self.plan, self.preprocess, source, index)

    def example(
        self,
        row: Mapping[str, Any],
        id: str,
        rng: np.random.Generator | None,
        train: bool,
        step: int | None = None,
    ) -> Example:
        """The Example of `row`; DataError names the task, the id and the column if something cannot be read.

        Args:
            row: Raw values by column.
            id: Sample id.
            rng: The sample's generator (paraphrase, masking, augmentation); None where nothing may be random.
            train: Augmentation, paraphrases, `drop` and noise apply.
            step: Number of the training step, for what changes in the course of a run.
        """
        templates = self.plan.templates
        choice = int(rng.integers(len(templates))) if train and rng is not None and len(templates) > 1 else 0
        template = templates[choice]
        drop = max((s.drop for s in walk(template.source)), default=0.0)
        try:
            frame = self._frame(template, row)
            source = RowState(row, rng, train, frame)
            source.dropped = bool(train and drop > 0 and rng is not None and rng.random() < drop)
            for segment in template.source:
                self._segment(source, segment, row, target=False)
            targets = []
            for side, causal in zip(template.targets, self._causal[choice], strict=True):
                state = RowState(row, rng, train, frame, step)
                state.masked = source.masked
                for segment in side:
                    self._segment(state, segment, row, target=True)
                targets.append(Target(tuple(state.pieces), tuple(state.learned), causal))
            if self._judged and train and rng is not None:
                # behind all other draws: what the sample writes is the same with judges and without
                for side, target in zip(template.targets, tuple(targets), strict=True):
                    targets += judged_targets(self._terms, side, target.pieces, rng)
        except DataError as error:
            message = f"task {self.plan.task}, id {id}: {error.message}"
            raise DataError(message, code=error.code, help=error.help) from error
        read = Side(tuple(source.pieces), tuple(source.learned))
        return Example(self.plan.task, id, (read,), tuple(targets), source.masked)

    def source(
        self,
        row: Mapping[str, Any],
        id: str,
        rng: np.random.Generator | None = None,
        emptied: bool = False,
        own_holes: bool = False,
    ) -> Example:
        """The Example without targets, for inference: target columns need not be there.

        Args:
            row: Raw values by column.
            id: Sample id.
            rng: The sample's generator, for masking that defines the task.
            emptied: Leave out the slots with `drop=`, as training does now and then: what guidance compares with.
            own_holes: In pictures of slots with `mask_ratio`, transparent parts are hidden, where there are any.
        """
        template = self.plan.templates[0]
        try:
            state = RowState(row, rng, False, self._frame(template, row))
            state.objectives, state.own_holes = False, own_holes
            state.dropped = emptied
            for segment in template.source:
                self._segment(state, segment, row, target=False)
        except DataError as error:
            raise DataError(f"task {self.plan.task}, id {id}: {error.message}", help=error.help) from error
        return Example(self.plan.task, id, (Side(tuple(state.pieces)),), (), masked=state.masked)

    def known(self, target: int, row: Mapping[str, Any], masked: Mapping[str, Piece]) -> dict[str, Piece]:
        """Slot key -> the row's own picture, for slots of which the source hides a part: the rest is given.

        `learn_P` of the piece is True at the positions that are to be written.
        """
        template = self.plan.templates[0]
        found: dict[str, Piece] = {}
        for slot in template.targets[target]:
            if isinstance(slot, SlotSegment) and slot.learned and slot.column in masked and codec_of(slot) is not None:
                state = RowState(row, None, False, self._frame(template, row))
                state.masked = dict(masked)
                self._slot(state, slot, row, target=True)
                found[slot.key] = state.pieces[-1]
        return found

    def _segment(self, state: RowState, segment: Segment, row: Any, target: bool) -> None:
        if isinstance(segment, WordsSegment):
            term = self._terms.words() if target and self.plan.loss_on_words else None
            state.add(self._word_piece(segment.text), TOKENS, term)
        elif isinstance(segment, SlotSegment):
            self._slot(state, segment, row, target)
        else:
            self._group(state, segment, row, target)

    def _word_piece(self, text: str) -> Piece:
        if text not in self._words:
            self._words[text] = Piece.of_ids(self.vocabulary.encode(text))
        return self._words[text]

    def _control(self, name: str) -> Piece:
        return Piece.of_ids([self.vocabulary.control(name)])

    def _slot(self, state: RowState, slot: SlotSegment, row: Any, target: bool) -> None:
        value = field(row, slot.column, slot.exact)
        absent = is_empty(value)
        if slot.optional:
            if target:
                term = self._terms.loss(slot, slot.losses[0]) if slot.learned else None
                state.add(self._control("absent" if absent else "present"), TOKENS, term)
            if absent:
                return
        if target and slot.learned and absent and value is not MISSING:
            raise empty_target(slot)
        if value is MISSING or value is None:
            raise missing(slot.column, row)
        if state.dropped and slot.drop > 0:
            return
        try:
            tool = self.preprocess[slot.tool_key]
            piece = tool.encode(value, slot.options, state.context(slot, row, target))
            if row is state.row:
                piece = self._span(state, slot, piece, target)
        except DataError as error:
            message = f"column `{slot.column}`: {naming(error, value)}"
            raise DataError(message, code=error.code, help=error.help) from error
        if slot.losses and (target or state.objectives):
            piece = self._learn(state, slot, piece, row)
        state.pieces.append(piece)

    def _span(self, state: RowState, slot: SlotSegment, piece: Piece, target: bool) -> Piece:
        """`piece`, or of a target of which the source hides a part, the piece that learns that part."""
        if target:
            hidden = state.masked.get(slot.column) if slot.learned and slot.closed is None else None
            if hidden is None:
                return piece
            return self.preprocess[slot.tool_key].rest(piece, hidden, state.rng if state.train else None)
        options = dict(slot.options)
        if len(piece.arrays.get("mask", ())):
            state.masked[slot.column] = piece
        if options.get("mask_style") == "mass" and options.get("mask_ratio") and state.rng is not None:
            state.masked[slot.column] = piece
        return piece

    def _learn(self, state: RowState, slot: SlotSegment, piece: Piece, row: Any) -> Piece:
        """Notes what the slot's objectives learn of its piece, which stands behind those laid out; returns it."""

        def read(column: str) -> Piece:
            return self._other(slot, column, row)

        for loss in slot.losses:
            objective = self.objectives[slot.tool_key, loss]
            try:
                piece, arrays = objective.prepare(piece, read, state.rng)
            except DataError as error:
                raise DataError(f"column `{slot.column}`: {error.message}", code=error.code, help=error.help) from error
            term = self._terms.loss(slot, loss)
            state.learned.append(Learned(len(state.pieces), objective, (term,), arrays))
        return piece

    def _other(self, slot: SlotSegment, column: str, row: Any) -> Piece:
        """The row's value of another column, as the line reads it, without what is hidden of it; else as text."""
        value = field(row, column)
        if value is MISSING or value is None:
            raise missing(column, row)
        reader = next((s for s in self.plan.slots() if s.column == column and s is not slot), None)
        if reader is None:
            return Piece.of_ids(self.vocabulary.encode(str(value)))
        plain = tuple(p for p in reader.options if p[0] not in ("mask_ratio", "noise_ratio"))
        return self.preprocess[reader.tool_key].encode(value, plain, READ)

    def _together(self, slot: SlotSegment) -> bool:
        """Whether the slot is written in one go, all its rows seeing each other."""
        objectives = (self.objectives[slot.tool_key, loss] for loss in slot.losses)
        return slot.learned and (written_together(slot.options) or any(each.together for each in objectives))

    def frame(self, row: Mapping[str, Any]) -> tuple[int, int] | None:
        """(width, height) in pixels of the row's picture that boxes refer to, None if there is none."""
        return self._frame(self.plan.templates[0], row)

    def _frame(self, template: PlannedTemplate, row: Mapping[str, Any]) -> tuple[int, int] | None:
        if not self._boxes:
            return None
        for slot in walk(template.source):
            tool = self.preprocess.get(slot.tool_key)
            value = field(row, slot.column, slot.exact)
            if tool is not None and value is not MISSING and value is not None:
                frame = tool.frame(value)
                if frame is not None:
                    return frame
        return None

    def _group(self, state: RowState, group: GroupSegment, row: Any, target: bool) -> None:
        elements = records(group, row)
        if len(elements) < group.least or (group.most is not None and len(elements) > group.most):
            most = "any number" if group.most is None else str(group.most)
            raise DataError(
                f"group `{group_key(group)}` has {len(elements)} elements; promised {group.least} to {most}"
            )
        rng = state.rng if state.train else None
        if group.cut is not None and len(elements) > group.cut:
            elements = cut(elements, group.cut, group.keep, rng)
        if group.order == "random" and rng is not None:
            elements = [elements[i] for i in rng.permutation(len(elements))]
        learned = target and any(s.learned for s in walk((group,)))
        term = self._terms.group(group) if learned else None
        for alternative, record in elements:
            state.add(self._control(opener(group, alternative)), TOKENS, term)
            for segment in group.alternatives[alternative]:
                self._segment(state, segment, record, target)
        if target:
            state.add(self._control("end"), TOKENS, term)

    def constraint(self, target: int, row: Mapping[str, Any]) -> Constraint:
        """What the ids of target number `target` may be for `row`; DataError if it lacks what that depends on."""
        template = self.plan.templates[0]
        frame = self._frame(template, row)
        return self._series(template.targets[target], row, frame)

    def _series(self, segments: tuple[Segment, ...], row: Any, frame: tuple[int, int] | None) -> Constraint:
        return Series(tuple(self._part(s, row, frame) for s in segments))

    def _part(self, segment: Segment, row: Any, frame: tuple[int, int] | None) -> Constraint:
        if isinstance(segment, WordsSegment):
            return Forced(tuple(self.vocabulary.encode(segment.text)))
        if isinstance(segment, GroupSegment):
            return self._repeat(segment, row, frame)
        tool = self.preprocess[segment.tool_key]
        control = self.vocabulary.control
        if not segment.learned:
            return self._forced(segment, row, frame)
        part: Constraint = tool.constraint(segment.options, row_context(segment, row, frame, target=True))
        if segment.optional:
            part = Optional(part, control("present"), control("absent"))
        return Slotted(segment.key, part)

    def _forced(self, slot: SlotSegment, row: Any, frame: tuple[int, int] | None) -> Constraint:
        state = RowState(row, None, False, frame)
        self._slot(state, slot, row, target=True)
        if not all(p.tokens for p in state.pieces):
            raise DataError(f"slot `{slot.key}`: a forced {slot.modality} on the target side cannot be decoded yet")
        return Forced(tuple(int(i) for p in state.pieces for i in p.arrays["ids"]))

    def _repeat(self, group: GroupSegment, row: Any, frame: tuple[int, int] | None) -> Constraint:
        if not any(s.learned for s in walk((group,))):
            state = RowState(row, None, False, frame)
            self._group(state, group, row, target=True)
            return Forced(tuple(int(i) for p in state.pieces for i in p.arrays["ids"]))
        bounds = [b for b in (group.most, group.cut) if b is not None]
        control = self.vocabulary.control
        repeat = Repeat(
            alternatives=tuple(self._series(a, row, frame) for a in group.alternatives),
            openers=tuple(control(opener(group, i)) for i in range(len(group.alternatives))),
            end=control("end"),
            least=group.least,
            most=max(group.least, min(bounds) if bounds else _MOST),
        )
        return Slotted(group_key(group), repeat)

    def values(self, target: int, split: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Column -> value of what `split` (ids by slot key, as the automaton gives them) spells."""
        template = self.plan.templates[0]
        return self._values(template.targets[target], split, row, self._frame(template, row))

    def _values(
        self, segments: tuple[Segment, ...], split: Mapping[str, Any], row: Any, frame: tuple[int, int] | None
    ) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for segment in segments:
            if isinstance(segment, SlotSegment) and segment.learned:
                found[segment.column] = self._value(segment, split.get(segment.key), row, frame)
            elif isinstance(segment, GroupSegment) and group_key(segment) in split:
                found.update(self._group_values(segment, split[group_key(segment)], row, frame))
        return found

    def _value(self, slot: SlotSegment, ids: Any, row: Any, frame: tuple[int, int] | None) -> Any:
        tool = self.preprocess[slot.tool_key]
        if isinstance(ids, Rendered):
            return tool.decode(ids.array, slot.options, row_context(slot, row, frame, target=True))
        if ids is None or (slot.optional and len(ids) and ids[0] == self.vocabulary.control("absent")):
            return None
        ids = ids[1:] if slot.optional else ids
        known = row_context(slot, row, frame, target=True)
        return tool.decode(np.asarray(ids, dtype=np.int64), slot.options, known)

    def _group_values(
        self, group: GroupSegment, elements: Any, row: Any, frame: tuple[int, int] | None
    ) -> dict[str, Any]:
        found: list[Any] = []
        for alternative, split in elements:
            segments = group.alternatives[alternative]
            record = self._values(segments, split, row, frame)
            if group.by is not None:
                record[group.by] = next(name for name, index in group.spellings if index == alternative)
            found.append(record)
        if group.over is not None:
            bare = all(len(r) == 1 and next(iter(r)).isdigit() for r in found) and found
            return {group.over: [next(iter(r.values())) for r in found] if bare else found}
        return {column: [r.get(column) for r in found] for column in walked(group)}
