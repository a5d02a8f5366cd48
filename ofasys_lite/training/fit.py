"""Trains one generalist on many tasks: the Python API that `ofasys-lite train` calls."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import Logger
from rich.console import Console
from torch.utils.data import DataLoader, Sampler

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.data.loader import Share, Steps
from ofasys_lite.data.mixture import Mixture, MixtureTask
from ofasys_lite.data.quarantine import Ledger as Quarantine
from ofasys_lite.data.ready import DataSettings, Ready, make_ready
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.generalist import Generalist, TaskEntry
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.model import ModelConfig, probe_precision
from ofasys_lite.training.accounting import Ledger
from ofasys_lite.training.callbacks import Checkpoints, Ending, Logs, Progressing, Quarantining, Validating
from ofasys_lite.training.files import RunFolder, write_atomic
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.settings import TrainSettings

__all__ = ["TrainingRun", "train"]

#: Length of the loader where only minutes end the run.
_ENDLESS = 10**9


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a training needs, in plain values.

    Attributes:
        cards: Task cards.
        modalities: Modality cards by name and alias.
        model: Sizes of the encoder-decoder.
        settings: How to train.
        data: Tokenizer and box bins.
        folder: The run's folder.
        resume: Go on from its last checkpoint.
        config: The resolved configuration, written to config.yaml.
        start: A trained generalist whose weights and vocabulary are the beginning, or None.
        ignore_plans: Accept a checkpoint whose lines differ.
    """

    cards: Sequence[TaskCard]
    modalities: Mapping[str, ModalityCard]
    model: ModelConfig
    settings: TrainSettings
    folder: Path
    data: DataSettings = field(default_factory=DataSettings)
    resume: bool = False
    config: Mapping[str, Any] = field(default_factory=dict)
    start: Generalist | None = None
    ignore_plans: bool = False


class _From(Sampler[int]):
    """Step numbers from `first` on; its length counts all steps, as Lightning expects of a resumed epoch."""

    def __init__(self, first: int, end: int) -> None:
        self.first = first
        self.end = end

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.end))

    def __len__(self) -> int:
        return self.end


class StepsModule(L.LightningDataModule):
    """Serves one rank's shares from the step after the checkpoint's."""

    def __init__(self, ready: Ready, mixture: Mixture, settings: TrainSettings, first: int) -> None:
        super().__init__()
        self.ready = ready
        self.mixture = mixture
        self.settings = settings
        self.first = first

    def train_dataloader(self) -> DataLoader[Share]:
        """Item k is the share of step k; any number of workers gives the same items."""
        trainer = self.trainer
        rank, ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        budgets = (self.settings.source_budget, self.settings.target_budget)
        steps = Steps(self.ready.tasks, self.mixture, self.settings.seed, rank, ranks, budgets)
        ends = [e for e in (self.settings.steps, self.mixture.steps) if e is not None]
        sampler = _From(self.first, min(ends, default=_ENDLESS))
        return DataLoader(
            steps,  # type: ignore[arg-type]
            batch_size=None,
            sampler=sampler,
            num_workers=self.settings.workers,
            prefetch_factor=4 if self.settings.workers else None,
            worker_init_fn=_one_thread,
        )


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


def train(
    run: TrainingRun,
    console: Console | None = None,
    loggers: Sequence[Logger] = (),
    validate: Callable[[Generalist, int, float], float | None] | None = None,
) -> Generalist:
    """The trained generalist (averaged weights where the settings keep an average); its folder holds the run.

    Args:
        run: Everything that is to be trained, and how.
        console: Where progress is drawn.
        loggers: Further Lightning loggers.
        validate: Called at validations with (generalist, step, seconds); returns the mean normalised score.
    """
    console = console or Console(stderr=True)
    folder = RunFolder(run.folder)
    settings = run.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    checkpoint = _checkpoint(run, folder)
    ready = _ready(run, folder, checkpoint, console)
    generalist = _build(run, ready)
    _write_facts(run, folder, ready, generalist)
    ledger = Ledger([t for task in ready.tasks for t in task.maker.terms()], [t.card.name for t in ready.tasks])
    module = TrainingModule(generalist.network, ledger, settings)
    module.autocast_bf16 = _precision(settings) == "bf16"
    mixture = Mixture(
        [MixtureTask(t.card.name, len(t.sources["train"]), _weight(t.card), t.card.epochs) for t in ready.tasks],
        settings.seed,
        settings.samples_per_step,
    )
    for note in (*(n for t in ready.tasks for n in t.notes), *mixture.notes()):
        console.print(f"note: {note}", highlight=False, style="dim")
    first = 0 if checkpoint is None else int(checkpoint["global_step"])
    folder.cut_history(first)
    callbacks = _callbacks(run, folder, ready, generalist, console, validate)
    trainer = _trainer(settings, callbacks, loggers, folder)
    data = StepsModule(ready, mixture, settings, first)
    with warnings.catch_warnings():
        _quiet()
        trainer.fit(module, data, ckpt_path=None if checkpoint is None else folder.last, weights_only=False)
    with module.averaged():
        # the averaged weights are what is evaluated and exported
        generalist.network.eval()
        if trainer.is_global_zero:
            generalist.save_pretrained(folder.export)
        final = {n: p.detach().clone() for n, p in generalist.network.named_parameters()}
    with torch.no_grad():
        for name, parameter in generalist.network.named_parameters():
            parameter.copy_(final[name])
    return generalist


def _weight(card: TaskCard) -> Any:
    return card.weight


def _quiet() -> None:
    """Lightning's advice that does not fit a loader of whole steps."""
    for text in (".*does not have many workers.*", ".*number of training batches.*", ".*`max_epochs`.*", ".*sampler.*"):
        warnings.filterwarnings("ignore", text)


def _precision(settings: TrainSettings) -> str:
    if settings.precision != "auto":
        return settings.precision
    device = "cuda" if settings.accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    return str(probe_precision(torch.device(device)).dtype)


def _checkpoint(run: TrainingRun, folder: RunFolder) -> dict[str, Any] | None:
    if not run.resume:
        if folder.last.exists():
            raise CheckpointError(
                f"{folder.path} already holds a run", help="resume=true goes on with it; name=other starts a new one"
            )
        return None
    if not folder.last.exists():
        # killed before the first checkpoint: begin again
        return None
    try:
        found: dict[str, Any] = torch.load(folder.last, map_location="cpu", weights_only=False)
    except (RuntimeError, EOFError, OSError) as error:
        raise CheckpointError(f"cannot read {folder.last}: {error}", help="start again under another name") from None
    return found


def _ready(run: TrainingRun, folder: RunFolder, checkpoint: dict[str, Any] | None, console: Console) -> Ready:
    vocabulary = run.start.vocabulary if run.start is not None else None
    tokenizer = folder.path / "tokenizer"
    if run.resume and (tokenizer / "vocabulary.json").exists():
        from ofasys_lite.preprocess.vocabulary import Vocabulary

        vocabulary = Vocabulary.load(tokenizer)
    with console.status("reading data") as status:
        ready = make_ready(
            run.cards,
            run.modalities,
            run.data,
            vocabulary,
            lambda what, done, all: status.update(f"{what} {done:,} of {all:,}" if all else what),
        )
    if checkpoint is not None or run.resume:
        _same_plans(run, folder, ready)
    return ready


def _same_plans(run: TrainingRun, folder: RunFolder, ready: Ready) -> None:
    path = folder.path / "plans.json"
    if not path.exists() or run.ignore_plans:
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    for task in ready.tasks:
        old = before.get(task.card.name)
        if old is None:
            raise CheckpointError(
                f"checkpoint {folder.path}: task {task.card.name} was not trained in this run",
                help=f"it holds {', '.join(before)}; start a new run for another mixture",
            )
        if old["hash"] != task.plan.hash:
            raise CheckpointError(
                f'checkpoint {folder.path}: task {task.card.name} was trained with "{old["line"]}" and is now '
                f'"{task.plan.line}" (or its closed set changed). Pass plans=ignore to accept.'
            )


def _build(run: TrainingRun, ready: Ready) -> Generalist:
    torch.manual_seed(run.settings.seed)
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in ready.adapters.items()}
    entries = {t.card.name: TaskEntry(t.card, t.plan) for t in ready.tasks}
    if run.start is not None:
        return run.start.extended(ready.vocabulary, specs, entries, run.modalities, run.data)
    network = Network(run.model, len(ready.vocabulary), specs)
    return Generalist(network, ready.vocabulary, entries, run.modalities, run.data)


def _write_facts(run: TrainingRun, folder: RunFolder, ready: Ready, generalist: Generalist) -> None:
    if run.config:
        folder.write_config(run.config)
    ready.vocabulary.save(folder.path / "tokenizer")
    plans = {t.card.name: {"line": t.plan.line, "hash": t.plan.hash} for t in ready.tasks}
    write_atomic(folder.path / "plans.json", json.dumps(plans, indent=1, ensure_ascii=False))
    write_atomic(folder.path / "plans.txt", "".join(f"{n}: {p['line']}  [{p['hash']}]\n" for n, p in plans.items()))
    closed = {
        f"{t.card.name}/{s.key}": list(s.closed.values)
        for t in ready.tasks
        for s in t.plan.slots()
        if s.closed is not None
    }
    write_atomic(folder.path / "closed_sets.json", json.dumps(closed, indent=1, ensure_ascii=False))


def _callbacks(
    run: TrainingRun,
    folder: RunFolder,
    ready: Ready,
    generalist: Generalist,
    console: Console,
    validate: Callable[[Generalist, int, float], float | None] | None,
) -> list[L.Callback]:
    settings = run.settings
    logs = Logs(folder, settings.log_every)
    sizes = {t.card.name: len(t.sources["train"]) for t in ready.tasks}
    callbacks: list[L.Callback] = [
        Ending(),
        Quarantining(Quarantine(sizes, settings.quarantine)),
        logs,
        Checkpoints(folder, settings.checkpoint_every),
    ]
    if validate is not None and settings.valid_every:
        best = [float("-inf")]

        def run_validation(step: int, seconds: float) -> None:
            score = validate(generalist, step, seconds)
            if score is not None and score > best[0]:
                best[0] = score
                generalist.save_weights(folder.best)

        callbacks.append(Validating(settings.valid_every, run_validation))
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
        max_epochs=1,
        max_steps=-1 if settings.steps is None else settings.steps,
        callbacks=callbacks,
        logger=list(loggers) or False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        limit_val_batches=0,
        use_distributed_sampler=False,
        default_root_dir=folder.path,
    )
