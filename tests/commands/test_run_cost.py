"""`check` and `explain` take what `train` takes, and say what that run would cost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from PIL import Image

from ofasys_lite.commands import app
from ofasys_lite.commands.run_cost import composed, outlook_of, values_of
from ofasys_lite.errors import CardError


@pytest.fixture
def answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What `train` takes for one small task, in a folder with its data."""
    monkeypatch.chdir(tmp_path)
    with open("qa.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([("q", "a"), *((f"what is {n} and {n}?", f"it is {2 * n}") for n in range(60))])
    task = ['+tasks.mine.instruction="[TEXT:q] -> [TEXT:a]"', "+tasks.mine.data.train=qa.csv"]
    return [*task, "model=tiny", "data.pieces=300", "trainer.samples_per_step=8", "trainer.precision=fp32", "steps=7"]


def test_values_of_train_are_told_from_tasks_lines_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("day=1.csv").write_text("q,a\n")
    assert values_of(["experiment=quickstart", "+tasks.x.data.train=a.csv", "~tasks.y"]) != ()
    assert values_of(["caption", "a.csv"]) == ()
    assert values_of(["[TEXT:q] a=b -> [TEXT:a]", "day=1.csv"]) == ()
    with pytest.raises(CardError, match=r"`caption` stands beside model=tiny[\s\S]*tasks=\[vqa,caption\]"):
        values_of(["caption", "model=tiny"])


def test_check_looks_at_the_rows_of_a_run_and_says_what_it_costs(
    answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["check", *answers]) == 0
    out = capsys.readouterr().out
    assert "task mine: 60 rows looked at, nothing wrong" in out
    assert "expected: " in out
    assert "7 steps in" in " ".join(out.split())
    assert "warning" not in out
    assert all(len(line) <= 80 for line in out.partition("expected: ")[2].splitlines())


def test_check_says_that_minutes_are_too_short(answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["check", *answers, "steps=1000000000", "minutes=1"]) == 0
    assert "warning: minutes=1 end it after about" in capsys.readouterr().out


def test_a_wrong_value_is_refused_as_train_refuses_it(answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["check", *answers, "trainer.lrr=1"]) == 1
    assert "did you mean `lr`" in capsys.readouterr().err
    assert app.main(["explain", *answers, "resume=true"]) == 1
    assert "`train` says what it costs" in capsys.readouterr().err


def test_check_holds_a_run_with_weights_against_its_data_without_its_cost(
    answers: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert app.main(["check", *answers, "resume=true"]) == 0
    out = capsys.readouterr().out
    assert "task mine: 60 rows looked at, nothing wrong" in out
    assert "`train` says before it begins" in out
    for start, message in (("start.text=gone", "gone: no such folder"), ("start=runs/gone", "no such run")):
        assert app.main(["check", *answers, start]) == 1
        assert message in capsys.readouterr().err


def test_explain_shows_parts_tasks_and_ranks_of_a_run(answers: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["explain", *answers]) == 0
    out = capsys.readouterr().out
    assert "token table" in out
    assert "mine" in out
    assert "ddp, 2 ranks" in out


def test_no_codec_is_trained_to_know_what_it_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    with open("pictures.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("label", "img"))
        for n in range(40):
            Image.new("RGB", (16, 16), (n, 5 * n, 255 - n)).save(f"{n}.png")
            writer.writerow((f"number {n}", f"{n}.png"))
    line = '+tasks.draw.instruction="[TEXT:label] -> [IMAGE:img,size=16,codec=dnd(depth=2,codes=16)]"'
    values = [line, "+tasks.draw.data.train=pictures.csv", "model=tiny", "data.pieces=300", "trainer.precision=fp32"]
    found = outlook_of(composed(values, [])).expected
    (name,) = (part for part in found.parameters if "dnd" in part)
    # two heads and the table of 16 codes of width 128, their norms, the mask, and the codec, which rests
    assert found.parameters[name] > 3 * 16 * 128
    assert sum(found.parameters.values()) - found.trained > 1000
    assert [task.target for task in found.tasks] == [16]
    assert not (tmp_path / "cache" / "codecs").exists()
