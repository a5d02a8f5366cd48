"""N steps are k steps, a resume and N - k steps, bit for bit; what changed in between is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch

from ofasys_lite.errors import CheckpointError
from ofasys_lite.run.run_folder import RunFolder

TASKS = ("caption", "restore", "find", "speech", "record", "fill")
MORE: dict[str, Any] = {"samples_per_step": 6, "ema": 0.9, "log_every": 2}


def checkpoint(folder: Path) -> dict[str, Any]:
    """The last checkpoint of a run."""
    found: dict[str, Any] = torch.load(RunFolder(folder).last, weights_only=True)
    return found


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """Every leaf of nested dictionaries and lists by its path."""
    if isinstance(value, dict):
        return {k: v for key, inner in value.items() for k, v in flat(inner, f"{name}/{key}").items()}
    if isinstance(value, (list, tuple)):
        return {k: v for key, inner in enumerate(value) for k, v in flat(inner, f"{name}/{key}").items()}
    return {name: value}


def same_state(first: Path, second: Path) -> None:
    """Asserts that weights, optimizer and averages of two runs are the same bit for bit."""
    one, two = checkpoint(first), checkpoint(second)
    assert one["global_step"] == two["global_step"]
    for part in ("state_dict", "optimizer_states"):
        a, b = flat(one[part]), flat(two[part])
        assert a.keys() == b.keys()
        for key, value in a.items():
            assert torch.equal(value, b[key]) if isinstance(value, torch.Tensor) else value == b[key], key
    assert worlds.equal(one["ofasys"]["average"], two["ofasys"]["average"])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_a_resumed_run_ends_as_the_undisturbed_one_bit_for_bit(tmp_path: Path, workers: int) -> None:
    cards = worlds.tasks(*TASKS)
    model = {"dropout": 0.1}
    whole = worlds.run(cards, tmp_path / "whole", steps=6, model=model, **MORE)
    # the schedule of the learning rate follows `steps`: the first part stops at half of it by an interruption
    stop_after(3, cards, tmp_path / "parts", steps=6, model=model, workers=workers, **MORE)
    assert checkpoint(tmp_path / "parts")["global_step"] == 3
    parts = worlds.run(cards, tmp_path / "parts", steps=6, model=model, workers=workers, resume=True, **MORE)
    assert worlds.equal(worlds.weights(whole), worlds.weights(parts))
    same_state(tmp_path / "whole", tmp_path / "parts")
    rows = [[r for r in RunFolder(tmp_path / n).history() if r["kind"] == "train"] for n in ("whole", "parts")]
    for row in (*rows[0], *rows[1]):
        row.pop("time")
    assert rows[0] == rows[1]


def stop_after(step: int, cards: Any, folder: Path, **more: Any) -> None:
    """Runs until an interruption (Ctrl-C) behind `step`."""
    from ofasys_lite.training.callbacks import Logs

    before = Logs.on_train_batch_end

    def interrupting(self: Any, trainer: Any, module: Any, *rest: Any) -> None:
        before(self, trainer, module, *rest)
        if trainer.global_step == step:
            raise KeyboardInterrupt

    patch = pytest.MonkeyPatch()
    patch.setattr(Logs, "on_train_batch_end", interrupting)
    try:
        with pytest.raises(KeyboardInterrupt):
            worlds.run(cards, folder, **more)
    finally:
        patch.undo()


def test_an_interruption_keeps_a_checkpoint_and_leaves_ctrl_c_as_it_was(tmp_path: Path) -> None:
    import signal

    handler = signal.getsignal(signal.SIGINT)
    stop_after(2, worlds.tasks("spell"), tmp_path / "run", steps=5)
    assert signal.getsignal(signal.SIGINT) is handler
    assert checkpoint(tmp_path / "run")["global_step"] == 2


def test_a_finished_run_can_be_resumed_for_more_steps(tmp_path: Path) -> None:
    cards = worlds.tasks("spell", "sound")
    worlds.run(cards, tmp_path / "run", steps=2)
    worlds.run(cards, tmp_path / "run", steps=4, resume=True)
    worlds.run(cards, tmp_path / "run", steps=7, resume=True)
    assert checkpoint(tmp_path / "run")["global_step"] == 7


def test_a_finished_run_resumed_as_it_was_only_writes_its_export_again(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    first = worlds.run(cards, tmp_path / "run", steps=3, ema=0.5)
    second = worlds.run(cards, tmp_path / "run", steps=3, ema=0.5, resume=True)
    assert worlds.equal(worlds.weights(first), worlds.weights(second))
    assert checkpoint(tmp_path / "run")["global_step"] == 3


def test_a_run_that_is_made_longer_says_that_its_rate_rises_and_how_it_stays_low(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import io
    import re

    from rich.console import Console

    said: list[io.StringIO] = []

    def console(**_: Any) -> Console:
        said.append(io.StringIO())
        return Console(file=said[-1], width=1000)

    monkeypatch.setattr(worlds, "Console", console)
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=8, lr=1e-2)
    for steps, more, note in ((16, {}, True), (24, {"schedule": "constant", "lr": 2e-4}, False)):
        worlds.run(cards, tmp_path / "run", steps=steps, resume=True, **{"lr": 1e-2, **more})
        found = re.search(r"the learning rate was (\S+) and rises to (\S+): the run is 50% done", said[-1].getvalue())
        assert (found is not None) == note
        if found is not None:
            assert float(found[1]) < float(found[2])
            assert f"trainer.schedule=constant trainer.lr={found[1]}" in said[-1].getvalue()
    worlds.run(cards, tmp_path / "run", steps=24, resume=True, schedule="constant", lr=2e-4)
    assert "step 24 was the last one: nothing is left to train" in said[-1].getvalue()
    rates = [row["lr"] for row in RunFolder(tmp_path / "run").history() if row["kind"] == "step" and row["step"] > 16]
    assert set(rates) == {2e-4}


def test_minutes_end_a_run_and_its_resume_adds_nothing(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=None, minutes=0.005)
    steps = checkpoint(tmp_path / "run")["global_step"]
    assert steps >= 1
    worlds.run(cards, tmp_path / "run", steps=None, minutes=0.005, resume=True)
    assert checkpoint(tmp_path / "run")["global_step"] == steps


def test_epochs_of_all_tasks_end_a_run_without_steps_or_minutes_being_reached(tmp_path: Path) -> None:
    cards = [worlds.task("spell", epochs=1)]
    worlds.run(cards, tmp_path / "run", steps=50, samples_per_step=8)
    assert checkpoint(tmp_path / "run")["global_step"] == 3


def test_a_second_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=1)
    with pytest.raises(CheckpointError, match="already holds a run"):
        worlds.run(cards, tmp_path / "run", steps=1)


def test_a_changed_line_is_refused_with_both_lines_and_ignore_plans_accepts_it(tmp_path: Path) -> None:
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=1)
    changed = [worlds.task("spell", line="[PHONE:phones] is spelt -> [TEXT:text]")]
    with pytest.raises(CheckpointError) as caught:
        worlds.run(changed, tmp_path / "run", steps=2, resume=True)
    assert caught.value.message == (
        f'checkpoint {tmp_path}/run: task spell was trained with "[PHONE:phones] is written -> [TEXT:text]" and is now '
        '"[PHONE:phones] is spelt -> [TEXT:text]". Pass plans=ignore to accept.'
    )
    worlds.run(changed, tmp_path / "run", steps=2, resume=True, ignore_plans=True)
    assert checkpoint(tmp_path / "run")["global_step"] == 2


def test_a_task_left_out_or_added_is_refused(tmp_path: Path) -> None:
    worlds.run(worlds.tasks("spell", "sound"), tmp_path / "run", steps=1)
    with pytest.raises(CheckpointError, match="task sound was trained in this run and is now left out"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=2, resume=True)
    with pytest.raises(CheckpointError, match="task fill was not trained in this run"):
        worlds.run(worlds.tasks("spell", "sound", "fill"), tmp_path / "run", steps=2, resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"ffn": 32}}, "model.ffn was 64 and is now 32"),
        ({"seed": 7}, "seed was 0 and is now 7"),
        ({"samples_per_step": 4}, "samples_per_step was 8 and is now 4"),
    ],
)
def test_another_model_or_mixture_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=1)
    with pytest.raises(CheckpointError, match=message):
        worlds.run(cards, tmp_path / "run", steps=2, resume=True, **change)


def changed(how: str, folder: Path) -> list[dict[str, Any]]:
    """The rows of `spell` and `caption`, and what may become of them."""
    from PIL import Image

    rows = worlds.rows(24, seed=1)
    for number, row in enumerate(rows):
        row["img"] = str(folder / f"{number}.png")
        pixels = row.pop("wav")["array"][: 16 * 16 * 3].reshape(16, 16, 3)
        pixels = -pixels if how == "pictures" and number == 5 else pixels
        Image.fromarray((128 + 100 * pixels).astype("uint8")).save(row["img"])
    if how == "labels":
        texts = [row["text"] for row in rows]
        for row, text in zip(rows, [*texts[1:], texts[0]], strict=True):
            row["text"] = text
    elif how == "added":
        rows += [{**rows[0], "id": "more", "text": "a new one", "cap": "a new one"}]
    elif how == "gone":
        rows = rows[:20]
    elif how == "order":
        rows = rows[::-1]
    elif how == "unused":
        rows = [{**row, "remark": "not read by the lines"} for row in rows]
    return rows


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("labels", r"the data have changed: task spell: \d+ of its 24 training rows hold other values"),
        ("added", "it had 24 training rows and has 25: 1 are new, 0 are gone"),
        ("gone", "it had 24 training rows and has 20: 0 are new, 4 are gone"),
        ("order", "its 24 training rows stand in another order"),
        ("pictures", "the data have changed: task caption: 1 of its 24 training rows hold other values"),
    ],
)
def test_changed_rows_are_refused_and_accepted_when_told(tmp_path: Path, how: str, message: str) -> None:
    def cards(rows: list[dict[str, Any]]) -> list[Any]:
        return [worlds.task(n, {"train": rows, "valid": rows[:2], "test": rows[:2]}) for n in ("spell", "caption")]

    worlds.run(cards(changed("", tmp_path)), tmp_path / "run", steps=1)
    worlds.run(cards(changed("unused", tmp_path)), tmp_path / "run", steps=2, resume=True)
    other = cards(changed(how, tmp_path))
    for more in ({}, {"ignore_plans": True}):
        with pytest.raises(CheckpointError) as caught:
            worlds.run(other, tmp_path / "run", steps=3, resume=True, **more)
        import re

        assert re.search(message, str(caught.value))
        assert "Pass rows=changed to accept." in str(caught.value)
    worlds.run(other, tmp_path / "run", steps=3, resume=True, changed_rows=True)
    worlds.run(other, tmp_path / "run", steps=4, resume=True)
    assert checkpoint(tmp_path / "run")["global_step"] == 4


def test_rows_that_are_never_twice_the_same_are_not_compared(tmp_path: Path) -> None:
    import random

    class Noisy:
        def __len__(self) -> int:
            return 12

        def __getitem__(self, i: int) -> dict[str, Any]:
            return {"phones": "S AH N", "text": f"sun {random.random()}"}

    cards = [worlds.task("spell", {"train": Noisy(), "valid": Noisy(), "test": Noisy()})]
    worlds.run(cards, tmp_path / "run", steps=1)
    worlds.run(cards, tmp_path / "run", steps=2, resume=True)
    assert checkpoint(tmp_path / "run")["global_step"] == 2


def test_a_resumed_run_fetches_no_weights_that_its_checkpoint_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ofasys_lite.adapters.image import ImageAdapter

    def stored(cls: type[ImageAdapter], settings: Any) -> Any:
        return {**settings, "pretrained": False}

    built: list[object] = []
    init = ImageAdapter.__init__

    def noted(self: ImageAdapter, settings: Any, shared: Any) -> None:
        built.append(settings["pretrained"])
        init(self, settings, shared)

    monkeypatch.setattr(ImageAdapter, "stored", classmethod(stored))
    monkeypatch.setattr(ImageAdapter, "__init__", noted)
    data = worlds.small_data()
    data.modalities["IMAGE"]["pretrained"] = True  # type: ignore[index]
    cards = worlds.tasks("caption")
    worlds.run(cards, tmp_path / "run", steps=1, data=data)
    model = worlds.run(cards, tmp_path / "run", steps=2, data=data, resume=True)
    worlds.run(cards, tmp_path / "more", steps=1, start=model)
    assert built == [True, False, False]


@pytest.mark.parametrize("kind", ["empty", "text", "cut", "flipped", "pickle"])
def test_a_damaged_checkpoint_is_told_as_such(tmp_path: Path, kind: str) -> None:
    import pickle

    cards = worlds.tasks("spell")
    worlds.run(cards, tmp_path / "run", steps=1)
    last = RunFolder(tmp_path / "run").last
    whole = last.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"not a checkpoint",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:200] + bytes(b ^ 255 for b in whole[200:400]) + whole[400:],
        "pickle": pickle.dumps({"ofasys": 1}),
    }
    last.write_bytes(damaged[kind])
    with pytest.raises(CheckpointError, match=r"cannot read .*last\.ckpt"):
        worlds.run(cards, tmp_path / "run", steps=2, resume=True)
