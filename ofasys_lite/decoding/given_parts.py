"""Parts of a compiled constraint that the row has beforehand: rows that are shown, elements of a group."""

from __future__ import annotations

from collections.abc import Hashable

from ofasys_lite.decoding.automaton_parts import one, place_of
from ofasys_lite.decoding.nodes import Arc, AutomatonPart, LocalNode, Node, Owner, ShownNode, illegal
from ofasys_lite.errors import ShapeError
from ofasys_lite.plan.constraints import Shown
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS


class ShownPart(AutomatonPart):
    """Rows that are given and no ids; the element of each is `<start>`, which is what stands in their place."""

    _ID = CONTROL_IDS["start"]

    def __init__(self, constraint: Shown) -> None:
        count = len(constraint.positions)
        if not count:
            raise ShapeError("nothing is shown")
        super().__init__(None, count, count)
        self.constraint = constraint
        # what follows stands behind the largest position of the part
        self.span = 1 + max(max(p) for p in constraint.positions)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        place = int(str(local))
        left = len(self.constraint.positions) - place - 1
        arc = Arc(one(self._ID), left + then.shortest, left + then.longest)
        return ShownNode(self, place, then, arc, self.constraint, self.span if not left else 0)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind the row."""
        place, then = place_of(node)
        if id != self._ID:
            raise illegal(node, id)
        return self.node(place + 1, then) if place + 1 < len(self.constraint.positions) else then


class GivenRepeatPart(AutomatonPart):
    """Elements of which the row has a part beforehand, each behind its opener, then the end: nothing to choose."""

    def __init__(
        self,
        owner: Owner | None,
        elements: tuple[tuple[int, AutomatonPart], ...],
        openers: tuple[int, ...],
        end: int,
    ) -> None:
        self.elements, self.openers, self.end = elements, openers, end
        least, most = (1 + sum(1 + getattr(part, key) for _, part in elements) for key in ("least", "most"))
        super().__init__(owner, least, most)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        count = int(str(local))
        if count == len(self.elements):
            return LocalNode(self, count, then, (Arc(one(self.end), then.shortest, then.longest),))
        alternative, part = self.elements[count]
        behind = self.node(count + 1, then)
        arc = Arc(one(self.openers[alternative]), part.least + behind.shortest, part.most + behind.longest)
        return LocalNode(self, count, then, (arc,))

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        count, then = place_of(node)
        if not node.arcs[0].ranges[0][0] == id:
            raise illegal(node, id)
        return then if count == len(self.elements) else self.elements[count][1].enter(self.node(count + 1, then))
