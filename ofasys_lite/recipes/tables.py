"""Real tables of the bokeh-sampledata wheel as one small sqlite file: films, elements, cars, penguins, medals."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from ofasys_lite.recipes.fetch import Wheels, contents

FOLDER = "bokeh_sampledata/_data"
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Table:
    """What the questions need to know of a table.

    Attributes:
        one, many: What a row is called.
        key: Column that names a row; empty if rows have no name.
        words: Text columns to select by, with the phrase that comes before the value.
        numbers: Number columns with the noun phrase they are asked by.
    """

    name: str
    one: str
    many: str
    key: str
    words: dict[str, str]
    numbers: dict[str, str]

    @property
    def columns(self) -> list[str]:
        """All columns in order."""
        return [*([self.key] if self.key else []), *self.words, *self.numbers]


TABLES = tuple(Table(name, **said) for name, said in contents("tables.json").items())
MOVIES, SCORES, *_OTHERS, MEDALS = TABLES
# the tables that a question's schema shows together
TOPICS = ((MOVIES, SCORES), *((table,) for table in (*_OTHERS, MEDALS)))
FILMS = """
select o.Title, o.Director, o.Genre, o.Country, o.Year, o.Runtime, o.Oscars, t.Meter, t.Reviews, t.Fresh
from omdb o join tomatoes t on o.ID = t.ID
where t.Reviews >= 60 and o.Director <> '' and o.Director not like '%,%' and o.Genre <> '' and o.Country <> ''
and o.Runtime > 0 and t.Meter is not null group by o.Title having count(*) = 1 order by o.Title
"""


def _films(content: bytes) -> tuple[list[tuple[Value, ...]], list[tuple[Value, ...]]]:
    """Rows of movies and of scores; the first genre and country of a film stand for all."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "movies.db"
        path.write_bytes(content)
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(FILMS).fetchall()
    first = [(r[0], r[1], r[2].split(",")[0], r[3].split(",")[0], r[4], int(r[5]), r[6] or 0) for r in rows]
    return list(first), [(r[0], *r[7:]) for r in rows]


def _number(text: str) -> Value:
    value = float(text.strip("[]"))  # the mass number of elements without a stable isotope stands in brackets
    return int(value) if value == int(value) else value


def _plain(content: bytes, words: list[str], numbers: list[str]) -> list[tuple[Value, ...]]:
    """Complete rows of a csv file: its text columns, then its number columns."""
    rows: list[tuple[Value, ...]] = []
    for row in csv.DictReader(io.StringIO(content.decode("utf-8-sig"))):
        values = [row[name].strip() for name in (*words, *numbers)]
        if all(value not in ("", "NA") for value in values):
            rows.append((*values[: len(words)], *(_number(value) for value in values[len(words) :])))
    return rows


def read_tables(wheels: Wheels) -> dict[str, list[tuple[Value, ...]]]:
    """Rows of every table by its name."""

    def read(name: str) -> bytes:
        return wheels.read("bokeh-sampledata", f"{FOLDER}/{name}")

    origins = {"1": "America", "2": "Europe", "3": "Japan"}
    cars = [
        (name, origins[str(origin)], *numbers)
        for name, *numbers, origin in _plain(
            read("auto-mpg.csv"), ["name"], ["mpg", "cyl", "hp", "weight", "yr", "origin"]
        )
    ]
    movies, scores = _films(read("movies.db"))
    medals = json.loads(read("olympics2014.json"))["data"]
    return {
        "movies": movies,
        "scores": scores,
        "elements": _plain(
            read("elements.csv"),
            ["name", "standard state", "metal"],
            ["atomic number", "atomic mass", "melting point", "period"],
        ),
        "cars": [(*row[:-1], 1900 + int(row[-1])) for row in cars],
        "penguins": _plain(
            read("penguins.csv"),
            ["species", "island", "sex"],
            ["bill_length_mm", "flipper_length_mm", "body_mass_g"],
        ),
        "medals": sorted((each["name"], *(each["medals"][n] for n in MEDALS.numbers)) for each in medals),
    }


def database(tables: dict[str, list[tuple[Value, ...]]]) -> bytes:
    """The tables as the bytes of one sqlite file, the same for every version of sqlite."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tables.sqlite"
        with closing(sqlite3.connect(path)) as connection:
            for table in TABLES:
                marks = ", ".join("?" for _ in table.columns)
                connection.execute(f"create table {table.name} ({', '.join(table.columns)})")
                connection.executemany(f"insert into {table.name} values ({marks})", tables[table.name])
            connection.commit()
        content = bytearray(path.read_bytes())
    content[92:100] = bytes(8)  # the library version that wrote the file; zero is allowed
    return bytes(content)
