"""The grammar of STRUCT: a pushdown automaton over JSON's linear form whose every output parses.

value  = record | list | string | number | TRUE | FALSE | NULL
record = RECORD { KEY text CLOSE value } END      list = LIST { value } END
string = STRING text CLOSE                        number = NUMBER { digit } CLOSE
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import NamedTuple

from ofasys_lite.decoding.automaton_parts import one
from ofasys_lite.decoding.nodes import Arc, AutomatonPart, LocalNode, Node, Owner, illegal
from ofasys_lite.errors import ShapeError
from ofasys_lite.plan.constraints import Json

_CONTROLS = ("record", "list", "key", "string", "number", "true", "false", "null", "close", "end")
_DIGITS = "0123456789"
#: Fewest ids of a value of each kind.
_LEAST = {"record": 2, "list": 2, "string": 2, "number": 3, "true": 1, "false": 1, "null": 1}

#: Modes of a number (RFC 8259): what may follow, by character; `close` ends it.
_NUMBER: dict[str, tuple[tuple[str, str], ...]] = {
    "start": (("-", "minus"), ("0", "zero"), ("123456789", "whole")),
    "minus": (("0", "zero"), ("123456789", "whole")),
    "zero": ((".", "point"), ("eE", "power"), ("close", "done")),
    "whole": ((_DIGITS, "whole"), (".", "point"), ("eE", "power"), ("close", "done")),
    "point": ((_DIGITS, "fraction"),),
    "fraction": ((_DIGITS, "fraction"), ("eE", "power"), ("close", "done")),
    "power": (("+-", "sign"), (_DIGITS, "exponent")),
    "sign": ((_DIGITS, "exponent"),),
    "exponent": ((_DIGITS, "exponent"), ("close", "done")),
}

#: Fewest ids that finish the innermost value in each mode, containers around it not counted.
_NEED = {"value": 1, "item": 0, "entry": 0, "key": 2, "string": 1} | {
    mode: 1 if any(name == "close" for name, _ in moves) else 2 for mode, moves in _NUMBER.items()
}


class _Local(NamedTuple):
    """Open containers (`r` or `l`, innermost last), what is expected, ids left in the budget."""

    stack: str
    mode: str
    left: int

    @property
    def need(self) -> int:
        """Fewest ids to the end of the whole value."""
        return 0 if self.mode == "done" else _NEED[self.mode] + len(self.stack)


class _Move(NamedTuple):
    """Ids that lead to the same place."""

    ranges: tuple[tuple[int, int], ...]
    to: _Local


class JsonPart(AutomatonPart):
    """Any JSON value, at most `most` ids long."""

    def __init__(self, owner: Owner | None, constraint: Json) -> None:
        super().__init__(owner, min(_LEAST[k] for k in constraint.only or _LEAST), constraint.most)
        controls, digits = dict(constraint.controls), dict(constraint.digits)
        missing = [n for n in _CONTROLS if n not in controls] + [c for c in "0123456789+-.eE" if c not in digits]
        if missing:
            raise ShapeError(f"the grammar of JSON lacks ids for {', '.join(missing)}")
        if constraint.most < self.least or constraint.depth < 0:
            raise ShapeError(
                f"JSON of at most {constraint.most} ids and depth {constraint.depth}", help="give 1 or more"
            )
        if constraint.low <= controls["close"] < constraint.high:
            raise ShapeError(f"the id {controls['close']} that closes text is one of the text's ids")
        self.constraint = constraint
        self.first: _Local = _Local("", "value", constraint.most)
        self.text = ((constraint.low, constraint.high),)
        self.controls = {name: one(id) for name, id in controls.items()}
        self.numbers = {
            chars: self.controls["close"] if chars == "close" else tuple(one(digits[c])[0] for c in chars)
            for moves in _NUMBER.values()
            for chars, _ in moves
        }
        self._moves: dict[Node, tuple[_Move, ...]] = {}

    def make(self, local: Hashable, then: Node) -> Node:
        """A node with every move that leaves enough of the budget to finish."""
        place = local if isinstance(local, _Local) else self.first
        moves = tuple(m for m in self._all_moves(place) if m.to.need <= place.left - 1)
        arcs = tuple(
            Arc(m.ranges, m.to.need + then.shortest, (0 if m.to.mode == "done" else m.to.left) + then.longest)
            for m in moves
        )
        node = LocalNode(self, place, then, arcs)
        self._moves[node] = moves
        return node

    def follow(self, node: Node, id: int) -> Node:
        """The node behind `id`."""
        then = node.then
        if then is not None and isinstance(node, LocalNode):
            for ranges, to in self._moves[node]:
                if any(low <= id < high for low, high in ranges):
                    return then if to.mode == "done" else self.node(to, then)
        raise illegal(node, id)

    def _all_moves(self, place: _Local) -> list[_Move]:
        stack, mode, left = place.stack, place.mode, place.left - 1

        def move(ranges: tuple[tuple[int, int], ...], stack: str, mode: str) -> _Move:
            return _Move(ranges, _Local(stack, mode, left))

        after = {"": "done", "r": "entry", "l": "item"}[stack[-1:]]
        if mode in _NUMBER:
            return [move(self.numbers[c], stack, after if to == "done" else to) for c, to in _NUMBER[mode]]
        control = self.controls
        if mode in ("string", "key"):
            closed = after if mode == "string" else "value"
            return [move(self.text, stack, mode), move(control["close"], stack, closed)]
        found: list[_Move] = []
        if mode in ("entry", "item"):
            outer = stack[:-1]
            found.append(move(control["end"], outer, {"": "done", "r": "entry", "l": "item"}[outer[-1:]]))
        if mode == "entry":
            return [*found, move(control["key"], stack, "key")]
        kinds = dict.fromkeys(("true", "false", "null"), (stack, after))
        kinds |= {"string": (stack, "string"), "number": (stack, "start")}
        if len(stack) < self.constraint.depth:
            kinds |= {"record": (stack + "r", "entry"), "list": (stack + "l", "item")}
        only = self.constraint.only if not stack else ()
        return [*found, *(move(control[kind], *to) for kind, to in kinds.items() if kind in only or not only)]
