"""What happens around steps: logging, checkpoints, the end of the run, the quarantine, the progress bar."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from ofasys_lite.data.loader import Share
from ofasys_lite.data.quarantine import Ledger as Quarantine
from ofasys_lite.data.quarantine import Quarantined
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
        """Compares the run's progress, on which all ranks agree, with its end."""
        if isinstance(module, TrainingModule) and module.progress_share() >= 1.0:
            trainer.should_stop = True


class Checkpoints(L.Callback):
    """Writes a checkpoint every few minutes, at an interruption (Ctrl-C, SIGTERM) and at the end.

    Args:
        folder: The run's folder.
        minutes: Minutes between checkpoints.
    """

    def __init__(self, folder: RunFolder, minutes: float) -> None:
        self.folder = folder
        self.seconds = 60 * minutes
        self.last = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock."""
        if isinstance(module, TrainingModule):
            self.last = module.clock

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Writes if it is time by the clock of rank 0."""
        if isinstance(module, TrainingModule) and module.clock - self.last >= self.seconds:
            save_checkpoint(trainer, self.folder)
            self.last = module.clock

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the final state."""
        save_checkpoint(trainer, self.folder)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Keeps the work of a run that is interrupted between two updates of the weights.

        Several ranks are interrupted at different places and cannot write together: their last checkpoint stays.
        """
        # a SIGTERM to the whole group kills loader workers too, and then their end is what is raised
        interrupted = isinstance(exception, (KeyboardInterrupt, SIGTERMException)) or trainer.received_sigterm
        if (
            interrupted
            and trainer.world_size == 1
            and isinstance(module, TrainingModule)
            and module.whole
            and trainer.global_step > 0
        ):
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
        """Writes one row per term and one for the step, summed over ranks; starts gathering anew."""
        span, self.clock = time.monotonic() - self.clock, time.monotonic()
        found = module.gathered()
        self.speed = float(found.rows.sum()) / max(1e-9, span)
        step, seconds = trainer.global_step, module.seconds()
        lr = learning_rate(module.settings, module.progress_share())
        if not trainer.is_global_zero:
            return
        self.latest = {}
        total = max(1.0, float(found.samples.sum()))
        for i, term in enumerate(module.ledger.terms):
            if not found.units[i]:
                continue
            loss = float(found.sums[i] / found.units[i])
            samples = int(found.samples[module.ledger.task_index(term.task)])
            self.latest[f"{term.task}/{term.slot}"] = loss
            self.folder.log(
                {"kind": "train", "step": step, "time": seconds, "task": term.task, "slot": term.slot}
                | {"loss": loss, "tokens": int(found.units[i]), "share": samples / total, "samples": samples}
            )
        self.folder.log({"kind": "step", "step": step, "time": seconds, "tokens_per_second": self.speed, "lr": lr})
        for logger in trainer.loggers:
            logger.log_metrics({**self.latest, "tokens_per_second": self.speed, "lr": lr}, step=step)


class Quarantining(L.Callback):
    """Moves refused rows from shares into the ledger and quarantine.jsonl; the ledger stops the run above its limit.

    Args:
        ledger: The ledger.
        folder: The run's folder.
    """

    def __init__(self, ledger: Quarantine, folder: RunFolder) -> None:
        self.ledger = ledger
        self.folder = folder

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the checkpoint's ledger over what came after it."""
        if trainer.is_global_zero and (len(self.ledger) or self.folder.quarantine.exists()):
            self.ledger.write(self.folder.quarantine)

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Share, batch_idx: int
    ) -> None:
        """Notes the rows that the loaders of all ranks replaced, on every rank alike.

        Raises:
            DataError: Too many rows cannot be read, or a share could not be filled at all.
        """
        if not isinstance(module, TrainingModule) or not (module.refused or module.failed):
            return
        refused, failure = list(batch.refused), batch.failure
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (refused, failure))
            refused = [row for rows, _ in parts for row in rows]
            failure = next((f for _, f in parts if f is not None), None)
        try:
            self.ledger.merge(Quarantined(r.task, r.index, r.id, r.reason) for r in refused)
        finally:
            if trainer.is_global_zero:
                self.ledger.write(self.folder.quarantine)
        if failure is not None:
            raise failure

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
        self.last = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock."""
        if isinstance(module, TrainingModule):
            self.last = module.clock

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Validates with the averaged weights when it is time by the clock of rank 0, which computes."""
        if not isinstance(module, TrainingModule) or module.clock - self.last < self.seconds:
            return
        if trainer.is_global_zero:
            with module.averaged():
                module.network.eval()
                self.function(trainer.global_step, module.seconds())
                module.network.train()
        trainer.strategy.barrier()
        self.last = module.seconds() if trainer.world_size == 1 else module.clock


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
