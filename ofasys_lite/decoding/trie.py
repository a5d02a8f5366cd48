"""Closed sets: the part of an automaton that holds one of several sequences."""

from __future__ import annotations

from collections.abc import Hashable

from ofasys_lite.decoding.nodes import Arc, AutomatonPart, LocalNode, Node, Owner, illegal
from ofasys_lite.errors import ShapeError
from ofasys_lite.plan.constraints import OneOf


class _Trie:
    """A place in the trie: children by id (None behind the last id of a value), fewest and most ids from here."""

    __slots__ = ("children", "least", "most")

    def __init__(self) -> None:
        self.children: dict[int, _Trie | None] = {}
        self.least = self.most = 0


def _trie(sequences: tuple[tuple[int, ...], ...]) -> _Trie:
    """The root of the trie of `sequences`."""
    root = _Trie()
    places = [root]
    for sequence in sequences:
        place = root
        for id in sequence[:-1]:
            child = place.children.get(id, place)
            if child is place:
                child = place.children[id] = _Trie()
                places.append(child)
            if child is None:
                raise ShapeError("one value of a closed set is the beginning of another", help="close each value")
            place = child
        if place.children.setdefault(sequence[-1], None) is not None:
            raise ShapeError("one value of a closed set is the beginning of another", help="close each value")
    for place in reversed(places):  # children were made after their parents
        place.least = 1 + min(0 if c is None else c.least for c in place.children.values())
        place.most = 1 + max(0 if c is None else c.most for c in place.children.values())
    return root


class OneOfPart(AutomatonPart):
    """One of several sequences."""

    def __init__(self, owner: Owner | None, constraint: OneOf) -> None:
        if not constraint.sequences or not all(constraint.sequences):
            raise ShapeError("a closed set needs at least one value, and each value at least one id")
        self.trie = _trie(constraint.sequences)
        super().__init__(owner, self.trie.least, self.trie.most)

    def enter(self, then: Node) -> Node:
        """The node of the first id, or `then`."""
        return self.node(self.trie, then)

    def make(self, local: Hashable, then: Node) -> Node:
        """The node at `local`."""
        trie = local if isinstance(local, _Trie) else self.trie
        # children that lead equally far share an arc: a set of thousands of one-id values is one arc
        grouped: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for id, child in trie.children.items():
            span = (0, 0) if child is None else (child.least, child.most)
            grouped.setdefault(span, []).append((id, id + 1))
        arcs = tuple(Arc(tuple(ids), a + then.shortest, b + then.longest) for (a, b), ids in grouped.items())
        return LocalNode(self, trie, then, arcs)

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        trie, then = (node.local, node.then) if isinstance(node, LocalNode) else (self.trie, node.then)
        if not isinstance(trie, _Trie) or then is None or id not in trie.children:
            raise illegal(node, id)
        child = trie.children[id]
        return then if child is None else self.node(child, then)
