import sqlite3
from contextlib import closing

import pytest

from ofasys_lite.errors import DataError
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.metrics.sql import _read_only, run_sql, same_result


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "film s?.db"  # a name that an unquoted URI would break
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("create table film (title text, year integer, score real)")
        connection.executemany(
            "insert into film values (?, ?, ?)",
            [("Alien", 1979, 8.5), ("Brazil", 1985, 7.9), ("Cube", 1997, 7.2), ("Dune", 1984, None)],
        )
        connection.commit()
    return str(path)


def score(database, predictions, references):
    return evaluate_metric("sql_execution", predictions, references, rows=[{"db": database}] * len(references))


def test_another_query_with_the_same_rows_is_right(database):
    found = score(database, ["select title from film where year between 1980 and 1989"],
                  ["SELECT title FROM film WHERE year >= 1980 AND year < 1990 "])  # fmt: skip
    assert found.value == 1.0


def test_the_order_counts_only_if_the_reference_orders(database):
    up, down = "select title from film order by year", "select title from film order by year desc"
    free = "select title from film where title != 'order by'"
    assert score(database, [down], [free]).value == 1.0
    assert score(database, [down], [up]).value == 0.0


def test_an_order_inside_a_subquery_is_no_order(database):
    inner = "select title from film where year in (select year from film order by year limit (2))"
    assert score(database, ["select title from film where year < 1985 order by title desc"], [inner]).value == 1.0


def test_empty_results_count_and_are_told(database):
    nothing = "select title from film where year = 1"
    sums = "select sum(score) from film where year = 1"
    count = "select count(*) from film where year = 1"
    found = score(database, [nothing, nothing, count, ""], [nothing, sums, count, "select title from film"])
    assert found.value == 2 / 4
    assert (found.details["counted"], found.details["empty_references"], found.details["right_of_empty"]) == (4, 3, 2)


def test_references_that_fail_are_left_out(database):
    found = score(database, ["select 1", "select 1"], ["select nonsense", "select 1"])
    assert (found.value, found.details["counted"], found.details["failed_references"]) == (1.0, 1, 1)


@pytest.mark.parametrize(
    "hostile",
    [
        "delete from film",
        "drop table film",
        "attach database '/tmp/x.db' as x",
        "pragma table_info(film)",
        "select 1; select 2",
        "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n",
        "select a.title from film a, film b, film c, film d, film e, film f, film g, film h, film i, film j, film k,"
        " film l, film m order by random()",
        "select load_extension('x')",
        "select zeroblob(900000000)",
        "select '\x00",
        "not sql at all",
        "",
    ],
)
def test_a_hostile_query_is_stopped_and_changes_nothing(database, hostile):
    found = score(database, [hostile], ["select title from film"])
    assert found.value == 0.0
    with closing(sqlite3.connect(database)) as connection:
        assert connection.execute("select count(*) from film").fetchone() == (4,)


@pytest.mark.parametrize(
    "hostile",
    [
        "attach database '{file}' as x",
        "vacuum into '{file}'",
        "vacuum main into '{file}'",
        "create table kept as select 1",
        "create temp table kept as select 1",
        "pragma temp_store_directory = '{folder}'",
        "select writefile('{file}', 'x')",
        "savepoint kept",
        "begin",
    ],
)
def test_a_query_writes_no_file_and_is_denied_by_name(database, tmp_path, hostile):
    folder = tmp_path / "empty"
    folder.mkdir()
    query = hostile.format(file=folder / "written", folder=folder)
    with closing(_read_only(str(database))) as connection:
        assert run_sql(connection, query) is None
        with pytest.raises(sqlite3.Error, match=r"not authorized|denied|prohibited|no such function"):
            connection.execute(query)
    assert list(folder.iterdir()) == []


def test_sums_in_another_order_are_the_same_number():
    with closing(sqlite3.connect(":memory:")) as connection:
        first, second = (run_sql(connection, f"select {sum_}") for sum_ in ("0.1 + 0.2 + 0.3", "0.3 + 0.2 + 0.1"))
    assert same_result(first, second, "select 1")


def test_a_row_without_database_says_which_columns_are_looked_at(database, tmp_path):
    with pytest.raises(
        DataError, match=r"row 1 names no database\n.*db_path, database_path, db, database; the row has: q"
    ):
        evaluate_metric("sql_execution", ["select 1"], ["select 1"], rows=[{"q": "x"}])
    with pytest.raises(DataError, match="no database file at"):
        score(str(tmp_path / "absent.db"), ["select 1"], ["select 1"])
    (tmp_path / "text.db").write_text("this is a text file, long enough to be looked at " * 9)
    with pytest.raises(DataError, match="is not a SQLite database"):
        score(str(tmp_path / "text.db"), ["select 1"], ["select 1"])
