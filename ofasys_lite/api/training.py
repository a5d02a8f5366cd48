"""`fit` and `Trainer`: one model, many tasks, one folder that holds the run."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ofasys_lite.api.model import GeneralistModel, Presets, read_presets
from ofasys_lite.api.task import Task
from ofasys_lite.cards.overrides import given_settings
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.errors import CardError, CheckpointError, did_you_mean, raise_all
from ofasys_lite.model.config import DRAWN
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.signals import Interrupted, preparing
from ofasys_lite.training.begun_parts import Begun, begin_parts
from ofasys_lite.training.settings import MODEL_SWITCHES
from ofasys_lite.training.start import Start, replayed, unlearned
from ofasys_lite.writing.plain_values import as_plain

if TYPE_CHECKING:
    from ofasys_lite.layout.ready import DataSettings
    from ofasys_lite.training.fit import TrainingRun
    from ofasys_lite.training.settings import TrainSettings

#: Rows of each source that are looked at before anything is built.
_ROWS = 50
_DATA = ("pieces", "bins", "tokenizer")
Tasks = Sequence[Task | TaskCard | str] | Task | TaskCard | str


def fit(
    model: GeneralistModel,
    tasks: Tasks,
    *,
    steps: int | None = None,
    minutes: float | None = None,
    name: str | None = None,
    folder: str | Path | None = None,
    resume: bool = False,
    rows: str = "check",
    overwrite: bool = False,
    start: str | Path | Mapping[str, Any] | None = None,
    replay: float = 0.0,
    preset: str | None = None,
    console: Any = None,
    **options: Any,
) -> GeneralistModel:
    """The same model, trained on the tasks; `model.run` is the folder with checkpoints, logs and the export.

    A model that has weights already (from `from_pretrained` or an earlier `fit`) goes on from them: rows of its
    vocabulary and its adapters stay, what the new tasks need is added, and it remembers its tasks. What it does not
    train on any more it may unlearn: name old tasks too.

    Args:
        model: Fresh or trained.
        tasks: Tasks, names of cards or TaskCards; one or several.
        steps: Steps; the preset's number where neither steps nor minutes are given.
        minutes: Wall time of training; whichever ends first.
        name: Folder under runs/. Without name and folder: the tasks' names, with a number if that run exists.
        folder: The run's folder itself.
        resume: Go on from the last checkpoint of that run.
        rows: `changed` goes on with a run whose training rows have changed since; `check` refuses it.
        overwrite: Replace the run that is there.
        start: The run or export whose weights, tokenizer and settings a fresh model of its sizes begins with, or a
            mapping (`path`, `replay`). Its tasks are measured before and after: `start.json` in the run's folder.
            Or weights of others for parts of a fresh model, by modality: `{"text": "minilm/", "image": "clip/"}`.
        replay: Share of the samples that tasks it learned before get together, where their rows are found.
        preset: Trainer preset (cpu, gpu, ddp or your own); gpu where there is a CUDA device, else cpu.
        console: A rich Console for progress and notes; stderr if not given.
        **options: Settings of the trainer in place of the preset's (lr, samples_per_step, precision, workers, seed,
            valid_every, compile ...) and of the data (pieces, bins, tokenizer).

    Raises:
        CardError: Unknown options (the nearest is offered), tasks of one name, a wrong value.
        OfasysError: What is wrong with the tasks and their rows: all of it at once, before any model is built.
        CheckpointError: The folder holds a run already, or another one than is to be resumed.
        WriteError: Another process trains there, the folder holds files of others, or it cannot be written.
        KeyboardInterrupt: Ctrl-C; `resume=True` goes on from the last step. SIGTERM and SIGUSR1 exit with 128 + signal.

    Example:
        `fit(GeneralistModel("small"), [caption, vqa], minutes=60, name="first", samples_per_step=96)`
    """
    if not isinstance(model, GeneralistModel):
        raise CardError(f"fit trains a GeneralistModel, not {type(model).__name__}", help="model = GeneralistModel()")
    if not isinstance(resume, bool):
        raise CardError(f"resume is {resume!r}", help="fit(..., name='x', resume=True) goes on with runs/x")
    if rows not in ("check", "changed"):
        raise CardError(f"rows is {rows!r}", help=did_you_mean(str(rows), ("check", "changed")))
    begun = _begun(model, start, replay, _tasks(tasks, model)[1])
    cards, modalities = _tasks(tasks, model)
    notes: tuple[str, ...] = ()
    if model.trained:
        old = {name: entry.card for name, entry in model.generalist.tasks.items()}
        cards, notes = replayed(cards, old, begun.replay)
        way = "" if begun.replay else "fit(..., replay=0.2) draws them, too, where their rows are found"
        notes += unlearned("the model", old, cards, way)
    asked = _Asked.of(read_presets(trainer=preset or _preset()), options, steps, minutes)
    place = _folder([card.name for card in cards], name, folder, resume)
    _claim(RunFolder(place), resume, overwrite)
    given = {*model.given, *(f"data.{key}" for key in asked.given)}
    parts = begin_parts(begun, modalities, model.config, RunFolder(place), resume and not model.trained, given)
    modalities = dict(parts.cards)
    from ofasys_lite.data.check_tasks import check_tasks
    from ofasys_lite.report.judge import wrong_judges

    report = check_tasks(cards, modalities, rows=_ROWS, tolerate=asked.settings.quarantine)
    report.raise_errors()
    raise_all(wrong_judges(cards, modalities))
    from ofasys_lite.report.forgetting import measured, note
    from ofasys_lite.training.fit import train

    run = replace(
        _run(model, cards, parts, asked, place, resume),
        notes=(*parts.notes, *notes, *report.notes),
        changed_rows=rows == "changed",
        overwrite=overwrite,
    )
    validate = _validator(run.settings, place)
    before = measured(model.generalist) if begun.path else {}
    with _ending(place):
        model._hold(train(run, console, validate=validate))
    if begun.path:
        note(begun.path, before, model.generalist, place)
    model.run = place
    return model


@contextmanager
def _ending(place: Path) -> Iterator[None]:
    """Inside it a signal ends a training in order: Ctrl-C as KeyboardInterrupt, others as an exit."""
    try:
        with preparing():
            yield
    except Interrupted as stop:
        if stop.code and (place / "checkpoints" / "last.ckpt").exists():
            print(f"stopped by {stop.name}; to go on: fit(..., folder={str(place)!r}, resume=True)", file=sys.stderr)
        if stop.number == signal.SIGINT:
            raise KeyboardInterrupt from None
        raise


def _begun(model: GeneralistModel, start: Any, replay: float, cards: Mapping[str, ModalityCard]) -> Start:
    """What the model begins with, its weights in it; CheckpointError: it is trained, or of other sizes or settings."""
    said = Start.of(start, cards)
    begun = Start("", replay) if said is None else replace(said, replay=replay or said.replay)
    if said is None:
        return begun
    if model.trained:
        what = begun.path or ", ".join(f"{key}: {source}" for key, source in begun.parts.items())
        raise CheckpointError(
            f"start={what}: this model has weights already", help="begin with a fresh GeneralistModel(...)"
        )
    if not begun.path:
        return begun
    from ofasys_lite.generalist.generalist import Generalist

    found = Generalist.from_pretrained(begun.path, "cpu")
    for key, value in found.network.config.stored().items():
        if key not in DRAWN and model.config.stored()[key] != value:
            raise CheckpointError(
                f"start={begun.path}: {key} is {value} there, and {model.config.stored()[key]} in this model",
                help="its sizes come with its weights: fit(GeneralistModel.from_pretrained(path), ...) takes them",
            )
    used = {slot.modality for entry in found.tasks.values() for slot in entry.plan.all_slots()}
    for name in sorted(used):
        settings, own = (given_settings(each[name].settings) for each in (found.modalities, model.modalities()))
        for key in settings:
            if settings[key] != own.get(key):
                raise CheckpointError(
                    f"start={begun.path}: {name}'s {key} is {settings[key]} there, and {own.get(key)} in this model",
                    help="its settings come with its weights: fit(GeneralistModel.from_pretrained(path), ...)",
                )
    model._hold(found)
    return begun


class Trainer:
    """Training settings kept for several calls of `fit`, as in OFASys.

    Args:
        preset: Trainer preset (cpu, gpu, ddp or your own).
        **options: Everything else `fit` takes by keyword: steps, minutes, lr, samples_per_step ...

    Raises:
        CardError: An unknown option; the nearest is offered.

    Example:
        `Trainer(steps=500).fit(model=model, tasks=[task1, task2])`
    """

    def __init__(self, preset: str | None = None, **options: Any) -> None:
        if preset is not None and not isinstance(preset, str):
            raise CardError(
                f"Trainer takes settings by name, not {type(preset).__name__}",
                help="Trainer(lr=1e-3, samples_per_step=64, steps=1000), or the name of a preset: Trainer('gpu')",
            )
        known = (*_FIT, *_option_names())
        for key in options:
            if key not in known:
                from ofasys_lite.training.settings import known_as

                help = known_as(key) or did_you_mean(key, known)
                raise CardError(f"Trainer: unknown option `{key}`", help=help)
        self.preset = preset
        self.options = dict(options)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Trainer:
        """Always refused: OFASys' YAML describes another trainer."""
        raise CardError(
            f"{path}: YAML files of OFASys' trainer are not read",
            help="give settings by name: Trainer(lr=1e-3, steps=1000); or write a preset and name it: Trainer('mine')",
        )

    def fit(self, model: GeneralistModel, tasks: Tasks, **options: Any) -> GeneralistModel:
        """The same model, trained on the tasks: `fit` with these settings, the given ones in their place."""
        return fit(model, tasks, **{"preset": self.preset, **self.options, **options})


_FIT = ("steps", "minutes", "name", "folder", "resume", "rows", "overwrite", "start", "replay", "console")


def _option_names() -> tuple[str, ...]:
    from ofasys_lite.training.settings import TrainSettings

    own = [f.name for f in fields(TrainSettings) if f.name not in ("steps", "minutes")]
    return (*own, *MODEL_SWITCHES, *_DATA)


def _preset() -> str:
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, slots=True)
class _Asked:
    """Options by what they set.

    Attributes:
        settings: How to train.
        switches: Fields of ModelConfig.
        data: Settings of data: the presets' with what was asked in their place.
        given: Keys of `data` that were asked for.
    """

    settings: TrainSettings
    switches: Mapping[str, Any]
    data: Mapping[str, Any]
    given: frozenset[str]

    @staticmethod
    def of(presets: Presets, options: Mapping[str, Any], steps: int | None, minutes: float | None) -> _Asked:
        """The presets with the options in their place; CardError on unknown ones."""
        from ofasys_lite.training.settings import TrainSettings, known_as

        known = _option_names()
        for key in options:
            if key not in known:
                raise CardError(
                    f"fit: unknown option `{key}`", help=known_as(key) or did_you_mean(key, (*_FIT, *known))
                )
        if steps is None and minutes is None:
            steps = presets.steps
        merged = {**presets.trainer, **{k: v for k, v in options.items() if k not in _DATA}}
        switches = {field: merged.pop(key, False) for key, field in MODEL_SWITCHES.items()}
        settings = TrainSettings.from_dict({**merged, "steps": steps, "minutes": minutes})
        asked = {key: options[key] for key in _DATA if key in options}
        data = {**{key: presets.data[key] for key in _DATA}, **asked}
        return _Asked(settings, switches, data, frozenset(asked))


def _tasks(tasks: Tasks, model: GeneralistModel) -> tuple[list[TaskCard], dict[str, ModalityCard]]:
    help = "fit(model, [Task(...)]), or a card's name: fit(model, ['vqa'])"
    if isinstance(tasks, Mapping) or not isinstance(tasks, (Task, TaskCard, str, Iterable)):
        raise CardError(f"tasks is {type(tasks).__name__}, not a list of tasks", help=help)
    several = [tasks] if isinstance(tasks, (Task, TaskCard, str)) else list(tasks)
    if not several:
        raise CardError("there is no task to train", help=help)
    found = [task if isinstance(task, Task) else Task.from_card(task) for task in several]
    names = [task.name for task in found]
    for name in names:
        if names.count(name) > 1:
            raise CardError(f"two tasks are called {name}", help="give each a name of its own")
    cards = [task.card for task in found]
    for card in cards:
        if not card.data.get("train"):
            raise CardError(
                f"task {card.name} has no rows to train on", help="add them: task.add_dataset(rows, 'train')"
            )
    modalities = model.modalities()
    for task in found:
        for key, card_of in (task.modalities() if task.folders else {}).items():
            modalities.setdefault(key, card_of)
    return cards, modalities


def _folder(tasks: Sequence[str], name: str | None, folder: str | Path | None, resume: bool) -> Path:
    if name is not None and folder is not None:
        raise CardError("name and folder both say where the run lies", help="name='x' is runs/x; keep one of them")
    if folder is not None:
        return Path(folder).expanduser()
    below = "-".join(tasks)[:60] if name is None else str(name)
    if not below or below.startswith(("/", "~")) or {".", ".."} & set(below.split("/")):
        raise CardError(f"the run's name is `{below}`", help="it names a folder below runs/; elsewhere: folder=...")
    base = Path("runs") / below
    if name is not None:
        return base
    if resume:
        return base
    number, place = 1, base
    while RunFolder(place).trained():
        number += 1
        place = base.with_name(f"{base.name}-{number}")
    return place


def _claim(place: RunFolder, resume: bool, overwrite: bool) -> None:
    if place.trained() and not resume and not overwrite:
        raise CheckpointError(
            f"{place.path} already holds a run",
            help="resume=True goes on with it, another name starts a new one, overwrite=True replaces it",
        )
    place.claim(resume, overwrite)


def _run(
    model: GeneralistModel,
    cards: Sequence[TaskCard],
    begun: Begun,
    asked: _Asked,
    place: Path,
    resume: bool,
) -> TrainingRun:
    from ofasys_lite.training.fit import TrainingRun

    config, data = replace(begun.model, **asked.switches), _data(model, asked)
    data = data if begun.bins is None else replace(data, bins=begun.bins)
    parts = {"start": {name.lower(): part.source for name, part in begun.parts.items()}} if begun.parts else {}
    return TrainingRun(
        cards=cards,
        modalities=begun.cards,
        model=config,
        settings=asked.settings,
        folder=place,
        data=data,
        parts=begun.parts,
        resume=resume,
        config={
            "name": place.name,
            "model": config.to_dict(),
            "trainer": asked.settings.to_dict(),
            "data": dict(asked.data),
            "tasks": {card.name: as_plain(asdict(replace(card, origin=None))) for card in cards},
            **parts,
        },
        start=model.generalist if model.trained else None,
    )


def _data(model: GeneralistModel, asked: _Asked) -> DataSettings:
    """Tokenizer and bins; a trained model has its own, and keeps them."""
    from ofasys_lite.layout.ready import DataSettings

    if not model.trained:
        values = asked.data
        tokenizer = values["tokenizer"]
        return DataSettings(values["pieces"], values["bins"], None if tokenizer is None else str(tokenizer))
    if asked.given:
        raise CardError(
            f"fit: {', '.join(sorted(asked.given))} cannot change, because this model is trained already",
            help="leave it out, or start from a fresh GeneralistModel()",
        )
    return model.generalist.data


def _validator(settings: TrainSettings, place: Path) -> Callable[..., float | None] | None:
    if not settings.valid_every:
        return None
    from ofasys_lite.report.validation import Validator

    return Validator(RunFolder(place), settings.valid_samples)
