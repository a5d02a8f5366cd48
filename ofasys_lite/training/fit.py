"""Trains one generalist on many tasks: the Python API that `ofasys-lite train` calls."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from rich.console import Console

from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.codec.image_codec import fill_codecs
from ofasys_lite.data.contents import NOT_COMPARED, Contents
from ofasys_lite.data.findings import shortened
from ofasys_lite.data.mixture import Mixture
from ofasys_lite.data.quarantine import Quarantine
from ofasys_lite.generalist.converters import make_converter
from ofasys_lite.generalist.generalist import Generalist
from ofasys_lite.generalist.network import AdapterSpec, Network
from ofasys_lite.generalist.parts import Body, Part, house_of, put
from ofasys_lite.generalist.trained import TaskEntry, read_contents, write_contents
from ofasys_lite.layout.ready import DataSettings, Ready, make_ready
from ofasys_lite.model import ModelConfig, give_way, keep_freed_memory, onednn_from, pick_device, probe_precision
from ofasys_lite.model.fast_linear import LEARNED
from ofasys_lite.preprocess.foreign_vocabulary import load_vocabulary
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.signals import Patient
from ofasys_lite.training.accounting import RunTerms
from ofasys_lite.training.begun_parts import body_of, keep_parts
from ofasys_lite.training.expected import mixture_of, token_means
from ofasys_lite.training.loop import callbacks_of, check_devices, learn
from ofasys_lite.training.missing_codecs import CodecTrainer
from ofasys_lite.training.module import TrainingModule
from ofasys_lite.training.optimizers import Optimization, check_optimizers, fill
from ofasys_lite.training.outlook import outlook
from ofasys_lite.training.parameter_groups import described, structure_of, table
from ofasys_lite.training.ranks import launched
from ofasys_lite.training.reference import Reference, compares
from ofasys_lite.training.resume import (
    Beginning,
    begin,
    facts_of,
    rate_note,
    row_notes,
    same_converters,
    same_facts,
    same_optimizers,
    same_plans,
    same_rows,
    trained_rows,
)
from ofasys_lite.training.rules import OptimizerSpec
from ofasys_lite.training.settings import TrainSettings
from ofasys_lite.training.shares import means_note, repeat_notes
from ofasys_lite.training.steps import StepsModule, read_once
from ofasys_lite.writing import room_for, telling, write_atomic


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a training needs, in plain values.

    Attributes:
        resume: Go on from its last checkpoint.
        config: The resolved configuration, written to config.yaml.
        start: A trained generalist whose weights and vocabulary are the beginning, or None.
        parts: By modality, weights of others that a fresh network begins with; `modalities` and `model` are theirs.
        ignore_plans: Accept a checkpoint whose lines differ.
        notes: What a check of the data told, to be printed before the first step.
        changed_rows: Accept a checkpoint that was trained on other rows.
        overwrite: Replace the run that the folder holds.
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
    parts: Mapping[str, Part | Body] = field(default_factory=dict)
    ignore_plans: bool = False
    notes: Sequence[str] = ()
    changed_rows: bool = False
    overwrite: bool = False


def train(
    run: TrainingRun,
    console: Console | None = None,
    loggers: Sequence[Logger] = (),
    validate: Callable[[Generalist, int, float], float | None] | None = None,
) -> Generalist:
    """The trained generalist (averaged weights where the settings keep an average); its folder holds the run.

    Args:
        validate: Called at validations with (generalist, step, seconds); returns the mean normalised score.

    Raises:
        CheckpointError: The folder holds a run already, or another one than is to be resumed.
        WriteError: Another process trains there, the folder holds files of others, or it cannot be written.
    """
    folder = RunFolder(run.folder)
    with folder.held(run.resume, run.overwrite), telling(folder.path):
        return _train(run, folder, console or Console(stderr=True), loggers, validate)


def _train(
    run: TrainingRun,
    folder: RunFolder,
    console: Console,
    loggers: Sequence[Logger],
    validate: Callable[[Generalist, int, float], float | None] | None,
) -> Generalist:
    settings = run.settings
    check_devices(settings)
    check_optimizers(settings)
    converters = [make_converter(spec.path, spec.options) for spec in settings.converters]
    if settings.threads:
        torch.set_num_threads(settings.threads)
    keep_freed_memory()
    before = begin(folder, run.resume)
    ready = _ready(run, folder, before is not None, console)
    generalist = _build(run, ready, before is not None)
    reference = Reference(generalist.network) if compares(ready.tasks) else None
    for spec, converter in zip(settings.converters, converters, strict=True):
        generalist.network.convert(converter, spec.name)
    means = _means(ready, settings, before)
    mixture = mixture_of(ready.tasks, settings, means)
    read_once(ready.tasks, settings)
    facts, told = _facts(run, folder, ready, generalist, mixture, before)
    # the mixture ends where every task has used its epochs
    ends = [e for e in (settings.steps, mixture.steps) if e is not None]
    settings = replace(settings, steps=min(ends)) if ends else settings
    # weights, AdamW's two moments of each, and their average where one is kept
    room_for(folder.last, (3 + bool(settings.ema)) * 4 * generalist.parameters(), "a checkpoint")
    ledger = RunTerms([t for task in ready.tasks for t in task.maker.terms()], [t.card.name for t in ready.tasks])
    module = TrainingModule(generalist.network, ledger, settings)
    module.given = run.settings.steps is not None
    precision = _precision(run, before, console)
    module.autocast_bf16 = precision == "bf16"
    module.reference = reference
    structure = structure_of(module.optimization.groups)
    if before is not None:
        same_converters(folder, before.facts, settings.converters)
        same_optimizers(folder, before, structure)
    module.onednn = _onednn(settings, before)
    products = next(said for said, least in LEARNED.items() if least == module.onednn)
    module.facts = {**facts, "precision": precision, "products": products, "optimizers": structure}
    module.facts |= {"converters": [spec.to_plain() for spec in settings.converters], "tokens": means}
    if before is None:
        opened = (f"task {t.card.name}: {n}" for t in ready.tasks for n in t.notes)
        checked = (note for note in run.notes if not note.endswith(NOT_COMPARED))
        told = [*told, *checked, *opened, *mixture.notes(), *([means_note(means)] if means else [])]
        told += repeat_notes(mixture, settings.steps, settings.mixture.repeats)
    elif rises := rate_note(before, settings, module.given):
        told.append(rises)
    for note in shortened(told):
        console.print(f"note: {note}", highlight=False, markup=False, style="dim")
    if settings.parameters or settings.optimizer != OptimizerSpec():
        console.print(table(module.optimization.groups))
    if settings.progress and not console.quiet and getattr(rank_zero_only, "rank", 0) == 0:
        found = (generalist.network, module.optimization.groups, mixture, settings)
        for line in outlook(ready.tasks, *found, _device(settings), module.autocast_bf16).lines():
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    _write_facts(run, folder, ready, before, generalist.contents, module.optimization)
    if reference is not None:
        reference.keep(folder.reference, before is not None, getattr(rank_zero_only, "rank", 0) == 0)
    begun = (0, None) if before is None else (before.step, before.streams)
    data = StepsModule(ready, mixture, settings, *begun)
    lost = Quarantine({t.card.name: len(t.sources["train"]) for t in ready.tasks}, settings.quarantine)
    callbacks = callbacks_of(settings, folder, lost, mixture, generalist, console, validate)
    with Patient() as module.stop, give_way(_device(settings)):
        learn(folder, module, data, callbacks, loggers, before)
        module.stop.check()
        # the averaged weights are what is evaluated and exported
        if module.average:
            fill(module.network, module.average)
        generalist.network = generalist.network.unconverted()
        generalist.network.eval()
        _export(generalist, folder)
    for note in lost.summary():
        console.print(f"note: {note} ({folder.quarantine})", highlight=False, markup=False, style="dim")
    # Lightning takes the weights back to the host; what is done with the model next is done where it was trained
    generalist.network.to(_device(settings))
    return generalist


def _facts(
    run: TrainingRun,
    folder: RunFolder,
    ready: Ready,
    generalist: Generalist,
    mixture: Mixture,
    before: Beginning | None,
) -> tuple[dict[str, Any], list[str]]:
    """(what a resume must find unchanged, held against what the run began with; notes of rows trained on)."""
    contents, hashes = trained_rows(ready)
    facts = facts_of(generalist.network.config, ready.vocabulary, mixture, run.settings, contents)
    if before is not None:
        if not run.changed_rows:
            same_rows(folder, before.facts, contents)
        same_facts(folder, before.facts, facts, run.ignore_plans, run.changed_rows)
        generalist.contents |= read_contents(folder.rows)
    generalist.learns(contents)
    return facts, list(row_notes(generalist.contents, hashes, run.notes))


def _means(ready: Ready, settings: TrainSettings, before: Beginning | None) -> dict[str, float] | None:
    """Tokens of a sample of each task, where weights are shares of tokens; a resumed run keeps those it began with."""
    kept = (before.facts.get("tokens") if before is not None else None) or {}
    if settings.mixture.unit == "tokens" and all(task.card.name in kept for task in ready.tasks):
        return {task.card.name: kept[task.card.name] for task in ready.tasks}
    return token_means(ready.tasks, settings)


def _precision(run: TrainingRun, before: Beginning | None, console: Console) -> str:
    """The precision of the run; where a probe decides, it decides once: a resumed run keeps what it began with."""
    settings = run.settings
    if settings.precision != "auto":
        return settings.precision
    found = probe_precision(_device(settings), run.model.width)
    kept = found if before is None else str(before.facts.get("precision", found))
    if kept != found:
        told = f"the run began in {kept} and goes on in it, though {found} is faster here"
        console.print(
            f"note: {told} (trainer.precision={found} changes it)", highlight=False, markup=False, style="dim"
        )
    return kept


def _onednn(settings: TrainSettings, before: Beginning | None) -> int:
    """From which width on products in fp32 are oneDNN's: a probe decides once, and a resumed run keeps what it began
    with."""
    if before is not None:
        return LEARNED.get(str(before.facts.get("products")), 0)
    return onednn_from() if _device(settings).type == "cpu" else 0


def _device(settings: TrainSettings) -> torch.device:
    return pick_device("cpu" if settings.accelerator == "cpu" else "auto")


def _ready(run: TrainingRun, folder: RunFolder, resumed: bool, console: Console) -> Ready:
    begun = run.start if run.start is not None else body_of(run.parts)
    vocabulary = begun.vocabulary if begun is not None else None
    # rank 0 has written the tokenizer before Lightning starts the others
    if resumed or (launched() and (folder.path / "tokenizer").exists()):
        vocabulary = load_vocabulary(folder.path / "tokenizer")
    with console.status("reading data") as status:
        ready = make_ready(
            run.cards,
            run.modalities,
            run.data,
            vocabulary,
            lambda what, done, all: status.update(f"{what} {done:,} of {all:,}" if all else what),
            CodecTrainer(
                run.modalities,
                run.data,
                run.settings.seed,
                run.model.decoder_layers,
                console,
                status.stop,
                status.start,
                "cpu" if run.settings.accelerator == "cpu" else "auto",
            ).find,
        )
    if resumed and not run.ignore_plans:
        same_plans(folder, ready.tasks)
    return ready


def _build(run: TrainingRun, ready: Ready, resumed: bool) -> Generalist:
    torch.manual_seed(run.settings.seed)
    specs = {name: AdapterSpec(path, dict(values)) for name, (path, values) in ready.adapters.items()}
    if resumed:  # the checkpoint holds the weights: nothing is fetched that would be thrown away
        specs = {name: spec.stored() for name, spec in specs.items()}
    entries = {t.card.name: TaskEntry(t.card, t.plan) for t in ready.tasks}
    if run.start is not None:
        known = set(run.start.network.adapters)
        grown = run.start.extended(ready.vocabulary, specs, entries, ready.modalities, run.data, run.model)
        fill_codecs(grown.network.coder, {name: folder for name, folder in ready.codecs.items() if name not in known})
        return grown
    network = _fresh(run, ready, specs)
    fill_codecs(network.coder, ready.codecs)
    parts = {name: house_of(part) for name, part in run.parts.items()}
    return Generalist(network, ready.vocabulary, entries, ready.modalities, run.data, parts=parts)


def _fresh(run: TrainingRun, ready: Ready, specs: Mapping[str, AdapterSpec]) -> Network:
    """A network as it is drawn, weights of others in the parts that they are for; a checkpoint fills it later."""
    body = body_of(run.parts)
    if body is None:
        network = Network(run.model, len(ready.vocabulary), specs)
    else:
        network = body.network(run.model, ready.vocabulary, specs)
    for name, part in run.parts.items():
        if isinstance(part, Part):
            put(network, part, ready.modalities[name])
    return network


@rank_zero_only
def _export(generalist: Generalist, folder: RunFolder) -> None:
    generalist.save_pretrained(folder.export, overwrite=True)


@rank_zero_only
def _write_facts(
    run: TrainingRun,
    folder: RunFolder,
    ready: Ready,
    before: Beginning | None,
    contents: Mapping[str, Contents],
    optimization: Optimization,
) -> None:
    if before is None and run.overwrite:
        folder.clear()
    folder.cut_history(0 if before is None else before.step)
    if run.config:
        folder.write_config(run.config)
    if before is None:
        ready.vocabulary.save(folder.path / "tokenizer")
        keep_parts(run.parts, folder)
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
    groups = described(optimization.groups)
    write_atomic(folder.path / "parameters.json", json.dumps(groups, indent=1, ensure_ascii=False))
    if contents:
        write_contents(contents, folder.rows)
