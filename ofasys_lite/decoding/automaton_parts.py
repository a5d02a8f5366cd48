"""Parts of a compiled constraint: one small class per kind, each a factory of nodes."""

from __future__ import annotations

from collections.abc import Hashable

from ofasys_lite.decoding.nodes import END, Arc, AutomatonPart, CodesNode, LocalNode, Node, Owner, PlacedNode, illegal
from ofasys_lite.errors import ShapeError
from ofasys_lite.plan.constraints import Codes, Corners, Forced, Free, Grammar, Move, Placed, Range


def one(id: int) -> tuple[tuple[int, int], ...]:
    """The range that holds only `id`."""
    return ((id, id + 1),)


class ForcedPart(AutomatonPart):
    """Exactly these ids."""

    def __init__(self, owner: Owner | None, constraint: Forced) -> None:
        super().__init__(owner, len(constraint.ids), len(constraint.ids))
        self.ids = constraint.ids

    def enter(self, then: Node) -> Node:
        """The first id, or `then` if there is none."""
        return self.node(0, then) if self.ids else then

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        place = int(str(local))
        left = len(self.ids) - place - 1
        return LocalNode(self, place, then, (Arc(one(self.ids[place]), left + then.shortest, left + then.longest),))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        place, then = place_of(node)
        if id != self.ids[place]:
            raise illegal(node, id)
        return self.node(place + 1, then) if place + 1 < len(self.ids) else then


class RangePart(AutomatonPart):
    """One id of a range."""

    def __init__(self, owner: Owner | None, constraint: Range) -> None:
        super().__init__(owner, 1, 1)
        if constraint.high <= constraint.low:
            raise ShapeError(f"a range of ids from {constraint.low} to {constraint.high} is empty")
        self.ranges = ((constraint.low, constraint.high),)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        return LocalNode(self, local, then, (Arc(self.ranges, then.shortest, then.longest),))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        ((low, high),) = self.ranges
        if not low <= id < high:
            raise illegal(node, id)
        return place_of(node)[1]


class CornersPart(AutomatonPart):
    """The corners of a box that has an area: the second one lies right of and below the first."""

    #: Places that are kept: there are as many as pairs of bins.
    _KEPT = 65_536
    first = ()

    def __init__(self, owner: Owner | None, constraint: Corners) -> None:
        super().__init__(owner, 4, 4)
        if constraint.high - constraint.low < 2:
            raise ShapeError(f"a box of {constraint.high - constraint.low} bins has no area")
        self.low, self.high = constraint.low, constraint.high

    def make(self, local: Hashable, then: Node) -> Node:
        """The node behind the ids `local`; of a finished number only what still bounds another is kept."""
        if len(self._nodes) >= self._KEPT:
            self._nodes.clear()
        left = 3 - len(local) if isinstance(local, tuple) else 3
        return LocalNode(self, local, then, (Arc((self._range(local),), left + then.shortest, left + then.longest),))

    def _range(self, local: Hashable) -> tuple[int, int]:
        """Legal ids behind `local`: the first corner leaves room for the second."""
        found = local if isinstance(local, tuple) else ()
        return (self.low, self.high - 1) if len(found) < 2 else (found[len(found) - 2] + 1, self.high)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        if not isinstance(node, LocalNode) or not isinstance(node.local, tuple) or node.then is None:
            raise ShapeError("a node was handed to a part that did not make it")
        low, high = self._range(node.local)
        if not low <= id < high:
            raise illegal(node, id)
        if len(node.local) == 3:
            return node.then
        # behind x1 only y0 matters
        return self.node((-1, node.local[1], -1) if len(node.local) == 2 else (*node.local, id), node.then)


class FreePart(AutomatonPart):
    """Free text and its close."""

    def __init__(self, owner: Owner | None, constraint: Free) -> None:
        super().__init__(owner, constraint.least + 1, constraint.most + 1)
        self.constraint = constraint
        whole = ((constraint.low, constraint.high),) if constraint.low < constraint.high else ()
        self.ranges = (*whole, *(one(i)[0] for i in sorted(constraint.ids)))
        self.further = frozenset(constraint.ids)
        self.closing = one(constraint.close)
        # the node behind all ids of the text, once it was asked for: most of what is written passes here
        self._behind: dict[Node, Node] = {}
        if constraint.low <= constraint.close < constraint.high or constraint.close in self.further:
            raise ShapeError(f"the id {constraint.close} that closes free text is one of its own ids")
        if not 0 <= constraint.least <= constraint.most:
            raise ShapeError(
                f"free text of {constraint.least} to {constraint.most} ids", help="give 0 <= least <= most"
            )

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        count, c = int(str(local)), self.constraint
        arcs: list[Arc] = []
        if count < c.most:
            least = max(0, c.least - count - 1) + 1
            arcs.append(Arc(self.ranges, least + then.shortest, c.most - count + then.longest))
        if count >= c.least:
            arcs.append(Arc(self.closing, then.shortest, then.longest))
        return LocalNode(self, count, then, tuple(arcs), count)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        c = self.constraint
        within = c.low <= id < c.high or id in self.further
        if within and node in self._behind:
            return self._behind[node]
        count, then = node.text, node.then
        if then is not None and within and count < c.most:
            behind = self._behind[node] = self.node(count + 1, then)
            return behind
        if then is not None and id == c.close and count >= c.least:
            return then
        raise illegal(node, id)


class GrammarPart(AutomatonPart):
    """States and moves of a constraint from outside."""

    #: Places that are kept: there may be as many as there are outputs.
    _KEPT = 16_384

    def __init__(self, owner: Owner | None, constraint: Grammar) -> None:
        super().__init__(owner, constraint.least, constraint.most)
        if not 1 <= constraint.least <= constraint.most:
            raise ShapeError(f"{type(constraint).__name__} writes {constraint.least} to {constraint.most} ids")
        self.grammar = constraint
        self.first = constraint.start
        self._moves: dict[Hashable, tuple[Move, ...]] = {}

    def make(self, local: Hashable, then: Node) -> Node:
        """The node of the state `local`."""
        if len(self._nodes) >= self._KEPT:
            self._nodes.clear()
            self._moves.clear()
        moves = self._at(local)
        arcs = [Arc(m.ids, m.least + then.shortest, m.most + then.longest) for m in moves]
        return LocalNode(self, local, then, tuple(arcs))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        if not isinstance(node, LocalNode) or node.then is None:
            raise illegal(node, id)
        found = node.successors.get(id)
        if found is None:
            for move in self._at(node.local):
                if any(low <= id < high for low, high in move.ids):
                    found = node.then if move.to is None else self.node(move.to, node.then)
                    node.successors[id] = found
                    return found
            raise illegal(node, id)
        return found

    def _at(self, state: Hashable) -> tuple[Move, ...]:
        found = self._moves.get(state)
        if found is None:
            found = self._moves[state] = tuple(self.grammar.moves(state))
            if not any(low < high for move in found for low, high in move.ids):
                raise ShapeError(f"{type(self.grammar).__name__} has no legal id at the state {state!r}")
            if any(move.to is None and (move.least or move.most) for move in found):
                raise ShapeError(f"{type(self.grammar).__name__} is over at {state!r}, and has ids left")
        return found


class SeriesPart(AutomatonPart):
    """Parts one after another; it has no nodes of its own."""

    def __init__(self, parts: tuple[AutomatonPart, ...]) -> None:
        super().__init__(None, sum(p.least for p in parts), sum(p.most for p in parts))
        self.parts = parts

    def enter(self, then: Node) -> Node:
        """The node of the first id, or `then`."""
        for part in reversed(self.parts):
            then = part.enter(then)
        return then


class OptionalPart(AutomatonPart):
    """Absent, or present and the part."""

    def __init__(self, owner: Owner | None, part: AutomatonPart, present: int, absent: int) -> None:
        super().__init__(owner, 1, 1 + part.most)
        if present == absent:
            raise ShapeError(f"present and absent share the id {present}")
        self.part, self.present, self.absent = part, present, absent

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        inside = Arc(one(self.present), self.part.least + then.shortest, self.part.most + then.longest)
        return LocalNode(self, local, then, (inside, Arc(one(self.absent), then.shortest, then.longest)))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        then = place_of(node)[1]
        if id == self.present:
            return self.part.enter(then)
        if id != self.absent:
            raise illegal(node, id)
        return then


class RepeatPart(AutomatonPart):
    """Elements, each behind its opener, then the end."""

    def __init__(
        self,
        owner: Owner | None,
        alternatives: tuple[AutomatonPart, ...],
        openers: tuple[int, ...],
        end: int,
        bounds: tuple[int, int],
    ) -> None:
        if not alternatives or len({*openers, end}) != len(alternatives) + 1 or len(openers) != len(alternatives):
            raise ShapeError(f"a group of {len(alternatives)} alternatives with openers {openers} and end {end}")
        if not 0 <= bounds[0] <= bounds[1]:
            raise ShapeError(f"a group of {bounds[0]} to {bounds[1]} elements")
        self.alternatives, self.openers, self.end, self.bounds = alternatives, openers, end, bounds
        self.short = 1 + min(p.least for p in alternatives)
        self.long = 1 + max(p.most for p in alternatives)
        super().__init__(owner, bounds[0] * self.short + 1, bounds[1] * self.long + 1)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        count, (fewest, most) = int(str(local)), self.bounds
        arcs: list[Arc] = []
        if count < most:
            least = max(0, fewest - count - 1) * self.short + 1 + then.shortest
            longest = (most - count - 1) * self.long + 1 + then.longest
            for part, id in zip(self.alternatives, self.openers, strict=True):
                arcs.append(Arc(one(id), part.least + least, part.most + longest))
        if count >= fewest:
            arcs.append(Arc(one(self.end), then.shortest, then.longest))
        return LocalNode(self, count, then, tuple(arcs))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        count, then = place_of(node)
        if id == self.end and count >= self.bounds[0]:
            return then
        if id not in self.openers or count >= self.bounds[1]:
            raise illegal(node, id)
        successors = node.successors if isinstance(node, LocalNode) else {}
        if id not in successors:
            part = self.alternatives[self.openers.index(id)]
            successors[id] = part.enter(self.node(count + 1, then))
        return successors[id]


class PlacedPart(AutomatonPart):
    """A part whose elements stand at given positions."""

    def __init__(self, owner: Owner | None, part: AutomatonPart, constraint: Placed) -> None:
        count = len(constraint.positions)
        if part.least != count or part.most != count:
            raise ShapeError(f"{count} positions for a part of {part.least} to {part.most} ids")
        super().__init__(owner, count, count)
        self.part, self.positions = part, constraint.positions
        # what follows stands behind the largest position of the part
        self.span = 1 + max((max(p) for p in self.positions), default=-1)

    def enter(self, then: Node) -> Node:
        """The node of the first id, or `then`."""
        return self.node((self.part.enter(END), 0), then) if self.positions else then

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        inner, index = local if isinstance(local, tuple) else (self.part.enter(END), 0)
        advance = self.span if index + 1 == len(self.positions) else 0
        return PlacedNode(inner, self, index, then, self.positions[index], advance)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        if not isinstance(node, PlacedNode) or node.then is None:
            raise illegal(node, id)
        inner = node.inner.follow(id)
        return self.node((inner, node.index + 1), node.then) if inner.arcs else node.then


class CodesPart(AutomatonPart):
    """Positions of codes with depth; each is an element of its own, at its own place."""

    def __init__(self, owner: Owner | None, constraint: Codes) -> None:
        count = len(constraint.positions)
        if not count or constraint.codes < 2 or constraint.depth < 1:
            raise ShapeError(f"{count} positions of {constraint.depth} codes of {constraint.codes}")
        if constraint.given and len(constraint.given) != count:
            raise ShapeError(f"{len(constraint.given)} given codes for {count} positions")
        super().__init__(owner, count, count)
        self.constraint = constraint
        self.ranges = ((0, constraint.codes**constraint.depth),)
        # what follows stands behind the largest position of the part
        self.span = 1 + max(max(p) for p in constraint.positions)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        place = int(str(local))
        left = len(self.constraint.positions) - place - 1
        arc = Arc(self.ranges, left + then.shortest, left + then.longest)
        return CodesNode(self, place, then, arc, self.constraint, self.span if not left else 0)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind the element `id`."""
        place, then = place_of(node)
        if not 0 <= id < self.ranges[0][1]:
            raise illegal(node, id)
        return self.node(place + 1, then) if place + 1 < len(self.constraint.positions) else then


def place_of(node: Node) -> tuple[int, Node]:
    """The count that a node stands at, and what is behind its part."""
    if not isinstance(node, LocalNode) or node.then is None or not isinstance(node.local, int):
        raise ShapeError("a node was handed to a part that did not make it")
    return node.local, node.then
