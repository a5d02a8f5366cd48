"""Text-to-SQL scored by what the query returns: sql_execution.

Every reference that runs is counted, also one that finds nothing: any query that finds nothing matches it, which is
what the baseline `best_constant` earns, too; details say how many there are and how many of them were right.
Predicted SQL is a stranger's program: it runs on a read-only connection that may only select, under a fixed budget of
steps of SQLite's machine, so that the score does not depend on how fast the computer is.
"""

from __future__ import annotations

import re
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from ofasys_lite.errors import DataError
from ofasys_lite.metrics.score import Row, Statistics, Value
from ofasys_lite.metrics.values import as_text

Result: TypeAlias = list[tuple[object, ...]]

DATABASE_COLUMNS = ("db_path", "database_path", "db", "database")
_STEPS_PER_CALL = 10_000
_BUDGET = 20_000_000  # steps of SQLite's machine: about a second of one core
_MAX_ROWS = 10_000
_MAX_BYTES = 1_000_000  # longest value a query may build
_ALLOWED = {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE}


def sql_execution(predictions: Sequence[Value], references: Sequence[Value], rows: Sequence[Row]) -> Statistics:
    """Share of queries whose result equals the reference's, over references that run.

    The row names the SQLite file in one of the columns `db_path`, `database_path`, `db`, `database`. The order of
    rows counts only if the reference says ORDER BY. Raises DataError if a row names no readable database.
    """
    right, counted, empty = [], [], []
    failed = {"reference": 0, "prediction": 0}
    connections: dict[str, sqlite3.Connection] = {}
    results: dict[tuple[str, str], Result | None] = {}
    with ExitStack() as stack:
        for number, (row, *queries) in enumerate(zip(rows, references, predictions, strict=True)):
            path = _database(row, number)
            if path not in connections:
                connections[path] = stack.enter_context(closing(_read_only(path)))
            expected_sql, found_sql = (as_text(query).strip() for query in queries)
            for sql in (expected_sql, found_sql):
                if (path, sql) not in results:
                    results[path, sql] = run_sql(connections[path], sql)
            expected, found = results[path, expected_sql], results[path, found_sql]
            failed["reference"] += expected is None
            failed["prediction"] += found is None
            counted.append(expected is not None)
            right.append(same_result(found, expected, expected_sql))
            empty.append(expected is not None and _says_nothing(expected))
    details = {
        "counted": sum(counted),
        "empty_references": sum(empty),
        "right_of_empty": sum(one and other for one, other in zip(empty, right, strict=True)),
        "failed_references": failed["reference"],
        "failed_predictions": failed["prediction"],
    }
    return Statistics.ratio(right, counted, details=details)


def _database(row: Row, number: int) -> str:
    for column in DATABASE_COLUMNS:
        path = row.get(column)
        if path:
            if not Path(str(path)).is_file():
                raise DataError(f"row {number + 1}: no database file at `{path}` (column `{column}`)")
            return str(path)
    raise DataError(
        f"metric `sql_execution`: row {number + 1} names no database",
        help=f"give each row the path of its SQLite file in one of: {', '.join(DATABASE_COLUMNS)}; "
        f"the row has: {', '.join(map(str, row)) or 'no columns'}",
    )


def _read_only(path: str) -> sqlite3.Connection:
    """A connection that can only select: no writing, attaching, pragmas or giant values. Raises DataError."""
    connection = sqlite3.connect(f"file:{quote(str(Path(path).resolve()))}?mode=ro", uri=True)
    try:
        connection.execute("select count(*) from sqlite_master").fetchall()
    except sqlite3.DatabaseError as error:
        connection.close()
        raise DataError(f"`{path}` is not a SQLite database: {error}") from error
    connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
    if sys.version_info >= (3, 11):
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MAX_BYTES)
    connection.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in _ALLOWED else sqlite3.SQLITE_DENY)
    return connection


def run_sql(connection: sqlite3.Connection, sql: str) -> Result | None:
    """Rows of one query, at most 10,000; None where it fails, is no query or exceeds its budget of steps."""
    if not sql:
        return None
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return int(calls * _STEPS_PER_CALL > _BUDGET)

    connection.set_progress_handler(count, _STEPS_PER_CALL)
    try:
        cursor = connection.execute(sql)
        return [tuple(map(_cell, row)) for row in cursor.fetchmany(_MAX_ROWS)] if cursor.description else None
    except (sqlite3.Error, sqlite3.Warning, ValueError, OverflowError, MemoryError):  # ValueError: a null character
        return None
    finally:
        connection.set_progress_handler(None, 0)


def _cell(value: object) -> object:
    return float(f"{value:.10g}") if isinstance(value, float) else value  # sums in another order differ


def _says_nothing(result: Result) -> bool:
    """True for no rows, only NULLs, and the single 0 that COUNT and SUM give for nothing."""
    cells = [cell for row in result for cell in row]
    return all(cell is None for cell in cells) or (len(cells) == 1 and cells[0] == 0)


def same_result(found: Result | None, expected: Result | None, expected_sql: str) -> bool:
    """True if both hold the same rows: in order if the reference orders them, else as multisets; None is no result."""
    if found is None or expected is None:
        return False
    return found == expected if _is_ordered(expected_sql) else Counter(found) == Counter(expected)


def _is_ordered(sql: str) -> bool:
    """True if ORDER BY stands outside strings and parentheses."""
    bare = re.sub(r"'(?:[^']|'')*'|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]", "''", sql)
    while (shorter := re.sub(r"\([^()]*\)", "", bare)) != bare:
        bare = shorter
    return re.search(r"\border\s+by\b", bare, re.IGNORECASE) is not None
