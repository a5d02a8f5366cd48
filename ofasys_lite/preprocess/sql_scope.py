"""What a SELECT knows of its tables while it is written: who may stand where, what is still owed to the FROM clause."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import NamedTuple

from ofasys_lite.preprocess.sql_schema import SqlSchema, lower

#: Tables that may be joined without being needed; needed ones may always be (SQLite joins at most 64).
FREE_SOURCES = 8
#: Columns of a result.
MOST_ITEMS = 48

Owed = tuple[str, str]
"""(qualifier, column) that stands before FROM; the qualifier is empty where there is none."""


class Source(NamedTuple):
    """One table of a FROM clause.

    Attributes:
        name: What it is called there: its alias, or the table's name.
        table: The table.
        merged: Columns that USING makes one with those of a table before.
    """

    name: str
    table: str
    merged: frozenset[str] = frozenset()


class Scope(NamedTuple):
    """One SELECT.

    Attributes:
        wanted: How many columns its result must have; 0: any number.
        items: How many it has; -1: all of its tables (`*`).
        owed: Columns before FROM, whose tables FROM must name.
        sources: Tables of its FROM clause.
        aggregated: It has GROUP BY or an aggregate among its columns, so that ORDER BY may have one too.
    """

    wanted: int = 0
    items: int = 0
    owed: frozenset[Owed] = frozenset()
    sources: tuple[Source, ...] = ()
    aggregated: bool = False


class Names:
    """The names of one schema, in the lower case in which SQL compares them.

    Attributes:
        tables: Columns by table.
        holders: Tables by column.
        aliases: Names that a query may give to tables: `t1` to `t9`, as Spider has them, but for names of the schema.
    """

    def __init__(self, schema: SqlSchema) -> None:
        self.tables = {lower(name): frozenset(map(lower, columns)) for name, columns in schema.tables}
        self.holders: dict[str, tuple[str, ...]] = {}
        for table, columns in self.tables.items():
            for column in columns:
                self.holders[column] = (*self.holders.get(column, ()), table)
        taken = {*self.tables, *self.holders}
        self.aliases = tuple(name for name in (f"t{i}" for i in range(1, 10)) if name not in taken)
        self.covers = functools.lru_cache(maxsize=4096)(self._covers)

    def _covers(self, columns: frozenset[str]) -> tuple[str, ...]:
        """Tables that have all of these columns, those with short names first."""
        found = (table for table, own in self.tables.items() if columns <= own)
        return tuple(sorted(found, key=lambda name: (len(name), name)))

    def providers(self, scope: Scope, column: str, before: int | None = None) -> int:
        """How many tables (of the first `before`) a column without a qualifier could be of, merged ones as one."""
        sources = scope.sources[:before]
        return sum(column in self.tables[s.table] and column not in s.merged for s in sources)

    def columns(self, scope: Scope) -> Iterator[str]:
        """Columns that may stand without a qualifier: one table has them."""
        found = dict.fromkeys(c for s in scope.sources for c in self.tables[s.table])
        return (c for c in found if self.providers(scope, c) == 1)

    def group(self, scope: Scope, qualifier: str) -> frozenset[str]:
        """The columns owed to one qualifier."""
        return frozenset(c for q, c in scope.owed if q == qualifier)

    def uncovered(self, scope: Scope) -> list[Owed]:
        """What is owed and no table of FROM provides yet; of a qualifier its first column stands for all."""
        names = {source.name for source in scope.sources}
        found: dict[str, Owed] = {}
        for qualifier, column in sorted(scope.owed):
            if not qualifier and not self.providers(scope, column):
                found[column + "\x00"] = ("", column)
            elif qualifier and qualifier not in names:
                found.setdefault(qualifier, (qualifier, column))
        return list(found.values())

    def clashes(self, scope: Scope, table: str) -> frozenset[str]:
        """Owed columns without a qualifier that `table` would have a second time: they must be merged by USING."""
        own = self.tables[table]
        return frozenset(c for q, c in scope.owed if not q and c in own and self.providers(scope, c))

    def serves(self, scope: Scope, table: str) -> bool:
        """Whether `table`, under some name, provides something that is owed and not there yet."""
        own = self.tables[table]
        return any(
            (not q and c in own) or q == table or (bool(q) and q not in self.tables and self.group(scope, q) <= own)
            for q, c in self.uncovered(scope)
        )

    def joinable(self, scope: Scope, joined: bool) -> list[str]:
        """Tables that FROM may name next, short names first; `joined`: by a JOIN, which may merge columns."""
        full = len(scope.sources) >= FREE_SOURCES
        if full and not self.uncovered(scope):
            return []
        found = [
            t for t in self.tables if (joined or not self.clashes(scope, t)) and (not full or self.serves(scope, t))
        ]
        return sorted(found, key=lambda name: (len(name), name))

    def free_alias(self, scopes: tuple[Scope, ...]) -> list[str]:
        """Aliases that no table of these SELECTs has, and that none around the innermost is owed."""
        taken = {source.name for scope in scopes for source in scope.sources}
        taken |= {q for scope in scopes[:-1] for q, _ in scope.owed}
        return [alias for alias in self.aliases if alias not in taken]

    def aliases_of_newest(self, scopes: tuple[Scope, ...]) -> list[str]:
        """Aliases that the newest table may get: free ones, of which no column is owed that it has not."""
        own = self.tables[scopes[-1].sources[-1].table]
        around = (*scopes[:-1], scopes[-1]._replace(sources=scopes[-1].sources[:-1]))
        return [alias for alias in self.free_alias(around) if self.group(scopes[-1], alias) <= own]

    def next_table(self, scope: Scope, allowed: list[str]) -> str:
        """Of the tables that FROM may name the one that leads to its end soonest."""
        missing = self.uncovered(scope)
        if missing:
            qualifier, column = missing[0]
            columns = self.group(scope, qualifier) if qualifier else frozenset((column,))
            serving = (qualifier,) if qualifier in self.tables else self.covers(columns)
            # behind a comma none of them may be legal: then a JOIN follows
            return next((table for table in serving if table in allowed), allowed[0])
        used = {source.name for source in scope.sources}
        return next((table for table in allowed if table not in used), allowed[0])

    def next_alias(self, scope: Scope, aliases: list[str]) -> str | None:
        """The alias that the newest table should get to lead to the end soonest; None: its own name."""
        *before, newest = scope.sources
        missing = self.uncovered(scope._replace(sources=tuple(before)))
        if missing:
            qualifier, _ = missing[0]
            named = bool(qualifier) and qualifier not in self.tables
            if named and qualifier in aliases and self.group(scope, qualifier) <= self.tables[newest.table]:
                return qualifier
        if all(source.name != newest.table for source in before):
            return None
        owed = {q for q, _ in scope.owed}
        return next((alias for alias in aliases if alias not in owed), aliases[0])
