"""What a target may look like for a row: parts of the line -> a Constraint, what is given by the row in its place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np

from ofasys_lite.data.fields import MISSING, field
from ofasys_lite.data.groups import cut, group_key, opener, records
from ofasys_lite.layout.bound import Bound, BoundGroup, BoundSlot, BoundWords, RowState
from ofasys_lite.layout.hidden_ids import in_rounds
from ofasys_lite.plan.constraints import Constraint, Forced, Optional, Repeat, Series, Shown, Slotted, Whole
from ofasys_lite.plan.segments import walk
from ofasys_lite.preprocess.base import Piece
from ofasys_lite.preprocess.vocabulary import Vocabulary

#: Most elements of a group in decoding where the line gives no bound.
_MOST = 64


class Constraining:
    """Makes constraints of parts of a line.

    Args:
        lay: Lays out what a row (a record of it within a group) has for a part.
    """

    def __init__(self, lay: Callable[[RowState, Bound, Any], None], vocabulary: Vocabulary) -> None:
        self._lay, self._control = lay, vocabulary.control

    def series(self, parts: tuple[Bound, ...], state: RowState, row: Any) -> Constraint:
        """The parts of a side for `row`, a record within a group."""
        return Series(tuple(self._part(part, state, row) for part in parts))

    def _part(self, part: Bound, state: RowState, row: Any) -> Constraint:
        if isinstance(part, BoundWords):
            return Forced(tuple(part.piece.arrays["ids"].tolist()))
        if isinstance(part, BoundGroup):
            return self._repeat(part, state, row)
        slot = part.slot
        if not slot.learned:
            return self._forced(part, state, row)
        own = field(row, slot.column, slot.exact)
        known = replace(
            state.context(slot, row, True),
            value=None if own is MISSING else own,
            hidden=state.masked.get(slot.column),
        )
        found: Constraint = part.tool.constraint(slot.options, known)
        found = in_rounds(found) if slot.in_rounds else found
        if isinstance(found, Whole):
            found = replace(found, learned=tuple((loss.name, loss.options) for loss in slot.losses))
        if slot.optional:
            found = Optional(found, self._control("present"), self._control("absent"))
        return Slotted(slot.key, found)

    def _forced(self, part: BoundSlot | BoundGroup, state: RowState, row: Any) -> Constraint:
        """What a part that is given writes: its row's ids, and what is shown."""
        given = RowState(state.row, None, False, state.frame)
        self._lay(given, part, row)
        return of_pieces(given.pieces)

    def _repeat(self, part: BoundGroup, state: RowState, row: Any) -> Constraint:
        group = part.group
        if not part.written:
            return self._forced(part, state, row)
        elements: tuple[tuple[int, Constraint], ...] = ()
        alternatives: tuple[Constraint, ...] = ()
        listed = given_records(part, state, row)
        if listed is not None:
            elements = tuple((n, self.series(part.alternatives[n], state, record)) for n, record in listed)
        else:
            alternatives = tuple(self.series(alternative, state, row) for alternative in part.alternatives)
        bounds = [b for b in (group.most, group.cut) if b is not None]
        repeat = Repeat(
            alternatives=alternatives,
            openers=tuple(self._control(opener(group, i)) for i in range(len(group.alternatives))),
            end=self._control("end"),
            least=group.least,
            most=max(group.least, min(bounds) if bounds else _MOST),
            elements=elements,
            given=listed is not None,
        )
        return Slotted(group_key(group), repeat)


def given_records(part: BoundGroup, state: RowState, row: Any) -> list[tuple[int, Any]] | None:
    """(alternative, record) of the elements of a written group of which its records have a part beforehand: what is
    read alone, candidates of their own. None where they have nothing."""
    group = part.group
    for slot in walk((group,)):
        closed = slot.closed
        own = closed is not None and closed.kind == "candidates" and field(state.row, closed.name) is MISSING
        if not slot.learned or own:
            found = records(group, row)
            return found if group.cut is None else cut(found, group.cut, group.keep, None)
    return None


def of_pieces(pieces: Sequence[Piece]) -> Constraint:
    """Pieces that are given: token ids one after another, and what is shown at its places."""
    parts: list[Constraint] = []
    for tokens, found in groupby(pieces, key=lambda piece: piece.tokens):
        if tokens:
            parts.append(Forced(tuple(np.concatenate([piece.arrays["ids"] for piece in found]).tolist())))
        else:
            parts += [Shown(tuple(map(tuple, piece.positions_P3.tolist())), piece=piece) for piece in found]
    return parts[0] if len(parts) == 1 else Series(tuple(parts))
