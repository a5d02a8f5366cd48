"""parse(unparse(tree)) == tree for lines, for random trees and for random text; slips raise nothing but errors."""

from __future__ import annotations

import pickle
import random
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from instruction_lines import good_lines, mutate
from instruction_trees import MARKS, trees

from ofasys_lite.errors import ErrorGroup, InstructionError, InstructionErrors
from ofasys_lite.instruction import parse, unparse
from ofasys_lite.instruction.syntax_tree import Instruction

SLOW_TO_DRAW = [HealthCheck.too_slow, HealthCheck.filter_too_much]


def check_fixed_point(tree: Instruction) -> None:
    text = unparse(tree)
    again = parse(text)
    assert again == tree
    assert unparse(again) == text


@pytest.mark.parametrize("line", good_lines())
def test_a_line_of_the_language_parses_and_its_canonical_form_is_a_fixed_point(line: str) -> None:
    tree = parse(line)
    assert tree.text == line
    check_fixed_point(tree)


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW_TO_DRAW, derandomize=True)
@given(trees)
def test_a_random_tree_is_read_back_from_its_canonical_text(tree: Instruction) -> None:
    check_fixed_point(tree)


@pytest.mark.slow
@settings(max_examples=3_000, deadline=None, suppress_health_check=SLOW_TO_DRAW)
@given(trees)
def test_many_random_trees_are_read_back_from_their_canonical_text(tree: Instruction) -> None:
    check_fixed_point(tree)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from([*MARKS, "[TEXT:a]", "[TEXT:a", " -> ", "(", ")*"]), max_size=30).map("".join))
def test_text_made_of_marks_parses_to_a_fixed_point_or_is_refused(text: str) -> None:
    try_line(text)


def try_line(line: str) -> bool:
    """Whether the line parsed; then it has been held to the fixed point, else to a well-formed error."""
    try:
        tree = parse(line)
    except InstructionError as caught:
        check_error(caught, line)
        return False
    check_fixed_point(tree)
    return True


def check_error(error: InstructionError, line: str) -> None:
    single = error.errors if isinstance(error, InstructionErrors) else (error,)
    for each in single:
        assert each.code.startswith("E0")
        assert each.place is not None
        assert each.help
        assert 1 <= each.place.column <= len(each.place.text or line) + 1
    assert error.render().startswith("error[E0")


def parsed_among_mutations(number: int, seed: int) -> int:
    rng = random.Random(seed)
    lines = good_lines()
    return sum(try_line(mutate(rng.choice(lines), rng)) for _ in range(number))


def test_3_000_mutated_lines_raise_nothing_but_instruction_errors() -> None:
    parsed = parsed_among_mutations(3_000, seed=1)
    assert 300 < parsed < 2_700  # both outcomes are exercised


@pytest.mark.slow
def test_100_000_mutated_lines_raise_nothing_but_instruction_errors() -> None:
    parsed = parsed_among_mutations(100_000, seed=2)
    assert 10_000 < parsed < 90_000


PATTERNS = [
    *(
        "(",
        ")",
        "[",
        "]",
        "([",
        "(]",
        "[)",
        "(|",
        "|",
        "*",
        "-",
        "<",
        ">",
        "{",
        "\\",
        '"',
        " ",
        "\n",
        "[ ",
        "[a",
        "[a ",
    ),
    *(
        "[TEXT:",
        "[TEXT:a",
        "[TEXT:a]",
        "[TEXT:a]*",
        "([TEXT:a]",
        "([TEXT:a])*<",
        "([TEXT:a])*<a",
        "[TEXT:a]{",
        ")*",
        "](",
    ),
    *(
        "[TEXT:a,x=(",
        "[TEXT:a,x=f(",
        "[TEXT:a,x=(1,",
        '[TEXT:"',
        "[TEXT:'",
        '[TEXT:\\"',
        '[TEXT:"\\"',
        "->",
        "<->",
        ";;",
    ),
    *(
        "|||",
        "x->y",
        "é",
        "[é：",
        ")*[TEXT:a]",
        "[[TEXT:a]",
        "([TEXT:a]|",
        "-->",
        "[sic]",
        "a.",
        "[TEXT:a.",
        "[TEXT:a-",
    ),
    *("[TEXT:a,b=c,", "\u0301", "[TEXT:a b ", "[TEXT:a->", "([TEXT:a])*<x y"),
]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("around", ["{}", "[TEXT:q] {} -> [TEXT:a]", "[TEXT:q,x={}", "( [TEXT:q] -> {})*"])
def test_long_hostile_text_costs_no_more_than_its_length(pattern: str, around: str) -> None:
    # a quadratic step over 50,000 characters would take minutes, which the run as a whole would show
    line = around.replace("{}", pattern * (50_000 // len(pattern)))
    with suppress(InstructionError):
        unparse(parse(line))


def test_deep_nesting_is_an_error_and_no_crash() -> None:
    for line in (
        "(" * 10_000 + "[TEXT:a]" + ")*" * 10_000 + " ->",
        "[TEXT:a,x=" + "f(" * 10_000 + ")" * 10_000 + "] ->",
    ):
        with pytest.raises(InstructionError) as caught:
            parse(line)
        assert "E025" in caught.value.render()


def test_several_errors_are_one_instruction_error_and_one_group_and_survive_pickling() -> None:
    with pytest.raises(InstructionError) as caught:
        parse("[image:img] -> [TEXT:b,,c]")
    error = caught.value
    assert isinstance(error, InstructionErrors)
    assert isinstance(error, ErrorGroup)
    assert [each.code for each in error.errors] == ["E011", "E019"]
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InstructionErrors
    assert again.render() == error.render()
