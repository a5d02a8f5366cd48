"""What a target may look like, in token ids: the language in which preprocessors tell the automaton what is legal.

A `Constraint` is a small regular (or, for `Json`, pushdown) description over ids of the vocabulary. Preprocessors build
it for one slot, the plan's target becomes a `Series` of them, and `ofasys_lite.decoding` compiles it to the one
automaton that masks decoding and splits finished output.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Forced:
    """Exactly these ids, without a choice (words, `no_loss` values)."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Given(Forced):
    """What was there before a target began to be written (a conversation, a beginning): it counts for no length."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A value that is given and is no token ids (a picture with `no_loss`): rows that are read, and not written.

    Attributes:
        positions: Relative (time, row, column) per row, as in `Piece.positions_P3`.
        first: Number of its first row among all shown rows of the target.
        piece: What the modality's Preprocess made of the value.
    """

    positions: tuple[tuple[int, int, int], ...]
    first: int = 0
    piece: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Free:
    """Any ids of [low, high), between `least` and `most` of them, then `close`.

    At `most` ids only `close` is legal; before `least` it is not.

    Attributes:
        low: First allowed id.
        high: One past the last allowed id.
        least: Fewest ids before `close`.
        most: Most ids before `close`.
        close: The control token that ends it.
        ids: Further allowed ids outside [low, high) (phones and the like).
    """

    low: int
    high: int
    least: int
    most: int
    close: int
    ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of several id sequences (a trie).

    No sequence may be a prefix of another (the preprocess adds a close token).
    """

    sequences: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True)
class Range:
    """One id of [low, high)."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Corners:
    """Four ids x0, y0, x1, y1 of [low, high) with x0 < x1 and y0 < y1: a box that has an area."""

    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Series:
    """Parts one after another."""

    parts: tuple[Constraint, ...]


@dataclass(frozen=True, slots=True)
class Optional:
    """Either nothing, said by the id `absent`, or the id `present` and then the part."""

    part: Constraint
    present: int
    absent: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """Between `least` and `most` elements; each opens with the id of its alternative, `end` closes the group.

    Attributes:
        openers: Control id that opens an element, one per alternative (all distinct).
        end: Control id that ends the group. Illegal before `least` elements; the only legal id after `most`.
        given: The row has a part of each element beforehand: there are exactly `elements`.
        elements: (alternative, constraint) of each; without `given` every element may be any of the alternatives.
    """

    alternatives: tuple[Constraint, ...]
    openers: tuple[int, ...]
    end: int
    least: int
    most: int
    elements: tuple[tuple[int, Constraint], ...] = ()
    given: bool = False


@dataclass(frozen=True, slots=True)
class Json:
    """Any JSON value in the linear form of STRUCT (see `ofasys_lite.preprocess.struct`), at most `most` ids long.

    value  = record | list | string | number | TRUE | FALSE | NULL
    record = RECORD { KEY text CLOSE value } END      list = LIST { value } END
    string = STRING text CLOSE                        number = NUMBER { digit ids } CLOSE   (a JSON number's grammar)
    text   = any ids of [low, high)

    Attributes:
        low: First id of text.
        high: One past the last id of text.
        controls: Ids by name: record, list, key, string, number, true, false, null, close, end.
        digits: Ids by character of `0123456789+-.eE` as single text pieces.
        most: Longest form in ids; near it only what closes soonest is legal, so every output parses.
        depth: Deepest nesting.
        only: Kinds that the value itself may have (`record`, `list`, `string`, `number`, `true`, `false`, `null`);
            empty allows all.
    """

    low: int
    high: int
    controls: tuple[tuple[str, int], ...]
    digits: tuple[tuple[str, int], ...]
    most: int = 512
    depth: int = 8
    only: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slotted:
    """A part whose ids belong to the slot `key`: `split` returns them under that name."""

    key: str
    part: Constraint


@dataclass(frozen=True, slots=True)
class Placed:
    """A part of fixed length whose elements stand at given positions instead of in a line.

    Attributes:
        part: The part; every legal output of it has `len(positions)` ids.
        positions: Relative (time, row, column) per element, as in `Piece.positions_P3`.
    """

    part: Constraint
    positions: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Codes:
    """Positions of K codes each, written one position a step (codes with depth).

    As an element of the sequence a position is one number: its codes as digits to the base `codes`, the first depth
    first (`pack`). Elements of several depths are no rows of the vocabulary: they are chosen by the adapter's heads.

    Attributes:
        adapter: Name of the adapter whose heads choose.
        codes: Codes of a book V.
        depth: Codes per position K.
        positions: Relative (time, row, column) per position, as in `Piece.positions_P3`.
        given: Element per position that is known already, -1 where it is to be chosen; empty if none is known.
        together: All positions are written together in a few rounds (mask-predict), not one after another.
    """

    adapter: str
    codes: int
    depth: int
    positions: tuple[tuple[int, int, int], ...]
    given: tuple[int, ...] = ()
    together: bool = False

    def pack(self, codes: Sequence[int]) -> int:
        """The element that stands for K codes."""
        element = 0
        for code in codes:
            element = element * self.codes + int(code)
        return element

    def unpack(self, element: int) -> tuple[int, ...]:
        """The K codes of an element."""
        digits = []
        for _ in range(self.depth):
            element, digit = divmod(element, self.codes)
            digits.append(digit)
        return tuple(reversed(digits))


@dataclass(frozen=True, slots=True)
class Whole:
    """A slot that its adapter writes all at once, in as many passes of the decoder as it takes (`Adapter.write`).

    It is the only slot of its target: rows that see each other have no place in a walk from left to right.

    Attributes:
        positions: Relative (time, row, column) of each row, as in `Piece.positions_P3`.
        about: What else the adapter is to know, as (name, value) pairs.
        learned: Objectives that the slot was learned by, with what the line gives them; laid down by the layout.
        given: What is known of the value already, an array of the modality's own; samples are written together whether
            they have the same or not.
    """

    adapter: str
    positions: tuple[tuple[int, int, int], ...]
    about: tuple[tuple[str, Hashable], ...] = ()
    learned: tuple[tuple[str, tuple[tuple[str, Any], ...]], ...] = ()
    given: Any = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Move:
    """Ids that lead from one state of a `Grammar` to the same next one.

    Attributes:
        ids: The ids, ranges of them as (low, high) pairs, high exclusive.
        to: The state behind any of them; None if the part is over.
        least: Fewest ids of the part behind it; 0 where it is over.
        most: Most ids of the part behind it (an upper bound will do), 0 where it is over.
    """

    ids: tuple[tuple[int, int], ...]
    to: Hashable | None
    least: int = 0
    most: int = 0


class Grammar:
    """Base of constraints of your own: states, and from each the moves that are legal there.

    A deterministic machine: the moves of a state share no id. States are asked for on demand and once, so there may be
    more of them than could be listed. Make a subclass a frozen dataclass of what it depends on (equal ones share their
    compiled form), and give `start`, `least`, `most` and `moves`.

    Attributes:
        least: Fewest ids of the whole part, at least 1.
        most: Most ids of it; a length limit keeps to moves from which the end can be reached.
    """

    __slots__ = ()

    start: Hashable
    least: int
    most: int

    def moves(self, state: Hashable) -> Sequence[Move]:
        """The legal moves at `state`, at least one."""
        raise TypeError(f"{type(self).__name__} does not say what may be written")


Constraint = (
    Forced
    | Given
    | Shown
    | Free
    | OneOf
    | Range
    | Corners
    | Series
    | Optional
    | Repeat
    | Json
    | Slotted
    | Placed
    | Codes
    | Whole
    | Grammar
)


def whole_in(constraint: Constraint) -> tuple[str, Whole | Codes] | None:
    """The slot of a target that is written all at once; None where it is written step by step."""
    if isinstance(constraint, Slotted) and isinstance(constraint.part, Whole):
        return constraint.key, constraint.part
    if isinstance(constraint, Slotted) and isinstance(constraint.part, Codes) and constraint.part.together:
        return constraint.key, constraint.part
    inside: Sequence[Constraint] = constraint.parts if isinstance(constraint, Series) else ()
    inside = (constraint.part,) if isinstance(constraint, (Slotted, Optional)) else inside
    inside = constraint.alternatives if isinstance(constraint, Repeat) else inside
    return next((found for part in inside if (found := whole_in(part)) is not None), None)


def given_in(constraint: Constraint) -> int:
    """Elements of a target that are there before it is written, and count for no length."""
    match constraint:
        case Given(ids):
            return len(ids)
        case Shown(positions):
            return len(positions)
        case Slotted(_, part) | Optional(part):
            return given_in(part)
        case Series(parts):
            return sum(map(given_in, parts))
        case Repeat(elements=elements):
            return sum(given_in(part) for _, part in elements)
    return 0
