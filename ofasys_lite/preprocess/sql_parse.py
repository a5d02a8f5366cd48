"""Where a query of SQL stands: the symbols that are expected, and the moves that lead on."""

from __future__ import annotations

from typing import NamedTuple

from ofasys_lite.preprocess.sql_scope import Scope

#: Tokens that stand for many; no character of a query is the null character.
NUMBER, TEXT, WHOLE, END = "\x00number", "\x00text", "\x00whole", "\x00end"

#: A symbol that is expected, and what it depends on: who may stand there (`own` columns, those of queries around it
#: too: `outer`, the same before all tables are named: `on`, aggregates too: `whole`), how a table is joined, how many
#: columns a result has.
Symbol = tuple[str, str | int]


class Parse(NamedTuple):
    """Where a query stands: the symbols that are expected, the next one last, and its open SELECTs."""

    stack: tuple[Symbol, ...]
    scopes: tuple[Scope, ...] = ()


START = Parse((("query", 0),))


class Moves(dict[str, Parse]):
    """Tokens and where they lead; `names`: names are wanted too, of which there are many."""

    __slots__ = ("names",)

    def __init__(self, names: bool = True) -> None:
        super().__init__()
        self.names = names


def words(*words: str) -> tuple[Symbol, ...]:
    """Symbols of words that must follow."""
    return tuple(("word", word) for word in words)


#: What leads to an end comes before names, what goes on behind them.
NAME = 50
_RANK = {token: rank for rank, token in enumerate((")", NUMBER, WHOLE, TEXT, "from", "join", "using", "=", "null"))}
_RANK |= {token: 60 + rank for rank, token in enumerate(("and", ",", "by", "("))}
_RANK |= dict.fromkeys(("+", "-", "*", "/", "||", "as", "not", "select", "or", "cross", "inner", "left", "on"), 80)


def rank(token: str) -> int:
    """How soon a token leads to the end: smaller is sooner."""
    return _RANK.get(token, NAME + 5 if token.endswith(("(", ".")) else NAME)


def then(parse: Parse, *symbols: Symbol) -> Parse:
    """`parse` with symbols expected before what it expects already."""
    return Parse((*parse.stack, *reversed(symbols)), parse.scopes)


def changed(parse: Parse, **values: object) -> Parse:
    """`parse` with the innermost SELECT changed."""
    return Parse(parse.stack, (*parse.scopes[:-1], parse.scopes[-1]._replace(**values)))  # type: ignore[arg-type]


def owing(parse: Parse, qualifier: str, column: str) -> Parse:
    """`parse` with a column whose table FROM must name, or keep the only one."""
    scope = parse.scopes[-1]
    return changed(parse, owed=scope.owed | {(qualifier, column)})
