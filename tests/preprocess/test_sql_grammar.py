"""SQL by a grammar: what it allows runs on the schema's database and names nothing else, whatever is written."""

from __future__ import annotations

import sqlite3

import numpy as np
import pytest
from random_walks import random_walk
from sql_worlds import SCHEMAS, empty_database, names_only, written_in

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError
from ofasys_lite.preprocess.spelled_grammar import Pieces
from ofasys_lite.preprocess.sql_schema import read_sql_schema
from ofasys_lite.preprocess.sql_text import SqlText, sql_text
from ofasys_lite.preprocess.text_grammar import check_spelt, grammar_constraint
from ofasys_lite.preprocess.vocabulary import CONTROL_IDS, Vocabulary, train_pieces

FILMS = SCHEMAS[0]
QUERIES = """
select count(*) from movies where genre = 'Fantasy' and runtime > 90
select director from movies where title = 'Meet the Fockers'
select count(distinct country) from movies where year between 1990 and 1999.5
select title from movies where genre = 'it''s' order by year desc limit 1
select genre, count(*) from movies where runtime < 128 group by genre
select min(fresh) from scores join movies using (title) where country = 'United Kingdom'
SELECT T1.title , T2.meter FROM movies AS T1 JOIN scores AS T2 ON T1.title = T2.title WHERE T2.meter  >  80;
SELECT * FROM movies WHERE year NOT IN (1990, 1991) OR director LIKE '%Lee%'
SELECT title FROM movies WHERE title NOT IN (SELECT title FROM scores WHERE meter IS NOT NULL)
select title from movies except select title from scores where meter < -2.5
select avg(runtime) from movies where runtime > (select avg(runtime) from movies)
select genre from movies group by genre having count(*) > 2 order by count(*) desc, max(year) limit 3 offset 1
select title from movies where exists (select * from scores where scores.title = movies.title and (meter > 3))
select max(year) - min(year), round(avg(runtime), 1) from movies where length(title) > 3 + 2 * 4
select movies.title from movies left join scores on movies.title = scores.title
select title from movies where director = 'Jörg 漢字'
select "title" from "movies"
""".strip().splitlines()
#: Query, what the message says of it.
WRONG = [
    ("select titel from movies", "character 11: `select tit` | `el from movies`; did you mean `title`?"),
    ("select title from singers", "character 20: .*there may stand: movies, scores"),
    ("select meter from movies", "the text ends too soon: `select meter from movies` | ``"),
    ("select title from movies, scores", "leaves its grammar at character 25"),
    ("select title from movies where max(year) > 3", "character 33: `itle from movies where m` | `ax(year) > 3`"),
    ("select title from movies order by count(*)", "character 40: `om movies order by count` | `(*)`"),
    ('select title from movies where director = "Lee"', "character 44.*text stands in single quotes"),
    ("drop table movies", "character 1: `` | `drop table movies`"),
    ("select title from movies; select 1", "character 27"),
    ("select 1 from movies where year in (select title, year from movies)", "character 49"),
    ("select year -- all\nfrom movies", "leaves its grammar at character 14"),
    ("", "the text ends too soon"),
    ("select title from movies where title = 'x", "ends too soon"),
]


def pieces(extra: tuple[str, ...] = ()) -> Vocabulary:
    """A vocabulary whose pieces are longer than words of SQL."""
    return Vocabulary(train_pieces([*QUERIES, *extra] * 3, 400))


@pytest.mark.parametrize("query", QUERIES)
def test_queries_of_real_data_sets_are_allowed(query: str) -> None:
    check_spelt(sql_text(read_sql_schema(FILMS)), query)
    empty_database(FILMS).execute(query)


@pytest.mark.parametrize(("query", "said"), WRONG)
def test_what_is_not_of_the_schema_is_told_with_its_place(query: str, said: str) -> None:
    with pytest.raises(DataError) as caught:
        check_spelt(sql_text(read_sql_schema(FILMS)), query)
    text = f"{caught.value.message}; {caught.value.help}"
    assert all(part in text for part in said.split(".*")), text


def test_every_tokenisation_of_an_allowed_query_is_legal() -> None:
    vocabulary = pieces()
    automaton = compile(grammar_constraint(sql_text(read_sql_schema(FILMS)), vocabulary, 200))
    for query in QUERIES:
        by_letter = [id for char in query for id in vocabulary.encode(char)]
        for ids in (vocabulary.encode(query), by_letter):
            assert automaton.accepts([*ids, CONTROL_IDS["close"]]), query
    assert not automaton.accepts([*vocabulary.encode("select meter from movies"), CONTROL_IDS["close"]])


@pytest.mark.parametrize("number", range(len(SCHEMAS)))
def test_whatever_is_written_runs_and_names_only_the_schema(number: int) -> None:
    schema, vocabulary = SCHEMAS[number], pieces(("größe No. of x",))
    automaton = compile(grammar_constraint(sql_text(read_sql_schema(schema)), vocabulary, 40))
    database, rng = empty_database(schema), np.random.default_rng(number)
    seen = set()
    for budget in (None, None, None, 30, 30, 20, automaton.min_length):
        ids = random_walk(automaton, rng, budget)
        assert len(ids) <= (budget or automaton.max_length)
        query = written_in(vocabulary, ids)
        database.execute(query)
        names_only(query, schema)
        seen.add(query)
    assert len(seen) > 3


@pytest.mark.parametrize("seed", range(6))
def test_the_shortest_end_is_known_at_each_byte(seed: int) -> None:
    rng = np.random.default_rng(seed)
    schema = SCHEMAS[seed % len(SCHEMAS)]
    spelling = SqlText(read_sql_schema(schema))
    at, written = spelling.start, ""
    for _ in range(25):
        tokens = [token for token in spelling._follow(at.parse).tokens if not token.startswith("\x00")]
        for char in f" {tokens[int(rng.integers(len(tokens)))]}" if tokens else "":
            to = spelling.step(at, char)
            if to is None:
                break
            at, written = to, written + char
    rest = spelling.rest(at)
    for place, char in enumerate(rest):
        to = spelling.step(at, char)
        assert to is not None, (written, rest, place)
        assert spelling.rest(to) == rest[place + 1 :]
        at = to
    assert spelling.over(at)
    empty_database(schema).execute((written + rest).encode("latin-1").decode())


def test_fewest_pieces_are_found() -> None:
    vocabulary = pieces()
    held = Pieces(vocabulary)
    for text in ("select ", "from movies", "q"):
        assert 1 <= held.fewest(text) <= len(vocabulary.encode(text))
    assert "".join(held.spelt[id] for id in vocabulary.encode("select 'ä'")) == "select 'ä'".encode().decode("latin-1")


@pytest.mark.parametrize(
    ("value", "tables"),
    [
        ({"a": ["x", "y"], "b": None}, {"a": ("x", "y")}),
        ('{"a": ["x"]}', {"a": ("x",)}),
        ([{"table": "a", "columns": ["x"]}, {"name": "b", "columns": [{"name": "y"}]}], {"a": ("x",), "b": ("y",)}),
        ("| db | a : x , y ( 1 , 2 ) | b : z", {"a": ("x", "y"), "b": ("z",)}),
    ],
)
def test_schemas_are_read_as_data_sets_write_them(value: object, tables: dict[str, tuple[str, ...]]) -> None:
    assert dict(read_sql_schema(value).tables) == tables


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "it has no tables"),
        ("", "it has no tables"),
        (7, "found int"),
        ({"a": []}, "table `a` has no list of columns"),
        ({"a": "x"}, "table `a` has no list of columns"),
        ({"a": ["x", "X"]}, "a column of `a` is called `X`, and another one too"),
        ({"a": [""]}, "a column of `a` is called ''"),
        ({"a": [None]}, "a column of `a` is called None"),
        ([["a"]], "a table is a record; found list"),
        ([{"columns": ["x"]}], "a table of the list has no table or name"),
        ('{"a": ["x"', "begins like JSON and is not"),
        ({"a": [f"c{i}" for i in range(2001)]}, "the schema has 2,001 columns"),
    ],
)
def test_a_wrong_schema_is_told(value: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_sql_schema(value)


def test_a_budget_that_holds_no_query_is_told() -> None:
    with pytest.raises(DataError, match="max_length=2 is too few for any text of the grammar"):
        grammar_constraint(sql_text(read_sql_schema(FILMS)), pieces(), 2)


def test_names_that_mean_something_else_are_quoted() -> None:
    schema = {"order": ["group", "No. of x", 'say "x"']}
    check = sql_text(read_sql_schema(schema))
    query = 'select "group", "No. of x", "say ""x""" from "order"'
    check_spelt(check, query)
    empty_database(schema).execute(query)
    with pytest.raises(DataError, match="leaves its grammar"):
        check_spelt(check, "select group from order")


def test_the_database_is_a_judge_of_its_own() -> None:
    with pytest.raises(sqlite3.OperationalError, match="ambiguous"):
        empty_database(FILMS).execute("select title from movies, scores")
