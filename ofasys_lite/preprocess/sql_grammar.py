"""SELECT over the tables of one schema, token by token: which ones may follow, and which lead to the end soonest.

    query  = SELECT [DISTINCT] (* | item {, item}) FROM tables [WHERE c] [GROUP BY column {, column} [HAVING c]]
             ([ORDER BY o {, o}] [LIMIT n [OFFSET n]] | {(UNION [ALL] | INTERSECT | EXCEPT) query} [LIMIT n])
    tables = table [[AS] alias] {, table [[AS] alias] | join}
    join   = [INNER | LEFT [OUTER] | CROSS] JOIN table [[AS] alias] [ON c | USING (column {, column})]
    c      = p {(AND | OR) p}
    p      = [NOT] (EXISTS (query) | (c) | value (= | <> | != | < | <= | > | >=) value | value IS [NOT] NULL
             | value [NOT] (LIKE text | BETWEEN value AND value | IN (literals) | IN (query)))
    value  = term {(+ | - | * | / | ||) term}
    term   = literal | [qualifier.]column | function(value) | aggregate(value) | (query) | (value)

A column stands only where exactly one table of its FROM clause has it, aggregates only where SQLite allows them, and a
query within a query has as many columns as its place needs; so every query of the grammar runs on its database.
"""

from __future__ import annotations

from collections.abc import Callable

from ofasys_lite.preprocess.sql_parse import (
    END,
    NAME,
    NUMBER,
    TEXT,
    WHOLE,
    Moves,
    Parse,
    Symbol,
    changed,
    owing,
    rank,
    then,
    words,
)
from ofasys_lite.preprocess.sql_schema import SqlSchema, lower, spellings
from ofasys_lite.preprocess.sql_scope import MOST_ITEMS, Names, Scope, Source

#: Deepest nesting of queries; most symbols that may be open.
_DEEPEST, _OPEN = 3, 90
_FUNCTIONS = ("abs", "length", "lower", "upper", "round")
_AGGREGATES = ("count", "sum", "avg", "min", "max")
_COMPARED = ("=", "<>", "!=", "<", "<=", ">", ">=")
_DISTINCT: Symbol = ("maybe", "distinct")
_ITEM: Symbol = ("item", "")
_FROM: Symbol = ("from", "")
_CORE: Symbol = ("core", "")
_GROUP: Symbol = ("group", "")


class SqlGrammar:
    """The queries over one schema.

    Attributes:
        names: Its tables and columns.
    """

    def __init__(self, schema: SqlSchema) -> None:
        self.names = Names(schema)
        given = [name for table, columns in schema.tables for name in (table, *columns)]
        self._spelt = {lower(name): tuple(map(lower, spellings(name))) for name in given}
        # without a space before its parenthesis a function is no column of the same name
        self._calls = {
            name: (f"{name}(", *(() if name in self._spelt else (name,))) for name in (*_FUNCTIONS, *_AGGREGATES)
        }

    def moves(self, parse: Parse) -> Moves:
        """The tokens that may follow, in lower case, each with where it leads; `END` where the query may be over."""
        found = Moves()
        self._open(parse, found)
        return found

    def canonical(self, parse: Parse) -> tuple[str, Parse]:
        """(of the tokens that may follow the one that leads to the end of the query soonest, where it leads)."""
        symbol, how = parse.stack[-1] if parse.stack else ("", "")
        scope = parse.scopes[-1] if parse.scopes else Scope()
        if symbol == "table":
            table = self.names.next_table(scope, self.names.joinable(scope, joined=how == "join"))
            rest = parse._replace(stack=parse.stack[:-1])
            return self._spelt[table][0], changed(rest, sources=(*scope.sources, Source(table, table)))
        if symbol == "named":
            alias = self.names.next_alias(scope, self.names.aliases_of_newest(parse.scopes))
            if alias is not None:
                return alias, self.moves(parse)[alias]
        found = Moves(names=False)
        self._open(parse, found)
        if END in found:
            return END, parse
        if all(rank(token) >= NAME for token in found):
            found = self.moves(parse)
        token = min(found, key=lambda token: (rank(token), len(token), token))
        return token, found[token]

    def _open(self, parse: Parse, found: Moves) -> None:
        """Adds what the next symbol of `parse` allows, and what may follow it where it may be left out."""
        if not parse.stack:
            found[END] = parse
            return
        symbol, how = parse.stack[-1]
        rest = parse._replace(stack=parse.stack[:-1])
        handler: Callable[[Parse, Symbol, Moves], None] = getattr(self, f"_{symbol}")
        handler(rest, (symbol, how), found)

    def _query(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        opened = rest._replace(scopes=(*rest.scopes, Scope(wanted=int(symbol[1]))))
        found["select"] = then(opened, _DISTINCT, _ITEM, _FROM, _CORE, ("tail", "first"))

    def _word(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[str(symbol[1])] = rest

    def _maybe(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[str(symbol[1])] = rest
        self._open(rest, found)

    def _item(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        if not scope.items and not scope.wanted:
            found["*"] = changed(rest, items=-1)
        self._open(then(changed(rest, items=scope.items + 1), ("value", "whole")), found)

    def _from(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        if 0 < scope.items < (scope.wanted or MOST_ITEMS):
            found[","] = then(rest, _ITEM, symbol)
        if scope.items < 0 or not scope.wanted or scope.items == scope.wanted:
            found["from"] = then(rest, *_table("first"), ("joins", ""))

    def _table(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        if not found.names:
            return
        used = {source.name for source in scope.sources}
        for table in self.names.joinable(scope, joined=symbol[1] == "join"):
            named = changed(rest, sources=(*scope.sources, Source(table, table)))
            if table not in used or self.names.aliases_of_newest(named.scopes):
                self._spell(found, table, named)

    def _named(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        *before, newest = rest.scopes[-1].sources
        aliases = self.names.aliases_of_newest(rest.scopes) if found.names else []
        for alias in aliases:
            found[alias] = changed(rest, sources=(*before, newest._replace(name=alias)))
        if symbol[1] != "as":
            if aliases:
                found["as"] = then(rest, ("named", "as"))
            if all(source.name != newest.table for source in before):
                self._open(rest, found)

    def _joined(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        if symbol[1] in ("join", "left"):
            can, needed = self._merging(rest.scopes[-1])
            if can:
                found["using"] = then(rest, *words("("), ("using", ""))
            if needed:
                return
            found["on"] = then(rest, ("condition", "on"))
        if symbol[1] != "left":
            self._open(rest, found)

    def _merging(self, scope: Scope) -> tuple[list[str], frozenset[str]]:
        """Columns that USING of the newest table may name yet, and those that it must."""
        newest, before = scope.sources[-1], len(scope.sources) - 1
        own = sorted(self.names.tables[newest.table] - newest.merged)
        can = [c for c in own if self.names.providers(scope, c, before) == 1]
        owed = {c for q, c in scope.owed if not q}
        return can, frozenset(c for c in can if c in owed)

    def _using(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        *before, newest = scope.sources
        for column in self._merging(scope)[0]:
            merged = newest._replace(merged=newest.merged | {column})
            after = changed(rest, sources=(*before, merged))
            self._spell(found, column, then(after, ("using_more", "")))

    def _using_more(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        can, needed = self._merging(rest.scopes[-1])
        if can:
            found[","] = then(rest, ("using", ""))
        if not needed:
            found[")"] = rest

    def _joins(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        if self.names.joinable(scope, joined=False):
            found[","] = then(rest, *_table("comma"), symbol)
            found["cross"] = then(rest, *words("join"), *_table("cross"), symbol)
        if self.names.joinable(scope, joined=True):
            found["join"] = then(rest, *_table("join"), symbol)
            found["inner"] = then(rest, *words("join"), *_table("join"), symbol)
            found["left"] = then(rest, ("maybe", "outer"), *words("join"), *_table("join", "left"), symbol)
        if not self.names.uncovered(scope):
            self._open(changed(rest, owed=frozenset()), found)

    def _core(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["where"] = then(rest, ("condition", "outer"), _GROUP)
        self._open(then(rest, _GROUP), found)

    def _group(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        grouped = changed(rest, aggregated=True)
        found["group"] = then(grouped, *words("by"), ("column", "own"), ("columns", ""), ("having", ""))
        self._open(rest, found)

    def _columns(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[","] = then(rest, ("column", "own"), symbol)
        self._open(rest, found)

    def _having(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["having"] = then(rest, ("condition", "whole"))
        self._open(rest, found)

    def _tail(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        scope = rest.scopes[-1]
        if symbol[1] == "first":
            found["order"] = then(rest, *words("by"), ("ordered", ""), ("more_ordered", ""), ("limit", ""))
        if scope.items > 0:
            for word in ("union", "intersect", "except"):
                fresh = rest._replace(scopes=(*rest.scopes[:-1], Scope(wanted=scope.items)))
                after = (_DISTINCT, _ITEM, _FROM, _CORE, ("tail", "compound"))
                all_of_it = (("maybe", "all"),) if word == "union" else ()
                found[word] = then(fresh, *all_of_it, *words("select"), *after)
        self._limit(rest, symbol, found)

    def _limit(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        over = rest._replace(scopes=rest.scopes[:-1])
        found["limit"] = then(over, ("word", WHOLE), ("offset", ""))
        self._ended(over, found)

    def _offset(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["offset"] = then(rest, ("word", WHOLE))
        self._ended(rest, found)

    def _ended(self, over: Parse, found: Moves) -> None:
        """What follows a query that may be over; a semicolon where it is not within another one."""
        if not over.stack:
            found[";"] = over
        self._open(over, found)

    def _ordered(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        # a number there would be the number of a column
        mode = "whole" if rest.scopes[-1].aggregated else "own"
        after = then(rest, ("direction", ""))
        arithmetic = then(after, ("more", mode))
        self._column(arithmetic, ("column", mode), found)
        self._call(arithmetic, mode, found)

    def _direction(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["asc"] = found["desc"] = rest
        self._open(rest, found)

    def _more_ordered(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[","] = then(rest, ("ordered", ""), symbol)
        self._open(rest, found)

    def _value(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        self._term(then(rest, ("more", symbol[1])), symbol, found)

    def _more(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        for mark in ("+", "-", "*", "/", "||"):
            found[mark] = then(rest, ("term", symbol[1]), symbol)
        self._open(rest, found)

    def _term(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        mode = str(symbol[1])
        self._literal(rest, symbol, found)
        self._column(rest, ("column", mode), found)
        self._call(rest, mode, found)
        if mode != "own" and len(rest.stack) < _OPEN:
            found["("] = then(rest, ("inside", mode), *words(")"))

    def _inside(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        if len(rest.scopes) < _DEEPEST:
            self._query(rest, ("query", 1), found)
        self._value(rest, symbol, found)

    def _literal(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[NUMBER] = found[TEXT] = rest
        found["-"] = then(rest, ("word", NUMBER))

    def _call(self, rest: Parse, mode: str, found: Moves) -> None:
        if len(rest.stack) >= _OPEN or not found.names:
            return
        for name in _FUNCTIONS:
            digits = (("digits", ""),) if name == "round" else ()
            self._called(rest, name, (("value", mode), *digits, *words(")")), found)
        for name in _AGGREGATES if mode == "whole" else ():
            inside: tuple[Symbol, ...] = (("maybe", "distinct"), ("value", "own"))
            inside = (("counted", ""),) if name == "count" else inside
            self._called(changed(rest, aggregated=True), name, (*inside, *words(")")), found)

    def _called(self, rest: Parse, name: str, inside: tuple[Symbol, ...], found: Moves) -> None:
        for token in self._calls[name]:
            found[token] = then(rest, *(() if token.endswith("(") else words("(")), *inside)

    def _digits(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[","] = then(rest, ("word", WHOLE))
        self._open(rest, found)

    def _counted(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["*"] = rest
        found["distinct"] = then(rest, ("value", "own"))
        self._value(rest, ("value", "own"), found)

    def _condition(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        self._predicate(then(rest, ("connected", symbol[1])), symbol, found)

    def _connected(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["and"] = found["or"] = then(rest, ("predicate", symbol[1]), symbol)
        self._open(rest, found)

    def _predicate(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found["not"] = then(rest, ("affirmed", symbol[1]))
        self._affirmed(rest, symbol, found)

    def _affirmed(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        mode = symbol[1]
        compared = then(rest, ("more", mode), ("compared", mode))
        self._term(compared, symbol, found)
        # a parenthesis at the beginning is one around a condition, or around a query
        found.pop("(", None)
        if len(rest.stack) >= _OPEN:
            return
        found["("] = then(rest, ("grouped", mode))
        if len(rest.scopes) < _DEEPEST:
            found["exists"] = then(rest, *words("("), ("query", 0), *words(")"))

    def _grouped(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        """Behind a parenthesis: a query of one value, which is compared then, or a condition."""
        mode = symbol[1]
        if len(rest.scopes) < _DEEPEST:
            self._query(then(rest, *words(")"), ("more", mode), ("compared", mode)), ("query", 1), found)
        self._condition(then(rest, *words(")")), ("condition", mode), found)

    def _compared(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        for mark in _COMPARED:
            found[mark] = then(rest, ("value", symbol[1]))
        found["is"] = then(rest, ("maybe", "not"), *words("null"))
        found["not"] = then(rest, ("matched", symbol[1]))
        self._matched(rest, symbol, found)

    def _matched(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        value: Symbol = ("value", symbol[1])
        found["like"] = then(rest, ("word", TEXT))
        found["between"] = then(rest, value, *words("and"), value)
        found["in"] = then(rest, *words("("), ("among", ""))

    def _among(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        if len(rest.scopes) < _DEEPEST:
            self._query(then(rest, *words(")")), ("query", 1), found)
        self._literal(then(rest, ("listed", "")), symbol, found)

    def _listed(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        found[","] = then(rest, ("literal", ""), symbol)
        found[")"] = rest

    def _column(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        """Columns: before FROM any that its tables can have, behind it those of exactly one of them."""
        scope, names = rest.scopes[-1], self.names
        if not found.names:
            return
        if not scope.sources:
            for column in names.holders:
                self._spell(found, column, owing(rest, "", column))
            for qualifier in (*names.tables, *names.free_alias(rest.scopes)):
                self._qualify(found, qualifier, rest)
            return
        for column in names.columns(scope):
            # SQLite looks at ON when all tables are known: none that follows may have the column a second time
            self._spell(found, column, owing(rest, "", column) if symbol[1] == "on" else rest)
        known = rest.scopes if symbol[1] in ("outer", "on") else rest.scopes[-1:]
        for qualifier in dict.fromkeys(source.name for each in known for source in each.sources):
            self._qualify(found, qualifier, rest)

    def _qualify(self, found: Moves, qualifier: str, rest: Parse) -> None:
        for spelt in self._spelt.get(qualifier, (qualifier,)):
            found[f"{spelt}."] = then(rest, ("member", qualifier))

    def _member(self, rest: Parse, symbol: Symbol, found: Moves) -> None:
        qualifier, scope, names = str(symbol[1]), rest.scopes[-1], self.names
        if not scope.sources:
            for column in names.holders:
                wanted = names.group(scope, qualifier) | {column}
                own = names.tables.get(qualifier)
                if wanted <= own if own is not None else names.covers(wanted):
                    self._spell(found, column, owing(rest, qualifier, column))
            return
        # the innermost table of that name
        sources = (source for each in reversed(rest.scopes) for source in each.sources)
        table = next(source.table for source in sources if source.name == qualifier)
        for column in names.tables[table]:
            self._spell(found, column, rest)

    def _spell(self, found: Moves, name: str, to: Parse) -> None:
        for spelt in self._spelt[name]:
            found[spelt] = to


def _table(how: str, joined: str = "") -> tuple[Symbol, ...]:
    """A table, its alias, how it is joined."""
    return ("table", how), ("named", ""), ("joined", joined or how)
