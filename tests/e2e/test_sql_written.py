"""SQL written under the grammar of each row's own schema: by untrained models, in every way, and as one by one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_worlds as worlds
from sql_worlds import SCHEMAS, empty_database, names_only

from ofasys_lite import GeneralistModel
from ofasys_lite.cards import modalities
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import DataError
from ofasys_lite.generalist.calls import columns_of
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.predicting import predict
from ofasys_lite.generalist.prediction import Request
from ofasys_lite.plan.explanation import explain_plan

LINE = (
    '" [TEXT:src] " ; structured knowledge: " [STRUCT:database,max_length=876] " . generating sql code. '
    "-> [TEXT:tgt,grammar=sql(database),max_length=64]"
)


def drawn(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Questions over the schemas in turn; the schema as a record or as JSON text."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        schema = SCHEMAS[number % len(SCHEMAS)]
        table = sorted(schema)[int(rng.integers(len(schema)))]
        column = sorted(schema[table])[int(rng.integers(len(schema[table])))]
        name, held = ('"' + each.replace('"', '""') + '"' for each in (column, table))
        query = f"select {name} from {held}" if number % 2 else f"select count({name}) from {held} where {name} = 'x'"
        value = schema if number % 3 else json.dumps(schema)
        rows.append({"id": str(number), "src": f"which {column}?", "database": value, "tgt": query, "number": number})
    return rows


def card(**more: Any) -> Any:
    rows = drawn(24)
    return worlds.task("sql", {"train": rows, "valid": rows[:4], "test": rows[:4]}, line=LINE, **more)


@pytest.fixture(scope="module")
def untrained() -> Generalist:
    """A model that has learned nothing, of a line with the grammar and another task."""
    return worlds.generalist(worlds.ready([card(), worlds.task("spell")]))


def right(row: dict[str, Any], query: str) -> None:
    schema = SCHEMAS[row["number"] % len(SCHEMAS)]
    empty_database(schema).execute(query)
    names_only(query, schema)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.slow)])
def test_untrained_samples_parse_and_name_only_their_own_schema(untrained: Generalist, count: int) -> None:
    rows = drawn(count, seed=1)
    options = DecodeOptions("sample", temperature=2.0, seed=3, max_length=20)
    found = predict(untrained, [Request("sql", {k: r[k] for k in ("src", "database")}, r["id"], options) for r in rows])
    queries = [prediction.values["tgt"] for prediction in found if prediction is not None]
    assert len(queries) == count
    for row, query in zip(rows, queries, strict=True):
        right(row, query)
    assert len(set(queries)) > 0.9 * count


@pytest.mark.parametrize(
    "options",
    [
        DecodeOptions(max_length=30),
        DecodeOptions("beam", beam=3, n_best=3, max_length=20),
        DecodeOptions("sample", max_length=12),
    ],
    ids=["greedy", "beam", "short"],
)
def test_every_way_of_decoding_keeps_to_the_grammar_and_one_by_one_is_as_together(
    untrained: Generalist, options: DecodeOptions
) -> None:
    rows = drawn(5, seed=2)
    asked = [Request("sql", row, row["id"], options) for row in rows]
    asked.insert(3, Request("spell", {"phones": "S AH N"}, "x"))
    together = predict(untrained, asked)
    for request, prediction in zip(asked, together, strict=True):
        alone = predict(untrained, [request])[0]
        assert prediction is not None
        assert alone is not None
        assert alone.values == prediction.values
        if request.task == "sql":
            for each in (prediction, *prediction.n_best):
                right(dict(request.row), each.values["tgt"])


def test_what_is_learned_is_the_same_with_the_grammar_and_without(tmp_path: Path) -> None:
    free = worlds.task("sql", drawn(24), line=LINE.replace("grammar=sql(database),", ""))
    cards = {"with": card(), "without": free}
    with_grammar, without = (worlds.run([each], tmp_path / name, steps=3) for name, each in cards.items())
    assert worlds.equal(worlds.weights(with_grammar), worlds.weights(without))


def test_a_trained_model_is_asked_with_the_grammar_and_without(tmp_path: Path) -> None:
    free = LINE.replace("grammar=sql(database),", "")
    worlds.run([worlds.task("sql", drawn(24), line=free)], tmp_path / "run", steps=3)
    model = GeneralistModel.from_pretrained(tmp_path / "run")
    row = drawn(1, seed=5)[0]
    right(row, str(model(LINE, src=row["src"], database=row["database"]).text))
    assert isinstance(model("sql", src=row["src"], database=row["database"]).text, str)
    with pytest.raises(DataError, match="column `database`: the schema of a database cannot be read: it has no tables"):
        model(LINE, src="x", database={})


def test_the_column_of_the_schema_is_read_even_where_the_encoder_does_not_read_it() -> None:
    line = "[TEXT:src] -> [TEXT:tgt,grammar=sql(schema=database)]"
    entry = worlds.ready([worlds.task("sql", drawn(24), line=line)]).tasks[0]
    assert list(columns_of(entry.plan)) == ["src", "database"]
    told = [row.constraint for row in explain_plan(entry.plan).templates[0] if row.constraint]
    assert told == ["what grammar=sql(...) allows by the row's `database`"]


BAD = [
    ({"tgt": "select nothing from a"}, "leaves its grammar at character"),
    ({"tgt": "delete from a"}, "leaves its grammar at character 1"),
    ({"tgt": "select b from a where"}, "ends too soon"),
    ({"tgt": ""}, "the target is empty"),
    ({"database": {}}, "column `database`: the schema of a database cannot be read: it has no tables"),
    ({"database": '{"a": ['}, "begins like JSON and is not"),
    ({"database": {"a": [f"c{i}" for i in range(3000)]}}, "the schema has 3,000 columns"),
]


@pytest.mark.parametrize(("wrong", "said"), BAD)
def test_wrong_rows_are_told_before_training(wrong: dict[str, Any], said: str) -> None:
    row = {"src": "which b?", "database": {"a": ["b"]}, "tgt": "select b from a"}
    report = check_tasks([worlds.task("sql", [{**row, **wrong}] * 30, line=LINE)], modalities())
    assert any(said in error.render() for error in report.errors), [e.render() for e in report.errors]


def test_a_source_without_the_schema_is_told() -> None:
    rows = [{"src": "which?", "tgt": "select b from a", "databse": {"a": ["b"]}}] * 30
    line = "[TEXT:src] -> [TEXT:tgt,grammar=sql(database)]"
    report = check_tasks([worlds.task("sql", rows, line=line)], modalities())
    text = "\n".join(error.render() for error in report.errors)
    assert "asks for column `database`" in text
    assert "did you mean `databse`" in text


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ("[TEXT:t,grammar=sql]", "grammar sql takes the one column of the schema"),
        ("[TEXT:t,grammar=sql(a,b)]", "grammar sql takes the one column of the schema"),
        ("[TEXT:t,grammar=sql(tables=database)]", "grammar sql has no `tables`"),
        ("[TEXT:t,grammar=sql(@database)]", "`@database` is a column's name with a mark before it"),
        ("[TEXT:t,grammar=sql(database),no_punctuation]", "`no_punctuation` means nothing beside `grammar`"),
        ("[TEXT:t,grammar=sqlite(database)]", "`grammar` cannot be `sqlite`"),
        ("[TEXT:t,grammar=sql(database),no_loss] [TEXT:t]", "`grammar` means nothing beside `no_loss`"),
    ],
)
def test_wrong_lines_are_told(slot: str, said: str) -> None:
    rows = [{"s": "a", "t": "select b from a", "database": {"a": ["b"]}}] * 24
    report = check_tasks([worlds.task("sql", rows, line=f"[TEXT:s] -> {slot}")], modalities())
    assert any(said in error.render() for error in report.errors), [e.render() for e in report.errors]


def test_each_turn_of_a_row_is_written_by_the_schema_of_the_whole_row() -> None:
    line = "[TEXT:src] -> ([TEXT:tgt,grammar=sql(database),max_length=20])*<over=turns,max=2>"
    rows = [{**row, "turns": [{"tgt": row["tgt"]}] * 2} for row in drawn(24)]
    made = worlds.task("sql", rows, line=line)
    assert not check_tasks([made], modalities()).errors
    model = worlds.generalist(worlds.ready([made]))
    asked = [Request("sql", row, row["id"], DecodeOptions("sample", seed=1)) for row in rows]
    turns = [(row, p.values["turns"]) for row, p in zip(rows, predict(model, asked), strict=True) if p is not None]
    assert sum(len(each) for _, each in turns) > 5
    for row, each in turns:
        for turn in each:
            right(row, turn["tgt"])
