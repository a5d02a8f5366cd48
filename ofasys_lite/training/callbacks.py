"""What happens around steps: logging, checkpoints, validation, the quarantine, the end of the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO
from rich.console import Console

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.quarantine import Quarantine, Quarantined
from ofasys_lite.data.stream_draws import States
from ofasys_lite.errors import OfasysError, WriteError
from ofasys_lite.layout.loader import Share
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.signals import SIGNALS, Interrupted
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.settings import learning_rate
from ofasys_lite.training.shares import repeat_notes
from ofasys_lite.writing import atomic


class WholeFiles(TorchCheckpointIO):
    """Checkpoints beside the old one, then in its place; Lightning's own way goes through memory and the /tmp disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint whole, or leaves the one that was there."""
        with atomic(Path(path), sync=True) as partial:
            torch.save(checkpoint, partial)


def save_checkpoint(trainer: L.Trainer, folder: RunFolder) -> None:
    """Writes checkpoints/last.ckpt; the old one stays until the new one is complete."""
    module = trainer.lightning_module
    if isinstance(module, TrainingModule) and not bool(module.network.embedding.weight.detach().sum().isfinite()):
        # the last good checkpoint stays
        raise _diverged(trainer, "weights are")
    try:
        trainer.save_checkpoint(folder.last)
    except WriteError as error:
        kept = f"; the checkpoint before is kept: resume={folder.path}" if folder.last.exists() else ""
        raise WriteError(error.message, help=f"{error.help}{kept}") from error


def _diverged(trainer: L.Trainer, what: str) -> OfasysError:
    return OfasysError(
        f"training has diverged: {what} not finite at step {trainer.global_step}",
        help="the last checkpoint is kept; lower lr, lengthen warmup, or clip gradients (trainer.clip=1)",
    )


class Ending(L.Callback):
    """Stops the run when its steps, minutes or tasks are over; says so where that cuts its schedule short."""

    def __init__(self, folder: RunFolder, console: Console) -> None:
        self.folder = folder
        self.console = console

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Compares the run's progress, on which all ranks agree, with its end."""
        if isinstance(module, TrainingModule) and module.state.over:
            trainer.should_stop = True
            if trainer.is_global_zero:
                rate = learning_rate(module.settings, trainer.global_step, module.state.clock, module.given)
                self.console.print(
                    f"note: every task has ended: training ends after {trainer.global_step:,} steps, at a learning "
                    f"rate of {rate:.2g}; "
                    f"steps={trainer.global_step} fits the schedule to it, more `epochs` go through streams again",
                    highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip
            return
        if isinstance(module, TrainingModule) and module.progress_share() >= 1.0:
            trainer.should_stop = True
            settings, step = module.settings, trainer.global_step
            if settings.steps is not None and step < settings.steps and module.given and trainer.is_global_zero:
                rate, last = (learning_rate(settings, n, module.state.clock) for n in (step, settings.steps))
                self.console.print(
                    f"note: minutes={settings.minutes:g} ended the run after {step:,} of its {settings.steps:,} steps: "
                    f"its schedule was cut short at a learning rate of {rate:.2g}, where the last step has {last:.2g}; "
                    f"resume={self.folder.path} with larger minutes= goes on, and steps={step} with minutes=null fits "
                    "a new run into that time",
                    highlight=False, markup=False, soft_wrap=True,
                )  # fmt: skip


class _Every:
    """Whether it is time again, by the clock of rank 0 as all ranks know it: the time at the begin of each step.

    Args:
        seconds: Seconds between two times; what is done at a time does not count among them.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._last: float | None = None

    def due(self, clock: float) -> bool:
        """True once `seconds` have passed since the first step after the last time."""
        if self._last is None:
            self._last = clock
        if clock - self._last < self.seconds:
            return False
        self._last = None
        return True


class Checkpoints(L.Callback):
    """Writes a checkpoint every few minutes, at an interruption (a signal) and at the end."""

    def __init__(self, folder: RunFolder, minutes: float) -> None:
        self.folder = folder
        self.every = _Every(60 * minutes)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Writes if it is time by the clock of rank 0."""
        if isinstance(module, TrainingModule) and self.every.due(module.state.clock):
            save_checkpoint(trainer, self.folder)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Writes the final state."""
        save_checkpoint(trainer, self.folder)

    def on_exception(self, trainer: L.Trainer, module: L.LightningModule, exception: BaseException) -> None:
        """Keeps the work of a run that is interrupted between two steps, where all its ranks are at the same place."""
        together = isinstance(exception, Interrupted) or (
            isinstance(exception, KeyboardInterrupt) and trainer.world_size == 1
        )
        if together and isinstance(module, TrainingModule) and module.state.whole and trainer.global_step > 0:
            save_checkpoint(trainer, self.folder)


class Logs(L.Callback):
    """Writes a row per (task, slot) to metrics.jsonl, and to the loggers, every n steps.

    Args:
        mixture: Knows how often each task's rows have been gone through.
        console: Where it is told that rows come again too often, in a run whose steps nobody knew before.

    Attributes:
        tasks: Per task, its loss as it counts: the sum over its slots, each times its weight.
    """

    def __init__(self, folder: RunFolder, every: int, mixture: Mixture, console: Console) -> None:
        self.folder, self.every, self.mixture = folder, every, mixture
        self.told: set[str] = set()
        self.console = console
        self.clock = time.monotonic()
        self.latest: dict[str, float] = {}
        self.tasks: dict[str, float] = {}
        self.speed = 0.0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Starts the clock."""
        self.clock = time.monotonic()

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Flushes what the module gathered, every n steps."""
        if isinstance(module, TrainingModule) and trainer.global_step % self.every == 0 and not module.state.over:
            self.flush(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Flushes what the last steps gathered."""
        if isinstance(module, TrainingModule) and trainer.global_step % self.every:
            self.flush(trainer, module)

    def flush(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Writes one row per term and one for the step, summed over ranks; starts gathering anew."""
        span, self.clock = time.monotonic() - self.clock, time.monotonic()
        found = module.gathered()
        for term, value in zip(module.ledger.terms, found.sums, strict=True):
            if not math.isfinite(value):
                raise _diverged(trainer, f"loss of task {term.task}, slot {term.slot} is")
        self.speed = float(found.rows.sum()) / max(1e-9, span)
        step, seconds = trainer.global_step, module.state.seconds()
        lr = learning_rate(module.settings, step, module.state.clock, module.given)
        if not trainer.is_global_zero:
            return
        self.latest, self.tasks = {}, {}
        epochs = self._epochs(step, module.state.streams)
        if module.settings.steps is None:
            self._tell_repeats(step, module.settings.mixture.repeats)
        total, tokens = max(1.0, float(found.samples.sum())), max(1.0, float(found.tokens.sum()))
        rows: list[dict[str, Any]] = []
        for i, term in enumerate(module.ledger.terms):
            if not found.units[i]:
                continue
            loss = float(found.sums[i] / found.units[i])
            number = module.ledger.task_number[term.task]
            samples = int(found.samples[number])
            self.latest[f"{term.task}/{term.slot}"] = loss
            self.tasks[term.task] = self.tasks.get(term.task, 0.0) + term.weight * loss
            rows.append(
                {"kind": "train", "step": step, "time": seconds, "task": term.task, "slot": term.slot}
                | {"loss": loss, "tokens": int(found.units[i]), "share": samples / total, "samples": samples}
                | {"epoch": epochs[term.task], "token_share": float(found.tokens[number]) / tokens}
            )
        rows.append({"kind": "step", "step": step, "time": seconds, "tokens_per_second": self.speed, "lr": lr})
        self.folder.log(*rows)
        for logger in trainer.loggers:
            logger.log_metrics({**self.latest, "tokens_per_second": self.speed, "lr": lr}, step=step)

    def _tell_repeats(self, step: int, repeats: float) -> None:
        for note in repeat_notes(self.mixture, step, repeats, self.told):
            self.console.print(f"note: {note}", highlight=False, markup=False, soft_wrap=True)

    def _epochs(self, step: int, streams: States) -> dict[str, float]:
        """How often each task's rows have been gone through; of a stream whole times."""
        ended = {task: int(state["rows"]) for task, state in streams.items() if state.get("rows") is not None}
        if any(task.rows != ended.get(task.name) for task in self.mixture.tasks):
            self.mixture = self.mixture.ending(ended)
        drawn = zip(self.mixture.tasks, self.mixture.counts(step), strict=True)
        return {
            task.name: streams.get(task.name, {}).get("epoch", 0) if task.size is None else round(count / task.size, 4)
            for task, count in drawn
        }


class Quarantining(L.Callback):
    """Moves refused rows from shares into the ledger and quarantine.jsonl; the ledger stops the run above its limit."""

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
        if not isinstance(module, TrainingModule) or not (module.state.refused or module.state.failed):
            return
        refused, failure = list(batch.refused), batch.failure
        for task, state in module.state.streams.items():
            self.ledger.grow(task, int(state["begun"]))
        if trainer.world_size > 1:
            parts: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(parts, (refused, failure))
            refused = [row for rows, _ in parts for row in rows]
            failure = next((f for _, f in parts if f is not None), None)
        try:
            self.ledger.merge(Quarantined(r.task, r.index, r.id, r.reason, place=r.place) for r in refused)
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
    """Calls a function every few minutes with the averaged weights in place; keeps the weights of the best score.

    Args:
        function: Called with (step, seconds); returns the mean normalised score, or None.
        keep: Called where a score is the best so far, earlier sessions of a resumed run included.
    """

    def __init__(
        self, minutes: float, function: Callable[[int, float], float | None], keep: Callable[[], None]
    ) -> None:
        self.every = _Every(60 * minutes)
        self.function = function
        self.keep = keep
        self.best = float("-inf")

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Validates with the averaged weights when it is time by the clock of rank 0, which computes."""
        if isinstance(module, TrainingModule) and self.every.due(module.state.clock):
            self.validate(trainer, module)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Validates the final weights, so that the best ones are known among all."""
        if isinstance(module, TrainingModule):
            self.validate(trainer, module)

    def validate(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Calls the function on rank 0; the others wait for it, and end with it if it ends.

        Raises:
            Interrupted: A signal has asked a rank to end; on all ranks.
            BaseException: What the function raised, on rank 0; SystemExit on the others.
        """
        error: BaseException | None = None
        if trainer.is_global_zero:
            try:
                self._score(trainer, module)
            except BaseException as raised:  # the other ranks must hear of it
                error = raised
        stopped = [int(module.stop.number == number) for number in SIGNALS]
        failed, *asked = module.ranks.total([int(error is not None), *stopped])
        module.interrupt(asked)
        if error is not None:
            raise error
        if failed:
            raise SystemExit(module.ranks.code(1))

    def _score(self, trainer: L.Trainer, module: TrainingModule) -> None:
        with module.averaged():
            module.network.eval()
            try:
                with module.stop.interruptible():
                    score = self.function(trainer.global_step, module.state.seconds())
            finally:
                module.network.train()
            if score is not None and score > self.best:
                self.best = score
                self.keep()

    def state_dict(self) -> dict[str, Any]:
        """The best score, for the checkpoint."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The best score of the checkpoint."""
        self.best = float(state_dict["best"])
