"""Training from streams: resumed bit for bit with any number of loaders, no row lost or doubled, ends that are told."""

from __future__ import annotations

import io
import json
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
from rich.console import Console
from test_killed_runs import kill_at, started
from test_training_resume import checkpoint, same_state, stop_after
from test_two_ranks import finished

from ofasys_lite.api.task import Task
from ofasys_lite.cards.types import TaskCard
from ofasys_lite.errors import CardError, CheckpointError, DataError
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.module import TrainingModule

LINE = "[TEXT:text] says -> [TEXT:label]"
MORE: dict[str, Any] = {"samples_per_step": 6, "ema": 0.9, "log_every": 2}


def lines(path: Path, count: int = 60) -> Path:
    """A jsonl file of rows with ids."""
    rows = [{"id": f"s{n}", "text": f"{worlds.WORDS[n % 6]} {n}", "label": worlds.LABELS[n % 3]} for n in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def stream(path: Path, name: str = "streamed", **more: Any) -> TaskCard:
    """A task on a file as a stream."""
    source = {"path": str(path), "stream": True, "buffer": 16, **more.pop("source", {})}
    return worlds.task(name, {"train": source}, line=LINE, **more)


@contextmanager
def trained_ids() -> Iterator[list[str]]:
    """Inside it the ids of all samples that are trained on, in order."""
    found: list[str] = []
    before = TrainingModule.training_step

    def noting(self: Any, share: Any, batch_idx: int) -> None:
        before(self, share, batch_idx)
        found.extend(id for pack in share.packs for _, id in pack.samples)

    patch = pytest.MonkeyPatch()
    patch.setattr(TrainingModule, "training_step", noting)
    try:
        yield found
    finally:
        patch.undo()


def said_by(cards: Any, folder: Path, **more: Any) -> str:
    """What a training says."""
    out = io.StringIO()
    console = Console(file=out, width=10_000, no_color=True)
    patch = pytest.MonkeyPatch()
    patch.setattr(worlds, "Console", lambda **_: console)
    try:
        worlds.run(cards, folder, **more)
    finally:
        patch.undo()
    return out.getvalue()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_run_ends_as_the_undisturbed_one_bit_for_bit(tmp_path: Path, workers: int) -> None:
    # the stream is gone through more than twice, beside an ordinary task
    cards = [stream(lines(tmp_path / "s.jsonl", 20), weight=2), *worlds.tasks("spell")]
    with trained_ids() as whole:
        worlds.run(cards, tmp_path / "whole", steps=12, **MORE)
    with trained_ids() as parts:
        stop_after(5, cards, tmp_path / "parts", steps=12, workers=workers, **MORE)
        assert checkpoint(tmp_path / "parts")["ofasys"]["streams"]["streamed"]["epoch"] == 0
        worlds.run(cards, tmp_path / "parts", steps=12, workers=2 - workers, resume=True, **MORE)
    assert parts == whole
    same_state(tmp_path / "whole", tmp_path / "parts")
    rows = [[r for r in RunFolder(tmp_path / n).history() if r["kind"] == "train"] for n in ("whole", "parts")]
    for row in (*rows[0], *rows[1]):
        row.pop("time")
    assert rows[0] == rows[1]
    assert {row["epoch"] for row in rows[0] if row["task"] == "streamed"} == {0, 1, 2}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_that_ends_leaves_its_share_to_the_others_across_a_resume(tmp_path: Path, workers: int) -> None:
    cards = [stream(lines(tmp_path / "s.jsonl", 21), epochs=1), *worlds.tasks("spell")]
    with trained_ids() as whole:
        worlds.run(cards, tmp_path / "whole", steps=10, **MORE)
    # one row each is set aside for valid and test
    assert Counter(id for id in whole if id[0] == "s") == Counter(f"s{n}" for n in range(2, 21))
    with trained_ids() as parts:
        stop_after(8, cards, tmp_path / "parts", steps=10, workers=workers, **MORE)
        worlds.run(cards, tmp_path / "parts", steps=10, workers=workers, resume=True, **MORE)
    assert parts == whole
    same_state(tmp_path / "whole", tmp_path / "parts")


def test_the_end_of_all_streams_ends_the_training_and_is_told(tmp_path: Path) -> None:
    card = stream(lines(tmp_path / "s.jsonl", 30), epochs=2)
    with trained_ids() as ids:
        said = said_by([card], tmp_path / "run", steps=50, workers=1, **MORE)
    assert Counter(ids) == Counter({f"s{n}": 2 for n in range(2, 30)}) - Counter(dict(Counter(left(ids))))
    assert checkpoint(tmp_path / "run")["global_step"] == 9
    assert "every task has ended: training ends after 9 steps" in said
    assert "s.jsonl is read as a stream, shuffled in windows of 16 rows, 2 times" in said
    assert "valid and test are the first 2 rows" in said
    steps = [row["step"] for row in RunFolder(tmp_path / "run").history() if row["kind"] == "step"]
    assert steps == [2, 4, 6, 8, 9]


def left(ids: list[str]) -> list[str]:
    """Rows of the last step, which cannot be filled."""
    counts = Counter(ids)
    return [f"s{n}" for n in range(2, 30) for _ in range(2 - counts[f"s{n}"])]


def test_rows_that_cannot_be_read_are_told_with_their_lines_and_replaced(tmp_path: Path) -> None:
    path = lines(tmp_path / "s.jsonl", 40)
    kept = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*kept[:31], "\n", '{"id": "broken"\n', *kept[31:]]))
    with trained_ids() as ids:
        said = said_by([stream(path)], tmp_path / "run", steps=7, quarantine=0.2, **MORE)
    assert len(ids) == 42
    entry = json.loads((tmp_path / "run" / "quarantine.jsonl").read_text())
    assert entry["place"] == f"{path}, line 33"
    assert "could not be read and was replaced by others" in said
    with pytest.raises(DataError, match=r"s.jsonl, line 33 .*Quarantined \(1 of "):
        worlds.run([stream(path)], tmp_path / "strict", steps=7, quarantine=0.0, **MORE)


def test_what_can_be_read_once_is_read_by_one_process(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in lines(tmp_path / "s.jsonl", 30).read_text().splitlines()]
    card = Task("once", LINE, data=iter(rows), stream=True).card
    with trained_ids() as ids:
        said = said_by([card], tmp_path / "run", steps=50, workers=2, **MORE)
    assert sorted(ids) == sorted(f"s{n}" for n in range(30))
    assert "its order is not reproducible" in said
    card = Task("once", LINE, data=iter(rows), stream=True).card
    with pytest.raises(CardError, match="task once: once train can be read by one process only, and several train"):
        worlds.run([card], tmp_path / "two", steps=5, devices=2, strategy="ddp", **MORE)


def test_a_stream_whose_first_rows_have_changed_is_not_gone_on_with(tmp_path: Path) -> None:
    path = lines(tmp_path / "s.jsonl")
    worlds.run([stream(path)], tmp_path / "run", steps=2, **MORE)
    text = path.read_text()
    path.write_text(text.replace("moon 7", "moon 77"))
    with pytest.raises(CheckpointError, match="1 of its 54 training rows hold other values"):
        worlds.run([stream(path)], tmp_path / "run", steps=4, resume=True, **MORE)


def test_a_value_that_no_first_row_has_is_quarantined(tmp_path: Path) -> None:
    path = lines(tmp_path / "s.jsonl", 50)
    path.write_text(path.read_text() + json.dumps({"id": "new", "text": "x", "label": "purple"}) + "\n")
    card = stream(path, source={"first": 40})
    card = worlds.task("closed", card.data, line="[TEXT:text] says -> [TEXT:label,closed_set]")
    worlds.run([card], tmp_path / "run", steps=9, quarantine=0.2, **MORE)
    entry = json.loads((tmp_path / "run" / "quarantine.jsonl").read_text())
    assert entry["id"] == "new"
    assert "purple" in entry["reason"]


KILLED = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_worlds as worlds
source = {{"path": {path!r}, "stream": True, "buffer": 32}}
cards = [worlds.task("streamed", {{"train": source}}, line={line!r}, weight=2), *worlds.tasks("record")]
more = dict(steps={steps}, samples_per_step=8, ema=0.9, log_every=1, workers=int(sys.argv[2]), checkpoint_every=1e-9)
worlds.run(cards, Path(sys.argv[1]), resume=True, model={{"dropout": 0.1}}, **more)
"""


@pytest.mark.slow
def test_kills_at_random_moments_change_nothing(tmp_path: Path) -> None:
    script, folder, steps = tmp_path / "script.py", tmp_path / "killed", 60
    script.write_text(KILLED.format(path=str(lines(tmp_path / "s.jsonl", 150)), line=LINE, steps=steps))
    assert started(script, tmp_path / "whole", workers=0).wait() == 0
    rng = random.Random(3)
    for number, target in enumerate((0, 8, 17, 30, 44)):
        process = started(script, folder, workers=number % 3)
        kill_at(process, folder, target, rng)
        assert process.returncode == -signal.SIGKILL, "it ended before it was killed"
    assert started(script, folder).wait() == 0
    same_state(tmp_path / "whole", folder)
    assert checkpoint(folder)["global_step"] == steps
    assert checkpoint(folder)["ofasys"]["streams"]["streamed"]["epoch"] > 0


RANKS = """
import os, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
import tiny_worlds as worlds
source = {{"path": {path!r}, "stream": True, "buffer": 16}}
card = worlds.task("streamed", {{"train": source}}, line={line!r}, epochs=1)
worlds.run([card], Path({folder!r}), devices=2, strategy="ddp", steps=30, workers=1, **{more!r})
"""


@pytest.mark.slow
def test_two_ranks_train_the_rows_that_one_does_and_end_together(tmp_path: Path) -> None:
    import subprocess

    path = lines(tmp_path / "s.jsonl")
    more = {**MORE, "clip": 0.5}
    script = tmp_path / "two.py"
    script.write_text(RANKS.format(path=str(path), line=LINE, folder=str(tmp_path / "two"), more=more))
    places = os.pathsep.join([str(Path(worlds.__file__).parent), str(Path(__file__).parents[2])])
    environment = {**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    finished(subprocess.Popen([sys.executable, str(script)], env=environment, **pipes))
    worlds.run([stream(path, epochs=1)], tmp_path / "one", steps=30, **more)
    one, two = (checkpoint(tmp_path / name) for name in ("one", "two"))
    assert one["global_step"] == two["global_step"] == 9
    assert one["ofasys"]["streams"] == two["ofasys"]["streams"]
    for name, value in one["state_dict"].items():
        assert float((value - two["state_dict"][name]).abs().max()) < 1e-3, name
