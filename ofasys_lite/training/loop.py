"""Lightning around the steps of a run: its trainer, the callbacks, going on from a checkpoint."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from rich.console import Console

from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.quarantine import Quarantine
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.callbacks import Checkpoints, Ending, Logs, Quarantining, Validating, WholeFiles
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.progress import Progressing
from ofasys_lite.training.quiet import deaf, quiet
from ofasys_lite.training.resume import Beginning
from ofasys_lite.training.schedule import progress
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.steps import StepsModule

__all__ = ["callbacks_of", "learn"]


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
        module.optimization.freeze(0 if before is None else before.step, alone=False)
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
    logs = Logs(folder, settings.log_every, mixture)
    callbacks: list[L.Callback] = [
        Quarantining(lost, folder),
        Ending(),
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
    return L.Trainer(
        accelerator="gpu" if settings.accelerator == "cuda" else settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.nodes,
        strategy=settings.strategy,
        max_epochs=-1,
        max_steps=-1 if settings.steps is None else settings.steps,
        callbacks=callbacks,
        plugins=[WholeFiles()],
        logger=list(loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )
