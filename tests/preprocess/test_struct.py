"""STRUCT: what is written is read back, and whatever the grammar allows can be read."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_walks import random_walk

from ofasys_lite.decoding.automaton import compile
from ofasys_lite.errors import DataError, InstructionError
from ofasys_lite.instruction import parse
from ofasys_lite.instruction.syntax_tree import Slot
from ofasys_lite.plan.attribute_values import plain
from ofasys_lite.plan.segments import Options
from ofasys_lite.preprocess.base import READ, Context, RowContext
from ofasys_lite.preprocess.schemas import read_schema
from ofasys_lite.preprocess.struct import StructPreprocess
from ofasys_lite.preprocess.vocabulary import Vocabulary, train_pieces

SETTINGS = {"max_length": 4096, "depth": 16}
WRITTEN = RowContext("target", train=True)
MODEL = train_pieces(["select name from films where year = 12;", "the red light is on", "abcdefgh xyz"] * 3, 300)
GRID = "grid(rows=2,columns=3,values=(1,2,x))"
RECORD = "record(intent=(on,off,2),name=text,level=number,loud=flag,items=list,extra=json,optional=(level,name))"


def _options(schema: str = "json", **more: Any) -> Options:
    (template,) = parse(f"a -> [STRUCT:x,schema={schema}]").templates
    slot = template.targets[0].nodes[0]
    assert isinstance(slot, Slot)
    return (*sorted({"schema": plain(slot.attributes[0].value), **more}.items()),)  # type: ignore[arg-type]


def _tool(*schemas: str, **changes: Any) -> StructPreprocess:
    vocabulary = Vocabulary(MODEL, bins=10)
    for schema in schemas:
        vocabulary = vocabulary.extended(StructPreprocess.declare(None, _options(schema), SETTINGS))
    return StructPreprocess(Context({**SETTINGS, **changes}, vocabulary))


def _round(tool: StructPreprocess, value: Any, options: Options, known: RowContext = WRITTEN) -> Any:
    piece = tool.encode(value, options, known)
    automaton = compile(tool.constraint(options, WRITTEN))
    ids = piece.arrays["ids"]
    states = automaton.walk(ids)
    assert automaton.done(states[-1])
    assert piece.positions_P3.tolist() == [list(automaton.position(s)) for s in states[:-1]]
    if piece.learn_P is not None:
        # every choice is learned
        assert all(piece.learn_P[i] for i, s in enumerate(states[:-1]) if automaton.choices(s))
    return tool.decode(ids, options, WRITTEN)


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\u2581"), max_size=12)
SCALARS = st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    SCALARS | TEXT, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
JSON_TOOL = _tool()


@settings(max_examples=150, deadline=None)
@given(VALUES.filter(lambda v: not (isinstance(v, str) and v.lstrip()[:1] in ("{", "["))))
def test_every_json_value_is_read_back_as_it_was(value: Any) -> None:
    found = _round(JSON_TOOL, value, _options())
    assert json.dumps(found) == json.dumps(value)  # json tells 1, 1.0 and true apart


def test_json_as_text_is_read_as_json() -> None:
    assert _round(JSON_TOOL, ' {"a": [1, 2.50, null]}', _options()) == {"a": [1, 2.5, None]}
    assert _round(JSON_TOOL, "12", _options()) == "12"
    assert _round(JSON_TOOL, b'["x"]', _options()) == ["x"]


def test_arrays_and_tuples_become_lists() -> None:
    assert _round(JSON_TOOL, {"a": np.arange(3), "b": (np.float64(0.5), True), 3: "x"}, _options()) == {
        "a": [0, 1, 2],
        "b": [0.5, True],
        "3": "x",
    }


@pytest.mark.parametrize("most", [1, 2, 3, 12, 60, 400])
def test_a_thousand_random_outputs_of_the_grammar_all_parse(most: int) -> None:
    tool, options = _tool(max_length=most, depth=4), _options()
    automaton = compile(tool.constraint(options, WRITTEN))
    for seed in range(170):
        ids = np.array(random_walk(automaton, np.random.default_rng(seed)))
        assert len(ids) <= most
        value = tool.decode(ids, options, WRITTEN)
        assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize("schema", [GRID, RECORD, "grid(9,9)", "record(a,b)"])
def test_random_outputs_of_every_schema_are_values_of_the_schema(schema: str) -> None:
    tool, options = _tool(schema, max_length=40), _options(schema)
    automaton = compile(tool.constraint(options, WRITTEN))
    for seed in range(100):
        value = tool.decode(np.array(random_walk(automaton, np.random.default_rng(seed))), options, WRITTEN)
        tool.check(value, options, SETTINGS)
        json.dumps(value, allow_nan=False)


def test_a_grid_is_one_id_a_cell_at_its_row_and_column() -> None:
    tool = _tool(GRID)
    piece = tool.encode([[1, 0, "x"], [2, None, ""]], _options(GRID), READ)
    names = [tool.vocabulary.name(i) for i in piece.arrays["ids"]]
    assert names == ["cell:1", "<cell>", "cell:x", "cell:2", "<cell>", "<cell>"]
    assert piece.positions_P3.tolist() == [[0, r, c] for r in range(2) for c in range(3)]
    assert tool.rows_of((1000,), _options(GRID)) == 6


@pytest.mark.parametrize("value", [[[1, 2, "x"], ["x", 1, 1]], "12x/x11", ["12x", "x11"], "1 2 x / x 1 1", "12xx11"])
def test_a_grid_may_be_rows_or_text(value: Any) -> None:
    assert _round(_tool(GRID), value, _options(GRID)) == [[1, 2, "x"], ["x", 1, 1]]


def test_blank_cells_of_a_target_need_the_line_to_say_so() -> None:
    with pytest.raises(DataError, match="blank=true"):
        _round(_tool(GRID), [[1, 0, 1], [1, 1, 1]], _options(GRID))
    blank = GRID[:-1] + ",blank=true)"
    assert _round(_tool(blank), [[1, 0, 1], [1, 1, 1]], _options(blank)) == [[1, None, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2, 3], [1, 1, 1]], "a cell of the grid is 3"),
        ([[1, 2], [1, 1]], "has a row of 2 cells"),
        ([1, 2], "2 rows of 3 cells; found 2 elements"),
        (5, "a grid is a list of rows; found int"),
    ],
)
def test_a_value_that_is_no_such_grid_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        StructPreprocess.check(value, _options(GRID), SETTINGS)
    with pytest.raises(DataError, match=message):
        _tool(GRID).encode(value, _options(GRID), WRITTEN)


FULL = {"intent": "on", "name": "the lamp", "level": -1.5, "loud": True, "items": [1, "a"], "extra": {"k": None}}


@pytest.mark.parametrize("change", [{}, {"intent": 2}, {"level": None}, {"name": None, "level": 7}, {"extra": "x"}])
@pytest.mark.parametrize("declared", [True, False])
def test_a_record_is_read_back_without_its_missing_keys(change: dict[str, Any], declared: bool) -> None:
    tool = _tool(RECORD) if declared else _tool()
    value = {**FULL, **change}
    assert _round(tool, value, _options(RECORD)) == {k: v for k, v in value.items() if v is not None}


def test_what_the_schema_alone_decides_carries_no_loss() -> None:
    schema = "record(level=number,kind=(only))"
    piece = _tool(schema).encode({"level": 7, "kind": "only"}, _options(schema), WRITTEN)
    assert piece.learn_P is not None
    assert piece.learn_P.tolist() == [False, True, True, False]


def test_a_closed_value_of_a_record_is_one_declared_row() -> None:
    tool = _tool("record(intent=(on,off))")
    piece = tool.encode({"intent": "off"}, _options("record(intent=(on,off))"), WRITTEN)
    assert [tool.vocabulary.name(i) for i in piece.arrays["ids"]] == ["=off"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"intent": "of"}, "did you mean `off`"),
        ({"level": "7"}, "`level` is '7'\n  help: the schema says number"),
        ({"level": True}, "the schema says number"),
        ({"loud": 1}, "the schema says flag"),
        ({"intnt": "on"}, "key `intnt` is not in the schema\n  help: did you mean `intent`"),
        ({"items": {}}, "the schema says list"),
    ],
)
def test_a_record_that_does_not_fit_its_schema_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        StructPreprocess.check({**FULL, **change}, _options(RECORD), SETTINGS)
    with pytest.raises(DataError, match=message):
        _tool(RECORD).encode({**FULL, **change}, _options(RECORD), WRITTEN)


def test_a_missing_key_is_refused_unless_it_is_optional() -> None:
    with pytest.raises(DataError, match=r"lacks the key `loud`.*\n.*optional=\(loud\)"):
        StructPreprocess.check({k: v for k, v in FULL.items() if k != "loud"}, _options(RECORD), SETTINGS)
    StructPreprocess.check({k: v for k, v in FULL.items() if k != "level"}, _options(RECORD), SETTINGS)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("gird(2,2)", "schema `gird` is not known"),
        ("grid(2)", "grid needs columns"),
        ("grid(0,2)", "grid's rows is 0"),
        ("grid(2,2,vals=(1,2))", "no argument `vals`\n  help: did you mean `values`"),
        ("grid(2,2,values=(1,1))", "the value `1` stands twice"),
        ("grid(2,2,blank=maybe)", "blank is `maybe`"),
        ("grid(2,2,rows=3)", "grid has `rows` twice"),
        ("grid(2,2,3)", "the rest is named"),
        ("record()", "record has no keys"),
        ("record(a=txt)", "`a` cannot be `txt`\n  help: did you mean `text`"),
        ("record(a,a=text)", "the key `a` stands twice"),
        ("record(a,optional=(b))", "optional names `b`"),
        ("record(a=(x,x))", "the value `x` stands twice"),
        ("json(1)", "takes no arguments"),
    ],
)
def test_a_wrong_schema_is_refused_with_what_is_allowed(schema: str, message: str) -> None:
    call = dict(_options(schema))["schema"]
    with pytest.raises(InstructionError, match=message):
        read_schema(call)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ('{"a": 1', "begins like JSON and is not"),
        (math.nan, "nan is not JSON"),
        ({"a": math.inf}, "inf is not JSON"),
        ("\ud800", "surrogate"),
        ({1: 2, "1": 3}, "the key `1` twice"),
        ({None: 2}, "has the key None"),
        (object(), "found object"),
        ("[" * 100_000, "JSON"),
        ("[" * 70 + "]" * 70, "nested deeper than 64"),
        (10**500, "more than 400 digits"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_what_is_no_json_is_refused(value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        JSON_TOOL.encode(value, _options(), WRITTEN)
    with pytest.raises(DataError, match=message):
        StructPreprocess.check(value, _options(), SETTINGS)


def test_nesting_beyond_the_depth_is_refused() -> None:
    with pytest.raises(DataError, match="nested too deeply"):
        _tool(depth=2).encode([[[1]]], _options(), WRITTEN)


def test_a_long_table_of_a_source_loses_whole_records_at_the_end() -> None:
    table = {"name": "films", "rows": [{"title": f"film {i}", "year": 1900 + i} for i in range(50)]}
    found = _round(_tool(), table, _options(max_length=300), READ)
    assert found["name"] == "films"
    kept = found["rows"]
    assert 3 < len(kept) < 50
    assert kept == table["rows"][: len(kept)]


@settings(max_examples=100, deadline=None)
@given(VALUES.filter(lambda v: not isinstance(v, str)), st.integers(1, 60))
def test_a_cut_value_is_legal_and_fits(value: Any, most: int) -> None:
    options = _options(max_length=most)
    assert len(JSON_TOOL.encode(value, options, READ).arrays["ids"]) <= most
    _round(JSON_TOOL, value, options, READ)


def test_a_target_that_would_be_cut_is_refused_and_one_that_just_fits_is_whole() -> None:
    value = {"name": "red", "items": [1, 2, 3]}
    length = len(JSON_TOOL.encode(value, _options(), WRITTEN).arrays["ids"])
    assert _round(JSON_TOOL, value, _options(max_length=length)) == value
    with pytest.raises(DataError, match=f"the value has {length} tokens, and max_length={length - 1} is the most"):
        JSON_TOOL.encode(value, _options(max_length=length - 1), WRITTEN)


@pytest.mark.parametrize("key", ["name", "items"])
def test_a_record_with_a_field_that_would_be_cut_is_refused_as_a_target_only(key: str) -> None:
    tool = _tool(RECORD)
    record = {"intent": "on", "name": "red", "loud": True, "items": [], "extra": None}
    record[key] = "the red light " * 40 if key == "name" else ["the red light is on"] * 40
    with pytest.raises(DataError, match=f"`{key}` has .* tokens, and max_length="):
        tool.encode(record, _options(RECORD, max_length=70), WRITTEN)
    assert tool.encode(record, _options(RECORD, max_length=70), RowContext(train=True)).count < 200


def test_uncased_lowers_keys_and_texts() -> None:
    assert _round(JSON_TOOL, {"Name": ["ABC", 1]}, _options(uncased=True)) == {"name": ["abc", 1]}


def test_texts_are_all_keys_and_strings() -> None:
    assert list(StructPreprocess.texts('{"a": ["b", {"c": 1}], "d": "e"}')) == ["a", "b", "c", "d", "e"]


def test_numbers_are_spelt_a_character_an_id() -> None:
    ids = JSON_TOOL.encode(-12.5, _options(), WRITTEN).arrays["ids"]
    assert len(ids) == 7
    assert len(set(JSON_TOOL.linear.digits.values())) == 15


def test_a_number_beyond_floats_becomes_the_largest_float() -> None:
    c, d = JSON_TOOL.linear.controls, JSON_TOOL.linear.digits
    found = JSON_TOOL.decode(np.array([c["number"], *(d[x] for x in "-1e999"), c["close"]]), _options(), WRITTEN)
    assert found == -1.7976931348623157e308


def test_broken_ids_are_refused() -> None:
    c = JSON_TOOL.linear.controls
    for ids in ([c["list"]], [c["string"], 50], [c["end"]], [c["record"], c["true"]], [c["true"], c["true"]]):
        with pytest.raises(DataError, match="STRUCT"):
            JSON_TOOL.decode(np.array(ids), _options(), WRITTEN)
