import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ofasys_lite import __version__
from ofasys_lite.commands import app, fmt


def run(*arguments: str) -> int:
    return app.main(arguments)


def test_version_and_help_say_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--version") == 0
    assert capsys.readouterr().out == f"ofasys_lite {__version__}\n"
    assert run("--help") == 0
    out = capsys.readouterr().out
    assert all(f"  {verb} " in out for verb in app.VERBS)
    assert run() == 2


def test_an_unknown_verb_gets_the_near_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("dta", "list") == 2
    assert "unknown verb `dta`" in (err := capsys.readouterr().err)
    assert "did you mean `data`?" in err


def test_a_mistake_is_printed_with_its_place_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fmt", "what? -> [TXET:a]") == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "^^^^" in err
    assert "did you mean" in err


def test_every_verb_of_the_table_can_be_imported_and_called() -> None:
    for module, help in app.VERBS.values():
        code = f"import {module} as m; assert callable(m.main)"
        assert help
        subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_printed_without_torch_yaml_or_hydra() -> None:
    code = (
        "import sys; from ofasys_lite.commands.app import main; main(['--version']);"
        "heavy = {'torch', 'lightning', 'yaml', 'hydra', 'numpy', 'rich'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_modules_in_the_working_directory_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_module_of_mine.py").write_text("def main(arguments):\n    return 7\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", os.getcwd())])
    monkeypatch.setattr(app, "VERBS", {"own": ("own_module_of_mine", "x")})
    assert run("own") == 7


def test_stopping_by_hand_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(fmt, "main", stopped)
    assert run("fmt", "x") == 130
    assert capsys.readouterr().err == "stopped\n"


def test_fmt_prints_the_canonical_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fmt", "[ TEXT : a ]   hi->[TEXT:b]") == 0
    assert capsys.readouterr().out == "[TEXT:a] hi -> [TEXT:b]\n"
    assert run("fmt", "--check", "[TEXT:a]->[TEXT:b]") == 1
    assert run("fmt", "--check", "[TEXT:a] -> [TEXT:b]") == 0


CARD = """\
# keeps   this
instruction: |
    [ TEXT:a ] is
    it?->[TEXT:b]
weight: 2  # and this
"""


def test_fmt_takes_a_line_longer_than_any_file_name(capsys: pytest.CaptureFixture[str]) -> None:
    line = f"[TEXT:a] {'very ' * 80}long -> [TEXT:b]"
    assert run("fmt", line) == 0
    assert capsys.readouterr().out.strip() == line


@pytest.mark.parametrize("name", ["lines.txt", "card.yaml"])
def test_fmt_says_what_is_not_utf8(tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_bytes("instruction: [TEXT:a] caf\xe9 -> [TEXT:b]\n".encode("latin-1"))
    assert run("fmt", str(tmp_path / name)) == 1
    assert f"{name} is not UTF-8 (byte 25)" in capsys.readouterr().err


def test_a_file_in_the_place_of_a_folder_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "taken").write_text("")
    made = SimpleNamespace(main=lambda arguments: (tmp_path / "taken" / "inside").mkdir(parents=True))
    monkeypatch.setattr("importlib.import_module", lambda name: made)
    assert run("report", "x") == 1
    assert "taken" in capsys.readouterr().err


def test_fmt_rewrites_the_block_of_a_card_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(CARD)
    assert run("fmt", "--check", str(path)) == 1
    assert path.read_text() == CARD
    assert run("fmt", str(tmp_path)) == 0
    assert path.read_text() == CARD.replace("[ TEXT:a ] is", "[TEXT:a] is").replace("it?->", "it? -> ")
    assert run("fmt", "--check", str(path)) == 0


def test_fmt_gives_each_paraphrase_of_a_block_a_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("instruction: |\n  [ TEXT:a ]->[TEXT:b] |||\n    is [TEXT:a]->[TEXT:b]\nweight: 2\n")
    assert run("fmt", str(path)) == 0
    want = "instruction: |\n  [TEXT:a] -> [TEXT:b]\n  ||| is [TEXT:a] -> [TEXT:b]\nweight: 2\n"
    assert path.read_text() == want
    assert run("fmt", "--check", str(path)) == 0


@pytest.mark.parametrize("quote", ["", "'", '"'])
def test_fmt_rewrites_a_line_on_one_line(tmp_path: Path, quote: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"instruction: {quote}is [TEXT:a, uncased]->[TEXT:b]{quote}\nweight: 2\n")
    assert run("fmt", str(path)) == 0
    assert path.read_text() == f"instruction: {quote}is [TEXT:a,uncased] -> [TEXT:b]{quote}\nweight: 2\n"


def test_fmt_rewrites_files_of_lines_and_keeps_comments(tmp_path: Path) -> None:
    path = tmp_path / "kind.txt"
    path.write_text("# [ TEXT:a ]->\n\n[ TEXT:a ]->[TEXT:b]\n")
    assert run("fmt", str(path)) == 0
    assert path.read_text() == "# [ TEXT:a ]->\n\n[TEXT:a] -> [TEXT:b]\n"


def test_fmt_does_not_touch_what_it_cannot_rewrite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.yaml"
    text = "instruction: >\n  [ TEXT:a ]\n  -> [TEXT:b]\n"
    path.write_text(text)
    assert run("fmt", str(path)) == 1
    assert "use a literal block" in capsys.readouterr().err
    assert path.read_text() == text
    assert run("fmt", str(tmp_path / "none.yaml")) == 1
    (tmp_path / "empty").mkdir()
    assert run("fmt", str(tmp_path / "empty")) == 0


def test_data_list_is_as_wide_as_columns_say_and_breaks_no_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run("data", "list", "--root", str(tmp_path)) == 0
    narrow = capsys.readouterr().out
    monkeypatch.delenv("COLUMNS")
    assert run("data", "list", "--root", str(tmp_path)) == 0
    wide = capsys.readouterr().out
    assert max(map(len, narrow.splitlines())) <= 80
    assert 100 < max(map(len, wide.splitlines())) <= 200
    assert sorted(narrow.split()) == sorted(wide.split())


@pytest.mark.parametrize("what", ["TEXT", "[IMAGE:img] what? -> [TEXT:a,closed_set]"])
def test_explain_is_as_wide_as_columns_say_and_breaks_no_words(
    what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = []
    for columns in ("80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        assert run("explain", what) == 0
        found.append(capsys.readouterr().out)
    narrow, wide = ({word for word in text.split() if word.isidentifier()} for text in found)
    assert max(map(len, found[0].splitlines())) <= 80
    assert narrow == wide
    assert {"ImagePreprocess", "cross_entropy"} <= narrow or what == "TEXT"


def test_data_list_shows_what_is_prepared_and_prepare_refuses_near_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("data", "list", "--root", str(tmp_path)) == 0
    out = capsys.readouterr().out
    assert "sudoku" in out
    assert " yes " not in out
    assert run("data", "list", "sudoku", "--root", str(tmp_path)) == 0
    assert "ofasys-lite data prepare sudoku" in capsys.readouterr().out
    assert run("data", "prepare", "sudoko", "--root", str(tmp_path)) == 1
    assert "did you mean `sudoku`?" in capsys.readouterr().err
    assert run("data", "show", "sudoku", "--root", str(tmp_path)) == 1
    assert "is not prepared" in capsys.readouterr().err
