"""Nodes of an automaton, and what its parts have in common.

A node says which ids are legal, how far the end is, and which node follows an id; a part makes them
(decoding/automaton_parts).

A node stands for a place in one part of the constraint and for all that comes behind it (`then`). Nodes are made on
demand and once: equal places are the same object, so a state is compared and hashed by identity.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, NamedTuple

from ofasys_lite.decoding.allowed import Allowed, allowed
from ofasys_lite.errors import DataError
from ofasys_lite.plan.constraints import Codes, Shown


class Arc(NamedTuple):
    """Legal ids that are alike: after any of them between `least` and `most` ids are left to the end."""

    ranges: tuple[tuple[int, int], ...]
    least: int
    most: int


@dataclass(frozen=True, eq=False)
class Owner:
    """To whom ids belong: a slot or a group, `depth` groups deep. Compared by identity: a key may stand twice."""

    key: str
    depth: int
    group: bool = False


class AutomatonPart:
    """Base of the parts.

    Attributes:
        owner: Slot its ids belong to; None for words.
        least: Fewest ids.
        most: Most ids.
        first: What `make` makes the first node of.
    """

    first: Hashable = 0

    def __init__(self, owner: Owner | None, least: int, most: int) -> None:
        self.owner = owner
        self.least = least
        self.most = most
        self._nodes: dict[tuple[Hashable, Node], Node] = {}

    def enter(self, then: Node) -> Node:
        """The node at the beginning of this part, with `then` behind it."""
        return self.node(self.first, then)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id` at `node`, one of this part's nodes."""
        raise TypeError(type(self).__name__)

    def node(self, local: Hashable, then: Node) -> Node:
        """The one node at `local` with `then` behind the part."""
        key = (local, then)
        found = self._nodes.get(key)
        if found is None:
            found = self._nodes[key] = self.make(local, then)
        return found

    def make(self, local: Hashable, then: Node) -> Node:
        """A fresh node at `local`."""
        raise TypeError(type(self).__name__)


class Node:
    """A place in the automaton.

    Attributes:
        part: The part it belongs to; None at the end.
        then: Node behind the part.
        arcs: Legal ids by how far they lead; empty at the end only.
        shortest: Fewest ids to the end.
        longest: Most ids to the end (an upper bound within `Json`).
        reach: Ids within which the end can be reached whatever is chosen now.
        spare: Ids for which there is room whatever is chosen now.
        text: Ids of free text written since the text opened; -1 outside of free text.
        advance: What an element adds to the running position.
        relative: Position of the element relative to the start of its placed part; None in a line.
    """

    __slots__ = (
        "_allowed",
        "_tail",
        "_within",
        "arcs",
        "longest",
        "part",
        "reach",
        "shortest",
        "spare",
        "text",
        "then",
    )

    advance: int = 1
    relative: tuple[int, int, int] | None = None

    def __init__(self, part: AutomatonPart | None, then: Node | None, arcs: tuple[Arc, ...], text: int = -1) -> None:
        self.part = part
        self.then = then
        self.arcs = arcs
        self.text = text
        self.shortest: int = 1 + min(arc.least for arc in arcs) if arcs else 0
        self.longest: int = 1 + max(arc.most for arc in arcs) if arcs else 0
        self.reach: int = 1 + max(arc.least for arc in arcs) if arcs else 0
        self.spare: int = 1 + min(arc.most for arc in arcs) if arcs else 0
        self._allowed: Allowed | None = None
        self._tail: tuple[int, ...] | None = None
        self._within: dict[tuple[int, int], Allowed] | None = None

    @property
    def allowed(self) -> Allowed:
        """All legal ids."""
        if self._allowed is None:
            self._allowed = allowed(r for arc in self.arcs for r in arc.ranges)
        return self._allowed

    def within(self, low: int, high: int) -> Allowed:
        """Legal ids from which the end can be reached with `low` to `high` ids in all, the id itself included.

        If there are none, those that come nearest: `high` is kept before `low`.
        """
        if self.reach <= high and low <= self.spare:
            return self.allowed
        if self._within is None:
            self._within = {}
        # limits beyond what the arcs can tell apart are alike
        key = (max(0, min(low, self.longest)), max(0, min(high, self.longest)))
        found = self._within.get(key)
        if found is None:
            found = self._within[key] = self._limited(*key)
        return found

    def _limited(self, low: int, high: int) -> Allowed:
        arcs = [a for a in self.arcs if 1 + a.least <= high]
        if not arcs:
            arcs = [a for a in self.arcs if 1 + a.least == self.shortest]
        long = [a for a in arcs if 1 + a.most >= low]
        if not long:
            most = max((a.most for a in arcs), default=0)
            long = [a for a in arcs if a.most == most]
        return allowed(r for arc in long for r in arc.ranges)

    def follow(self, id: int) -> Node:
        """The node behind `id`; DataError if the id is not legal here."""
        if self.part is None:
            raise illegal(self, id)
        return self.part.follow(self, id)

    def tail(self) -> tuple[int, ...] | None:
        """All ids to the end if none of them leaves a choice, else None."""
        if self.shortest != self.longest or len(self.arcs) > 1:
            return None
        if self._tail is None:
            ids: list[int] = []
            node: Node = self
            while node.arcs:
                single = None if isinstance(node, CodesNode) else node.allowed.single
                if single is None:
                    return None
                ids.append(single)
                node = node.follow(single)
            self._tail = tuple(ids)
        return self._tail


class _End(Node):
    __slots__ = ()

    def __reduce__(self) -> str:
        return "END"


#: The one node without a choice: the sequence is over.
END: Final[Node] = _End(None, None, ())


class LocalNode(Node):
    """A node that remembers where in its part it stands, and successors that are costly to find again."""

    __slots__ = ("local", "successors")

    def __init__(self, part: AutomatonPart, local: Hashable, then: Node, arcs: tuple[Arc, ...], text: int = -1) -> None:
        super().__init__(part, then, arcs, text)
        self.local = local
        self.successors: dict[int, Node] = {}


class PlacedNode(Node):
    """A node whose element stands at a given place; it follows `inner`, an automaton of its own."""

    __slots__ = ("advance", "index", "inner", "relative")

    def __init__(
        self, inner: Node, outer: AutomatonPart, index: int, then: Node, relative: tuple[int, int, int], advance: int
    ) -> None:
        arcs = tuple(Arc(a.ranges, a.least + then.shortest, a.most + then.longest) for a in inner.arcs)
        super().__init__(outer, then, arcs, inner.text)
        self.inner = inner
        self.index = index
        self.relative = relative
        self.advance = advance


class CodesNode(LocalNode):
    """A node whose element is K codes that an adapter's heads choose; it stands at a given place.

    Attributes:
        codes: The constraint it belongs to.
        place: Number of its position there.
    """

    __slots__ = ("advance", "codes", "place", "relative")

    def __init__(self, part: AutomatonPart, place: int, then: Node, arc: Arc, codes: Codes, advance: int) -> None:
        super().__init__(part, place, then, (arc,))
        self.codes = codes
        self.place = place
        self.relative = codes.positions[place]
        self.advance = advance

    def tail(self) -> tuple[int, ...] | None:
        """None: what is known of an image (infilling) is read by the positions that are not."""
        return None


class ShownNode(LocalNode):
    """A node whose element is a row that is given and no id: it is fed, and never scored; it stands at a given place.

    Attributes:
        row: Its number among the rows that the target shows.
    """

    __slots__ = ("advance", "relative", "row")

    def __init__(self, part: AutomatonPart, place: int, then: Node, arc: Arc, shown: Shown, advance: int) -> None:
        super().__init__(part, place, then, (arc,))
        self.row = shown.first + place
        self.relative = shown.positions[place]
        self.advance = advance


def illegal(node: Node, id: int) -> DataError:
    """The error for an id that cannot stand at `node`."""
    if not node.arcs:
        return DataError(f"id {id} stands behind the end of the target", help="nothing may follow")
    legal = repr(node.allowed)
    shown = legal if len(legal) < 200 else f"{node.allowed.count} ids"
    return DataError(f"id {id} is not legal here", help=f"legal: {shown}")
