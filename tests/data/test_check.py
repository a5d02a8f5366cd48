"""Check: lines against their data, every mistake at once, before torch is imported."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import resource
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from check_tables import CARDS, messages_of, report_of
from PIL import Image

from ofasys_lite.cards import ModalityCard, load_task_card
from ofasys_lite.commands import app
from ofasys_lite.data.check_tasks import check_tasks
from ofasys_lite.errors import ErrorGroup, OfasysError

HERE = Path(__file__).parent
MAKER = HERE.parents[1] / "docs" / "make_language_errors.py"


def _maker() -> ModuleType:
    if "make_language_errors" not in sys.modules:
        spec = importlib.util.spec_from_file_location("make_language_errors", MAKER)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["make_language_errors"] = module
        spec.loader.exec_module(module)
    return sys.modules["make_language_errors"]


BAD = _maker().read_bad_lines(HERE / "bad_data.txt")


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("bad", BAD, ids=[f"{number}-{'-'.join(bad.codes)}" for number, bad in enumerate(BAD)])
def test_a_line_that_does_not_fit_its_data_gives_exactly_these_messages(bad: object) -> None:
    line, _, rest = bad.line.partition("\n+++ ")  # type: ignore[attr-defined]
    name, _, content = rest.partition("\n")
    assert messages_of(line, name, content + "\n") == (bad.codes, bad.message)  # type: ignore[attr-defined]


def test_the_table_shows_every_code_of_check_but_those_of_cards_of_ones_own() -> None:
    assert {code for bad in BAD for code in bad.codes} == set(_maker().codes("E3")) - {"E310", "E312"}


def test_rows_that_fit_give_no_errors() -> None:
    rows = [{"q": "what?", "a": "yes", "n": 3, "tags": [{"t": "x"}], "opt": ""}] * 5
    line = "[TEXT:q] [TEXT:n] [TEXT:opt?] ([TEXT:t]){1,2}<over=tags> -> [TEXT:a,closed_set]"
    report = report_of(line, rows)
    assert report.errors == ()
    assert report.rows == {"line": 5}
    report.raise_errors()


def test_unused_columns_and_splits_made_by_rule_are_notes() -> None:
    report = report_of("[TEXT:q] -> [TEXT:a]", [{"q": "x", "a": "y", "other": 1, "id": "7"}])
    assert report.errors == ()
    assert "columns of list that are not used: other" in report.notes[-1]
    assert any("valid and test come from list, by sha1 of the sample id" in note for note in report.notes)


@pytest.mark.parametrize(("mark", "shown"), [(";", ";"), ("|", "|")])
def test_another_separator_is_recognized_where_columns_are_missing(mark: str, shown: str) -> None:
    Path("rows.csv").write_text(f"q{mark}a\n1{mark}2{mark}3\n")  # uneven: nothing is taken for granted
    (first, *_) = report_of("[TEXT:q] -> [TEXT:a]", "rows.csv").errors
    assert f'name the file so: {{path: rows.csv, separator: "{shown}"}}' in str(first)


def test_a_file_of_rows_without_a_line_is_told_where_it_stands(capsys: pytest.CaptureFixture[str]) -> None:
    Path("rows.csv").write_text("q,a\n1,2\n")
    assert app.main(["check", "rows.csv"]) == 1
    assert "rows follow a line or a task: '[TEXT:q] -> [TEXT:a]' rows.csv" in capsys.readouterr().err


def test_the_share_that_max_length_cuts_is_a_note() -> None:
    rows = [{"q": "one two three four" if i % 4 == 0 else "one", "a": "y"} for i in range(20)]
    report = report_of("[TEXT:q,max_length=3] -> [TEXT:a]", rows)
    assert report.errors == ()
    assert any("slot [TEXT:q]: max_length=3 cuts at least 25.0 % of the values" in note for note in report.notes)


def test_structures_above_max_length_are_told_as_cut_on_the_source_and_left_out_on_the_target() -> None:
    rows = [{"q": {"text": "one two three four" if i % 4 == 0 else "one"}} for i in range(20)]
    report = report_of("[STRUCT:q,max_length=3] -> [STRUCT:q,max_length=3]", rows)
    assert report.errors == ()
    text = "\n".join(report.notes)
    assert "slot [STRUCT:q]: max_length=3 cuts at least 25.0 % of the values" in text
    assert "slot [STRUCT:q]: max_length=3 refuses, and training leaves out, at least 25.0 % of the values" in text


def test_a_few_bad_rows_are_notes_where_they_are_tolerated_and_errors_where_not() -> None:
    rows = [{"q": "x", "a": "y"} for _ in range(30)] + [{"q": ["x"], "a": "y"}]
    card = load_task_card({"instruction": "[TEXT:q] -> [TEXT:a]", "data": {"train": rows}}, name="t")
    tolerant = check_tasks([card], CARDS)
    assert tolerant.errors == ()
    assert any("1 of 31 rows looked at). Training leaves such rows out." in note for note in tolerant.notes)
    assert [e.code for e in check_tasks([card], CARDS, tolerate=0.0).errors] == ["E302"]


def test_labels_of_valid_and_test_are_held_against_those_of_the_training_column() -> None:
    train = [{"q": "x", "a": label, "os": [{"b": label}]} for label in ("yes", "no")]
    valid = [{"q": "x", "a": "maybe", "os": [{"b": "yes"}, {"b": "never"}]}]
    line = "[TEXT:q] -> [TEXT:a,closed_set] ([TEXT:b,closed_set])*<over=os>"
    card = load_task_card({"instruction": line, "data": {"train": train, "valid": valid}}, name="t")
    errors = check_tasks([card], CARDS, tolerate=0.0).errors
    assert [e.code for e in errors] == ["E306", "E306"]
    assert "`maybe` is not in the closed set" in errors[0].message
    assert "`never` is not in the closed set" in errors[1].message
    assert check_tasks([card], CARDS, tolerate=0.0, scan=1).errors == ()


#: A modality that is written in a later version beside ours.
LATER = {**CARDS, "SCENE": ModalityCard("SCENE", {"default": ""}, {"default": ""}, writes="later")}


def test_all_mistakes_of_all_tasks_come_at_once() -> None:
    later = "[TEXT:q] -> [SCENE:a]"
    lines = {"a": "[TEXT:q,foo] -> [TEXT:a]", "b": "[TEXT:q] -> [TEXT:b]", "c": later}
    rows = [{"q": "x", "a": "y", "c": []}]
    cards = [load_task_card({"instruction": text, "data": {"train": rows}}, name=n) for n, text in lines.items()]
    report = check_tasks(cards, LATER)
    assert [e.code for e in report.errors] == ["E105", "E301", "E312"]
    with pytest.raises(ErrorGroup, match="3 errors"):
        report.raise_errors()


@pytest.mark.parametrize("line", ["[TEXT:q] -> [SCENE:a]"])
def test_what_cannot_be_trained_yet_is_refused_and_never_ignored(line: str) -> None:
    errors = check_tasks([load_task_card({"instruction": line}, name="t")], LATER).errors
    assert errors
    assert all(e.code == "E312" and "task t cannot be trained yet: " in e.message for e in errors)
    from ofasys_lite.layout.ready import DataSettings, make_ready

    with pytest.raises(OfasysError, match="cannot be trained yet"):
        make_ready(
            [load_task_card({"instruction": line, "data": {"train": [{"a": 1}]}}, name="t")], LATER, DataSettings()
        )


def test_a_metric_of_a_column_that_is_not_written_is_refused() -> None:
    metrics = [{"name": "accuracy", "column": "lable"}]
    errors = report_of("[TEXT:q] -> [TEXT:label]", [{"q": "x", "label": "y"}], metrics=metrics).errors
    assert [e.code for e in errors] == ["E310"]
    assert "did you mean `label`?" in errors[0].help


def test_a_group_column_that_is_missing_is_refused() -> None:
    errors = report_of("[TEXT:q] -> [TEXT:a]", [{"q": "x", "a": "y"}], group="usr").errors
    assert "`group` names column `usr`; list has q, a" in errors[0].message


def test_an_optional_column_that_no_row_has_is_a_note() -> None:
    report = report_of("[TEXT:q] [TEXT:sub?] -> [TEXT:a]", [{"q": "x", "a": "y"}])
    assert report.errors == ()
    assert any("optional column `sub` is in no row of list" in note for note in report.notes)


def test_columns_of_a_card_are_mapped_and_unnamed_slots_are_filled_by_position() -> None:
    rows = [{"question": "x", "answer": "y"}]
    assert report_of("[TEXT:q] -> [TEXT:a]", rows, columns={"q": "question", "a": "answer"}).errors == ()
    assert report_of("[TEXT] -> [TEXT]", rows).errors == ()
    assert [e.code for e in report_of("[TEXT] [TEXT] -> [TEXT]", rows).errors] == ["E301"]


def test_a_column_of_a_card_that_the_line_does_not_ask_for_is_told() -> None:
    rows = [{"q": "x", "a": "y", "o": [{"b": "z"}], "i": "1"}]
    (error,) = report_of("[TEXT:q] -> [TEXT:a]", rows, columns={"qq": "q"}).errors
    assert "`columns` names `qq`, which the line does not ask for" in error.message
    assert "did you mean `q`?" in error.help
    card = load_task_card(
        {"instruction": "[TEXT:q] -> [TEXT:a]", "data": {"train": rows}, "columns": {"qq": "q"}}, name="line"
    )
    report = check_tasks([card], CARDS)  # as training looks at it, of a run of before, too
    assert not report.errors
    assert any("`columns` names `qq`, which the line does not ask for" in note for note in report.notes)
    rows = [{**rows[0], "q": f"x{n}"} for n in range(30)]
    mapping = {"rec.b": "o.0.b", "id": "i", "g": "q"}
    assert not report_of("[TEXT:rec.b] -> [TEXT:a]", rows, columns=mapping, group="g").errors
    rows = [{**row, "names": ["z", "y"]} for row in rows]
    line = "[TEXT:q] -> ([TEXT:b,closed_set=@offered])*<over=o>"
    assert not report_of(line, rows, columns={"offered": "names"}).errors


def test_a_list_that_is_null_and_elements_that_are_values_are_told_as_they_are() -> None:
    line = "[TEXT:q] -> ([TEXT:t])*<over=o>"
    (error,) = report_of(line, [{"q": "x", "o": None}]).errors
    assert "column `o` is empty, where a group reads a list" in error.message
    assert "write []" in error.help
    (error,) = report_of(line, [{"q": "x", "o": [{"t": "a"}, None]}]).errors
    assert "this element is empty, not a record" in error.message


def test_a_stream_is_looked_at_without_reading_it_all() -> None:
    rows = "".join(json.dumps({"q": "x", "a": "y"}) + "\n" for _ in range(500))
    Path("qa.jsonl").write_text(rows, encoding="utf-8")
    card = load_task_card(
        {"instruction": "[TEXT:q] -> [TEXT:b]", "data": {"train": {"path": "qa.jsonl", "stream": True}}}, name="t"
    )
    report = check_tasks([card], CARDS, rows=20)
    assert [e.code for e in report.errors] == ["E301"]
    assert report.rows == {"t": 20}
    assert any("qa.jsonl is read as a stream, shuffled in windows of 1,000 rows" in note for note in report.notes)


def test_rows_are_looked_at_from_the_first_to_the_last() -> None:
    rows = [{"q": "x", "a": "y"} for _ in range(999)] + [{"q": "x", "a": ["y"]}]
    assert [e.code for e in report_of("[TEXT:q] -> [TEXT:a]", rows).errors] == ["E302"]


def test_a_modality_whose_class_is_missing_is_told() -> None:
    card = ModalityCard("SMELL", {"default": "nose.Smell"}, {"default": "nose.Adapter"})
    task = load_task_card({"instruction": "[SMELL:s] -> [TEXT:a]", "data": {"train": [{"s": 1, "a": "x"}]}}, name="t")
    errors = check_tasks([task], {**CARDS, "SMELL": card}).errors
    assert "no module `nose`" in errors[0].message


def test_places_lie_in_the_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("qa.csv").write_text("q,answers\nx,y\n", encoding="utf-8")
    Path("mine.yaml").write_text(
        "# mine\ninstruction: |\n  [TEXT:q]\n  -> [TEXT:answer]\ndata: qa.csv\n", encoding="utf-8"
    )
    assert app.main(["check", "mine.yaml"]) == 1
    err = capsys.readouterr().err
    assert "task mine: slot [TEXT:answer] asks for column `answer`; " in err
    assert "  mine.yaml:4:12\n  -> [TEXT:answer]\n           ^^^^^^\n" in err
    assert err.endswith("1 error\n")


def test_the_command_takes_a_line_and_its_data(capsys: pytest.CaptureFixture[str]) -> None:
    Path("qa.csv").write_text("q,a\nx,y\n", encoding="utf-8")
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]", "qa.csv"]) == 0
    assert "task line: 1 row looked at, nothing wrong" in capsys.readouterr().out
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]"]) == 0
    assert "task line: its line is right" in capsys.readouterr().out
    assert app.main(["check", "[TEXT:q] -> [TEXT:a,closed_set=(no,maybe)]", "qa.csv"]) == 1
    assert app.main(["check", "captoin"]) == 1
    assert "did you mean `caption`?" in capsys.readouterr().err


def test_decoding_of_a_card_is_checked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_text("instruction: |\n  [TEXT:q] -> [TEXT:a]\ndecoding: {baem: 4}\n", encoding="utf-8")
    assert app.main(["check", "mine.yaml"]) == 1
    err = capsys.readouterr().err
    assert "task mine: decoding: unknown key `baem`" in err
    assert "  mine.yaml:3:1\n  decoding: {baem: 4}\n  ^^^^^^^^\n" in err


def test_a_typo_in_a_column_stops_within_two_seconds_and_without_torch() -> None:
    Path("vqa.csv").write_text("image,question,answers\n" + "a.png,what?,yes\n" * 2000, encoding="utf-8")
    code = """
import sys
from ofasys_lite.commands.app import main
code = main(["check", "[TEXT:question] -> [TEXT:answer]", "vqa.csv"])
heavy = {"torch", "lightning", "pyarrow", "datasets", "hydra", "rich", "transformers"} & set(sys.modules)
print(code, sorted(heavy))
"""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"check of a column typo: {seconds:.2f} s of CPU time")
    assert done.stdout.splitlines()[-1] == "1 []"
    assert "did you mean `answers`?" in done.stderr
    assert "^^^^^^" in done.stderr


def test_a_codec_that_will_be_trained_is_a_note_and_one_that_is_not_there_a_mistake(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("RGB", (1, 1), "red").save(file, "PNG")
    pixel = f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
    rows = [{"a": str(n), "b": pixel} for n in range(4)]
    card = load_task_card(
        {"instruction": "draw [TEXT:a] -> [IMAGE:b,codec=dnd(depth=2)]", "data": {"train": rows}}, name="t"
    )
    report = check_tasks([card], CARDS)
    assert not report.errors
    assert any("[IMAGE:b] names no codec folder: one is trained on the training split" in note for note in report.notes)
    lost = load_task_card({"instruction": f"[TEXT:a] -> [IMAGE:b,codec=dnd({tmp_path}/none)]"}, name="t")
    (error,) = check_tasks([lost], CARDS).errors
    assert "task t, slot [IMAGE:b]: no codec in" in error.render()


LISTS = [  # line, value of column v, what is to be written instead
    ("[IMAGE:v] -> [TEXT:a]", ["p.png"], "[IMAGE:v.0], for all of them ([IMAGE])*<over=v>"),
    ("[IMAGE:v] -> [TEXT:a]", '["p.png"]', "[IMAGE:v.0], for all of them ([IMAGE])*<over=v>"),
    ("[IMAGE:v] -> [TEXT:a]", [{"n": 1, "i": "p.png"}], "[IMAGE:v.0.i], for all of them ([IMAGE:i])*<over=v>"),
    ("[IMAGE:v] -> [TEXT:a]", {"image": {"url": "p.png"}}, "such as [IMAGE:v.image.url]"),
    ("[AUDIO:v] -> [TEXT:a]", ["s.wav"], "[AUDIO:v.0], for all of them ([AUDIO])*<over=v>"),
    ("[IMAGE:p] -> [BOX:v]", [[0, 0, 4, 4], [1, 1, 2, 2]], "[BOX:v.0], for all of them ([BOX])*<over=v>"),
    ("[TEXT:a] -> [TEXT:v]", {"de": "ja", "en": "yes"}, "such as [TEXT:v.de]"),
    ("[TEXT:a] -> [TEXT:v]", {"in German": "ja", "en": "yes"}, "such as [TEXT:v.en]"),
    ('[TEXT:a] -> [TEXT:"v"]', ["ja", "yes"], 'for all of them ([TEXT])*<over="v">'),
]  # fmt: skip


@pytest.mark.parametrize(("line", "value", "instead"), LISTS)
def test_a_list_or_record_where_one_value_is_meant_is_answered_with_how_to_ask_for_it(
    line: str, value: object, instead: str
) -> None:
    import soundfile
    from PIL import Image

    Image.new("RGB", (8, 8)).save("p.png")
    soundfile.write("s.wav", [0.0] * 1600, 16_000)
    Path("d.json").write_text(json.dumps([{"v": value, "a": "x", "p": "p.png"}]))
    (error,) = report_of(line, "d.json").errors
    assert instead in error.help
    assert error.code == ("E304" if "such as" in instead else "E302")
