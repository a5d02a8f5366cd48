"""Processes that want the same codec: one trains it, the others wait, and nobody waits for the dead."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import code_worlds as worlds
import pytest
from filelock import FileLock
from rich.console import Console

from ofasys_lite.cards import modalities
from ofasys_lite.codec import turns
from ofasys_lite.data.codec_facts import Known
from ofasys_lite.data.splits import open_card
from ofasys_lite.errors import CheckpointError
from ofasys_lite.plan import build_plan
from ofasys_lite.plan.codecs import codec_slots
from ofasys_lite.training import missing_codecs
from ofasys_lite.training.missing_codecs import CodecTrainer

LINE = "[TEXT:cap] -> [IMAGE:img,size=8,codec=dnd(depth=2,factor=2,codes=8,steps={steps})]"
SCRIPT = """
import sys
import test_codec_turns as turns
from ofasys_lite.codec.train_codec import Images
steps = int(sys.argv[1])
real, seen = Images.batch, []
def batch(self, rows):
    seen.append(1)
    return real(self, rows)
Images.batch = batch
known, said = turns.found(steps)
print(said, len(seen), known.facts["hash"], sep="\\n")
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OFASYS_CACHE", str(tmp_path / "cache"))
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(turns, "_POLL", 0.02)
    monkeypatch.setattr(turns, "_QUIET", 0.1)
    return tmp_path / "cache"


def found(steps: int = 3) -> tuple[Known, str]:
    """The codec of LINE, and what was said on the way."""
    card = worlds.task("draw", Path(), LINE.format(steps=steps))
    (slot,) = codec_slots(build_plan(card, modalities()))
    said = io.StringIO()
    console = Console(file=said, width=1000)
    trainer = CodecTrainer(modalities(), worlds.DATA, 0, 2, console, lambda: None, lambda: None)
    return trainer.find(card, slot, open_card(card)[0]["train"]), said.getvalue()


def process(steps: int) -> subprocess.Popen[str]:
    """Another process that wants the codec; it prints how many batches it made, and the hash."""
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, (here, here.parent / "e2e", here.parents[1])))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SCRIPT, str(steps)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def in_thread(results: list[Any]) -> threading.Thread:
    def work() -> None:
        try:
            results.append(found())
        except CheckpointError as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_second_waits_with_a_message_and_uses_what_the_first_has_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()
    real, trained = missing_codecs.train_codec, []

    def slow(*given: Any) -> Any:
        trained.append(1)
        begun.set()
        assert go.wait(60)
        return real(*given)

    monkeypatch.setattr(missing_codecs, "train_codec", slow)
    results: list[Any] = []
    threads = [in_thread(results)]
    assert begun.wait(60)
    threads.append(in_thread(results))
    threads[1].join(1.0)
    assert threads[1].is_alive()
    go.set()
    for thread in threads:
        thread.join(60)
    (first, said), (second, told) = results
    assert first == second
    assert len(trained) == 1
    assert "another process trains" not in said
    assert told == f"another process trains the codec of draw ({first.folder}): waiting for it\n"


def test_a_killed_holder_blocks_nobody() -> None:
    folder = found()[0].folder
    shutil.rmtree(folder)
    script = "import sys, filelock; lock = filelock.FileLock(sys.argv[1]); lock.acquire(); print(flush=True)"
    script += "; sys.stdin.read()"
    pipe = subprocess.PIPE
    holder = subprocess.Popen([sys.executable, "-c", script, f"{folder}.lock"], stdin=pipe, stdout=pipe, text=True)
    assert holder.stdout is not None
    holder.stdout.readline()
    results: list[Any] = []
    thread = in_thread(results)
    thread.join(1.0)
    assert thread.is_alive()
    holder.send_signal(signal.SIGKILL)
    holder.communicate(timeout=60)
    thread.join(60)
    known, said = results[0]
    assert known.folder == folder
    assert said.startswith("another process trains the codec")
    assert "training a codec on the pictures of draw" in said


@pytest.mark.slow
def test_two_processes_at_once_end_with_one_codec(cache: Path) -> None:
    every = [process(60), process(60)]
    said = [one.communicate(timeout=240)[0] for one in every]
    assert [one.returncode for one in every] == [0, 0], said
    assert len({text.split()[-1] for text in said}) == 1
    assert sorted(text.split()[-2] for text in said) == ["0", "60"], said
    assert len(list((cache / "codecs").glob("*/codec.json"))) == 1


def refused(monkeypatch: pytest.MonkeyPatch, rank: str = "1") -> str:
    monkeypatch.setenv("RANK", rank)
    with pytest.raises(CheckpointError) as caught:
        found()
    assert "rank 0's own message says why" in str(caught.value.help)
    return caught.value.message


def test_another_rank_does_not_wait_for_ever_for_a_rank_0_that_never_begins(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.3)
    assert "rank 0 has not begun to train, after 0.3 s, the codec" in refused(monkeypatch)
    assert not list((cache / "codecs").glob("*/"))  # it trained nothing itself


def test_another_rank_is_told_that_rank_0_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_GRACE", 0.3)

    def fails(*_: Any) -> Any:
        begun.set()
        assert go.wait(60)
        raise CheckpointError("the disk is full")

    begun, go = threading.Event(), threading.Event()
    monkeypatch.setattr(missing_codecs, "train_codec", fails)
    results: list[Any] = []
    thread = in_thread(results)
    assert begun.wait(60)
    timer = threading.Timer(1.0, go.set)
    timer.start()
    assert "rank 0 ended without training the codec" in refused(monkeypatch)
    thread.join(60)
    assert results[0].message == "the disk is full"


def test_ranks_that_ask_together_do_not_take_each_other_for_rank_0(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.5)
    seen: list[str] = []

    def ask() -> None:
        try:
            turns.await_first_rank(tmp_path / "codec", lambda: False, lambda: None)
        except CheckpointError as error:
            seen.append(error.message)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(seen) == 4
    assert all("has not begun" in message for message in seen)


def test_another_rank_uses_the_codec_of_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    results: list[Any] = []
    monkeypatch.setenv("RANK", "1")
    thread = in_thread(results)
    thread.join(0.5)
    assert thread.is_alive()
    monkeypatch.delenv("RANK")
    first, _ = found()
    thread.join(60)
    known, said = results[0]
    assert known == first
    assert said == f"waiting for rank 0, which trains the codec of draw ({first.folder})\n"


def test_the_lock_is_free_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise CheckpointError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(missing_codecs, "train_codec", fails)
        with pytest.raises(CheckpointError, match="the disk is full"):
            found()
    known, said = found()
    assert "another process" not in said
    with FileLock(f"{known.folder}.lock", timeout=0):
        pass
