"""The progress bar of a training."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from ofasys_lite.training.callbacks import Logs
from ofasys_lite.training.module import TrainingModule


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
        text = _status(trainer.global_step, share, module.seconds(), self.logs.speed, self.logs.tasks)
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
