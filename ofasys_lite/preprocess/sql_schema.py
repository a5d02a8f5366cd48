"""The schema of a row's database: tables and their columns, from what data sets write, and how names are spelt in SQL.

Three spellings are read: a record of tables with lists of columns, a list of records with a name and columns (both as
JSON text too), and the text `| database | table : column , column | table : column` of UnifiedSKG (arXiv 2201.05966),
which OFASys makes of Spider's schemas.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.linear import read_struct

#: Most columns of one schema: what a grammar is made of in milliseconds.
MOST_COLUMNS = 2000
_TAKEN = """
    add all alter and any as autoincrement between case cast check collate commit connect_by_root constraint create
    cross cube current_date current_time current_timestamp current_user default deferrable delete describe distinct
    drop else escape except exists false fetch for foreign from glob grant group having if ilike in index inner
    insert intersect interval into is isnull join lateral left like limit lock not nothing notnull null offset on or
    order outer partitioned_by primary qualify raise references regexp returning revoke right rlike rollback rollup
    select set table tablesample then to transaction true uncache union unique update using values when where window
    with xor
"""
#: Names that SQLite or sqlglot take for something else where they stand without quotes (SQLite 3.40, sqlglot 30).
RESERVED = frozenset(_TAKEN.split())
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FORMS = '{"singer": ["name", "age"]}, [{"table": "singer", "columns": ["name"]}], or `| singer : name , age`'
_NAMES = ("table", "name", "table_name")


@dataclass(frozen=True, slots=True)
class SqlSchema:
    """Tables in order, each with its columns; equal schemas share one grammar."""

    tables: tuple[tuple[str, tuple[str, ...]], ...]


def lower(text: str) -> str:
    """The text with A to Z in lower case: names of SQLite differ in nothing else, whatever the script."""
    return text.translate(_LOWER)


_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def spellings(name: str) -> tuple[str, ...]:
    """How a name is written in a query: quoted, and plain where it is a word that means nothing else."""
    quoted = '"' + name.replace('"', '""') + '"'
    plain = _PLAIN.fullmatch(name) is not None and lower(name) not in RESERVED
    return (name, quoted) if plain else (quoted,)


def read_sql_schema(value: Any) -> SqlSchema:
    """The tables and columns that a row's value holds; tables without a value are not there.

    Raises:
        DataError: It is no schema, holds no column, names one twice, or has more than 2,000 of them.
    """
    value = read_struct(value)
    if isinstance(value, str):
        pairs = list(_of_text(value))
    elif isinstance(value, Mapping):
        pairs = [(name, columns) for name, columns in value.items() if columns is not None]
    elif isinstance(value, list):
        pairs = [_of_record(record) for record in value]
    else:
        raise _wrong(f"found {type(value).__name__}")
    tables = tuple((_name(name, "table"), _columns(name, columns)) for name, columns in pairs)
    if not tables:
        raise _wrong("it has no tables")
    _once((name for name, _ in tables), "table")
    count = sum(len(columns) for _, columns in tables)
    if count > MOST_COLUMNS:
        raise DataError(f"the schema has {count:,} columns", help=f"at most {MOST_COLUMNS:,}: leave tables out")
    return SqlSchema(tables)


def _wrong(what: str) -> DataError:
    return DataError(f"the schema of a database cannot be read: {what}", help=f"write {_FORMS}")


def _of_text(text: str) -> Iterable[tuple[str, list[str]]]:
    """Tables of `| database | table : column , column ( value ) | ...`; parts without a colon name the database."""
    for part in text.split("|"):
        name, colon, columns = part.partition(":")
        if colon:
            # values of a column stand in parentheses behind it
            yield name.strip(), [c.strip() for c in re.sub(r"\([^()]*\)", "", columns).split(",") if c.strip()]


def _of_record(record: Any) -> tuple[str, Any]:
    if not isinstance(record, Mapping):
        raise _wrong(f"a table is a record; found {type(record).__name__}")
    name = next((record[key] for key in _NAMES if record.get(key) is not None), None)
    if name is None:
        raise _wrong(f"a table of the list has no {' or '.join(_NAMES)}")
    return name, record.get("columns")


def _columns(table: Any, value: Any) -> tuple[str, ...]:
    if isinstance(value, Mapping):
        value = value.get("columns", list(value))
    if not isinstance(value, list) or not value:
        raise _wrong(f"table `{table}` has no list of columns")
    names = [c.get("name", c.get("column")) if isinstance(c, Mapping) else c for c in value]
    found = tuple(_name(name, f"column of `{table}`") for name in names)
    _once(found, f"column of `{table}`")
    return found


def _name(value: Any, what: str) -> str:
    if not isinstance(value, str) or not value.strip() or "\x00" in value:
        raise _wrong(f"a {what} is called {value!r}")
    return value


def _once(names: Iterable[str], what: str) -> None:
    """Raises DataError for a name that stands twice, as SQL compares names."""
    seen: set[str] = set()
    for name in names:
        if lower(name) in seen:
            raise _wrong(f"a {what} is called `{name}`, and another one too: SQL sees no difference of case")
        seen.add(lower(name))
