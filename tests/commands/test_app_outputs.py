"""What commands write beside answers: evaluations, reports, sheets, formatted cards; nothing else is replaced."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_worlds as worlds

from ofasys_lite.commands import evaluate, fmt
from ofasys_lite.commands.app import main

LINE = "[TEXT:title] colour? -> [TEXT:colour,closed_set]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory with the evaluated run runs/paint."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        patch.setenv("OFASYS_CACHE", str(home / "cache"))
        rows = [{"id": f"r{n}", "title": f"word {n}", "colour": ("red", "green")[n % 2]} for n in range(40)]
        for split, part in {"train": rows[:24], "valid": rows[24:32], "test": rows[32:]}.items():
            (home / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
        data = {split: str(home / f"{split}.jsonl") for split in ("train", "valid", "test")}
        worlds.run([worlds.task("paint", line=LINE, data=data)], home / "runs" / "paint", steps=2)
        yield home


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("OFASYS_CACHE", str(place / "cache"))


QUICK = ("baselines=false", "bootstrap=5", "samples=0", "report=false")


def test_some_rows_and_other_weights_do_not_replace_a_whole_evaluation(place: Path) -> None:
    run = place / "runs" / "paint"
    assert main(["evaluate", "runs/paint", "limit=2", *QUICK]) == 0
    assert json.loads((run / "metrics.json").read_text())["tasks"]["paint"]["metric"]["items"] == 2
    assert main(["evaluate", "runs/paint", *QUICK]) == 0
    before = (run / "metrics.json").read_bytes()
    assert json.loads(before)["tasks"]["paint"]["metric"]["items"] == 8
    weights = run / "export" / "model.safetensors"
    assert main(["evaluate", "runs/paint", "limit=2", *QUICK]) == 0
    assert main(["evaluate", "runs/paint", f"checkpoint={weights}", *QUICK]) == 0
    assert (run / "metrics.json").read_bytes() == before
    assert json.loads((run / "metrics-limit2.json").read_text())["tasks"]["paint"]["metric"]["items"] == 2
    assert (run / "metrics-model.json").is_file()
    assert main(["evaluate", "runs/paint", *QUICK]) == 0


def test_an_evaluation_leaves_other_files_alone(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "_evaluated", lambda *_: pytest.fail("a model was loaded"))
    mine = place / "mine"
    mine.mkdir()
    (mine / "metrics.json").write_text("precious")
    assert main(["evaluate", "runs/paint", "output=mine", *QUICK]) == 1
    assert "mine holds files that are not of an evaluation: metrics.json" in capsys.readouterr().err
    (place / "file").write_text("precious")
    assert main(["evaluate", "runs/paint", "output=file/x", *QUICK]) == 1
    assert "file is a file, not a folder" in capsys.readouterr().err
    assert (mine / "metrics.json").read_text() == "precious"


def test_a_report_is_written_over_a_file_only_when_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "runs/paint", *QUICK]) == 0
    (place / "page.html").write_text("precious")
    assert main(["report", "runs/paint", "--out", "page.html"]) == 1
    assert "page.html is there already" in capsys.readouterr().err
    assert (place / "page.html").read_text() == "precious"
    assert main(["report", "runs/paint", "--out", "runs/paint/evaluation.json", "--overwrite"]) == 1
    assert main(["report", "runs/paint", "--out", "page.html", "--overwrite"]) == 0


def test_fmt_keeps_mode_line_ends_and_links(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = place / "mine.yaml"
    card.write_bytes(b"instruction: '[ TEXT : q ] -> [TEXT:a]'\r\ndata: {train: x.csv}  # mine\r\n")
    card.write_bytes(card.read_bytes().replace(b"'", b""))
    card.write_bytes(b"instruction: |\r\n  [ TEXT : q ] -> [TEXT:a]\r\ndata: {train: x.csv}  # mine\r\n")
    card.chmod(0o640)
    (place / "link.yaml").symlink_to("mine.yaml")
    assert main(["fmt", "link.yaml"]) == 0
    assert (place / "link.yaml").is_symlink()
    assert card.read_bytes() == b"instruction: |\r\n  [TEXT:q] -> [TEXT:a]\r\ndata: {train: x.csv}  # mine\r\n"
    assert card.stat().st_mode & 0o777 == 0o640
    card.write_bytes(b"instruction: |\n  [ TEXT : q ] -> [TEXT:a]\n")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    assert main(["fmt", "mine.yaml"]) == 1
    assert card.read_bytes() == b"instruction: |\n  [ TEXT : q ] -> [TEXT:a]\n"
    assert not list(place.glob(".part-*"))


def test_what_the_system_refuses_anywhere_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(arguments: list[str]) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fmt, "main", full)
    assert main(["fmt", "x"]) == 1
    assert capsys.readouterr().err.startswith("no space left on device\n  help: make room")
