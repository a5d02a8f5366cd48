"""evaluate, predict and report on a run that lies on disk: what they write, and what they say about mistakes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_worlds as worlds
from PIL import Image

from ofasys_lite.commands.app import main
from ofasys_lite.errors import DataError
from ofasys_lite.run.find_run import refuse_elsewhere

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
LINE = "[IMAGE:img] which colour? -> [TEXT:label,closed_set]"
PAINT = "[IMAGE:img] which paint? -> [TEXT:label,closed_set=paints]"


def write_split(folder: Path, split: str, count: int) -> str:
    """A csv file of pictures beside it; the path."""
    rows = []
    for number in range(count):
        label = tuple(COLOURS)[number % 3]
        name = f"{split}-{number}.png"
        shade = tuple(min(255, part + number) for part in COLOURS[label])
        Image.new("RGB", (16, 16), shade).save(folder / name)
        rows.append({"id": f"{split}-{number}", "img": name, "label": label, "box": "2,2,9,9"})
    with (folder / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(folder / f"{split}.csv")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the finished run runs/shades: colours and boxes of small pictures."""
    home = tmp_path_factory.mktemp("home")
    (home / "rows").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("OFASYS_CACHE", str(home / "cache"))
        data = {split: write_split(home / "rows", split, count) for split, count in
                (("train", 24), ("valid", 6), ("test", 9))}  # fmt: skip
        colour = worlds.task("colour", data, line=LINE, metrics=[{"name": "accuracy", "baselines": ["majority"]}])
        find = worlds.task("find", data, line="[IMAGE:img] where is it? -> [BOX:box]")
        named = worlds.task(
            "named", data, line="[IMAGE:pic] name it. -> [TEXT:score]", columns={"pic": "img", "score": "label"}
        )
        paint = worlds.task("paint", data, line=PAINT, sets={"paints": list(COLOURS)})
        worlds.run([colour, find, named, paint], home / "runs" / "shades", steps=4)
        yield home


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OFASYS_CACHE", str(place / "cache"))


def test_evaluate_prints_the_table_and_writes_three_files(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "run=runs/shades", "limit=6", "bootstrap=50", "samples=3"]) == 0
    said = capsys.readouterr().out
    assert "shades on test" in said
    assert "majority" in said
    run = place / "runs" / "shades"
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["name"] == "shades"
    assert metrics["tasks"]["colour"]["metric"]["items"] == 6
    assert metrics["facts"]["training"].startswith("4 steps")
    page = (run / "report.html").read_text()
    assert page.count('<img class="shot"') == 16  # samples and worst cases
    assert "loss (dashed: chance), validation score" in page
    (run / "report.html").unlink()
    assert main(["report", "runs/shades"]) == 0
    assert (run / "report.html").read_text() == page


def test_evaluate_takes_tasks_a_split_and_another_folder(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["evaluate", "runs/shades", "tasks=[colour]", "split=valid", "baselines=false", "report=false",
             "output=elsewhere", "bootstrap=10"]  # fmt: skip
    assert main(order) == 0
    metrics = json.loads((place / "elsewhere" / "metrics-valid.json").read_text())
    assert list(metrics["tasks"]) == ["colour"]
    assert metrics["split"] == "valid"
    assert metrics["tasks"]["colour"]["baselines"] == []
    assert not (place / "elsewhere" / "report-valid.html").exists()


def test_an_evaluation_of_some_tasks_leaves_the_runs_files_alone(place: Path) -> None:
    run = place / "runs" / "shades"
    before = {path: path.read_bytes() for path in run.glob("*.*") if path.is_file()}
    assert main(["evaluate", "runs/shades", "tasks=[colour]", "baselines=false", "bootstrap=10"]) == 0
    assert {path: path.read_bytes() for path in before} == before
    assert list(json.loads((run / "metrics-colour.json").read_text())["tasks"]) == ["colour"]
    assert (run / "evaluation-colour.json").exists()
    assert (run / "report-colour.html").exists()


def test_another_decoding_stands_beside_the_evaluation_of_all(place: Path) -> None:
    order = ["evaluate", "runs/shades", "baselines=false", "report=false", "bootstrap=10", "output=ways"]
    assert main(order) == 0
    before = (place / "ways" / "metrics.json").read_bytes()
    assert "decoding given" not in json.loads(before)["facts"]
    assert main([*order, "decoding.beam=2", "decoding.length_penalty=0.5"]) == 0
    assert (place / "ways" / "metrics.json").read_bytes() == before
    facts = json.loads((place / "ways" / "metrics-beam2-length_penalty0.5.json").read_text())["facts"]
    assert facts["decoding given"] == "beam=2 length_penalty=0.5"
    assert main([*order[:-1], "output=beams", "tasks=[colour]", "split=valid", "decoding={beam: 2}"]) == 0
    assert [path.name for path in (place / "beams").glob("metrics*")] == ["metrics-valid-beam2.json"]


def test_predict_answers_a_task_and_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/shades", "colour", "img=rows/test-0.png"]) == 0
    first = capsys.readouterr().out.strip()
    assert first in COLOURS
    assert main(["predict", "shades", LINE, "img=rows/test-0.png"]) == 0
    assert capsys.readouterr().out.strip() == first
    assert main(["predict", "shades", "colour", "img=rows/test-0.png", "beam=2", "n_best=2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["label"] == first
    best = found["n_best"]
    assert best[0]["label"] == first
    assert found["score"] == best[0]["score"] > best[1]["score"]


def test_predict_reads_the_data_columns_that_the_card_names(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    order = ["predict", "runs/shades", "named", "--data", "rows/test.csv", "--limit", "2"]
    assert main(order) == 0
    for line in map(json.loads, capsys.readouterr().out.splitlines()):
        # `score` is the column's name, so the values stand for themselves
        assert line.keys() == {"id", "inputs", "values", "score", "reference"}
        assert line["values"].keys() == {"score"}


def test_predict_takes_a_learned_line_with_a_set_of_its_card(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "shades", PAINT, "img=rows/test-0.png"]) == 0
    assert capsys.readouterr().out.strip() in COLOURS


def test_predict_says_which_options_of_rows_need_rows(capsys: pytest.CaptureFixture[str]) -> None:
    for extra in (["--limit", "3"], ["--data", "rows/test.csv", "--limit", "0"]):
        with pytest.raises(SystemExit):
            main(["predict", "runs/shades", "colour", "img=rows/test-0.png", *extra])
        assert "--limit is" in capsys.readouterr().err


def test_predict_draws_the_box_it_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "runs/shades", "find", "img=rows/test-1.png", "--out", "found.png"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 4
    with Image.open(place / "found.png") as picture:
        assert picture.size == (256, 256)


def test_predict_writes_a_line_for_every_row_of_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = (place / "rows" / "test.csv").read_text()
    (place / "rows" / "more.csv").write_text(rows + "gone,nowhere.png,red,\n")
    assert main(["predict", "runs/shades", "colour", "--data", "rows/more.csv", "--out", "said.jsonl"]) == 1
    lines = [json.loads(line) for line in (place / "said.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == [*(f"test-{i}" for i in range(9)), "gone"]
    assert all(line["label"] in COLOURS for line in lines[:-1])
    assert "nowhere.png" in lines[-1]["error"]
    assert "1 of 10 rows could not be read" in capsys.readouterr().err
    assert main(["predict", "runs/shades", "colour", "--data", "rows/test.csv", "--limit", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


MISTAKES = [
    ("evaluate", "`run` is not given"),
    ("evaluate run=runs/shads", "did you mean `runs/shades`?"),
    ("evaluate runs/shades tasks=[color]", "has not learned the task `color`\n  help: did you mean `colour`?"),
    ("evaluate runs/shades split=tset", "did you mean `test`?"),
    ("evaluate runs/shades limit=0", "`limit` is `0`"),
    ("evaluate runs/shades baselines=3", "`baselines` is `3`"),
    ("evaluate runs/shades decoding=4", "`decoding` is `4`\n  help: options by name, such as decoding.beam=4"),
    ("evaluate runs/shades decoding.baem=4", "task colour: decoding: unknown key `baem`"),
    ("evaluate runs/shades decoding.beam=no", "beam is 'no'"),
    ("evaluate runs/shades decoding.beam=2,4", "`decoding.beam` is given several values"),
    ("evaluate runs/shades decoding.steps=4", "task colour: decoding: `steps` does nothing"),
    ("evaluate runs/shades checkpoint=best", "keeps no best checkpoint"),
    ("evaluate runs/shades checkpoint=x.safetensors", "there is no such file"),
    ("evaluate runs/shades limti=3", "did you mean `limit`?"),
    ("evaluate runs/shades tasks.colour.data.test=x.csv", "a run is judged on the data that it was trained beside"),
    ("evaluate runs/shades +tasks.colour.weight=2", "tasks=[...] takes names alone"),
    ("evaluate rows", "rows holds no trained model: export/config.json is missing"),
    ("report runs/shads", "did you mean `runs/shades`?"),
    ("report runs/shades/export", "there is no evaluation yet"),
    ("report runs/shades --out page.txt", "a report is a page of HTML\n  help: --out page.html"),
    ("predict runs/shads colour", "did you mean `runs/shades`?"),
    ("predict runs/shades colors img=a.png", "did you mean `colour`?"),
    ("predict runs/shades colour", "slot [IMAGE:img] has no value\n  help: write img=file.png"),
    ("predict runs/shades colour img=rows/tset-0.png", "did you mean `test-0.png`?"),
    ("predict runs/shades colour image=a.png", "did you mean `img`?"),
    ("predict runs/shades colour img=rows/test-0.png baem=4", "did you mean `beam`?"),
    ("predict runs/shades colour img=rows/test-0.png img=a.png", "`img` is given twice"),
    ("predict runs/shades colour picture", "cannot read the argument `picture`\n  help: write img=picture"),
    ("predict runs/shades colour img=rows/test-0.png beam=no", "beam is 'no'"),
    ("predict runs/shades [TXET:q]->[TEXT:a] q=1", "did you mean `TEXT`?"),
    ("predict runs/shades find --data rows/tset.csv", "did you mean"),
]


@pytest.mark.parametrize(("order", "message"), MISTAKES, ids=[order for order, _ in MISTAKES])
def test_a_mistake_is_told_with_what_to_do(order: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(order.split()) == 1
    assert message in capsys.readouterr().err


def test_a_run_whose_data_lie_elsewhere_says_from_which_folder_to_start(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("q,a\n")
    sources = {"train": {"path": "rows.csv", "separator": ","}, "test": "digits:test"}
    with pytest.raises(
        DataError, match=r"no file rows\.csv in .*relative paths start where the run was trained"
    ) as told:
        refuse_elsewhere(tmp_path / "runs" / "a", {"mine": sources})
    assert told.value.help == f"it lies in {tmp_path}: cd {tmp_path}"
    refuse_elsewhere(tmp_path / "runs" / "a", {"mine": {"train": "gone.csv"}})  # the reader says more of it


def test_a_run_that_was_stopped_says_how_to_finish_it(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "runs" / "half").mkdir()
    (place / "runs" / "half" / "config.yaml").write_text("name: half\n")
    assert main(["evaluate", "runs/half"]) == 1
    assert "finish it: ofasys-lite train resume=runs/half" in capsys.readouterr().err


def test_mistakes_are_told_without_torch(place: Path) -> None:
    orders = [
        "evaluate runs/shades tasks=[color]",
        "predict runs/shades colour",
        "predict runs/shades colour img=no.png",
    ]
    code = (
        f"import sys\nfrom ofasys_lite.commands.app import main\nfor order in {orders!r}:\n"
        "    assert main(order.split()) == 1\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env={**os.environ})


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_an_interrupted_training_says_how_to_go_on_and_exits_with_128_and_the_signal(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.csv").write_text("q,a\n" + "".join(f"{n},{n}\n" for n in range(30)), encoding="utf-8")

    def interrupted(run: object, config: object) -> None:
        if keeps:
            Path("runs/mine/checkpoints").mkdir(parents=True)
            Path("runs/mine/checkpoints/last.ckpt").touch()
        os.kill(os.getpid(), number)

    monkeypatch.setattr("ofasys_lite.commands.train._train", interrupted)
    line = ['+tasks.mine.instruction="[TEXT:q] -> [TEXT:a]"', "+tasks.mine.data.train=my.csv", "model=tiny", "steps=9"]
    for keeps in (False, True):
        assert main(["train", *line]) == 128 + number
        told = "to go on where it stopped: ofasys-lite train resume=runs/mine\n"
        told = told if keeps else "nothing was trained yet: the same command begins again\n"
        assert capsys.readouterr().err.endswith(f"{told}stopped by {number.name}\n")


@pytest.mark.parametrize("ranks", ["1", "2"])
def test_a_rank_of_several_heeds_a_signal_together_with_the_others(ranks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []

    def trains(arguments: list[str]) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.2)
        reached.append("the first step, where all ranks decide")
        return 0

    monkeypatch.setenv("WORLD_SIZE", ranks)
    monkeypatch.setattr("ofasys_lite.commands.train.main", trains)
    assert main(["train"]) == 128 + signal.SIGTERM
    assert len(reached) == (ranks == "2")


def test_a_run_in_place_of_a_task_and_resume_without_tasks_say_what_to_type(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("check", "explain"):
        assert main([verb, "runs/shades"]) == 1
        told = capsys.readouterr().err
        assert "runs/shades is a run, and no task" in told
        assert "ofasys-lite evaluate runs/shades" in told
    assert main(["train", "resume=true", "name=shades"]) == 1
    assert "train resume=runs/shades" in capsys.readouterr().err
