"""What the keywords of a call mean, without a model."""

from typing import Any

import pytest

from ofasys_lite.cards import load_task_card, modalities
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CardError, DataError
from ofasys_lite.generalist.calls import (
    closed_line,
    columns_of,
    decode_options,
    learned_line,
    named_row,
    split_keywords,
)
from ofasys_lite.plan import Plan, build_plan

TYPES = list(modalities())


def plan(line: str) -> Plan:
    return build_plan(load_task_card({"instruction": line}, name="t"), modalities())


@pytest.mark.parametrize(
    ("line", "columns"),
    [
        ("[IMAGE:img] what? [TEXT:q] -> [TEXT:a]", ["img", "q"]),
        ("[TEXT:a] [TEXT:a?] -> [TEXT:b]", ["a"]),
        ("[TEXT:s] -> can [TEXT:s,no_loss] [TEXT:hint,no_loss]? [TEXT:l]", ["s", "hint"]),
        ("[TEXT:q] -> [TEXT:a,closed_set=@choices]", ["q", "choices"]),
        ("([TEXT:t] [TEXT:u])*<over=events> -> [TEXT:a]", ["events"]),
        ("([TEXT:t] [TEXT:u])* -> [TEXT:a]", ["t", "u"]),
        ("[IMAGE:img] -> ([BOX:box] [TEXT:label])*<over=objects>", ["img"]),
        ("[AUDIO:wav,loss=ctc(text)] -> [TEXT:text]", ["wav"]),
        ("-> [TEXT:a]", []),
    ],
)
def test_the_columns_a_call_needs_are_those_that_are_read(line: str, columns: list[str]) -> None:
    assert list(columns_of(plan(line))) == columns


def test_a_keyword_is_a_column_before_it_is_an_option() -> None:
    assert split_keywords(plan("[TEXT:seed] -> [TEXT:a]"), {"seed": "x", "beam": 2}) == ({"seed": "x"}, {"beam": 2})


def test_a_column_that_stands_twice_may_be_absent_only_if_both_places_say_so() -> None:
    assert not columns_of(plan("[TEXT:a?] [TEXT:a] -> [TEXT:b]"))["a"].optional
    assert columns_of(plan("[TEXT:a?] [TEXT:a?] -> [TEXT:b]"))["a"].optional


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("[TEXT:a]  is\n-> [TEXT:b]", ("first", 0)),
        ("[TEXT:a] is -> [TEXT:b] ||| say [TEXT:a] -> [TEXT:b]", ("first", 0)),
        ("say [TEXT:a] -> [TEXT:b]", ("first", 1)),
        ("[TEXT:q] -> [TEXT:b]", ("second", 0)),
        ("[TEXT:a] was -> [TEXT:b]", None),
    ],
)
def test_a_learned_line_is_found_by_what_it_says(line: str, found: tuple[str, int] | None) -> None:
    lines = {"first": "[TEXT:a] is -> [TEXT:b] ||| say [TEXT:a] -> [TEXT:b]", "second": "[TEXT:q] -> [TEXT:b]"}
    assert learned_line(line, lines, frozenset(TYPES)) == found


def test_a_near_option_is_offered_beside_near_columns() -> None:
    with pytest.raises(DataError) as error:
        split_keywords(plan("[TEXT:q] -> [TEXT:a]"), {"baem": 2})
    assert "did you mean `beam`?" in str(error.value)


def test_a_nested_column_is_given_by_its_record() -> None:
    made = plan("[TEXT:item.title] -> [TEXT:a]")
    row, _ = split_keywords(made, {"item": {"title": "x"}})
    assert named_row(made, (), row) == {"item": {"title": "x"}}
    with pytest.raises(DataError, match=r"`item\.title` is not given"):
        named_row(made, (), {"item": {"name": "x"}})


@pytest.mark.parametrize(
    ("card", "given", "options"),
    [
        ({"beam": 4, "n_best": 2}, {}, None),
        ({"beam": 4}, {"beam": 1}, DecodeOptions()),
        ({"method": "beam", "beam": 4}, {"length_penalty": 0.5}, DecodeOptions("beam", 4, length_penalty=0.5)),
        ({"beam": 4, "n_best": 4}, {"method": "sample", "seed": 3}, DecodeOptions("sample", seed=3)),
        ({"method": "sample", "top_k": 5}, {"beam": 2}, DecodeOptions("beam", 2, top_k=5)),
        ({"max_length": 9}, {"min_length": 2}, DecodeOptions(min_length=2, max_length=9)),
    ],
)
def test_what_is_given_goes_before_the_card(card: Any, given: Any, options: DecodeOptions | None) -> None:
    assert decode_options(plan("[TEXT:q] -> [TEXT:a]"), card, given) == options


def test_another_way_takes_nothing_of_the_lines_options_that_it_has_not() -> None:
    line = "[TEXT:q] -> [IMAGE:a,codec=dnd(judges=0.3),decode={way}]"
    rounds = plan(line.format(way="mask_predict(steps=8,patience=2)"))
    found = decode_options(rounds, {}, {"steps": 3})
    assert found == DecodeOptions("mask_predict", steps=3, patience=2)
    drawn = plan("[TEXT:q] -> [IMAGE:a,decode=sample(top_k=5)]")
    assert decode_options(drawn, {}, {"method": "greedy"}) == DecodeOptions("greedy")
    assert decode_options(drawn, {"top_p": 0.5}, {"seed": 3}) == DecodeOptions("sample", top_k=5, top_p=0.5, seed=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"temperature": 0.5}, "`temperature` does nothing: greedy of codes has none"),
        ({"steps": 4}, "`steps` does nothing: greedy of codes has none"),
        ({"method": "beam"}, "`beam` does not write codes"),
        ({"method": "grdy"}, "did you mean `greedy`"),
        ({"top_k": -1, "method": "sample"}, "top_k is -1"),
    ],
)
def test_what_the_line_has_no_use_for_is_told_by_a_call(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=message):
        decode_options(plan("[TEXT:q] -> [IMAGE:a]"), {}, given)


def test_a_closed_set_is_written_into_every_paraphrase() -> None:
    line = "[TEXT:q] a? -> [TEXT:l,closed_set,max_length=5] ||| [TEXT:q] b? -> [TEXT:l,closed_set,max_length=5]"
    assert closed_line(line, ["yes", 'a "b"'], TYPES) == (
        '[TEXT:q] a? -> [TEXT:l,max_length=5,closed_set=("yes","a \\"b\\"")] ||| '
        '[TEXT:q] b? -> [TEXT:l,max_length=5,closed_set=("yes","a \\"b\\"")]'
    )


def test_a_closed_set_of_one_column_leaves_the_others_and_what_is_forced() -> None:
    line = "[TEXT:q] -> [TEXT:q,no_loss] [TEXT:a] ;; ([BOX:box] [TEXT:l])*<over=o>"
    closed = closed_line(line, {"l": {"b", "a"}}, TYPES)
    assert closed == '[TEXT:q] -> [TEXT:q,no_loss] [TEXT:a] ;; ([BOX:box] [TEXT:l,closed_set=("a","b")])*<over=o>'
    with pytest.raises(CardError, match="the line writes 3 columns"):
        closed_line(line, ["a"], TYPES)
    with pytest.raises(CardError, match="the line does not write `q`"):
        closed_line(line, {"q": ["a"]}, TYPES)
