"""Constraint -> Automaton: masks decoding, says where elements stand, splits finished output into columns.

Deterministic: a state and an id give the next state. States are made on demand and shared, so a step costs
microseconds whatever the size of the closed sets; a constraint is compiled once and cached.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from ofasys_lite.decoding.allowed import Allowed
from ofasys_lite.decoding.automaton_parts import (
    CodesPart,
    CornersPart,
    ForcedPart,
    FreePart,
    GrammarPart,
    OptionalPart,
    PlacedPart,
    RangePart,
    RepeatPart,
    SeriesPart,
)
from ofasys_lite.decoding.given_parts import GivenRepeatPart, ShownPart
from ofasys_lite.decoding.json_part import JsonPart
from ofasys_lite.decoding.nodes import END, AutomatonPart, Node, Owner, PlacedNode
from ofasys_lite.decoding.trie import OneOfPart
from ofasys_lite.errors import DataError, ShapeError
from ofasys_lite.plan.constraints import (
    Codes,
    Constraint,
    Corners,
    Forced,
    Free,
    Grammar,
    Json,
    OneOf,
    Optional,
    Placed,
    Range,
    Repeat,
    Series,
    Shown,
    Slotted,
    given_in,
)


class State(NamedTuple):
    """Where a sequence stands; hashable, equal if everything that may follow is equal and stands at equal positions.

    Attributes:
        node: Place in the automaton.
        offset: Largest position so far + 1; inside a placed part, the position where that part starts.
    """

    node: Node
    offset: int


class Automaton:
    """What the ids of one target sequence may be.

    Attributes:
        start: The first state.
        max_length: Most ids of a legal sequence.
        min_length: Fewest ids of a legal sequence.
        given: Ids among them that were there before; limits of decoding do not count them.
    """

    def __init__(self, part: AutomatonPart, given: int = 0) -> None:
        self._part = part
        self.given = given
        self.start = State(part.enter(END), 0)
        self.max_length = part.most
        self.min_length = self.start.node.shortest

    def allowed(self, state: State) -> Allowed:
        """The legal ids; none at the end."""
        return state.node.allowed

    def within(self, state: State, low: int, high: int) -> Allowed:
        """The legal ids from which the sequence can end with `low` to `high` more ids in all.

        Where none can, those that come nearest, `high` before `low`: so a budget always ends in a legal sequence.
        """
        return state.node.within(low, high)

    def choices(self, state: State) -> bool:
        """True if more than one id is legal: then the element carries loss."""
        return state.node.allowed.count > 1

    def step(self, state: State, id: int) -> State:
        """The state behind `id`; DataError if `id` is not legal in `state`."""
        node, offset = state
        found = node.follow(id) if node.part is None else node.part.follow(node, id)
        return State(found, offset + node.advance)

    def done(self, state: State) -> bool:
        """True if the sequence is over."""
        return state.node is END

    def position(self, state: State) -> tuple[int, int, int]:
        """(time, row, column) of the next element: in a line the largest so far + 1, else its own place."""
        offset, relative = state.offset, state.node.relative
        if relative is None:
            return offset, offset, offset
        return offset + relative[0], offset + relative[1], offset + relative[2]

    def shortest(self, state: State) -> int:
        """Fewest ids to the end."""
        return state.node.shortest

    def longest(self, state: State) -> int:
        """Most ids to the end (within JSON an upper bound, at most 2 above the truth)."""
        return state.node.longest

    def forced(self, state: State) -> tuple[int, ...] | None:
        """All ids to the end if none leaves a choice (empty at the end), else None."""
        return state.node.tail()

    def walk(self, ids: Iterable[int]) -> list[State]:
        """The state before each id, and the last one; DataError names the place of an id that is not legal."""
        states, offset = list[State](), 0
        for node in self._nodes(ids):
            states.append(State(node, offset))
            offset += node.advance
        return states

    def _nodes(self, ids: Iterable[int]) -> list[Node]:
        """The node of each id, and the last one."""
        node = self.start.node
        nodes = [node]
        for place, id in enumerate(ids):
            try:
                node = node.follow(int(id)) if node.part is None else node.part.follow(node, int(id))
            except DataError as error:
                raise DataError(f"element {place}: {error.message}", help=error.help) from None
            nodes.append(node)
        return nodes

    def accepts(self, ids: Iterable[int]) -> bool:
        """True if `ids` are one whole legal sequence."""
        try:
            return self.done(self.walk(ids)[-1])
        except DataError:
            return False

    def split(self, ids: Iterable[int]) -> dict[str, Any]:
        """Ids by slot: key -> int64 array; a group's key -> list of (alternative, dict of the element's slots).

        Ids of words belong to nobody. A slot written twice counts where it stands first.

        Raises:
            DataError: The ids are not legal, or stop before the end.
        """
        listed = [int(i) for i in ids]
        nodes = self._nodes(listed)
        if nodes[-1] is not END:
            raise DataError(f"the target stops after {len(listed)} ids and before its end")
        frames: list[dict[Owner, Any]] = [{}]
        for id, node in zip(listed, nodes, strict=False):
            while isinstance(node, PlacedNode):
                node = node.inner
            part = node.part
            owner = None if part is None else part.owner
            if owner is None:
                continue
            del frames[owner.depth + 1 :]
            if not owner.group or not isinstance(part, (RepeatPart, GivenRepeatPart)):
                frames[owner.depth].setdefault(owner, []).append(id)
                continue
            elements = frames[owner.depth].setdefault(owner, [])
            if id != part.end:
                frames.append({})
                elements.append((part.openers.index(id), frames[-1]))
        return _named(frames[0])


def _named(frame: dict[Owner, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for owner, content in frame.items():
        if owner.group:
            found.setdefault(owner.key, [(alternative, _named(inner)) for alternative, inner in content])
        else:
            # codes of a position as one number may be larger than 64 bits
            wide = max(content, default=0) >= 2**63
            found.setdefault(owner.key, np.array(content, dtype=object if wide else np.int64))
    return found


class _Asked:
    """A constraint whose hash is taken once: it may be as long as a closed set."""

    __slots__ = ("constraint", "hash")

    def __init__(self, constraint: Constraint) -> None:
        self.constraint, self.hash = constraint, hash(constraint)

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Asked) and self.constraint == other.constraint


class _Kept:
    """Automata by constraint, the newest last.

    What was asked for once stands apart from what was asked for again, so that constraints of one row each never drive
    out those that all rows of a task share (2Q; Johnson and Shasha, 1994).
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.once: dict[_Asked, Automaton] = {}
        self.again: dict[_Asked, Automaton] = {}
        self._lock = threading.Lock()

    def of(self, constraint: Constraint) -> Automaton:
        """The automaton of `constraint`, made if it is not kept."""
        asked = _Asked(constraint)
        with self._lock:
            found = self.again.pop(asked, None) or self.once.pop(asked, None)
            into = self.once if found is None else self.again
            if found is None:
                found = Automaton(_part(constraint, None, 0), given_in(constraint))
            into[asked] = found
            if len(into) > self.most:
                del into[next(iter(into))]
        return found


_KEPT = _Kept(256)


def compile(constraint: Constraint) -> Automaton:
    """The automaton of `constraint`; equal constraints share one.

    Raises:
        ShapeError: The constraint contradicts itself (a value of a closed set is the beginning of another, a part with
            positions has no fixed length, ...).
    """
    return _KEPT.of(constraint)


def _part(constraint: Constraint, owner: Owner | None, depth: int) -> AutomatonPart:
    match constraint:
        case Forced():
            return ForcedPart(owner, constraint)
        case Shown():
            return ShownPart(constraint)
        case Free():
            return FreePart(owner, constraint)
        case OneOf():
            return OneOfPart(owner, constraint)
        case Codes():
            return CodesPart(owner, constraint)
        case Range():
            return RangePart(owner, constraint)
        case Corners():
            return CornersPart(owner, constraint)
        case Json():
            return JsonPart(owner, constraint)
        case Grammar():
            return GrammarPart(owner, constraint)
        case Series(parts):
            return SeriesPart(tuple(_part(p, owner, depth) for p in parts))
        case Optional(part, present, absent):
            return OptionalPart(owner, _part(part, owner, depth), present, absent)
        case Placed(part):
            return PlacedPart(owner, _part(part, owner, depth), constraint)
        case Slotted(key, Repeat() as group):
            return _repeat(group, Owner(key, depth, group=True), depth)
        case Slotted(key, part):
            return _part(part, Owner(key, depth), depth)
        case Repeat():
            return _repeat(constraint, owner, depth)
    raise ShapeError(f"{type(constraint).__name__} is not a constraint")


def _repeat(group: Repeat, owner: Owner | None, depth: int) -> AutomatonPart:
    named = owner is not None and owner.group
    if not named and any(_has_slot(a) for a in (*group.alternatives, *(each for _, each in group.elements))):
        raise ShapeError("a group with slots has no name", help="write Slotted(key, Repeat(...))")
    inner = (None, depth + 1) if named else (owner, depth)
    if group.given:
        elements = tuple((number, _part(each, *inner)) for number, each in group.elements)
        return GivenRepeatPart(owner, elements, group.openers, group.end)
    alternatives = tuple(_part(a, *inner) for a in group.alternatives)
    return RepeatPart(owner, alternatives, group.openers, group.end, (group.least, group.most))


def _has_slot(constraint: Constraint) -> bool:
    match constraint:
        case Slotted():
            return True
        case Series(parts):
            return any(map(_has_slot, parts))
        case Optional(part) | Placed(part):
            return _has_slot(part)
        case Repeat(alternatives, elements=elements):
            return any(map(_has_slot, (*alternatives, *(each for _, each in elements))))
    return False
