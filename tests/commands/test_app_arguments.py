"""Typed arguments: paths, names and lines are taken as they stand; several values need `-m`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from run_configs import load_run_config

from ofasys_lite.cards.typed import typed_source
from ofasys_lite.commands import app
from ofasys_lite.commands.arguments import literal
from ofasys_lite.commands.compose import run_hydra
from ofasys_lite.commands.run_config import run_config
from ofasys_lite.errors import CardError, DataError, OfasysError
from ofasys_lite.preprocess.absence import home

LINE = "tasks.mine.instruction=[TEXT:q] -> [TEXT:a]"
ODD = [
    "日本語.csv",
    "data (1).csv",
    "a=b.csv",
    "a&b.csv",
    "#1.csv",
    "it's.csv",
    "[x].csv",
    "~/x.csv",
    "a b.csv",
    "a,b.csv",
    "x{a,b}.csv",
    "$HOME.csv",
    "${a}.csv",
    "a\\b.csv",
    "a\\",
    'say "hi".csv',
    "2024",
    "true",
    "https://a.b/x.csv?download=true&v=2",
    "digits:train",
    "choice(a).csv",
]


@pytest.mark.parametrize("path", ODD)
@pytest.mark.parametrize("plus", ["", "+", "++"])
def test_a_path_is_taken_as_it_is_written(path: str, plus: str) -> None:
    given = [LINE, f"{plus}tasks.mine.data.train={path}", f"{plus}tasks.mine.data.test={path}"]
    (task,) = load_run_config(given).tasks
    assert task.data == {"train": path, "test": path}
    assert load_run_config([LINE, f"{plus}tasks.mine.data={path}"]).tasks[0].data == {"train": path}


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ('"my file.csv"', "my file.csv"),
        ("'a, b.csv'", "a, b.csv"),
        ("[a.csv, 'b, c.csv', 日本.csv]", ["a.csv", "b, c.csv", "日本.csv"]),
        (
            "{path: a&b.csv, separator: ';', header: [a, b]}",
            {"path": "a&b.csv", "separator": ";", "header": ["a", "b"]},
        ),
        ("{path:a.csv,stream:true,buffer:10}", {"path": "a.csv", "stream": True, "buffer": 10}),
        ("{path: [a.csv, b.csv]}", {"path": ["a.csv", "b.csv"]}),
        ("{hf: 'imdb', split: train}", {"hf": "imdb", "split": "train"}),
    ],
)
def test_quoted_names_lists_and_mappings_are_still_possible(typed: str, meant: Any) -> None:
    assert typed_source(typed) == meant
    assert load_run_config([LINE, "+tasks.mine.data.train=x", f"+tasks.mine.data.valid={typed}"]).tasks[0].data == {
        "train": "x",
        "valid": meant,
    }


def test_a_file_that_is_called_like_a_list_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("[a,b]").write_text("q,a\n")
    assert typed_source("[a,b]") == "[a,b]"
    assert load_run_config([LINE, "+tasks.mine.data.train=[a,b]"]).tasks[0].data["train"] == "[a,b]"


def test_a_list_that_cannot_be_read_is_one_message() -> None:
    with pytest.raises(DataError, match=r"cannot read the list or mapping `\[a: b: c\]`"):
        typed_source("[a: b: c]")


def test_tilde_is_the_home_and_a_name_with_a_tilde_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert (home("~/x"), home("~backup.csv")) == ("/home/me/x", "~backup.csv")
    run = load_run_config([LINE, "tasks.mine.data.train=x", "resume=~/runs/x", "data.root=~/data (1)"])
    assert (run.resume, run.data["root"]) == ("/home/me/runs/x", "/home/me/data (1)")


@pytest.mark.parametrize("name", [each for each in ODD if "\\" not in each and "/" not in each and "${" not in each])
def test_check_reads_files_of_any_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    name = name if name.endswith(".csv") else f"{name}.csv"
    Path(name).write_text("q,a\nx,y\nz,w\n" * 5)
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]", name]) == 0, capsys.readouterr().err
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]", f'["{name}", "{name}"]' if '"' not in name else name]) == 0


def test_check_reads_files_in_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x.csv").write_text("q;a\nx;y\nz;w\n" * 5)
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]", "{path: ~/x.csv, separator: ';'}"]) == 0
    assert app.main(["check", "[TEXT:q] -> [TEXT:a]", "~nobody/x.csv"]) == 1
    assert "no file ~nobody/x.csv" in capsys.readouterr().err


def test_names_runs_and_places_are_taken_as_they_are_written() -> None:
    run = load_run_config(
        [LINE, "tasks.mine.data.train=x", "name=a=b", "resume=runs/data (1)", "data.tokenizer=runs/[x]"]
    )
    assert (run.name, run.resume, run.data["tokenizer"]) == ("a=b", "runs/data (1)", "runs/[x]")
    run = load_run_config([LINE, "tasks.mine.data.train=x", "name=null", "resume=True", "data.tokenizer=null"])
    assert (run.name, run.resume, run.data["tokenizer"]) == ("mine", True, None)


def test_names_of_columns_are_taken_as_they_are_written() -> None:
    given = [LINE, "tasks.mine.data.train=x", "tasks.mine.columns.q=Question (en), long", "tasks.mine.group=it's"]
    (task,) = load_run_config(given).tasks
    assert (task.columns, task.group) == ({"q": "Question (en), long"}, "it's")
    mapping = "tasks.mine.columns={q: 'Question (en)', a: Antwort}"
    assert load_run_config([*given[:2], mapping]).tasks[0].columns == {"q": "Question (en)", "a": "Antwort"}


def test_a_task_of_another_script_is_told_to_become_a_card() -> None:
    with pytest.raises(OfasysError, match=r"cannot read `日本` in `tasks\.日本\.data\.train`"):
        load_run_config(["tasks.日本.data.train=x"])


@pytest.mark.parametrize(
    "typed",
    ['"[TEXT:"my q"] what? -> [TEXT:a]"', "“[TEXT:'my q'] what? -> [TEXT:a]”", r'"[TEXT:\"my q\"] what? -> [TEXT:a]"'],
)
def test_quotes_around_a_typed_line_never_become_words(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    (task,) = load_run_config([f"+tasks.mine.instruction={typed}", "+tasks.mine.data.train=x"]).tasks
    assert task.instruction[0] + task.instruction[-1] == "[]"
    assert app.main(["fmt", typed]) == 0
    assert capsys.readouterr().out == '[TEXT:"my q"] what? -> [TEXT:a]\n'


TWO = ['[TEXT:q] what, say (a,b)? -> [TEXT:a,closed_set=("x","y")]', "[TEXT:q] which? -> [TEXT:a,max_length=3]"]
SWEEPS = [
    f'tasks.mine.instruction="{TWO[0]}","{TWO[1]}"',
    f"tasks.mine.instruction='{TWO[0]}', '{TWO[1]}'",
    f'tasks.mine.instruction=choice("{TWO[0]}","{TWO[1]}")',
]


def swept(*arguments: str) -> list[Any]:
    """The runs of a multirun, composed and not trained."""
    found: list[Any] = []
    run_hydra("train", ["-m", "name=s", *arguments], lambda content, job: found.append(run_config(content, (), job)))
    return found


@pytest.mark.parametrize("sweep", SWEEPS)
def test_a_sweep_over_lines_runs_each_of_them(sweep: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = swept(f"+{sweep}", "+tasks.mine.data.train=d.csv", "seed=0,1")
    assert [(run.tasks[0].instruction, run.seed) for run in runs] == [(line, seed) for line in TWO for seed in (0, 1)]


def test_one_line_with_commas_is_one_run_of_a_sweep() -> None:
    for line in (TWO[0], f'"{TWO[0]}"', f"{TWO[0]} ||| {TWO[1]}, {TWO[1]}"):
        (given,) = literal([f"tasks.mine.instruction={line}"], many=True)
        assert given.count('"++') == 0
        assert "closed_set" in given


def test_a_sweep_over_files_runs_each_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runs = swept(LINE, "tasks.mine.data.train=data (1).csv,日本.csv,'a, b.csv',[x.csv,y.csv]")
    assert [run.tasks[0].data["train"] for run in runs] == ["data (1).csv", "日本.csv", "a, b.csv", ["x.csv", "y.csv"]]
    Path("a,b.csv").write_text("q,a\n")
    assert [run.tasks[0].data["train"] for run in swept(LINE, "tasks.mine.data.train=a,b.csv")] == ["a,b.csv"]
    Path("a.csv").write_text("q,a\n")
    with pytest.raises(CardError, match=r"`tasks\.mine\.data\.train` is given 2 values"):
        load_run_config([LINE, "tasks.mine.data.train=a.csv,a.csv"])


@pytest.mark.parametrize(
    "argument", [SWEEPS[0], "seed=0,1", "trainer.lr=0.1,0.2", "model=tiny,small", "steps=range(1,3)"]
)
def test_several_values_without_the_flag_name_it(argument: str) -> None:
    with pytest.raises(OfasysError) as caught:
        load_run_config([LINE, "tasks.mine.data.train=x", argument])
    text = str(caught.value)
    assert "-m makes one run of each" in text
    assert not any(word in text for word in ("ChoiceSweep", "QuotedString", "Ambiguous", "omegaconf"))


def test_check_of_a_users_folder_holds_the_users_cards_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tasks").mkdir()
    assert app.main(["check", "--config-dir", str(tmp_path)]) == 1
    assert "no cards of tasks" in capsys.readouterr().err
    (tmp_path / "d.csv").write_text("q,a\n" + "x,y\nz,w\n" * 5)
    path = os.path.relpath(tmp_path / "d.csv", tmp_path / "tasks")
    (tmp_path / "tasks" / "own.yaml").write_text(f"instruction: '[TEXT:q] -> [TEXT:a]'\ndata: {path}\n")
    assert app.main(["check", "--config-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "task own: 10 rows looked at, nothing wrong"
