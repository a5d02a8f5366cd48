"""Every bad line of the table gives exactly its message; places lead through files, literal blocks and wide text."""

from __future__ import annotations

import re

import pytest
from instruction_lines import error_table_maker

from ofasys_lite.errors import InstructionError, InstructionErrors
from ofasys_lite.instruction import Origin, parse, place_of
from ofasys_lite.instruction.syntax_tree import Slot, Span

MAKER = error_table_maker()
BAD = MAKER.read_bad_lines()


def errors_of(line: str, **where: object) -> list[InstructionError]:
    with pytest.raises(InstructionError) as caught:
        parse(line, **where)  # type: ignore[arg-type]
    error = caught.value
    return (
        [e for e in error.errors if isinstance(e, InstructionError)]
        if isinstance(error, InstructionErrors)
        else [error]
    )


@pytest.mark.parametrize("bad", BAD, ids=[f"{number}-{'-'.join(bad.codes)}" for number, bad in enumerate(BAD)])
def test_a_bad_line_gives_exactly_this_message(bad: object) -> None:
    with pytest.raises(InstructionError) as caught:
        parse(bad.line)  # type: ignore[attr-defined]
    assert caught.value.render() == bad.message  # type: ignore[attr-defined]
    assert tuple(dict.fromkeys(e.code for e in errors_of(bad.line))) == bad.codes  # type: ignore[attr-defined]


def test_the_table_has_more_than_sixty_lines_and_shows_every_code() -> None:
    assert len(BAD) >= 60
    assert len({bad.line for bad in BAD}) == len(BAD)
    assert {code for bad in BAD for code in bad.codes} == set(MAKER.codes("E0"))


def test_the_error_table_of_the_docs_is_up_to_date() -> None:
    assert MAKER.main(["--check"]) == 0, "run: python docs/make_language_errors.py"


PAGE = MAKER.PAGE.read_text(encoding="utf-8").partition(MAKER.BEGIN)[0]


def test_every_line_shown_on_the_language_page_parses() -> None:
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if line.startswith("    ")]
    assert len(lines) >= 9
    for line in lines:
        parse(line)


def test_the_code_of_the_language_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "language.md", "exec"), {})
    assert "did you mean `IMAGE`?" in capsys.readouterr().out


def test_a_misspelt_type_is_refused_with_the_nearest_name() -> None:
    (error,) = errors_of("[TXET:a] -> [TEXT:b]")
    assert error.help.startswith("did you mean `TEXT`?")


def test_a_type_of_a_users_card_is_known_when_it_is_passed_and_offered_when_misspelt() -> None:
    slot = parse("[MOLECULE:m] -> [TEXT:name]", types={"MOLECULE"}).templates[0].source.nodes[0]
    assert isinstance(slot, Slot)
    assert slot.type == "MOLECULE"
    (error,) = errors_of("[MOLECUL:m] -> [TEXT:name]", types=["MOLECULE"])
    assert error.help.startswith("did you mean `MOLECULE`?")
    assert errors_of("[MOLECULE:m] -> [TEXT:name]")[0].code == "E011"


def test_all_errors_of_a_line_come_at_once_in_the_order_of_the_text() -> None:
    errors = errors_of("[IMGE:img] [TEXT:] {x} -> ([TEXT:a]){5,2} [TEXT:b,k=(1,] ;; ||| what")
    assert [e.code for e in errors] == ["E011", "E014", "E028", "E023", "E009", "E002"]
    columns = [e.place.column for e in errors if e.place]
    assert columns == sorted(columns)


def test_an_unclosed_slot_does_not_swallow_the_slots_after_it() -> None:
    errors = errors_of("[IMAGE:img what is it? -> [TEXT:a,] [IMGE:b]")
    assert [e.code for e in errors] == ["E013", "E019", "E011"]


def test_text_typed_by_hand_shows_the_line_and_no_header() -> None:
    assert errors_of("[IMGE:img] -> [TEXT:a]")[0].render().splitlines()[1:3] == ["  [IMGE:img] -> [TEXT:a]", "   ^^^^"]


def test_a_file_without_an_origin_is_named() -> None:
    assert errors_of("[IMGE:img] -> [TEXT:a]", file="lines.txt")[0].render().splitlines()[1] == "  lines.txt:1:2"


LITERAL = "[IMAGE:img] what is it?\n-> [TEXT:cap]\n||| describe [IMGE:img]\n  -> [TEXT:cap]\n"


def test_in_a_literal_block_the_place_is_that_of_the_file_and_the_shown_text_the_physical_line() -> None:
    origin = Origin("tasks/caption.yaml", line=4, column=5, indent=4)
    place = errors_of(LITERAL, origin=origin)[0].place
    assert place is not None
    assert place.header() == "tasks/caption.yaml:6:19"
    assert place.text == "||| describe [IMGE:img]"
    assert place.text[place.column - 1 :][: place.width] == "IMGE"


def test_an_origin_that_is_not_exact_tells_the_line_only_and_still_marks_the_text() -> None:
    origin = Origin("tasks/caption.yaml", line=4, column=16, exact=False)
    place = errors_of(LITERAL, origin=origin)[0].place
    assert place is not None
    assert place.header() == "tasks/caption.yaml:4"
    assert place.carets().strip() == "^^^^"


def test_a_one_line_scalar_counts_from_its_first_character() -> None:
    text = "[IMAGE:img] -> [TEXT:cap]"
    place = place_of(text, Span(0, 11), Origin("a.yaml", line=2, column=15))
    assert (place.header(), place.column, place.width) == ("a.yaml:2:15", 1, 11)


def test_a_span_over_a_line_break_is_marked_up_to_the_end_of_its_first_line() -> None:
    place = place_of("ab cd\r\nef", Span(3, 9))
    assert (place.line, place.column, place.text, place.width) == (1, 4, "ab cd", 2)


def test_tabs_and_control_characters_do_not_move_the_carets() -> None:
    place = place_of("a\tb\x1b[IMGE", Span(5, 9))
    assert place.text == "a b [IMGE"
    assert place.carets() == "     ^^^^"


def test_a_place_past_the_end_marks_the_end() -> None:
    place = place_of("ab", Span(7, 9))
    assert (place.column, place.width) == (3, 1)
