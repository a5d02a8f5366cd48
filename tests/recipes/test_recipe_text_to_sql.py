"""Text-to-SQL: the database is the same bytes everywhere, questions are answered by their query, tables are read."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import zipfile
from contextlib import closing
from pathlib import Path

from ofasys_lite.recipes import text_to_sql
from ofasys_lite.recipes.fetch import Wheels
from ofasys_lite.recipes.recipe import Limits
from ofasys_lite.recipes.tables import TABLES, database


def small_tables() -> dict[str, list[tuple[str | int | float, ...]]]:
    kinds = ("red", "blue", "green")
    return {
        table.name: [
            (
                *((f"{table.one} {n}",) if table.key else ()),
                *(kinds[(n + place) % 3] for place in range(len(table.words))),
                *(n * (place + 1) for place in range(len(table.numbers))),
            )
            for n in range(1, 40)
        ]
        for table in TABLES
    }


def test_the_database_is_the_same_bytes_and_can_be_read(tmp_path: Path) -> None:
    content = database(small_tables())
    assert content == database(small_tables())
    (tmp_path / "x.sqlite").write_bytes(content)
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        assert connection.execute("select count(*) from cars").fetchone() == (39,)


def test_questions_are_answered_by_their_query_or_dropped(tmp_path: Path) -> None:
    tables = small_tables()
    (tmp_path / "x.sqlite").write_bytes(database(tables))
    asked = list(text_to_sql.questions(tables, 300))
    assert len({question for question, _, _ in asked}) == 300
    with closing(sqlite3.connect(tmp_path / "x.sqlite")) as connection:
        answered = [text_to_sql._answered(connection, sql) for _, sql, _ in asked]
        assert sum(answered) > 150
        assert not text_to_sql._answered(connection, "select count(*) from cars where year = -1")
        assert not text_to_sql._answered(connection, "select name from cars where year = -1")
        assert not text_to_sql._answered(connection, "select max(year) from cars where year = -1")


def test_text_to_sql_reads_the_tables_of_its_wheel(tmp_path: Path) -> None:
    built = text_to_sql.build(sample_wheel(tmp_path), Limits(40, 8, 10))
    row = built.splits["train"][0]
    assert json.loads(row["schema_json"]) == row["schema"]
    assert row["db"] in built.files
    assert not {r["sql"] for r in built.splits["train"]} & {r["sql"] for r in built.splits["test"]}


def sample_wheel(folder: Path) -> Wheels:
    """A wheel with films, elements, cars, penguins and medals as bokeh-sampledata lays them out."""

    def table(columns: list[str], rows: list[list[object]]) -> bytes:
        text = io.StringIO()
        csv.writer(text).writerows([columns, *rows])
        return text.getvalue().encode()

    movies = folder / "movies.db"
    with closing(sqlite3.connect(movies)) as connection:
        connection.execute("create table omdb (ID, Title, Director, Genre, Country, Year, Runtime, Oscars)")
        connection.execute("create table tomatoes (ID, Meter, Reviews, Fresh)")
        for n in range(40):
            film = (n, f"Film {n}", f"Dir {n % 5}", "Drama, Comedy", "France, Italy", 1990 + n, 90.0 + n, n % 3)
            connection.execute("insert into omdb values (?,?,?,?,?,?,?,?)", film)
            connection.execute("insert into tomatoes values (?,?,?,?)", (n, 50 + n, 60 + n, 30 + n))
        connection.commit()
    cars = [[10 + n, 4, 100, 90, 2000 + n, 15, 70, 1 + n % 3, f"car {n}"] for n in range(20)]
    files = {
        "movies.db": movies.read_bytes(),
        "elements.csv": table(
            ["name", "standard state", "metal", "atomic number", "atomic mass", "melting point", "period"],
            [[f"E{n}", "solid" if n % 2 else "gas", "metal", n, f"[{n}]", 100 + n, n % 7] for n in range(1, 20)],
        ),
        "auto-mpg.csv": table(["mpg", "cyl", "displ", "hp", "weight", "accel", "yr", "origin", "name"], cars),
        "penguins.csv": table(
            ["species", "island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex"],
            [["Adelie", "Dream", 30 + n, 18, 180, 3000 + n, "" if n == 0 else "MALE"] for n in range(20)],
        ),
        "olympics2014.json": json.dumps(
            {"data": [{"name": f"Land {n}", "medals": {"gold": n, "silver": n, "bronze": 1}} for n in range(9)]}
        ).encode(),
    }
    path = folder / "bokeh.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"bokeh_sampledata/_data/{name}", content)
    return Wheels({"bokeh-sampledata": path}, folder)
