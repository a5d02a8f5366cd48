"""Triplets and tables in one line of text; triplets written are read back, whatever is legal."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from random_walks import random_walk

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError, InstructionError
from ofasys_lite.metrics import evaluate_metric
from ofasys_lite.plan.attribute_values import CallValue
from ofasys_lite.preprocess.base import READ, Context, RowContext
from ofasys_lite.preprocess.flat import table, triplets
from ofasys_lite.preprocess.struct import StructPreprocess
from ofasys_lite.preprocess.vocabulary import Vocabulary, train_pieces

TOOL = StructPreprocess(Context({"max_length": 128}, Vocabulary(train_pieces(["Rome capital of Italy"] * 3, 300))))
WRITTEN = RowContext("target")
FACTS = [["Rome", "capital of", "Italy"], ["a : b | c", "is", "1"]]
GAMES = {"caption": "Games", "header": ["team", "goals"], "rows": [["A", 2], ["B", 0.5]]}


def read(value: Any, schema: str, **keyed: Any) -> str:
    piece = TOOL.encode(value, (("schema", CallValue(schema, (), tuple(keyed.items()))),), READ)
    return TOOL.vocabulary.decode(piece.arrays["ids"].tolist())


def test_triplets_are_read_as_ofasys_writes_them() -> None:
    wanted = "Rome : capital of : Italy | Rome : in : 1"
    records = [
        {"subject": "Rome", "relation": "capital of", "object": "Italy"},
        {"head": "Rome", "property": "in", "tail": 1},
    ]
    for value in ([["Rome", "capital of", "Italy"], ("Rome", "in", 1)], records, wanted):
        assert read(value, "triplets") == wanted


@pytest.mark.parametrize(
    ("value", "by", "text"),
    [
        (GAMES, "row", "[table name] Games [table head] team : goals [table content] A : 2 | B : 0.5"),
        (GAMES, "column", "[table name] Games [table content] team : A : B | goals : 2 : 0.5"),
        ([{"a": 1, "b": "x"}, {"a": 2, "c": None}], "row", "[table head] a : b : c [table content] 1 : x :  | 2 :  : "),
        ([["a", "b"], ["c"]], "column", "[table content] a : c | b"),
        (
            {"table_name": "n", "table_head": "a : b", "table_content": [["1", "2"]]},
            "row",
            "[table name] n [table head] a : b [table content] 1 : 2",
        ),
    ],
)
def test_tables_are_one_line_by_row_or_by_column(value: Any, by: str, text: str) -> None:
    assert read(value, "table", by=by) == text


def test_what_is_too_long_loses_whole_rows_and_triplets() -> None:
    many = {"header": ["n"], "rows": [[i] for i in range(100)]}
    text = read(many, "table")
    assert text.startswith("[table head] n [table content] 0 | 1 | 2")
    assert text.split(" | ")[-1] == str(text.count(" | "))
    facts = read([["Rome", "of", "Italy"]] * 50, "triplets")
    assert 1 < facts.count("Rome") == facts.count("Italy") < 50


def test_triplets_are_written_and_read_back() -> None:
    options = (("schema", CallValue("triplets")),)
    ids = TOOL.encode(FACTS, options, WRITTEN).arrays["ids"]
    automaton = compile(TOOL.constraint(options, WRITTEN))
    assert automaton.accepts(ids)
    assert TOOL.decode(ids, options, WRITTEN) == FACTS
    for seed in range(20):
        walked = random_walk(automaton, np.random.default_rng(seed), 8 + seed)
        assert len(walked) <= 8 + seed
        found = TOOL.decode(np.array(walked), options, WRITTEN)
        assert found
        assert all(len(parts) == 3 for parts in found)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "there are no triplets"),
        ("", "there are no triplets"),
        (3, "triplets are a list; found int"),
        ([["a", "b"]], "triplet 1 has 2 parts"),
        ([["a", "b", "c"], {"x": 1}], "triplet 2 has an empty part"),
        ([["a", "", "c"]], "triplet 1 has an empty part"),
        ([["a", ["b"], "c"]], "triplet 1 has an empty part"),
        ("a : b", "triplet 1 has 2 parts"),
    ],
)
def test_what_is_no_triplet_is_told(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        triplets(value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "the table holds nothing"),
        ("text", "a table has a list of rows; found str"),
        ({"header": ["a"]}, "a table has a list of rows"),
        ({"header": ["a"], "rows": [[1, 2]]}, "row 1 of the table has 2 cells, its head 1"),
        ([[1], 2], "row 2 of the table is int"),
        ([[[1]]], "a cell of the table is list"),
    ],
)
def test_what_is_no_table_is_told(value: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        table(value)


def test_a_target_is_not_cut_and_a_table_not_written() -> None:
    with pytest.raises(DataError, match="max_length=128 is the most"):
        TOOL.encode([["Rome", "of", "Italy"]] * 50, (("schema", CallValue("triplets")),), WRITTEN)
    with pytest.raises(DataError, match="schema=table is read, not written"):
        TOOL.check(GAMES, (("schema", CallValue("table")),), {}, WRITTEN)
    for call, said in (
        (CallValue("table", ("cell",)), "table takes by=row or by=column"),
        (CallValue("table", (), (("of", "row"),)), "table takes by=row or by=column"),
        (CallValue("triplets", (3,)), "schema `triplets` takes no arguments"),
    ):
        with pytest.raises(InstructionError, match=said):
            TOOL.check_options((("schema", call),), {})


def test_triplets_are_scored_as_sets() -> None:
    wanted = [[["Rome", "capital of", "Italy"], ["Rome", "in", "Europe"]], [["a", "b", "c"]]]
    said = [[["rome", "Capital  of", "italy"], ["rome", "capital of", "italy"], ["x", "y", "z"]], [["a", "b", "c"]]]
    # 2 hits, 1 too many, 1 missed: a triplet written twice counts once
    assert evaluate_metric("triplet_f1", said, wanted).value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert evaluate_metric("triplet_f1", wanted, wanted).value == 1.0
    assert evaluate_metric("triplet_f1", ["words", ""], wanted).value == 0.0
