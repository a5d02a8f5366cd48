"""One process at a time in a folder; the lock ends with its holder, however that ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ofasys_lite.errors import WriteError
from ofasys_lite.writing import locked

HOLD = (
    "import sys, os, time\nfrom pathlib import Path\nfrom ofasys_lite.writing import locked\n"
    "with locked(Path(sys.argv[1]), 'run'):\n"
    "    if len(sys.argv) > 2 and os.fork() == 0: time.sleep(float(sys.argv[2])); os._exit(0)\n"
    "    print('held', flush=True)\n    time.sleep(60)\n"
)


def holder(folder: Path, *more: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *more], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    process.stdout.close()
    return process


def test_a_folder_in_use_is_refused_with_who_holds_it(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(WriteError, match=rf"run {tmp_path} is in use by process {process.pid} on .* since 20"):
            locked(tmp_path).__enter__()
    finally:
        process.kill()
        process.wait()
    with locked(tmp_path):
        pass


def test_a_killed_holder_s_children_are_waited_for(tmp_path: Path) -> None:
    process = holder(tmp_path, "1")
    process.send_signal(signal.SIGKILL)
    process.wait()
    started = time.monotonic()
    with locked(tmp_path):
        assert time.monotonic() - started < 10


def test_the_lock_may_be_nested_and_is_free_afterwards(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        with locked(tmp_path / "new" / ".." / "new"):
            pass
        assert (tmp_path / "new" / ".ofasys-holder.json").exists()
        (tmp_path / "new" / "work").write_text("")
    assert sorted(os.listdir(tmp_path / "new")) == [".ofasys-lock", "work"]


def test_a_folder_that_nothing_came_into_is_not_left(tmp_path: Path) -> None:
    with locked(tmp_path / "new"):
        pass
    assert os.listdir(tmp_path) == []


def test_other_ranks_of_a_run_do_not_ask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process = holder(tmp_path)
    try:
        monkeypatch.setenv("LOCAL_RANK", "1")
        with locked(tmp_path):
            pass
    finally:
        process.kill()
        process.wait()


def test_a_lock_where_nothing_can_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        locked(tmp_path / "file" / "run").__enter__()
