"""A run's folder: nobody else's files, no other run unless told, one process at a time; full disks."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite import GeneralistModel, Task, fit
from ofasys_lite.errors import CheckpointError, OfasysError, WriteError
from ofasys_lite.run.run_folder import RunFolder

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom ofasys_lite.run.run_folder import RunFolder\n"
    "with RunFolder(sys.argv[1]).held():\n    print('held', flush=True)\n    time.sleep(60)\n"
)


def steps_of(folder: Path) -> int:
    return int(torch.load(RunFolder(folder).last, weights_only=True)["global_step"])


def test_a_run_is_replaced_only_when_told_and_files_of_others_stay(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=2)
    (tmp_path / "run" / "notes.txt").write_text("precious")
    (tmp_path / "run" / "checkpoints" / "mine.ckpt").write_text("precious")
    with pytest.raises(CheckpointError, match="already holds a run") as caught:
        worlds.run(cards, tmp_path / "run", steps=1)
    assert "overwrite=true" in caught.value.help
    with pytest.raises(CheckpointError, match="resume and overwrite"):
        worlds.run(cards, tmp_path / "run", steps=1, overwrite=True, resume=True)
    assert steps_of(tmp_path / "run") == 2
    worlds.run(cards, tmp_path / "run", steps=1, overwrite=True)
    assert steps_of(tmp_path / "run") == 1
    assert max(row["step"] for row in RunFolder(tmp_path / "run").history()) == 1
    assert (tmp_path / "run" / "notes.txt").read_text() == "precious"
    assert (tmp_path / "run" / "checkpoints" / "mine.ckpt").read_text() == "precious"


def test_a_finished_run_without_its_checkpoints_is_not_replaced_either(tmp_path: Path) -> None:
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1)
    (tmp_path / "run" / "checkpoints" / "last.ckpt").unlink()
    with pytest.raises(CheckpointError, match="already holds a run"):
        RunFolder(tmp_path / "run").claim()


@pytest.mark.parametrize("mine", ["config.yaml", "metrics.jsonl", "checkpoints/last.ckpt.bak", "export/x", "logs/x"])
@pytest.mark.parametrize("told", [{}, {"overwrite": True}, {"resume": True}])
def test_files_of_others_under_our_names_are_never_replaced(tmp_path: Path, mine: str, told: dict[str, bool]) -> None:
    path = tmp_path / "run" / mine
    path.parent.mkdir(parents=True)
    path.write_text("precious")
    with pytest.raises(WriteError, match=f"not of a run: {mine.partition('/')[0]}"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1, **told)
    assert path.read_text() == "precious"


def test_a_folder_with_other_files_takes_a_run_and_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("precious")
    RunFolder(tmp_path).claim()
    with RunFolder(tmp_path).held():
        pass
    assert (tmp_path / "log").read_text() == "precious"


def test_a_path_that_is_a_file_is_told_before_work_begins(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    for place in (tmp_path / "file", tmp_path / "file" / "run", tmp_path / "x" / ".." / "file"):
        with pytest.raises(WriteError, match="file"):
            worlds.run(worlds.tasks("spell"), place, steps=1)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_run_in_use_is_refused_with_who_trains_it_whatever_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    try:
        for told in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(WriteError, match=rf"run {folder} is in use by process {process.pid} on"):
                worlds.run(worlds.tasks("spell"), folder, steps=1, **told)
    finally:
        process.kill()
        process.wait()
    worlds.run(worlds.tasks("spell"), folder, steps=1)


def test_fit_takes_another_folder_where_none_is_named_and_refuses_a_named_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    task = Task("spell", instruction="[TEXT:a] -> [TEXT:b]").add_dataset([{"a": "x", "b": "y"}] * 8, "train")
    options: dict[str, Any] = {"steps": 1, "workers": 0, "valid_every": 0, "samples_per_step": 4, "pieces": 300}
    model = GeneralistModel("tiny")
    for wanted in ("runs/spell", "runs/spell-2"):
        assert str(fit(model, task, **options).run) == wanted
        options.pop("pieces", None)
    with pytest.raises(CheckpointError, match="already holds a run"):
        fit(model, task, name="spell", **options)
    fit(model, task, name="spell", overwrite=True, **options)


def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Checkpoints find the disk full in the middle of the file, from the `after`-th on."""
    real, calls = torch.save, 0

    def save(state: Any, path: Any, *more: Any, **named: Any) -> None:
        nonlocal calls
        calls += 1
        if calls <= after:
            real(state, path, *more, **named)
            return
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(torch, "save", save)


def test_a_disk_that_fills_up_in_the_middle_leaves_the_checkpoint_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        full_disk(patch, after=2)
        with pytest.raises(WriteError, match=r"cannot write .*last\.ckpt: the disk is full") as caught:
            worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=9, checkpoint_every=1e-9)
    assert "the checkpoint before is kept" in caught.value.help
    assert os.listdir(tmp_path / "run" / "checkpoints") == ["last.ckpt"]
    assert 0 < steps_of(tmp_path / "run") < 9
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=9, resume=True)
    assert steps_of(tmp_path / "run") == 9


def test_a_disk_without_room_for_a_checkpoint_is_told_before_the_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(OfasysError, match=r"a checkpoint takes .* kB, and the disk has 100.0 kB left"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1)
    assert RunFolder(tmp_path / "run").history() == []


def test_what_a_killed_run_left_half_written_is_taken_away(tmp_path: Path) -> None:
    with RunFolder(tmp_path).held():
        pass
    left = tmp_path / "checkpoints" / ".part-0123abcd-last.ckpt"
    left.parent.mkdir()
    left.write_text("half")
    with RunFolder(tmp_path).held(resume=True):
        assert not left.exists()


def test_a_run_does_not_begin_inside_another_ones_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "runs" / "outer", steps=1)
    for below in ("inner", "export", "logs/again"):
        with pytest.raises((CheckpointError, WriteError), match="lies in the folder of another run, runs/outer"):
            worlds.run(cards, tmp_path / "runs" / "outer" / below, steps=1)
    worlds.run(cards, tmp_path / "runs" / "beside", steps=1)
    worlds.run(cards, tmp_path / "runs" / "outer", steps=2, resume=True)


def test_a_folder_around_that_may_not_be_looked_into_does_not_hinder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = RunFolder.trained

    def closed(self: RunFolder) -> bool:
        if self.path == tmp_path:
            raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "export" / "config.json"))
        return trained(self)

    monkeypatch.setattr(RunFolder, "trained", closed)
    RunFolder(tmp_path / "runs" / "a").claim()
