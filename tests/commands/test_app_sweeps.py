"""The table at the end of `train -m`: every job with its scores or the reason why it has none."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
from rich.console import Console

from ofasys_lite.commands import train
from ofasys_lite.commands.app import main
from ofasys_lite.commands.compose import run_hydra
from ofasys_lite.commands.sweep import Outcome, noted, tell_sweep
from ofasys_lite.errors import CardError, DataError, ErrorGroup
from ofasys_lite.metrics import Score
from ofasys_lite.report.sweeps import Job, print_sweep, sweep_folder, sweep_json
from ofasys_lite.signals import Interrupted

LINE = "[TEXT:q] which letter? -> [TEXT:a,closed_set]"


def score(value: float, name: str = "accuracy", higher: bool = True, items: int = 20) -> Score:
    return Score(name, value, value - 0.1, value + 0.1, items, items, "share" if higher else "errors per word", higher)


def job(number: int, values: str, lack: str = "", rows: str = "t.csv", **scores: Score) -> Job:
    given = dict(pair.split("=") for pair in values.split())
    return Job(number, Path("runs/s") / str(number), given, lack, scores, dict.fromkeys(scores, rows), Path("runs/s"))


def printed(jobs: list[Job], capsys: pytest.CaptureFixture[str], width: int = 80) -> str:
    print_sweep(jobs, Console(width=width))
    out = capsys.readouterr().out
    assert all(len(line) <= width for line in out.splitlines())
    return out


def best(jobs: list[Job], part: str = "jobs") -> list[int]:
    return [number for number, row in enumerate(sweep_json(jobs)[part]) if row["best"]]


def write_rows(path: str, count: int) -> None:
    with Path(path).open("w", newline="") as file:
        csv.writer(file).writerows(
            [("q", "a"), *((f"word {'abc'[i % 3]} {path} {i}", "abc"[i % 3]) for i in range(count))]
        )


def test_a_sweep_ends_with_one_table_and_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    write_rows("train.csv", 12)
    write_rows("test.csv", 9)
    data = [
        f"+tasks.qa.data.{split}={'train' if split == 'train' else 'test'}.csv" for split in ("train", "valid", "test")
    ]
    fixed = ["name=s", "model=tiny", "steps=1", "evaluate=true", "trainer.workers=0", "trainer.accelerator=cpu"]
    swept = ["seed=0,1", "trainer.lr=0.001,0.1"]
    assert main(["train", "-m", f"+tasks.qa.instruction={LINE}", *data, *fixed, *swept]) == 0
    out = capsys.readouterr().out
    table = out[out.index("sweep runs/s") :]
    assert "instruction" not in table  # the same in all
    told = json.loads(Path("runs/s/sweep.json").read_text())
    found = [(row["values"]["seed"], row["values"]["trainer.lr"]) for row in told["jobs"]]
    assert found == [("0", "0.001"), ("0", "0.1"), ("1", "0.001"), ("1", "0.1")]
    for number, row in enumerate(told["jobs"]):
        metrics = json.loads(Path(f"runs/s/{number}/metrics.json").read_text())
        assert row["values"]["tasks.qa.instruction"] == LINE
        assert row["scores"]["qa"]["value"] == metrics["tasks"]["qa"]["metric"]["value"]
        assert row["lack"] == ""
    assert [(row["values"]["seed"], row["scores"]["qa"]["seeds"]) for row in told["over_seeds"]] == [("0, 1", 2)] * 2
    assert "±" in table
    assert table.rstrip().endswith("runs/s/sweep.json")


def test_evaluations_of_several_runs_end_with_one_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    rows = [{"q": f"word {'abc'[n % 3]} {n}", "a": "abc"[n % 3]} for n in range(24)]
    Path("t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("a", "b"):
        worlds.run([worlds.task("qa", {"train": "t.jsonl"}, line=LINE)], Path("runs") / name, steps=1)
    common = ["baselines=false", "report=false", "bootstrap=20", "hydra.sweep.dir=runs/s", "device=cpu"]
    assert main(["evaluate", "-m", "run=runs/a,runs/none,runs/b", "split=valid", *common]) == 1
    out = capsys.readouterr().out
    assert "run=runs/b" in out[out.index("sweep runs/s") :]
    assert "Chosen on these valid rows" in " ".join(out.split())
    first, wrong, last = json.loads(Path("runs/s/sweep.json").read_text())["jobs"]
    assert wrong["lack"].startswith("failed: ")
    for row, name in ((first, "a"), (last, "b")):
        metrics = json.loads(Path(f"runs/{name}/metrics-valid.json").read_text())
        assert row["run"] == f"runs/{name}"
        assert row["scores"]["qa"]["value"] == metrics["tasks"]["qa"]["metric"]["value"]


@pytest.mark.parametrize(("higher", "wins"), [(True, 2), (False, 0)])
def test_the_best_job_is_best_in_the_direction_of_its_metric(
    higher: bool, wins: int, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [job(i, f"trainer.lr={i}", qa=score(value, higher=higher)) for i, value in enumerate((1.2, 1.3, 1.5))]
    assert best(jobs) == [wins]
    assert f"{wins} *" in printed(jobs, capsys)


def test_of_several_tasks_the_mean_of_normalised_scores_decides() -> None:
    jobs = [
        job(i, f"seed={i}", qa=score(a), speech=score(b, "wer", False))
        for i, (a, b) in enumerate(((0.6, 0.9), (0.5, 0.2)))
    ]
    assert best(jobs) == [1]
    first, second = (row["scores"] for row in sweep_json(jobs)["jobs"])
    assert [first["qa"]["best"], first["speech"]["best"]] == [True, False]
    assert [second["qa"]["best"], second["speech"]["best"]] == [False, True]


def test_what_cannot_be_compared_has_no_best() -> None:
    one = job(0, "seed=0", qa=score(0.5))
    assert best([one, job(1, "seed=1", qa=score(0.6, items=30))]) == []
    assert best([one, job(1, "tasks.qa.data.test=u.csv", rows="u.csv", qa=score(0.6))]) == []
    assert best([one, job(1, "tasks.qa.metrics=f1", qa=score(0.6, "f1"))]) == []
    assert best([one, job(1, "seed=1", "failed: no room")]) == []
    assert best([one]) == []


def test_seeds_of_a_setting_have_a_mean_and_a_spread(capsys: pytest.CaptureFixture[str]) -> None:
    values = {(0, 1): 0.4, (0, 2): 0.6, (1, 1): 0.7, (1, 2): 0.9}
    jobs = [job(n, f"seed={s} model=m{m}", qa=score(v)) for n, ((s, m), v) in enumerate(values.items())]
    first, second = sweep_json(jobs)["over_seeds"]
    assert (first["values"], second["values"]) == ({"seed": "0, 1", "model": "m1"}, {"seed": "0, 1", "model": "m2"})
    assert first["scores"]["qa"]["value"] == pytest.approx(0.55)
    assert first["scores"]["qa"]["deviation"] == pytest.approx(0.2121, abs=1e-4)
    assert best(jobs, "over_seeds") == [1]
    out = printed(jobs, capsys)
    assert "accuracy ↑ 0.550" in out
    assert "± 0.212, 2 seeds" in out
    assert sweep_json([job(n, f"model=m{n}", qa=score(0.5)) for n in range(2)])["over_seeds"] == []


def test_a_failed_seed_is_left_out_of_the_mean_and_told(capsys: pytest.CaptureFixture[str]) -> None:
    jobs = [job(n, f"seed={n}", qa=score(0.5 + n / 10)) for n in range(2)]
    jobs.append(job(2, "seed=2", "failed: the file ends early"))
    (mean,) = sweep_json(jobs)["over_seeds"]
    assert mean["values"] == {"seed": "0, 1, 2"}
    assert (mean["scores"]["qa"]["seeds"], mean["scores"]["qa"]["value"]) == (2, pytest.approx(0.55))
    out = printed(jobs, capsys)
    assert "failed: the file" in out
    assert "2 seeds" in out
    (lonely,) = sweep_json(jobs[1:])["over_seeds"]
    assert (lonely["scores"], lonely["lack"]) == ({}, "fewer than two seeds were evaluated")


def test_on_80_columns_no_word_is_broken(capsys: pytest.CaptureFixture[str]) -> None:
    line = "[TEXT:question] who, what? -> [TEXT:answer,max_length=30]"
    jobs = [
        Job(0, Path("runs/s/0"), {"tasks.mine.instruction": line}, "", {"image_captioning_long": score(0.5)}),
        Job(1, Path("runs/s/1"), {"tasks.mine.instruction": "x"}, "failed: OutOfMemory in /some/long/folder/of/a/user"),
    ]
    out = printed(jobs, capsys)
    assert "did not begin" in printed([*jobs, job(2, "seed=0", "stopped by SIGINT")], capsys)
    assert "did not begin" not in out
    words = [*line.split(), "tasks.mine.instruction=", "captioning_", "accuracy", "[0.400,", "OutOfMemory", "folder/"]
    assert [word for word in words if word not in out] == []


def jobs_of(run: Any, *arguments: str) -> list[Job]:
    found: list[Job] = []
    run_hydra("train", ["-m", *arguments], lambda content, folder: noted(found, content, str(folder), run))
    return found


def test_the_table_of_failed_runs_stands_before_what_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_rows("a.csv", 9)
    files = "+tasks.qa.data.train=none.csv,a.csv"
    assert main(["train", "-m", f"+tasks.qa.instruction={LINE}", files, "name=s", "model=tiny", "steps=0"]) == 1
    told = capsys.readouterr()
    assert "sweep runs/s" in told.out
    assert "steps" in told.err
    lacks = [row["lack"] for row in json.loads(Path("runs/s/sweep.json").read_text())["jobs"]]
    assert len(lacks) == 2
    assert all(lack.startswith("failed: ") for lack in lacks)


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (CardError("the model is too wide", help="less"), "failed: the model is too wide"),
        (ErrorGroup([DataError("a.csv is empty"), DataError("b.csv is empty")]), "failed: a.csv is empty (and 1 more)"),
        (RuntimeError("no room\nat all"), "failed: RuntimeError: no room"),
        (Interrupted(15), "stopped by SIGTERM"),
        (KeyboardInterrupt(), "stopped"),
    ],
)
def test_a_run_that_ended_early_has_the_reason(
    error: BaseException, lack: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def run() -> Outcome:
        raise error

    found: list[Job] = []
    with pytest.raises(type(error)):
        run_hydra("train", ["-m", "name=s", "seed=0"], lambda content, folder: noted(found, content, str(folder), run))
    assert [(each.lack, each.run, each.scores) for each in found] == [(lack, Path("runs/s/0"), {})]


def test_a_run_that_was_not_evaluated_says_so_and_shows_no_older_scores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/s/0").mkdir(parents=True)
    Path("runs/s/0/metrics.json").write_text('{"tasks": {"qa": 1}}')
    (found,) = jobs_of(lambda: Outcome(Path("runs/s/0"), "not evaluated: evaluate=false"), "name=s", "seed=0")
    assert (found.lack, found.scores) == ("not evaluated: evaluate=false", {})
    assert train._Reached(Path("runs/s/0"), "new").lack == "not evaluated: evaluate=false"


def test_values_stand_as_they_were_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = "say ${a}, [TEXT:q] -> [TEXT:a,closed_set=(x,y)]"
    given = [f"+tasks.qa.instruction={line}", "+tasks.qa.data.train=data (1).csv", "model=tiny,quick", "evaluate=false"]
    first, second = jobs_of(lambda: Outcome(Path("x"), "-"), *given)
    assert first.values == {
        "tasks.qa.instruction": line, "tasks.qa.data.train": "data (1).csv", "model": "tiny", "evaluate": "false"
    }  # fmt: skip
    assert second.values["model"] == "quick"
    assert first.run == Path("x")


@pytest.mark.parametrize(
    ("given", "home"),
    [("name=s", "runs/s"), ("name=a,b", "runs"), ("name=x/a,x/b", "runs/x"), ("hydra.sweep.dir=runs/d", "runs/d")],
)
def test_the_table_lies_beside_the_runs(given: str, home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = jobs_of(lambda: Outcome(Path("runs/earlier"), "-"), given, "seed=0,1")
    assert sweep_folder(found) == Path(home)


def test_an_earlier_table_stays_and_other_ranks_write_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    jobs = [job(0, "seed=0", "failed: x")]
    Path("runs/s").mkdir(parents=True)
    assert [tell_sweep(jobs), tell_sweep(jobs)] == [Path("runs/s/sweep.json"), Path("runs/s/sweep-2.json")]
    assert tell_sweep([]) is None
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert tell_sweep(jobs) is None
    assert sorted(path.name for path in Path("runs/s").iterdir()) == ["sweep-2.json", "sweep.json"]
