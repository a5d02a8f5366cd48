"""A training that is asked to end stops between two steps; what ranks tell each other, and how often it is time."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_worlds as worlds
import torch
from rich.console import Console

from ofasys_lite.cards import modalities
from ofasys_lite.errors import DataError
from ofasys_lite.model.fast_linear import ALL, WIDE
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.signals import SIGNALS, Interrupted
from ofasys_lite.training import fit
from ofasys_lite.training.accounting import RunTerms
from ofasys_lite.training.callbacks import Validating, _Every
from ofasys_lite.training.fit import TrainingRun, _precision
from ofasys_lite.training.loop import _bar, _status
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.ranks import Ranks, launched
from ofasys_lite.training.resume import Beginning
from ofasys_lite.training.settings import TrainSettings


def calling(owner: Any, name: str, number: int, function: Callable[[], None]) -> pytest.MonkeyPatch:
    """Calls the function within the `number`-th call of a method."""
    patch, real, calls = pytest.MonkeyPatch(), getattr(owner, name), list[int]()

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == number:
            function()
        return real(*args, **kwargs)

    patch.setattr(owner, name, call)
    return patch


def ask(number: signal.Signals = signal.SIGTERM) -> None:
    """Signals this process."""
    os.kill(os.getpid(), number)


def stopped(folder: Path, **more: Any) -> Interrupted:
    """How a training of tiny tasks was left."""
    with pytest.raises(Interrupted) as caught:
        worlds.run(worlds.tasks("spell"), folder, **{"steps": 9, **more})
    return caught.value


def step_of(folder: Path) -> int:
    """The step of the last checkpoint."""
    return int(torch.load(RunFolder(folder).last, weights_only=True)["global_step"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_within_a_step_ends_the_run_after_it(tmp_path: Path, number: signal.Signals) -> None:
    with calling(TrainingModule, "_backward", 3, lambda: ask(number)).context():
        assert stopped(tmp_path / "run").code == 128 + number
    assert step_of(tmp_path / "run") == 3
    assert not list(tmp_path.rglob("*.part"))
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=9, resume=True)
    assert step_of(tmp_path / "run") == 9


def test_the_first_step_which_may_compile_for_long_is_left_at_once(tmp_path: Path) -> None:
    def compiling() -> None:
        ask()
        while True:
            pass

    with calling(TrainingModule, "_backward", 1, compiling).context():
        stopped(tmp_path / "run")
    assert not RunFolder(tmp_path / "run").last.exists()
    worlds.run(worlds.tasks("spell"), tmp_path / "run", steps=2, resume=True)
    with calling(TrainingModule, "_backward", 1, compiling).context():
        stopped(tmp_path / "run", resume=True)
    assert step_of(tmp_path / "run") == 2  # what was there is still there


def test_a_signal_while_a_checkpoint_is_written_lets_it_be_written(tmp_path: Path) -> None:
    with calling(TrainingModule, "on_save_checkpoint", 2, ask).context():
        assert stopped(tmp_path / "run", checkpoint_every=1e-9).code == 143
    assert step_of(tmp_path / "run") == 4  # it is written from the second step on


def test_a_signal_in_the_last_step_leaves_a_run_that_only_has_to_be_exported(tmp_path: Path) -> None:
    with calling(TrainingModule, "_backward", 9, ask).context():
        stopped(tmp_path / "run")
    assert step_of(tmp_path / "run") == 9
    assert not RunFolder(tmp_path / "run").export.exists()


def test_a_validation_is_left_at_once_and_training_keeps_its_own_weights(tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def validate(model: Any, step: int, seconds: float) -> float:
        if step < 3:
            return 0.0
        seen.append(worlds.weights(model))
        ask()
        while True:
            pass

    more = {"validate": validate, "valid_every": 1e-9, "ema": 0.9}
    stopped(tmp_path / "run", **more)
    state = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)
    own = {name.removeprefix("network."): value for name, value in state["state_dict"].items()}
    assert len(seen) == 1
    assert not worlds.equal(own, seen[0])  # those were the averaged ones
    assert worlds.equal(state["ofasys"]["average"], seen[0])


def test_a_validation_that_fails_ends_the_run_with_its_own_error(tmp_path: Path) -> None:
    def validate(model: Any, step: int, seconds: float) -> float:
        raise DataError("no rows")

    with pytest.raises(DataError, match="no rows"):
        worlds.run(worlds.tasks("spell"), tmp_path / "run", validate=validate, valid_every=1e-9)


def test_other_ranks_end_when_the_first_one_fails_in_a_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trainer:
        is_global_zero = False

    module = module_of(1)
    monkeypatch.setattr(module.ranks, "total", lambda values: [1, *list(values)[1:]])
    with pytest.raises(SystemExit) as caught:
        Validating(1.0, lambda step, seconds: None, lambda: None).validate(Trainer(), module)  # type: ignore[arg-type]
    assert caught.value.code == 1


def module_of(rank: int) -> TrainingModule:
    """The module of one rank of a run of one task."""
    model = worlds.generalist(worlds.ready(worlds.tasks("spell")))
    ready = worlds.ready(worlds.tasks("spell"))
    ledger = RunTerms(ready.tasks[0].maker.terms(), ["spell"])
    module = TrainingModule(model.network, ledger, TrainSettings(steps=3))
    module.ranks.number = rank
    return module


def test_a_signal_that_any_rank_got_ends_all_of_them_with_its_number() -> None:
    module = module_of(0)
    module.interrupt([0] * len(SIGNALS))
    with pytest.raises(Interrupted) as caught:
        module.interrupt([2 * (number == signal.SIGUSR1) for number in SIGNALS])
    assert caught.value.number == signal.SIGUSR1


def test_a_rank_that_lightning_started_ends_well_so_that_the_first_one_is_not_killed() -> None:
    ranks = Ranks()
    assert ranks.code(143) == 143
    ranks._launched = True
    assert ranks.code(143) == 0


@pytest.mark.parametrize(
    ("environment", "started"),
    [
        ({}, False),
        ({"LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "1"}, True),
        ({"LOCAL_RANK": "1", "RANK": "1"}, False),  # torchrun
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "3"}, False),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, True),  # Lightning within a job of one task
    ],
)
def test_ranks_of_lightnings_launcher_are_told_from_those_of_others(
    environment: dict[str, str], started: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == started


def test_a_launched_rank_takes_the_tokenizer_that_the_first_one_has_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    run = TrainingRun(worlds.tasks("spell"), modalities(), worlds.tiny(), TrainSettings(steps=1), folder.path)
    first = fit._ready(run, folder, False, Console(quiet=True))
    first.vocabulary.save(folder.path / "tokenizer")
    monkeypatch.setattr("ofasys_lite.layout.scan.train_pieces", None)
    monkeypatch.setattr(fit, "launched", lambda: True)
    assert fit._ready(run, folder, False, Console(quiet=True)).vocabulary.hash == first.vocabulary.hash


def test_what_was_not_logged_is_counted_by_the_first_rank_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    first = module_of(0)
    first.units[:] = 160
    state: dict[str, Any] = {}
    first.on_save_checkpoint(state)
    for rank, units in ((0, 160), (1, 0)):
        module = module_of(rank)
        monkeypatch.setattr(TrainingModule, "global_rank", rank)
        module.on_load_checkpoint(state)
        assert module.units.tolist() == [units]


def test_it_is_time_again_after_the_interval_whatever_the_last_time_took() -> None:
    every = _Every(10.0)
    # the clock is that of the begin of a step; the validation behind the step at 11 takes 15 seconds
    assert [every.due(clock) for clock in (0.0, 5.0, 11.0, 27.0, 30.0, 36.0, 37.0)] == [0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(("before", "told"), [("bf16", 1), ("fp32", 0), (None, 0)])
def test_a_resumed_run_keeps_the_precision_it_began_with(
    before: str | None, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit, "probe_precision", lambda device, width: "fp32")
    console = Console(record=True, width=200, quiet=False)
    begun = None if before is None else Beginning(3, 1.0, {"precision": before})
    settings = TrainSettings(steps=3, accelerator="cpu")
    asked = TrainingRun([], {}, worlds.tiny(), settings, Path("runs/x"))
    assert _precision(asked, begun, console) == (before or "fp32")
    assert console.export_text().count("note: the run began in bf16 and goes on in it") == told


@pytest.mark.parametrize("said", ["torch", "onednn", "onednn from width 512"])
def test_a_resumed_run_keeps_the_products_it_began_with(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    least = {"torch": 0, "onednn": ALL, "onednn from width 512": WIDE}
    cards, taken = [worlds.task("both", worlds.rows(16))], list[int]()
    plain = TrainingModule.on_fit_start
    monkeypatch.setattr(TrainingModule, "on_fit_start", lambda self: (plain(self), taken.append(self.onednn))[0])
    for steps, faster in ((1, said), (2, "torch"), (3, "onednn")):
        monkeypatch.setattr(fit, "onednn_from", lambda faster=faster: least[faster])
        worlds.run(cards, tmp_path / "run", steps=steps, resume=steps > 1)
        facts = torch.load(RunFolder(tmp_path / "run").last, weights_only=True)["ofasys"]["facts"]
        assert facts["products"] == said
    assert taken == [least[said]] * 3


def test_a_run_learns_the_same_by_either_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for faster in (False, True):
        monkeypatch.setattr(fit, "onednn_from", lambda faster=faster: ALL if faster else 0)
        model = {"width": 192, "heads": 4, "ffn": 256}
        more: dict[str, Any] = {"steps": 3, "optimizer": "muon", "model": model}
        found.append(worlds.weights(worlds.run(worlds.tasks("caption"), tmp_path / str(faster), **more)))
    begun = worlds.weights(worlds.generalist(worlds.ready(worlds.tasks("caption")), width=192, heads=4, ffn=256))
    apart = sum(float((found[0][n] - found[1][n]).norm()) for n in begun)
    moved = sum(float((found[0][n] - begun[n]).norm()) for n in begun)
    assert 0 < apart < 1e-2 * moved


def test_the_precision_stands_in_the_checkpoint_and_rows_of_the_log_say_where_in_its_epoch_a_task_is(
    tmp_path: Path,
) -> None:
    worlds.run([worlds.task("both", worlds.rows(16))], tmp_path / "run", steps=3, samples_per_step=8, log_every=1)
    folder = RunFolder(tmp_path / "run")
    assert torch.load(folder.last, weights_only=True)["ofasys"]["facts"]["precision"] == "fp32"
    rows = [row for row in folder.history() if row["kind"] == "train"]
    assert sorted({(row["step"], row["epoch"]) for row in rows}) == [(1, 0.5), (2, 1.0), (3, 1.5)]


def test_the_progress_line_shows_a_task_by_its_loss_as_it_counts(tmp_path: Path) -> None:
    from ofasys_lite.training.callbacks import Logs

    seen: list[tuple[dict[str, float], dict[str, float]]] = []
    flush = Logs.flush

    def noted(self: Logs, *args: Any) -> None:
        flush(self, *args)
        seen.append((dict(self.tasks), dict(self.latest)))

    with pytest.MonkeyPatch().context() as patch:
        patch.setattr(Logs, "flush", noted)
        worlds.run(worlds.tasks("both"), tmp_path / "run", steps=2, log_every=2)
    ((tasks, latest),) = seen
    assert tasks["both"] == pytest.approx(latest["both/cap"] + 0.5 * latest["both/label"])
    assert _status(2, 0.5, 10.0, 100.0, tasks).endswith(f"both {tasks['both']:.2f}")


def test_the_progress_bar_cuts_nothing_on_80_columns() -> None:
    drawn = io.StringIO()
    console = Console(width=80, file=drawn, force_terminal=True, color_system=None)
    losses = {"digits": 0.52, "captioning": 2.31, "questions": 1.2, "grounding": 3.1}
    text = _status(1234, 0.3, 300.0, 12345.0, losses)
    bar = _bar(console)
    bar.add_task("training", total=1.0, completed=0.3, text=text)
    console.print(bar.get_renderable())
    shown = drawn.getvalue()
    assert "30.0 %" in shown
    assert [word for word in text.split() if word not in shown.split()] == []
