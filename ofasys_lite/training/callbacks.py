"""What happens around steps: logging, checkpoints, the end of the run, the quarantine, the progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ofasys_lite.data.loader import Share
from ofasys_lite.data.quarantine import Ledger as Quarantine
from ofasys_lite.training.files import RunFolder
from ofasys_lite.training.module import TrainingModule, learning_rate

__all__ = ["Checkpoints", "Ending", "Logs", "Progressing", "Quarantining", "Validating", "save_checkpoint"]


def save_checkpoint(trainer: L.Trainer, folder: RunFolder) -> None:
    """Writes checkpoints/last.ckpt; the old one stays until the new one is complete."""
    path = folder.last
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".last.part")
    trainer.save_checkpoint(temporary)
    if trainer.is_global_zero:
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)


class Ending(L.Callback):
    """Stops the run when its steps or minutes are over."""

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Compares the run's progress with its end (rank 0 decides about time)."""
        if not isinstance(module, TrainingModule):
            return
        done = module.progress_share() >= 1.0
        if trainer.world_size > 1:
            done = bool(trainer.strategy.broadcast(done))
        if done:
            trainer.should_stop = True


class Checkpoints(L.Callback):
    """Writes a checkpoint every few minutes, at an interruption and at the end.

    Args:
        folder: The run's folder.
        minutes: Minutes between checkpoints.
    """

    def __init__(self, folder: RunFolder, minutes: float) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self.last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Writes if it is time (rank 0 decides)."""
        due = time.monotonic() - self.last >= self.seconds
        if trainer.world_size > 1:
            due = bool(trainer.strategy.broadcast(due))
        if due:
            save_checkpoint(trainer, self.folder)
            self.last = time.monotonic()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the final state."""
        save_checkpoint(trainer, self.folder)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Keeps the work of a run that the user interrupts."""
        if isinstance(exception, KeyboardInterrupt) and trainer.global_step > 0:
            save_checkpoint(trainer, self.folder)


class Logs(L.Callback):
    """Writes a row per (task, slot) to metrics.jsonl, and to the loggers, every n steps.

    Args:
        folder: The run's folder.
        every: Steps between rows.
    """

    def __init__(self, folder: RunFolder, every: int) -> None:
        self.folder = folder
        self.every = every
        self.clock = time.monotonic()
        self.latest: dict[str, float] = {}
        self.speed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock."""
        self.clock = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Flushes what the module gathered, every n steps."""
        if isinstance(module, TrainingModule) and trainer.global_step % self.every == 0:
            self.flush(trainer, module)

    def flush(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Writes one row per term and one for the step; starts gathering anew."""
        span, self.clock = time.monotonic() - self.clock, time.monotonic()
        sums, units = module.sums.tolist(), module.units.tolist()
        self.speed = float(module.rows.sum()) / max(1e-9, span)
        step, seconds = trainer.global_step, module.seconds()
        logged: dict[str, float] = {}
        if trainer.is_global_zero:
            total = max(1, int(module.samples.sum()))
            for i, term in enumerate(module.ledger.terms):
                if units[i]:
                    logged[f"{term.task}/{term.slot}"] = sums[i] / units[i]
                    share = float(module.samples[module.ledger.task_index(term.task)]) / total
                    self.folder.log(
                        {"kind": "train", "step": step, "time": seconds, "task": term.task, "slot": term.slot}
                        | {"loss": sums[i] / units[i], "tokens": units[i], "share": share}
                        | {"samples": int(module.samples[module.ledger.task_index(term.task)])}
                    )
            lr = learning_rate(module.settings, module.progress_share())
            self.folder.log({"kind": "step", "step": step, "time": seconds, "tokens_per_second": self.speed, "lr": lr})
            for logger in trainer.loggers:
                logger.log_metrics({**logged, "tokens_per_second": self.speed, "lr": lr}, step=step)
        self.latest = logged
        module.sums.zero_()
        module.units[:] = 0
        module.samples[:] = 0
        module.rows[:] = 0


class Quarantining(L.Callback):
    """Moves refused rows from shares into the ledger, which stops the run above its limit.

    Args:
        ledger: The ledger.
        sizes: Rows per task.
    """

    def __init__(self, ledger: Quarantine) -> None:
        self.ledger = ledger

    def on_train_batch_start(self, trainer: L.Trainer, module: L.LightningModule, batch: Share, batch_idx: int) -> None:
        """Notes the rows that the loader replaced."""
        for refused in batch.refused:
            self.ledger.add(refused.task, refused.index, refused.id, refused.reason)

    def state_dict(self) -> dict[str, Any]:
        """The ledger, for the checkpoint."""
        return dict(self.ledger.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The ledger of the checkpoint."""
        self.ledger.load_state_dict(state_dict)


class Validating(L.Callback):
    """Calls a function every few minutes with the averaged weights in place.

    Args:
        minutes: Minutes between validations.
        function: Called with (step, seconds).
    """

    def __init__(self, minutes: float, function: Callable[[int, float], None]) -> None:
        self.seconds = 60 * minutes
        self.function = function
        self.last = time.monotonic()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock."""
        self.last = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Validates when it is time (rank 0 decides, and computes), with the averaged weights."""
        due = time.monotonic() - self.last >= self.seconds
        if trainer.world_size > 1:
            due = bool(trainer.strategy.broadcast(due))
        if not due or not isinstance(module, TrainingModule):
            return
        if trainer.is_global_zero:
            with module.averaged():
                module.network.eval()
                self.function(trainer.global_step, module.seconds())
                module.network.train()
        trainer.strategy.barrier()
        self.last = time.monotonic()


class Progressing(L.Callback):
    """A rich progress bar: share done, tokens/s, losses per task, time left. Plain lines where there is no terminal.

    Args:
        logs: Where speed and losses are read.
        console: Where it is drawn.
    """

    def __init__(self, logs: Logs, console: Console | None = None) -> None:
        self.logs = logs
        self.console = console or Console(file=sys.stderr)
        self.bar: Progress | None = None
        self.row: Any = None
        self.printed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Draws the bar."""
        if self.console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.percentage:>5.1f} %"), TextColumn("{task.fields[text]}"))
            self.bar = Progress(*columns, console=self.console, auto_refresh=False)
            self.bar.start()
            self.row = self.bar.add_task("training", total=1.0, text="")

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Moves the bar twice a second; prints a line every 30 s without a terminal."""
        if not isinstance(module, TrainingModule):
            return
        now = time.monotonic()
        if now - self.printed < (0.5 if self.bar is not None else 30.0):
            return
        self.printed = now
        share = min(1.0, module.progress_share())
        text = _status(trainer.global_step, share, module.seconds(), self.logs.speed, self.logs.latest)
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


def _status(step: int, share: float, seconds: float, speed: float, losses: Mapping[str, float]) -> str:
    left = seconds * (1 - share) / share if share > 0 else 0.0
    tasks: dict[str, float] = {}
    for name, loss in losses.items():
        tasks.setdefault(name.partition("/")[0], loss)
    shown = " ".join(f"{name} {loss:.2f}" for name, loss in tasks.items())
    return f"step {step}  {speed:,.0f} tokens/s  {int(left) // 60}:{int(left) % 60:02d} left  {shown}"
