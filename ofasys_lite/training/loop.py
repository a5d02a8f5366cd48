"""Lightning around the steps of a run: its trainer, without its advice and ways with signals; callbacks; the bar."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.quarantine import Quarantine
from ofasys_lite.errors import CardError
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.callbacks import Checkpoints, Ending, Logs, Quarantining, Validating, WholeFiles
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.resume import Beginning
from ofasys_lite.training.settings import TrainSettings, progress
from ofasys_lite.training.steps import StepsModule, unpacked


class _Unmeasured(PassThroughProfiler):
    """Lightning asks forty times a step to be measured, each time by a generator of its own."""

    nothing = contextlib.nullcontext("")

    def profile(self, action_name: str) -> contextlib.AbstractContextManager[str]:  # type: ignore[override]
        return self.nothing


class _Steps(_TrainingEpochLoop):
    """Lightning's loop over steps with what a step of ours needs: a share, the module's step, the callbacks around it.

    Left out is what nothing here asks for and every step would pay: schedulers, validation within the epoch, values by
    `self.log`, signatures looked up anew. Its state is Lightning's own, and so are checkpoints.
    """

    def advance(self, data_fetcher: Any) -> None:
        """One step; StopIteration where there is none."""
        given, number = next(data_fetcher)[0], self.batch_idx + 1
        self.batch_progress.is_last_batch = data_fetcher.done
        trainer, module = self.trainer, self.trainer.lightning_module
        share = unpacked(given)
        self.batch_progress.increment_ready()
        for callback in trainer.callbacks:
            callback.on_train_batch_start(trainer, module, share, number)
        self.batch_progress.increment_started()
        trainer.strategy.training_step(share, number)
        if not (module.state.failed or module.state.over):
            self.manual_optimization.optim_step_progress.increment_by(1)
            module.state.whole = True
        self.batch_progress.increment_processed()
        for callback in trainer.callbacks:
            callback.on_train_batch_end(trainer, module, None, share, number)
        self.batch_progress.increment_completed()

    @property
    def global_step(self) -> int:
        """Steps done."""
        return self.manual_optimization.optim_step_progress.total.completed

    def on_advance_end(self, data_fetcher: Any) -> None:
        """Counts the step for loggers; has them write where the run ends."""
        self._batches_that_stepped += 1
        self._save_loggers_on_train_batch_end()


class Progressing(L.Callback):
    """A rich progress bar: share done, tokens/s, losses per task, time left. Plain lines where there is no terminal."""

    def __init__(self, logs: Logs, console: Console | None = None) -> None:
        self.logs = logs
        self.console = console or Console(file=sys.stderr)
        self.bar: Progress | None = None
        self.row: Any = None
        self.printed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Draws the bar."""
        if self.console.is_terminal:
            self.bar = _bar(self.console)
            self.bar.start()
            self.row = self.bar.add_task("training", total=1.0, text="")
        else:
            # the first steps say nothing about speed and time left
            self.printed = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Moves the bar twice a second; prints a line every 30 s without a terminal."""
        if not isinstance(module, TrainingModule):
            return
        now = time.monotonic()
        if now - self.printed < (0.5 if self.bar is not None else 30.0):
            return
        self.printed = now
        share = min(1.0, module.progress_share())
        text = _status(trainer.global_step, share, module.state.seconds(), self.logs.speed, self.logs.tasks)
        if self.bar is not None:
            self.bar.update(self.row, completed=share, text=text)
            self.bar.refresh()
        else:
            self.console.print(f"{100 * share:5.1f} %  {text}", highlight=False, soft_wrap=True)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Takes the bar away."""
        if self.bar is not None:
            self.bar.stop()


def _bar(console: Console) -> Progress:
    """A bar whose text takes further lines where the terminal is narrow."""
    text = TextColumn("{task.fields[text]}", table_column=Column(ratio=1))
    columns = (BarColumn(20), TextColumn("{task.percentage:>5.1f} %"), text)
    return Progress(*columns, console=console, auto_refresh=False, expand=True)


def _status(step: int, share: float, seconds: float, speed: float, losses: Mapping[str, float]) -> str:
    left = seconds * (1 - share) / share if share > 0 else 0.0
    shown = " ".join(f"{task} {loss:.2f}" for task, loss in losses.items())
    # the logs measure speed and losses every `log_every` steps
    rate = f"{speed:,.0f} tokens/s" if speed else "speed and losses from the next log on"
    return f"step {step}  {rate}  {int(left) // 60}:{int(left) % 60:02d} left  {shown}"


def learn(
    folder: RunFolder,
    module: TrainingModule,
    data: StepsModule,
    callbacks: list[L.Callback],
    loggers: Sequence[Logger],
    before: Beginning | None,
) -> None:
    """Trains from where the run was, if there is anything left to train."""
    if before is not None and progress(module.settings, before.step, before.seconds) >= 1:
        state = torch.load(folder.last, map_location="cpu", weights_only=True, mmap=True)
        module.load_state_dict(state["state_dict"])
        module.on_load_checkpoint(state)
        return
    with quiet():
        trainer = _trainer(module.settings, callbacks, loggers, folder)
        module.optimization.begin(0 if before is None else before.step, module.optimization.rate, alone=False)
        try:
            _fit(trainer, module, data, None if before is None else folder.last)
        finally:
            module.optimization.thaw()


def _fit(trainer: L.Trainer, module: TrainingModule, data: StepsModule, checkpoint: Path | None) -> None:
    """Runs Lightning; KeyboardInterrupt leaves as itself."""
    handler = signal.getsignal(signal.SIGINT)
    deaf(trainer)
    try:
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit as exit:
        # Lightning turns an interruption into an exit, and leaves the process deaf to the next one
        if not isinstance(exit.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def callbacks_of(
    settings: TrainSettings,
    folder: RunFolder,
    lost: Quarantine,
    mixture: Mixture,
    generalist: Generalist,
    console: Console,
    validate: Callable[[Generalist, int, float], float | None] | None,
) -> list[L.Callback]:
    """What happens around the steps of a run, in the order in which it does."""
    logs = Logs(folder, settings.log_every, mixture, console)
    callbacks: list[L.Callback] = [
        Quarantining(lost, folder),
        Ending(folder, console),
        logs,
        Checkpoints(folder, settings.checkpoint_every),
    ]
    if validate is not None and settings.valid_every:
        judge = validate

        def score(step: int, seconds: float) -> float | None:
            return judge(generalist, step, seconds)

        def keep() -> None:
            generalist.save_weights(folder.best)

        callbacks.append(Validating(settings.valid_every, score, keep))
    if settings.progress:
        callbacks.append(Progressing(logs, console))
    return callbacks


def _trainer(
    settings: TrainSettings, callbacks: list[L.Callback], loggers: Sequence[Logger], folder: RunFolder
) -> L.Trainer:
    steps = -1 if settings.steps is None else settings.steps
    trainer = L.Trainer(
        accelerator="gpu" if settings.accelerator == "cuda" else settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=settings.strategy,
        max_epochs=-1,
        max_steps=steps,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        profiler=_Unmeasured(),
        logger=list(loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )
    trainer.fit_loop.epoch_loop = _Steps(trainer, max_steps=steps)
    return trainer


def check_devices(settings: TrainSettings) -> None:
    """Returns if this machine has what `accelerator` and `devices` ask for; CardError: it has not; says what it has."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if settings.accelerator == "cuda" and not there:
        why = "this build of torch is for CPUs" if torch.version.cuda is None else "torch sees none: driver, container?"
        raise CardError(
            "trainer: accelerator is `cuda`, and there is no CUDA device",
            help=f"trainer=cpu, or trainer.accelerator=auto, which takes what there is ({why})",
        )
    if settings.accelerator == "cpu" or not there:
        if settings.devices == -1:
            raise CardError(
                "trainer: devices is -1, and a CPU is not several devices",
                help="say how many processes: trainer.devices=2, with trainer.precision=fp32 trainer.compile=false",
            )
    elif settings.devices > there:
        raise CardError(
            f"trainer: devices is {settings.devices}, and there are {there} CUDA devices",
            help=f"at most {there}, or -1",
        )


#: Warnings that speak of what is meant: (start of the message, why it does not apply).
_KNOWN = (
    (r".*does not have many workers", "an item is a whole step; one worker keeps up"),
    (r"You're resuming from a checkpoint that ended before the epoch ended", "item k is step k: resume is exact"),
    (r"Found \d+ module\(s\) in eval mode", "a codec's weights stay as they are"),
    (r".*isinstance\(treespec, LeafSpec\)", "Lightning calls torch's pytree by an old name"),
)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Inside it Lightning logs errors only, and its warnings in the list above are not shown."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for text, _ in _KNOWN:
            warnings.filterwarnings("ignore", text)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def deaf(trainer: L.Trainer) -> None:
    """Keeps Lightning's hands off signals.

    Its handler of SIGTERM speaks to the other ranks from wherever the program is, which can wait for ever. Under SLURM
    it also puts the job back in the queue, which is the job script's business.
    """
    trainer._signal_connector.register_signal_handlers = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    return None
