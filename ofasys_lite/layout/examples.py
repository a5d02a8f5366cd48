"""A raw row -> an Example by a plan, and back: what a target may look like, and which values its ids spell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from ofasys_lite.data.contents import values_hash
from ofasys_lite.data.fields import MISSING, field, is_empty, missing
from ofasys_lite.data.groups import cut, empty_target, group_key, opener, records, walked
from ofasys_lite.data.source import RowSource
from ofasys_lite.errors import DataError
from ofasys_lite.layout.bound import Binder, Bound, BoundGroup, BoundSlot, BoundWords, RowState
from ofasys_lite.layout.constraining import Constraining, given_records
from ofasys_lite.layout.costs import row_lengths
from ofasys_lite.layout.framing import framed
from ofasys_lite.layout.learned import Learned, Objective, Term
from ofasys_lite.layout.objectives import TOKENS, judged_targets
from ofasys_lite.layout.pack import Example, Rendered, Side, Target
from ofasys_lite.layout.preference import OtherAnswer, with_contents
from ofasys_lite.plan.codecs import codec_of
from ofasys_lite.plan.constraints import Constraint
from ofasys_lite.plan.segments import LossSpec, Plan, SlotSegment, ToolKey, walk, written_together
from ofasys_lite.preprocess.base import READ, Piece, Preprocess
from ofasys_lite.preprocess.media import naming
from ofasys_lite.preprocess.vocabulary import Vocabulary


class ExampleMaker:
    """Lays rows of one task out as Examples.

    Args:
        preprocess: Preprocessors by `tool_key` of the plan's slots.
        objectives: By (`tool_key`, loss) of the plan's slots.
        counts: By slot key, training rows of each value of its closed set, for objectives that draw values by them.
    """

    def __init__(
        self,
        plan: Plan,
        preprocess: Mapping[ToolKey, Preprocess],
        vocabulary: Vocabulary,
        objectives: Mapping[tuple[ToolKey, LossSpec], Objective],
        counts: Mapping[str, Mapping[str, int]] = MappingProxyType({}),
    ) -> None:
        self.plan = plan
        self.preprocess = preprocess
        self.vocabulary = vocabulary
        self.objectives = objectives
        self._causal = [[not any(map(self._together, walk(side))) for side in t.written] for t in plan.templates]
        binder = Binder(plan, preprocess, vocabulary, objectives, counts)
        self._templates = [binder.template(t) for t in plan.templates]
        self._pairs = binder.pairs()
        self._terms = tuple(binder.terms)
        self._opening = vocabulary.control("start")
        self._around = vocabulary.around
        self._controls = dict[str, Piece]()
        self._judged = any(part.judged for side in self._templates[0].targets for part in _slots(side))
        #: Whether a sample of training wants an answer of another row (`example`).
        self.mismatched = any(objective.mismatched for objective in objectives.values())
        self._preferring = any(slot.rejected is not None for slot in plan.target_slots())
        # boxes are bins of the image's own size; other lines need not look at it
        self._boxes = any(tool.framed for tool in preprocess.values())

    def terms(self) -> tuple[Term, ...]:
        """Every loss term the task can have."""
        return self._terms

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
        other: OtherAnswer | None = None,
    ) -> Example:
        """The Example of `row`; DataError names the task, the id and the column if something cannot be read.

        Args:
            rng: The sample's generator (paraphrase, masking, augmentation); None where nothing may be random.
            train: Augmentation, paraphrases, `drop` and noise apply.
            step: Number of the training step, for what changes in the course of a run.
            other: An answer of another row, which stands behind this row's source, too (`mismatched`).
        """
        templates = self._templates
        choice = int(rng.integers(len(templates))) if train and rng is not None and len(templates) > 1 else 0
        template = templates[choice]
        drop = template.drop
        try:
            frame = self.frame(row, choice) if self._boxes else None
            source = RowState(row, rng, train, frame)
            source.dropped = bool(train and drop > 0 and rng is not None and rng.random() < drop)
            sides, opening = self._read(source, choice), self._opening
            if self.vocabulary.seamless:
                sides, opening = self._opened(sides)
            targets, further = list[Target](), list[Target]()
            for side, causal in zip(template.targets, self._causal[choice], strict=True):
                for rejected in (False, True) if self._preferring else (False,):
                    state = RowState(row, rng, train, frame, step, rejected=rejected)
                    state.masked = source.masked
                    for part in side:
                        self._lay(state, part, row)
                    targets.append(Target(tuple(state.pieces), tuple(state.learned), causal, opening))
                    further += state.further
            if other is not None:
                state = RowState(other.row, rng, train, self.frame(other.row), step, rejected=other.rejected)
                try:
                    for part in template.targets[0]:
                        self._lay(state, part, other.row)
                except DataError as error:
                    message = f"the answer of {other.id}, which its own are compared with: {error.message}"
                    raise DataError(message, code=error.code, help=error.help) from error
                targets.append(Target(tuple(state.pieces), tuple(state.learned), targets[0].causal, opening))
            if self._preferring:
                targets = with_contents([piece for side in sides for piece in side.pieces], targets)
            if self._judged and train and rng is not None:
                # behind all other draws: what the sample writes is the same with judges and without
                for side, target in zip(template.targets, tuple(targets), strict=True):
                    targets += judged_targets([part.judged for part in _slots(side)], target.pieces, rng)
        except DataError as error:
            message = f"task {self.plan.task}, id {id}: {error.message}"
            raise DataError(message, code=error.code, help=error.help) from error
        return Example(self.plan.task, id, sides, (*targets, *further), source.masked, opening)

    def _opened(self, sides: tuple[Side, ...]) -> tuple[tuple[Side, ...], int]:
        """The source, and what opens its targets where they simply go on: its own last id, or `<start>` without one."""
        pieces = sides[-1].pieces if sides else ()
        if not pieces or not pieces[-1].tokens or not pieces[-1].count:
            return sides, self._opening
        ids = pieces[-1].arrays["ids"]
        last = Piece.of_ids(ids[:-1].tolist(), pieces[-1].positions_P3[:-1])
        kept = replace(sides[-1], pieces=(*pieces[:-1], *([last] if last.count else [])))
        return (*sides[:-1], kept), int(ids[-1])

    def _read(self, state: RowState, choice: int = 0, only: int | None = None) -> tuple[Side, ...]:
        """What the encoder reads of the row in `state`, a sequence each; `only`: of the sides of `<->` that one.

        A side of `<->` ends with the row whose state is its vector; it is learned beside what the side holds.
        """
        template, found = self._templates[choice], list[Side]()
        for number, parts in enumerate(template.sources):
            if only not in (None, number):
                continue
            state.pieces, state.learned = [], []
            for part in parts:
                self._lay(state, part, state.row)
            if self._pairs is not None:
                objective, term, ending = self._pairs
                content = {"content": np.array([self._content(state.row, template.columns[number])], dtype=np.int64)}
                if state.objectives:
                    state.learned.append(Learned(len(state.pieces), objective, (term,), content))
                state.pieces.append(ending)
            if any(self._around):
                found.append(framed(state.pieces, state.learned, self._around))
            else:
                found.append(Side(tuple(state.pieces), tuple(state.learned)))
        return tuple(found)

    def contents(self, row: Mapping[str, Any]) -> tuple[int, ...]:
        """A number for what each side of `<->` holds, equal where they hold the same; DataError: one holds nothing."""
        return tuple(self._content(row, columns) for columns in self._templates[0].columns)

    def _content(self, row: Any, columns: tuple[tuple[str, bool], ...]) -> int:
        values = [field(row, column, exact) for column, exact in columns]
        if all(is_empty(value) for value in values):
            raise DataError("one side of `<->` holds nothing", help="a row needs a value on both sides")
        base = next((tool.context.folder for tool in self.preprocess.values() if tool.context.folder), "")
        return values_hash(values, base)

    def source(
        self,
        row: Mapping[str, Any],
        id: str,
        rng: np.random.Generator | None = None,
        emptied: bool = False,
        own_holes: bool = False,
        side: int | None = None,
        negative: str = "",
    ) -> Example:
        """The Example without targets, for inference: target columns need not be there.

        Args:
            rng: The sample's generator, for masking that defines the task.
            emptied: Leave out the slots with `drop=`, as training does now and then: what guidance compares with.
            own_holes: In pictures of slots with `mask_ratio`, transparent parts are hidden, where there are any.
            negative: Where slots are left out, what those of text read instead (a negative prompt).
            side: Of a line with `<->` only the left (0) or the right (1) side, without columns of the other one.
        """
        try:
            state = RowState(row, rng, False, self.frame(row))
            state.objectives, state.own_holes = False, own_holes
            state.dropped, state.negative = emptied, negative
            sides, opening = self._read(state, only=side), self._opening
            if self.vocabulary.seamless:
                sides, opening = self._opened(sides)
        except DataError as error:
            raise DataError(f"task {self.plan.task}, id {id}: {error.message}", help=error.help) from error
        return Example(self.plan.task, id, sides, (), state.masked, opening)

    def known(self, target: int, row: Mapping[str, Any], masked: Mapping[str, Piece]) -> dict[str, Piece]:
        """Slot key -> the row's own picture, for slots of which the source hides a part: the rest is given.

        `learn_P` of the piece is True at the positions that are to be written.
        """
        found: dict[str, Piece] = {}
        for part in self._templates[0].targets[target]:
            if not isinstance(part, BoundSlot):
                continue
            slot = part.slot
            if slot.learned and slot.column in masked and codec_of(slot) is not None:
                state = RowState(row, None, False, self.frame(row))
                state.masked = dict(masked)
                self._slot(state, part, row)
                found[slot.key] = state.pieces[-1]
        return found

    def _lay(self, state: RowState, part: Bound, row: Any) -> None:
        """Lays out what `row` (a record of it within a group) has for a part of the line."""
        if isinstance(part, BoundSlot):
            self._slot(state, part, row)
        elif isinstance(part, BoundWords):
            state.add(part.piece, TOKENS, part.term)
        else:
            self._group(state, part, row)

    def _control(self, name: str) -> Piece:
        if name not in self._controls:
            self._controls[name] = Piece.of_ids([self.vocabulary.control(name)])
        return self._controls[name]

    def _slot(self, state: RowState, part: BoundSlot, row: Any) -> None:
        slot, target = part.slot, part.target
        column = slot.rejected if state.rejected and slot.rejected is not None else slot.column
        value = field(row, column, slot.exact and column == slot.column)
        absent = is_empty(value)
        if slot.optional:
            if target:
                term = part.learned[0][1] if slot.learned else None
                state.add(self._control("absent" if absent else "present"), TOKENS, term)
            if absent:
                return
        needed = (target and slot.learned) or self._pairs is not None
        if needed and absent and value is not MISSING:
            raise empty_target(slot, column)
        if value is MISSING or value is None:
            raise missing(column, row)
        if state.dropped and slot.drop > 0:
            if not state.negative or not part.tool.text:
                return
            value = state.negative
        try:
            piece = part.tool.encode(value, slot.options, state.context(slot, row, target))
            if row is state.row and target and slot.column in state.masked and slot.learned and slot.closed is None:
                piece = part.tool.rest(piece, state.masked[slot.column], state.rng if state.train else None)
        except DataError as error:
            message = f"column `{column}`: {naming(error, value)}"
            raise DataError(message, code=error.code, help=error.help) from error
        hides = len(piece.arrays.get("mask", ())) or (part.span and state.rng is not None)
        if hides and not target and row is state.row:
            state.masked[slot.column] = piece
        if part.learned and (target or state.objectives):
            piece = self._learn(state, part, piece, row)
        state.pieces.append(piece)

    def _learn(self, state: RowState, part: BoundSlot, piece: Piece, row: Any) -> Piece:
        """Notes what the slot's objectives learn of its piece, which stands behind those laid out; returns it."""
        slot = part.slot
        for (objective, term), beside in zip(part.learned, part.besides, strict=True):
            rng = state.rng if state.train or not objective.of_training else None
            try:
                piece, arrays = objective.prepare(piece, partial(self._other, slot, row), rng)
            except DataError as error:
                raise DataError(f"column `{slot.column}`: {error.message}", code=error.code, help=error.help) from error
            state.learned.append(Learned(len(state.pieces), objective, (term,), arrays))
            if beside is not None and objective.beside is not None and (more := objective.further(piece)) is not None:
                learned = Learned(0, objective.beside, (beside,), more[1])
                state.further.append(Target((more[0],), (learned,), causal=False))
        return piece

    def _other(self, slot: SlotSegment, row: Any, column: str) -> Piece:
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
        objectives = [self.objectives[slot.tool_key, loss] for loss in slot.losses]
        if not slot.learned or any(each.walked for each in objectives):
            return False
        return written_together(slot.options) or any(each.together for each in objectives)

    def frame(self, row: Mapping[str, Any], choice: int = 0) -> tuple[int, int] | None:
        """(width, height) in pixels of the row's picture that boxes refer to, None if there is none."""
        for slot, tool in self._templates[choice].readers if self._boxes else ():
            value = field(row, slot.column, slot.exact)
            if value is not MISSING and value is not None:
                frame = tool.frame(value)
                if frame is not None:
                    return frame
        return None

    def _group(self, state: RowState, part: BoundGroup, row: Any) -> None:
        group = part.group
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
        for alternative, record in elements:
            state.add(self._control(opener(group, alternative)), TOKENS, part.term)
            for inner in part.alternatives[alternative]:
                self._lay(state, inner, record)
        if part.target:
            state.add(self._control("end"), TOKENS, part.term)

    def constraint(
        self, target: int, row: Mapping[str, Any], masked: Mapping[str, Piece] = MappingProxyType({})
    ) -> Constraint:
        """What the ids of target number `target` may be for `row`; DataError if it lacks what that depends on.

        Args:
            masked: Column -> what the source hides a part of (`Example.masked`).
        """
        state = RowState(row, None, False, self.frame(row))
        state.masked = dict(masked)
        return Constraining(self._lay, self.vocabulary).series(self._templates[0].targets[target], state, row)

    def values(self, target: int, split: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
        """Column -> value of what `split` (ids by slot key, as the automaton gives them) spells."""
        state = RowState(row, None, False, self.frame(row))
        return self._values(self._templates[0].targets[target], split, state, row)

    def _values(self, parts: tuple[Bound, ...], split: Mapping[str, Any], state: RowState, row: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in parts:
            if isinstance(part, BoundSlot) and part.slot.learned:
                found[part.slot.column] = self._value(part, split.get(part.slot.key), state, row)
            elif isinstance(part, BoundGroup) and group_key(part.group) in split:
                found.update(self._group_values(part, split[group_key(part.group)], state, row))
        return found

    def _value(self, part: BoundSlot, ids: Any, state: RowState, row: Any) -> Any:
        slot, known = part.slot, state.context(part.slot, row, True)
        if isinstance(ids, Rendered):
            return part.tool.decode(ids.array, slot.options, known)
        if ids is None or (slot.optional and len(ids) and ids[0] == self.vocabulary.control("absent")):
            return None
        return part.tool.decode(np.asarray(ids[int(slot.optional) :], dtype=np.int64), slot.options, known)

    def _group_values(self, part: BoundGroup, elements: Any, state: RowState, row: Any) -> dict[str, Any]:
        group, found = part.group, list[Any]()
        given = given_records(part, state, row)
        for number, (alternative, split) in enumerate(elements):
            own = row if given is None else given[number][1]
            record = self._values(part.alternatives[alternative], split, state, own)
            if group.by is not None:
                record[group.by] = next(name for name, index in group.spellings if index == alternative)
            found.append(record)
        if group.over is not None:
            bare = all(len(r) == 1 and next(iter(r)).isdigit() for r in found) and found
            return {group.over: [next(iter(r.values())) for r in found] if bare else found}
        return {column: [r.get(column) for r in found] for column in walked(group)}


def _slots(parts: Iterable[Bound]) -> Iterator[BoundSlot]:
    """The slots among parts of a line, groups opened."""
    for part in parts:
        if isinstance(part, BoundSlot):
            yield part
        elif isinstance(part, BoundGroup):
            yield from _slots(inner for side in part.alternatives for inner in side)
