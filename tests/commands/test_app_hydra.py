"""Composition of a run: every trap of Hydra that the design names."""

import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from run_configs import load_run_config

from ofasys_lite.commands.compose import run_hydra
from ofasys_lite.commands.escapes import escape, unescape
from ofasys_lite.commands.evaluate import EvaluateOptions
from ofasys_lite.commands.run_config import RunConfig
from ofasys_lite.commands.train import _of_resumed_run, _prepare
from ofasys_lite.errors import CardError, OfasysError
from ofasys_lite.instruction.places import Origin

MINE = ('+tasks.mine.instruction="[TEXT:q] -> [TEXT:a]"', "+tasks.mine.data.train=qa.csv")
QA = """\
instruction: |
  what ${a b} is it? [TEXT:q] -> [TEXT:a,closed_set=answers]
data: {train: qa.csv}
sets: {answers: [yes, no, 007]}
weight: 2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for each in ("tasks", "modalities", "experiment"):
        (tmp_path / each).mkdir()
    (tmp_path / "tasks" / "qa.yaml").write_text(QA)
    (tmp_path / "modalities" / "sensor.yaml").write_text(
        "name: SENSOR\npreprocess: my.Preprocess\nadapter: my.Adapter\nsettings: {rate: 16, unit: '${x}'}\n"
    )
    (tmp_path / "experiment" / "own.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /tasks: [qa]\n  - override /model: tiny\n"
        "  - override /trainer: gpu\nname: own\nsteps: 10\ntrainer:\n  workers: 0\n"
    )
    return tmp_path


def refused(*overrides: str, folder: Path | None = None) -> str:
    with pytest.raises(OfasysError) as caught:
        load_run_config(overrides, folder)
    return str(caught.value)


def test_a_line_and_a_file_are_a_run() -> None:
    run = load_run_config(MINE)
    assert isinstance(run, RunConfig)
    (task,) = run.tasks
    assert (task.name, task.instruction, task.data) == ("mine", "[TEXT:q] -> [TEXT:a]", {"train": "qa.csv"})
    assert (run.name, run.seed, run.steps, run.minutes, run.resume) == ("mine", 0, 5000, None, False)
    assert run.settings.model.width == 512
    assert run.settings.train.betas == (0.9, 0.98)
    assert run.settings.loggers == ("csv",)
    assert run.resolved["tasks"]["mine"]["instruction"] == "[TEXT:q] -> [TEXT:a]"
    assert run.resolved["name"] == "mine"


@pytest.mark.parametrize("plus", ["", "+", "++"])
@pytest.mark.parametrize(
    "line",
    [
        "draw ${x y} [TEXT:a] \\${b} \\\\${c} #1 -> [TEXT:b]",
        "say \"hi\" and 'ho' [TEXT:a,closed_set=(007,yes)] -> [TEXT:b,weight=0.5]",
        "a=b, {c: d} $e %(f)s [TEXT:a] -> [TEXT:b] ||| [TEXT:a] -> [TEXT:b]",
        "two\nrows [TEXT:a] -> [TEXT:b]",
    ],
)
def test_every_character_of_a_typed_line_is_text(plus: str, line: str) -> None:
    run = load_run_config([f"{plus}tasks.mine.instruction={line}", f"{plus}tasks.mine.data.train=qa.csv"])
    assert run.tasks[0].instruction == line


@given(st.text(alphabet="\\${}ab'\" ,=[]", max_size=20))
@settings(max_examples=200)
def test_escaping_loses_nothing(text: str) -> None:
    assert unescape(escape(text)) == text


def test_a_task_of_the_command_line_trains_alone_unless_others_are_named(folder: Path) -> None:
    assert [task.name for task in load_run_config(MINE, folder).tasks] == ["mine"]
    both = load_run_config(["tasks=[qa]", *MINE], folder)
    assert [task.name for task in both.tasks] == ["qa", "mine"]
    assert both.name == "qa-mine"


def test_without_a_task_it_says_what_to_choose(folder: Path) -> None:
    found = refused(folder=folder)
    assert "there is no task to train" in found
    assert "experiment=quickstart" in found
    assert "qa" in found


def test_a_card_of_a_users_folder_keeps_its_places_and_labels(folder: Path) -> None:
    (task,) = load_run_config(["tasks=[qa]"], folder).tasks
    path = folder / "tasks" / "qa.yaml"
    assert task.instruction == "what ${a b} is it? [TEXT:q] -> [TEXT:a,closed_set=answers]"
    assert task.origin == Origin(str(path), 2, 3, 2)
    assert task.sets == {"answers": ("yes", "no", "007")}
    assert (task.weight, task.path) == (2, str(path))


def test_the_command_line_changes_and_adds_keys_of_a_card(folder: Path) -> None:
    given = ["tasks=[qa]", "tasks.qa.weight=3", "tasks.qa.epochs=2", "tasks.qa.data.test=t.csv"]
    (task,) = load_run_config(given, folder).tasks
    assert (task.weight, task.epochs, task.data) == (3, 2, {"train": "qa.csv", "test": "t.csv"})
    assert task.sets == {"answers": ("yes", "no", "007")}
    assert task.origin is not None
    assert task.origin.line == 2
    found = refused("tasks=[qa]", "tasks.qa.wieght=3", folder=folder)
    assert "unknown key `wieght` in task qa" in found
    assert "did you mean `weight`?" in found


def test_cards_of_a_folder_named_by_data_cards_are_seen(folder: Path) -> None:
    for value in (f"{folder}", f"[{folder}]"):
        run = load_run_config(["tasks=[qa]", f"data.cards={value}"])
        assert run.tasks[0].name == "qa"
        assert run.folders == (str(folder),)
        assert "SENSOR" in run.modalities
    assert "no such folder" in refused("tasks=[qa]", f"data.cards={folder / 'none'}")


def test_an_experiment_of_a_users_folder_names_tasks_model_and_trainer(folder: Path) -> None:
    run = load_run_config(["experiment=own"], folder)
    assert [task.name for task in run.tasks] == ["qa"]
    assert (run.name, run.steps, run.settings.model.width) == ("own", 10, 128)
    assert (run.settings.train.precision, run.settings.train.workers) == ("bf16", 0)


def test_settings_of_modalities_are_overridden_key_by_key(folder: Path) -> None:
    run = load_run_config([*MINE, "modalities.SENSOR.rate=8", "modalities.TEXT.max_length=64"], folder)
    assert run.modalities["SENSOR"].settings == {"rate": 8, "unit": "${x}"}
    assert run.modalities["TEXT"].settings["max_length"] == 64
    assert "did you mean `max_length`?" in refused(*MINE, "modalities.TEXT.max_lenght=64")
    assert "did you mean `TEXT`?" in refused(*MINE, "+modalities.TXET.max_length=64")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("tasks=[qaa]", "did you mean `qa`?"),
        ("experiment=quickstrat", "did you mean `quickstart`?"),
        ("model=tinny", "did you mean `tiny`?"),
        ("trainer.precison=bf16", "did you mean `precision`?"),
        ("trainer.lrr=1", "did you mean `lr`?"),
        ("trianer.lr.x=1", "did you mean `trainer`?"),
        ("modle=tiny", "did you mean `model`?"),
        ("stpes=3", "did you mean `steps`?"),
        ("steps=many", "steps is a whole number above 0"),
        ("seed=-1", "seed is a whole number of at least 0"),
        ("name=../x", "letters, digits"),
        ("name=.", "letters, digits"),
        ("foo bar", "write key=value"),
        ("tasks.mine.weight=a (b", "cannot read the argument `tasks.mine.weight=a (b`"),
        ("tasks.mine.wieght=a [b] -> c?", "did you mean `weight`?"),
        ("tasks.qq.instuction=[TEXT:q] what? -> [TEXT:a]", "did you mean `instruction`?"),
        ("trainer.lr=0,002", "decimals have a point: trainer.lr=0.002"),
        ("+trainer.betas.x=1", "trainer.betas is one value, without keys of its own"),
        ("trainer.optimizer.momentum=0.9", "it is written as trainer.optimizer={path: muon, momentum: ...}"),
        ("trainer.optimizer.momentm=0.9", "did you mean `momentum`?"),
        ("trainer.mixture.unit=tokens", "mixture stands at the top: mixture.unit=..."),
        ("seed=1,2", "`seed` is given several values"),
        ("steps=null", "give steps=5000 or minutes=10"),
        ("tasks.qq.data.train=x", "task qq has no instruction"),
        ("+tasks.x.instruction=-> [TEXT:a]", "task x has no training data"),
    ],
)
def test_a_wrong_name_or_value_is_refused_with_help(folder: Path, override: str, expected: str) -> None:
    assert expected in refused(*MINE, override, folder=folder)


def test_two_cards_of_one_name_are_refused_with_both_paths(folder: Path, tmp_path_factory: Any) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "tasks").mkdir()
    (other / "tasks" / "qa.yaml").write_text(QA)
    found = refused("tasks=[qa]", f"data.cards={other}", folder=folder)
    assert f"tasks/qa is ambiguous: {folder}/tasks/qa.yaml and {other}/tasks/qa.yaml" in found
    (other / "model").mkdir()
    (other / "model" / "tiny.yaml").write_text("width: 1\n")
    assert "model/tiny is ambiguous" in refused(*MINE, "model=tiny", folder=other)


def test_a_broken_card_is_shown_at_its_place(folder: Path) -> None:
    path = folder / "tasks" / "bad.yaml"
    path.write_text("instruction: draw [TEXT:a] #1 -> [TEXT:b]\ndata: {train: a.csv}\n")
    assert f"{path}:1:14" in refused("tasks=[bad]", folder=folder)
    path.write_text("instruction: [TEXT:a] -> [TEXT:b]\n")
    assert f"{path}:1:14" in refused("tasks=[bad]", folder=folder)


def test_multirun_runs_each_combination_in_a_folder_of_its_own(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofasys_lite.commands.run_config import run_config

    monkeypatch.chdir(tmp_path)
    found: list[RunConfig] = []

    def job(content: dict[str, Any], job: str | None) -> None:
        found.append(run_config(content, (str(folder),), job))

    before = list(sys.argv)
    arguments = ["-m", "tasks=[qa]", "--config-dir", str(folder), "seed=3,4", "name=sweep_of_mine"]
    run_hydra("train", arguments, job)
    assert [(run.seed, run.name) for run in found] == [(3, "sweep_of_mine/0"), (4, "sweep_of_mine/1")]
    assert [run.tasks[0].instruction for run in found] == [QA.splitlines()[1].strip()] * 2
    assert sys.argv == before
    found.clear()
    run_hydra("train", [*MINE], job)
    assert [run.name for run in found] == ["mine"]


def test_help_names_groups_flags_and_keys(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run_hydra("train", ["--help", "--config-dir", str(folder)], lambda content, job: None)
    assert caught.value.code == 0
    out = capsys.readouterr().out
    assert "experiment: generation, own, quickstart, showcase" in out
    assert "model: base, huge, large, quick, small, tiny" in out
    assert "qa" in out
    assert "--config-dir FOLDER" in out
    assert "samples_per_step: " in out
    assert "Powered by Hydra" not in out


def test_help_of_evaluate_names_only_what_it_uses(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run_hydra("evaluate", ["--help"], lambda content, job: None)
    out = capsys.readouterr().out
    assert "checkpoint: last" in out
    assert "trainer" not in out
    assert "experiment" not in out


def test_a_resumed_run_takes_flags_and_refuses_what_cannot_change(folder: Path) -> None:
    (folder / "config.yaml").write_text("tasks: {}\nsteps: 3\ntrainer: {lr: 1.0}\n")
    content = {"resume": str(folder), "tasks": {}, "steps": 9, "trainer": {"lr": 2.0}}
    arguments = [f"resume={folder}", "steps=9", "trainer.lr=2.0", "--config-dir", "mine"]
    # what Lightning adds to the command line of each further rank that it starts
    arguments += ['hydra.run.dir="runs"', "hydra.job.name=train_ddp_process_1", "hydra.output_subdir=null"]
    found = _of_resumed_run(content, arguments)
    assert (found["steps"], found["trainer"]) == (9, {"lr": 2.0})
    for wrong in ("model.width=3", "~trainer.lr"):
        with pytest.raises(CardError, match="cannot be changed in a resumed run"):
            _of_resumed_run(content, [*arguments, wrong])


def test_names_of_files_that_look_like_numbers_stay_names() -> None:
    assert EvaluateOptions.of({"checkpoint": 3, "output": 2024}) == EvaluateOptions(checkpoint="3", output="2024")


def test_evaluate_takes_names_of_tasks_and_needs_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    run_hydra("evaluate", ["run=runs/x", "tasks=[mine]"], lambda content, job: found.append(content))
    assert (found[0]["run"], found[0]["tasks"], found[0]["split"]) == ("runs/x", ["mine"], "test")
    with pytest.raises(CardError, match="`run` is not given"):
        run_hydra("evaluate", [], lambda content, job: None)


@pytest.mark.parametrize("arguments", [["--steps", "20"], ["--steps=20"], ["tasks=[vqa]", "--steps", "20"]])
def test_a_value_written_as_a_flag_is_told_how_it_is_written(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        run_hydra("train", arguments, lambda content, job: None)
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "there is no flag `--steps`" in err
    assert "without dashes: steps=..." in err


@pytest.mark.parametrize(("verb", "told"), [("train", "name=NAME writes to"), ("evaluate", "output=there names")])
def test_hydras_own_folder_is_not_silently_left_empty(verb: str, told: str) -> None:
    for argument in ("hydra.run.dir=there", "++hydra.run.dir=there"):
        with pytest.raises(CardError, match=r"`hydra\.run\.dir` has no effect") as caught:
            run_hydra(verb, ["run=runs/x", argument], lambda content, job: pytest.fail("it ran"))
        assert told in caught.value.help


def test_an_evaluation_takes_a_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    run_hydra("evaluate", ["run=runs/x", "precision=int8"], lambda content, job: found.append(content))
    assert EvaluateOptions.of(found[0]).precision == "int8"
    with pytest.raises(CardError, match="`precision` is `int4`") as caught:
        EvaluateOptions.of({"precision": "int4"})
    assert "int8" in caught.value.help


def test_a_rank_that_lightning_starts_is_let_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning.fabric.strategies.launchers import subprocess_script

    monkeypatch.chdir(tmp_path)
    found: list[dict[str, Any]] = []
    typed: list[str] = []

    def rank(content: dict[str, Any], job: str | None) -> None:
        found.append(content)
        if len(found) == 1:
            command, _ = subprocess_script._hydra_subprocess_cmd(local_rank=1)
            typed.extend(each for each in command if "=" in each)

    monkeypatch.setattr(sys, "argv", ["ofasys.py", "train", *MINE])  # which the launcher repeats
    run_hydra("train", list(MINE), rank)
    assert any(each.startswith("hydra.run.dir=") for each in typed)
    run_hydra("train", typed, rank)
    assert found[1] == found[0]


def test_the_key_of_before_is_told_what_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CardError, match="unknown key `bf16`") as caught:
        run_hydra("evaluate", ["run=runs/x", "bf16=true"], lambda content, job: None)
    assert "precision=bf16 of an evaluation" in caught.value.help


def test_composing_imports_no_torch() -> None:
    import subprocess

    code = (
        "import sys; from ofasys_lite.commands.compose import compose;"
        "from ofasys_lite.commands.run_config import run_config;"
        f"run_config(compose('train', {list(MINE)!r}));"
        "heavy = {'torch', 'lightning', 'pyarrow', 'datasets'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_ranks_that_start_at_once_prepare_data_one_after_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ofasys_lite.commands.data as data
    import ofasys_lite.recipes as recipes

    looks, prepared = iter([False, True]), []
    monkeypatch.setenv("OFASYS_DATA", str(folder / "data"))
    monkeypatch.setattr(recipes, "is_prepared", lambda place: next(looks))
    monkeypatch.setattr(data, "main", prepared.append)
    _prepare(load_run_config(["tasks=[digits]", "model=tiny", "steps=1"]))
    assert prepared == []  # another rank has done it while this one waited for its turn
