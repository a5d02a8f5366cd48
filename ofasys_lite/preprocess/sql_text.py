"""Queries of a schema byte by byte: a `Spelling` that knows at each byte of a query which ones may follow."""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from typing import NamedTuple

from ofasys_lite.preprocess.sql_grammar import SqlGrammar
from ofasys_lite.preprocess.sql_parse import END, NUMBER, START, TEXT, WHOLE, Parse
from ofasys_lite.preprocess.sql_schema import SqlSchema

_SPACE = " \n\t\r"
_DIGITS = "0123456789"
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_" + _DIGITS) | set(map(chr, range(128, 256)))
#: Digits of a number of LIMIT: more are none of SQLite's.
_WHOLE_DIGITS = 9


class At(NamedTuple):
    """A place in a query.

    Attributes:
        parse: Number of what is expected behind the token that is being written.
        kind: `gap` between tokens, `glued` right behind one that no word may follow, `minus` behind `-`; within a
            token: `token`, `string`, `quote` (behind a quote that closes a string or is doubled), `whole`, `digits`,
            `point`, `fraction`.
        begun: What is there of the token.
    """

    parse: int
    kind: str = "gap"
    begun: str = ""


class _Known(NamedTuple):
    """What follows a parse: its tokens in bytes, sorted, and where each leads."""

    tokens: list[str]
    leads: dict[str, int]


class SqlText:
    """Places in the queries over one schema; texts are bytes, each as the character of its number.

    Attributes:
        start: The place before a query.
    """

    def __init__(self, schema: SqlSchema) -> None:
        self.grammar = SqlGrammar(schema)
        self._parses: list[Parse] = []
        self._numbers: dict[Parse, int] = {}
        self._known: dict[int, _Known] = {}
        self._canonical: dict[int, tuple[str, int]] = {}
        self._rests: dict[At, str] = {}
        self.start = At(self._number(START))

    @property
    def size(self) -> int:
        """Number of places whose tokens are kept."""
        return len(self._known)

    def step(self, at: At, char: str) -> At | None:
        """The place behind a byte; None where it cannot stand."""
        kind = at.kind
        if kind == "string":
            return At(at.parse, "quote") if char == "'" else at if char != "\x00" else None
        if kind == "quote" and char == "'":
            return At(at.parse, "string")
        if kind == "token":
            begun = at.begun + _folded(char)
            if self._begins(at.parse, begun):
                return At(at.parse, "token", begun)
        elif kind in _NUMBERS and (found := _number_step(at, char)) is not None:
            return found
        if kind in ("gap", "glued", "minus"):
            return self._begin(at, char)
        behind = self._finished(at)
        return None if behind is None else self._begin(behind, char)

    def over(self, at: At) -> bool:
        """Whether the query may end here."""
        behind = at if at.kind in ("gap", "glued", "minus") else self._finished(at)
        return behind is not None and END in self._follow(behind.parse).leads

    def rest(self, at: At) -> str:
        """The shortest text known that ends the query; behind each byte of it, it is what is left of it."""
        # a walk, not a recursion: what is left is asked for place by place
        trail = list[tuple[At, str]]()
        place = at
        while place not in self._rests:
            said, behind = self._ahead(place)
            if behind is None:
                self._rests[place] = said
                break
            trail.append((place, said))
            place = behind
        left = self._rests[place]
        for place, said in reversed(trail):
            left = self._rests[place] = said + left
        return left

    def free(self, at: At) -> str | None:
        """Where any bytes may follow but some and the place stays the same, these; else None."""
        return "'\x00" if at.kind == "string" else None

    def expected(self, at: At) -> tuple[list[str], str]:
        """(tokens that may stand where the token at hand does, what is there of it), for messages."""
        names = {NUMBER: "a number", WHOLE: "a whole number", TEXT: "'text'", END: "the end"}
        tokens = self._follow(at.parse).tokens
        # names that are words are told without their quotes, functions once
        plain = [t for t in tokens if (bare := t.replace('"', "").rstrip("(")) == t or bare not in tokens]
        return [names.get(t, t) for t in plain], at.begun

    def _number(self, parse: Parse) -> int:
        found = self._numbers.get(parse)
        if found is None:
            found = self._numbers[parse] = len(self._parses)
            self._parses.append(parse)
        return found

    def _follow(self, number: int) -> _Known:
        found = self._known.get(number)
        if found is None:
            moves = self.grammar.moves(self._parses[number])
            leads = {as_bytes(token): self._number(to) for token, to in moves.items()}
            found = self._known[number] = _Known(sorted(leads), leads)
        return found

    def _next(self, number: int) -> tuple[str, int]:
        """(the token that ends the query soonest, where it leads)."""
        found = self._canonical.get(number)
        if found is None:
            token, to = self.grammar.canonical(self._parses[number])
            found = self._canonical[number] = as_bytes(token), self._number(to)
        return found

    def _begins(self, parse: int, begun: str) -> bool:
        tokens = self._follow(parse).tokens
        place = bisect_left(tokens, begun)
        return place < len(tokens) and tokens[place].startswith(begun)

    def _begin(self, at: At, char: str) -> At | None:
        """The place behind the first byte of a token, or behind white space."""
        if char in _SPACE:
            return At(at.parse)
        if _apart(at.kind, char):
            return None
        leads = self._follow(at.parse).leads
        if char == "'" and TEXT in leads:
            return At(leads[TEXT], "string")
        if char in _DIGITS and WHOLE in leads:
            return At(leads[WHOLE], "whole", char)
        if char in _DIGITS and NUMBER in leads:
            return At(leads[NUMBER], "digits")
        begun = _folded(char)
        return At(at.parse, "token", begun) if char != "\x00" and self._begins(at.parse, begun) else None

    def _finished(self, at: At) -> At | None:
        """The place behind the token at hand if it may be over."""
        if at.kind == "token":
            to = self._follow(at.parse).leads.get(at.begun)
            if to is None:
                return None
            return At(to, _kind_behind(at.begun))
        return At(at.parse, "glued") if at.kind in ("quote", "whole", "digits", "fraction") else None

    def _ahead(self, at: At) -> tuple[str, At | None]:
        """What comes next of the shortest end, and the place behind it; None if nothing is left."""
        if at.kind == "string":
            return "'", At(at.parse, "quote")
        if at.kind == "point":
            return "0", At(at.parse, "fraction")
        if at.kind == "token":
            return self._ahead_in_token(at)
        if at.kind not in ("gap", "glued", "minus"):
            return "", At(at.parse, "glued")
        token, to = self._next(at.parse)
        if token == END:
            return "", None
        first = {NUMBER: "0", WHOLE: "0", TEXT: "'"}.get(token, token[0])
        if _apart(at.kind, first):
            return " ", At(at.parse)
        kind = {NUMBER: "digits", WHOLE: "whole", TEXT: "string"}.get(token)
        if kind is not None:
            return first, At(to, kind, first if kind == "whole" else "")
        return first, At(at.parse, "token", first)

    def _ahead_in_token(self, at: At) -> tuple[str, At | None]:
        """The canonical token if it begins so, else the shortest one that does."""
        token, to = self._next(at.parse)
        if not token.startswith(at.begun):
            known = self._follow(at.parse)
            place = bisect_left(known.tokens, at.begun)
            begun = itertools.takewhile(lambda each: each.startswith(at.begun), known.tokens[place:])
            token = min(begun, key=lambda each: (len(each), each))
            to = known.leads[token]
        if token == at.begun:
            return "", At(to, _kind_behind(token))
        return token[len(at.begun)], At(at.parse, "token", token[: len(at.begun) + 1])


def _apart(kind: str, char: str) -> bool:
    """Whether a token that begins so must stand apart from the one before: words from words, and two dashes."""
    return (kind == "glued" and (char in _WORD or char in "'\"")) or (kind == "minus" and char == "-")


def _kind_behind(token: str) -> str:
    """The kind of the place right behind a token."""
    last = token[-1]
    return "glued" if last in _WORD or last == '"' else "minus" if last == "-" else "gap"


_NUMBERS = ("whole", "digits", "point", "fraction")


def _number_step(at: At, char: str) -> At | None:
    """The place within a number behind `char`; None if it does not go on."""
    if char in _DIGITS:
        if at.kind == "whole":
            return At(at.parse, "whole", at.begun + char) if len(at.begun) < _WHOLE_DIGITS else None
        return At(at.parse, "fraction" if at.kind == "point" else at.kind)
    return At(at.parse, "point") if char == "." and at.kind == "digits" else None


def _folded(char: str) -> str:
    return chr(ord(char) + 32) if "A" <= char <= "Z" else char


def as_bytes(text: str) -> str:
    """The UTF-8 bytes of `text`, each as the character of its number."""
    return text if text.isascii() else text.encode("utf-8").decode("latin-1")


_LOCK = threading.Lock()
_KEPT: dict[SqlSchema, SqlText] = {}
#: Schemas that are kept; places of one schema whose tokens are kept, before it begins anew.
_SCHEMAS, _PLACES = 128, 4000


def sql_text(schema: SqlSchema) -> SqlText:
    """The queries over a schema; equal schemas share what was found of them."""
    with _LOCK:
        found = _KEPT.pop(schema, None)
        if found is None or found.size > _PLACES:
            found = SqlText(schema)
        _KEPT[schema] = found
        if len(_KEPT) > _SCHEMAS:
            del _KEPT[next(iter(_KEPT))]
        return found
