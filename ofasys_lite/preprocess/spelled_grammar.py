"""Languages of bytes, written in the pieces of a vocabulary: what may follow, piece by piece, and what ends soonest.

A piece of several bytes is legal where each of its bytes is; which ones are is found by walking the tree of all pieces
beside the language, once a place (as in Willard and Louf, arXiv 2307.09702, with the places made on demand).
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ofasys_lite.plan.constraints import Grammar, Move
from ofasys_lite.preprocess.vocabulary import Vocabulary

Ranges = tuple[tuple[int, int], ...]
#: More ids than any target has: a language has no longest text, the slot's `max_length` is its bound.
_ENDLESS = 1 << 30


class Spelling(Protocol):
    """A language, byte by byte; a byte is the character of its number, a place is hashable."""

    @property
    def start(self) -> Any:
        """The place before a text."""

    def step(self, at: Any, char: str) -> Any:
        """The place behind a byte; None where it cannot stand."""

    def over(self, at: Any) -> bool:
        """Whether a text may end here."""

    def rest(self, at: Any) -> str:
        """A short text that ends it; behind each byte of it, it is what is left of it."""

    def free(self, at: Any) -> str | None:
        """Where all bytes but these lead back to the same place; else None."""


class _Node:
    """A place in the tree of pieces: the pieces that end here, and what goes on."""

    __slots__ = ("children", "ids")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.ids: list[int] = []


class Pieces:
    """The text pieces of a vocabulary by their bytes.

    Attributes:
        spelt: The bytes of each.
        close: Id of what ends a text.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.close = vocabulary.control("close")
        self.spelt: dict[int, str] = {}
        self._root = _Node()
        for id in range(vocabulary.text_low, vocabulary.text_high):
            spelt = vocabulary.spelling(id)
            if spelt:
                self.spelt[id] = spelt.decode("latin-1")
                node = self._root
                for char in self.spelt[id]:
                    node = node.children.setdefault(char, _Node())
                node.ids.append(id)
        self._fewest: dict[str, int] = {"": 0}
        self._free: dict[str, tuple[Ranges, tuple[int, ...]]] = {}

    def leads(self, spelling: Spelling, at: Hashable) -> dict[Hashable, Ranges]:
        """Legal pieces by the place behind them."""
        found: dict[Hashable, list[int]] = {}
        free = spelling.free(at)
        if free is not None:
            plain, others = self._apart(free)
            for id in others:
                to: Hashable | None = at
                for char in self.spelt[id]:
                    to = None if to is None else spelling.step(to, char)
                if to is not None:
                    found.setdefault(to, []).append(id)
            listed = {to: ranges(ids) for to, ids in found.items() if to != at}
            return {**listed, at: (*plain, *ranges(found.get(at, ())))}
        open_ = [(self._root, at)]
        while open_:
            node, place = open_.pop()
            for char, child in node.children.items():
                to = spelling.step(place, char)
                if to is not None:
                    found.setdefault(to, []).extend(child.ids)
                    if child.children:
                        open_.append((child, to))
        return {to: ranges(ids) for to, ids in found.items() if ids}

    def fewest(self, text: str) -> int:
        """Fewest pieces that spell `text`."""
        found = self._fewest.get(text)
        if found is not None:
            return found
        best = [0] * (len(text) + 1)
        for start in range(len(text) - 1, -1, -1):
            node, place, ends = self._root, start, list[int]()
            while place < len(text) and text[place] in node.children:
                node, place = node.children[text[place]], place + 1
                if node.ids:
                    ends.append(best[place])
            best[start] = 1 + min(ends)
        if len(self._fewest) > 65_536:
            self._fewest = {"": 0}
        self._fewest[text] = best[0]
        return best[0]

    def _apart(self, bytes_: str) -> tuple[Ranges, tuple[int, ...]]:
        """(pieces without any of these bytes, those with one)."""
        found = self._free.get(bytes_)
        if found is None:
            others = tuple(id for id, spelt in self.spelt.items() if any(char in spelt for char in bytes_))
            held = set(others)
            found = self._free[bytes_] = (ranges(id for id in self.spelt if id not in held), others)
        return found


def ranges(ids: Iterable[int]) -> Ranges:
    """Ids as (low, high) pairs, high exclusive, neighbours together."""
    found: list[tuple[int, int]] = []
    for id in sorted(ids):
        if found and found[-1][1] == id:
            found[-1] = (found[-1][0], id + 1)
        else:
            found.append((id, id + 1))
    return tuple(found)


@functools.lru_cache(maxsize=16)
def pieces_of(vocabulary: Vocabulary) -> Pieces:
    """The pieces of a vocabulary; made once."""
    return Pieces(vocabulary)


@dataclass(frozen=True)
class SpelledGrammar(Grammar):
    """A language in pieces, then `<close>`.

    Attributes:
        spelling: The language.
        pieces: The pieces.
        most: Most ids of a text, its close included; near it only what leads to the end is legal.
    """

    spelling: Spelling
    pieces: Pieces
    most: int

    @property
    def start(self) -> Hashable:  # type: ignore[override]
        """The place before a text."""
        found: Hashable = self.spelling.start
        return found

    @property
    def least(self) -> int:  # type: ignore[override]
        """Ids of the shortest text that is known."""
        return self._left(self.spelling.start)

    def moves(self, state: Hashable) -> Sequence[Move]:
        """Pieces by where they lead, `<close>` where the text may end."""
        found = [Move(ids, to, self._left(to), _ENDLESS) for to, ids in self.pieces.leads(self.spelling, state).items()]
        close = self.pieces.close
        return [*found, Move(((close, close + 1),), None)] if self.spelling.over(state) else found

    def _left(self, at: Hashable) -> int:
        return self.pieces.fewest(self.spelling.rest(at)) + 1
