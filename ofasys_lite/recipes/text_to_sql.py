"""Questions about real tables with the query that answers them; every query has a non-empty answer."""

from __future__ import annotations

import json
import random
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Built, Limits, Row, assemble, pick
from ofasys_lite.recipes.tables import MOVIES, SCORES, TABLES, TOPICS, Table, Value, database, read_tables

FILE = "tables.sqlite"
LONGEST_NAME = 28
MOST_ROWS = 30


@dataclass(frozen=True, slots=True)
class QueryDraw:
    """Draws tables, columns and values by chance; values come from the rows, so that most queries find some."""

    rows: dict[str, list[tuple[Value, ...]]]
    generator: random.Random

    def pick(self, values: Iterable[Any]) -> Any:
        """One of the values."""
        return pick(list(values), self.generator)

    def value(self, table: Table, column: str) -> Value:
        """A value of a column, as short as a question wants it."""
        place = table.columns.index(column)
        while True:
            value: Value = self.pick(self.rows[table.name])[place]
            if not isinstance(value, str) or (len(value) <= LONGEST_NAME and not set("'\"") & set(value)):
                return value

    def condition(self, table: Table, but: str = "") -> tuple[str, str]:
        """A phrase and its SQL condition on one column other than `but`."""
        words = [column for column in table.words if column != but]
        if words and self.generator.random() < 0.6:
            column = self.pick(words)
            value = self.value(table, column)
            return f"{table.words[column]} {value}", f"{column} = '{value}'"
        column = self.pick([each for each in table.numbers if each != but])
        value = self.value(table, column)
        than, mark = self.pick([("above", ">"), ("more than", ">"), ("below", "<"), ("less than", "<"), ("of", "=")])
        return f"with {table.numbers[column]} {than} {value}", f"{column} {mark} {value}"


Pair = tuple[str, str]


def _lookup(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick([*table.words, *table.numbers])
    phrase = table.numbers.get(column, column)
    value = draw.value(table, table.key)
    asked = draw.pick(
        [f"what is the {phrase} of {value}?", f"{value}: which {phrase}?", f"tell me the {phrase} of {value}"]
    )
    return asked, f"select {column} from {table.name} where {table.key} = '{value}'"


def _names(draw: QueryDraw, table: Table) -> Pair:
    words, condition = draw.condition(table)
    asked = draw.pick(
        [f"which {table.many} are {words}?", f"list all {table.many} {words}", f"show {table.many} {words}"]
    )
    return asked.replace("are with", "have"), f"select {table.key} from {table.name} where {condition}"


def _count(draw: QueryDraw, table: Table) -> Pair:
    words, condition = draw.condition(table)
    asked = draw.pick([f"how many {table.many} {words}?", f"count the {table.many} {words}"])
    return asked, f"select count(*) from {table.name} where {condition}"


def _count_both(draw: QueryDraw, table: Table) -> Pair:
    (one, first), (other, second) = draw.condition(table), draw.condition(table)
    asked = draw.pick([f"how many {table.many} {one} and {other}?", f"number of {table.many} {one} and {other}"])
    return asked, f"select count(*) from {table.name} where {first} and {second}"


def _names_both(draw: QueryDraw, table: Table) -> Pair:
    (one, first), (other, second) = draw.condition(table), draw.condition(table)
    asked = draw.pick([f"which {table.many} {one} and {other}?", f"find {table.many} {one} and {other}"])
    return asked, f"select {table.key} from {table.name} where {first} and {second}"


def _extreme(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick(table.numbers)
    words, order = draw.pick([("highest", " desc"), ("largest", " desc"), ("lowest", ""), ("smallest", "")])
    phrase, condition = draw.condition(table, column)
    asked = f"which {table.one} {phrase} has the {words} {table.numbers[column]}?"
    where = f" where {condition}"
    return asked, f"select {table.key} from {table.name}{where} order by {column}{order} limit 1"


def _top(draw: QueryDraw, table: Table) -> Pair:
    column, count = draw.pick(table.numbers), draw.pick(range(2, 10))
    words, order = draw.pick([("highest", " desc"), ("lowest", "")])
    asked = draw.pick(
        [
            f"list the {count} {table.many} with the {words} {table.numbers[column]}",
            f"{count} {table.many} of {words} {table.numbers[column]}",
        ]
    )
    return asked, f"select {table.key} from {table.name} order by {column}{order} limit {count}"


def _number(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick(table.numbers)
    words, call = draw.pick(
        [("average", "avg"), ("mean", "avg"), ("highest", "max"), ("lowest", "min"), ("total", "sum")]
    )
    phrase, condition = draw.condition(table, column)
    asked = draw.pick(
        [
            f"what is the {words} {table.numbers[column]} of {table.many} {phrase}?",
            f"{words} {table.numbers[column]} of all {table.many} {phrase}",
        ]
    )
    return asked, f"select {call}({column}) from {table.name} where {condition}"


def _between(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick(table.numbers)
    low, high = sorted(float(draw.value(table, column)) for _ in range(2))
    low, high = (int(x) if x == int(x) else x for x in (low, high))
    asked = f"how many {table.many} have {table.numbers[column]} between {low} and {high}?"
    return asked, f"select count(*) from {table.name} where {column} between {low} and {high}"


def _kinds(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick(table.words)
    words, condition = draw.condition(table, column)
    asked = draw.pick(
        [
            f"how many different {column} values have {table.many} {words}?",
            f"number of distinct {column} among {table.many} {words}",
        ]
    )
    return asked, f"select count(distinct {column}) from {table.name} where {condition}"


def _groups(draw: QueryDraw, table: Table) -> Pair:
    column = draw.pick(table.words)
    words, condition = draw.condition(table, column)
    asked = draw.pick(
        [f"how many {table.many} {words} per {column}?", f"for each {column}, count {table.many} {words}"]
    )
    return asked, f"select {column}, count(*) from {table.name} where {condition} group by {column}"


def _join(draw: QueryDraw, table: Table) -> Pair:
    del table
    column = draw.pick(SCORES.numbers)
    words, condition = draw.condition(MOVIES)
    call, phrase = draw.pick([("avg", "average"), ("max", "highest"), ("min", "lowest")])
    asked = f"what is the {phrase} {SCORES.numbers[column]} of films {words}?"
    return asked, f"select {call}({column}) from scores join movies using (title) where {condition}"


Template = Callable[[QueryDraw, Table], Pair]
NAMED: tuple[Template, ...] = (_lookup, _lookup, _names, _names_both, _extreme, _top)
ANY: tuple[Template, ...] = (_count, _count_both, _number, _between)
WORDED: tuple[Template, ...] = (_kinds, _groups)
# how often a table is asked about: as it has values to ask for
SHARES = {"movies": 10, "scores": 4, "elements": 3, "cars": 5, "penguins": 3, "medals": 1}


def questions(tables: dict[str, list[tuple[Value, ...]]], count: int) -> Iterator[tuple[str, str, Table]]:
    """`count` (question, SQL, table) with different questions; the answers are not looked at yet."""
    draw = QueryDraw(tables, random.Random("text_to_sql"))
    by_share = [table for table in TABLES for _ in range(SHARES[table.name])]
    seen: set[str] = set()
    while len(seen) < count:
        table: Table = draw.pick(by_share)
        templates = ANY + (NAMED if table.key else ()) + (WORDED if table.words else ())
        templates += (_join,) if table.name == "movies" else ()
        question, sql = draw.pick(templates)(draw, table)
        if question not in seen:
            seen.add(question)
            yield question, sql, table


def _answered(connection: sqlite3.Connection, sql: str) -> bool:
    """Whether the answer holds something: some rows, no null, no count of zero."""
    found = connection.execute(sql).fetchmany(MOST_ROWS + 1)
    return 0 < len(found) <= MOST_ROWS and found != [(0,)] and all(value is not None for row in found for value in row)


def build(wheels: Wheels, limits: Limits) -> Built:
    """One row per question; the query decides the split, so that no test query is a training query."""
    tables = read_tables(wheels)
    content = database(tables)
    schemas = {table.name: {each.name: each.columns for each in topic} for topic in TOPICS for table in topic}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as connection:
            for question, sql, table in questions(tables, limits.train + limits.valid + 2 * limits.test):
                if _answered(connection, sql):
                    schema = schemas[table.name]
                    flat = json.dumps(schema)
                    rows.append(
                        {
                            "group": sql,
                            "question": question,
                            "schema": schema,
                            "schema_json": flat,
                            "sql": sql,
                            "db": FILE,
                        }
                    )
    return Built(assemble("text_to_sql", rows, limits), {FILE: content})
