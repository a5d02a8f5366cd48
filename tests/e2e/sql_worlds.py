"""Schemas, their empty databases, and judges: SQLite must run a query, and sqlglot read it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import pytest

from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, Vocabulary

Schema = Mapping[str, Sequence[str]]

#: One of the data; keys in several tables; names that need quotes; the smallest; names of aliases and functions.
SCHEMAS: tuple[Schema, ...] = (
    {
        "movies": ["title", "director", "genre", "country", "year", "runtime", "oscars"],
        "scores": ["title", "meter", "reviews", "fresh"],
    },
    {
        "singer": ["singer_id", "name", "age"],
        "concert": ["concert_id", "stadium_id", "year"],
        "stadium": ["stadium_id", "name"],
        "singer_in_concert": ["concert_id", "singer_id"],
    },
    {"t": ["No. of x", "group", "größe", "a"], "Order": ["a", "count", "max", 'B"q']},
    {"a": ["b"]},
    {"t1": ["t2", "length"], "x": ["t2", "y"]},
)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def empty_database(schema: Schema) -> sqlite3.Connection:
    """A database of the schema without rows."""
    connection = sqlite3.connect(":memory:")
    for table, columns in schema.items():
        connection.execute(f"create table {_quoted(table)} ({', '.join(map(_quoted, columns))})")
    return connection


def written_in(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    """The query that ids of a whole target spell."""
    assert ids[-1] == CONTROL_IDS["close"]
    return vocabulary.decode(ids[:-1])


def names_only(query: str, schema: Schema) -> None:
    """Asserts that sqlglot reads the query and finds no table and no column in it that are not of the schema."""
    sqlglot = pytest.importorskip("sqlglot", reason="a judge of the extra `test`; SQLite has judged already")
    exp = sqlglot.exp
    tree = sqlglot.parse_one(query, read="sqlite")
    tables = {name.lower() for name in schema}
    columns = {name.lower() for each in schema.values() for name in each}
    assert {found.name.lower() for found in tree.find_all(exp.Table)} <= tables, query
    assert {found.name.lower() for found in tree.find_all(exp.Column)} <= columns, query
