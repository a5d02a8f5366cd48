"""`ofasys-lite train key=value ...`: checks everything without torch, prepares data, then trains and evaluates."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ofasys_lite.commands.begin import begin_with, measurable, start_named
from ofasys_lite.commands.compose import user_folders
from ofasys_lite.commands.escapes import escaped
from ofasys_lite.commands.run_config import RunConfig, run_config
from ofasys_lite.commands.sweep import Outcome, run_jobs
from ofasys_lite.errors import CardError, CheckpointError, OfasysError, did_you_mean, raise_all
from ofasys_lite.run.find_run import find_run, refuse_elsewhere
from ofasys_lite.run.run_folder import environment
from ofasys_lite.signals import AtOnce, Interrupted, pending, preparing
from ofasys_lite.training.start import Start
from ofasys_lite.writing import other_rank

#: Rows of each source that are looked at before anything heavy is imported.
_ROWS = 50
#: What may have changed since the run was begun, by the key that accepts it.
_ACCEPTS = {"plans": ("check", "ignore"), "rows": ("check", "changed")}


def main(arguments: Sequence[str]) -> int:
    """0 when the run is trained (and evaluated, unless `evaluate=false`)."""
    arguments = start_named(arguments)
    folders = user_folders(list(arguments))

    def one(content: dict[str, Any], folder: str | None) -> Outcome:
        content = _of_resumed_run(content, arguments)
        evaluated = content.pop("evaluate", True)
        said = {key: content.pop(key, "check") for key in _ACCEPTS}
        for key, value in said.items():
            if value not in _ACCEPTS[key]:
                raise CardError(f"{key} is `{value}`", help=did_you_mean(str(value), _ACCEPTS[key]))
        overwrite = content.pop("overwrite", False)
        for key, value in (("evaluate", evaluated), ("overwrite", overwrite)):
            if not isinstance(value, bool):
                raise CardError(f"{key} is `{value}`", help="true or false")
        own = tuple(dict.fromkeys((*folders, *_card_folders(content))))
        config, told = begin_with(run_config(content, own, folder), arguments)
        accepted = {"ignore_plans": said["plans"] == "ignore", "changed_rows": said["rows"] == "changed"}
        return _started(config, evaluated, {**accepted, "overwrite": overwrite}, told)

    run_jobs("train", arguments, one)
    return 0


def _card_folders(content: Mapping[str, Any]) -> tuple[str, ...]:
    """What `data.cards` of a configuration names."""
    named = (content.get("data") or {}).get("cards")
    return () if named is None else tuple(map(str, named if isinstance(named, list) else [named]))


def _of_resumed_run(content: dict[str, Any], arguments: Sequence[str]) -> dict[str, Any]:
    """What `resume=PATH` goes on with: the run's own configuration, where the command line names no tasks.

    Single keys given beside it (`minutes=20`, `trainer.workers=0`) are taken from the command line, and so are flags.
    """
    path = content.get("resume")
    if not isinstance(path, str) or content.get("tasks"):
        return content
    file = Path(path) / "config.yaml"
    if not file.exists():
        raise CheckpointError(f"resume: {path} holds no run", help="name a folder under runs/, or resume=true")
    saved = dict(yaml.safe_load(file.read_text(encoding="utf-8")))
    saved["tasks"] = escaped(saved["tasks"])
    saved["resume"] = path
    for key in ("evaluate", *_ACCEPTS):
        saved.setdefault(key, content.get(key))
    for argument in (each for each in arguments if each.startswith("~") or ("=" in each and each[0] != "-")):
        group, _, key = argument.partition("=")[0].lstrip("+").partition(".")
        if not key and group in ("steps", "minutes", "evaluate", *_ACCEPTS):
            saved[group] = content[group]
        elif key and group in ("trainer", "data") and "." not in key:
            saved[group] = {**saved[group], key: content[group][key]}
        elif group not in ("resume", "hydra"):  # Lightning adds hydra's own keys for the further ranks it starts
            raise CardError(
                f"`{argument}` cannot be changed in a resumed run",
                help="steps, minutes, evaluate, plans, rows, trainer.KEY and data.KEY can",
            )
    return saved


def _started(config: RunConfig, evaluate: bool, accepted: Mapping[str, bool], told: Sequence[str]) -> Outcome:
    """The finished run's folder, and why it has no scores; a signal that ends it before tells how to go on.

    Args:
        evaluate: Evaluate the test splits at the end, and write the report.
        accepted: Of a TrainingRun: `ignore_plans`, `changed_rows`, `overwrite`.
        told: Notes of what it begins with, to be printed before the first step.
    """
    folder = Path(config.resume) if isinstance(config.resume, str) else Path("runs") / config.name
    reached = _Reached(folder, "begun" if config.resume else "new")
    try:
        _run(config, evaluate, told, accepted, reached)
    except (Interrupted, KeyboardInterrupt):
        if not other_rank():
            print(_how_to_go_on(reached, config), file=sys.stderr)
        raise
    return Outcome(reached.folder, reached.lack)


@dataclass(slots=True)
class _Reached:
    """How far a run has come: its folder, whether it is `new`, `begun` or `trained`, and why it has no scores."""

    folder: Path
    state: str
    lack: str = "not evaluated: evaluate=false"


def _run(
    config: RunConfig, evaluate: bool, told: Sequence[str], accepted: Mapping[str, bool], reached: _Reached
) -> None:
    from ofasys_lite.run.run_folder import RunFolder

    with ExitStack() as stack:
        with preparing():
            environment(config.data)
            reached.folder, resume = _folder(config)
            folder = RunFolder(reached.folder)
            folder.claim(resume, accepted["overwrite"])
            _check_lines(config)
            if isinstance(config.resume, str):
                refuse_elsewhere(folder.path, {card.name: card.data for card in config.tasks})
            _prepare(config)
            notes = (*told, *_check(config))
            run = replace(_training_run(config, folder.path, resume), notes=notes, **accepted)
            pending()
            stack.enter_context(folder.held(resume, accepted["overwrite"]))
            reached.state = "begun"
            _train(run, config)
        reached.state = "trained"
        if evaluate and _first_rank():
            with AtOnce():
                device = "cpu" if config.settings.train.accelerator == "cpu" else "auto"
                reached.lack = _evaluate(folder.path, device, _start(config))


def _start(config: RunConfig) -> Start:
    """What the run begins with; without a path where that is nothing, or parts of others."""
    return Start.of(config.start) or Start()


def _evaluate(folder: Path, device: str, begun: Start) -> str:
    """Why there are no scores; empty where there are."""
    from ofasys_lite.commands.evaluate import EvaluateOptions, evaluate_run
    from ofasys_lite.report.evaluate_model import NoRows

    # old tasks, and runs that went on with changed rows, may have test rows that were trained on: told, not judged
    options = EvaluateOptions(device=device, seen="drop")
    if begun.path:
        options = replace(options, tasks=measurable(folder), output=str(folder))
    try:
        evaluate_run(folder, options)
    except NoRows as error:
        print(f"nothing to evaluate: {error.message}", file=sys.stderr)
        return f"not evaluated: {error.message}"
    return ""


def _how_to_go_on(reached: _Reached, config: RunConfig) -> str:
    """What to type after an interruption."""
    folder = reached.folder
    if reached.state == "trained":
        return f"it is trained; to evaluate it: {shlex.join(['ofasys-lite', 'evaluate', str(folder)])}"
    if reached.state == "begun" and (folder / "checkpoints" / "last.ckpt").exists():
        given = _card_folders({"data": config.data})
        cards = [word for each in config.folders if each not in given for word in ("--config-dir", each)]
        return f"to go on where it stopped: {shlex.join(['ofasys-lite', 'train', *cards, f'resume={folder}'])}"
    return "nothing was trained yet: the same command begins again"


def _check_lines(config: RunConfig) -> None:
    """Plans every line, with what validation and evaluation will need, before anything is fetched."""
    from ofasys_lite.plan import build_plan
    from ofasys_lite.report.judge import judges

    errors: list[OfasysError] = []
    for card in config.tasks:
        try:
            judges(build_plan(card, config.modalities), card, config.modalities)
        except OfasysError as error:
            errors.append(error)
    raise_all(errors)


def _prepare(config: RunConfig) -> None:
    """Fetches the prepared data that the tasks name and that is not there yet."""
    from ofasys_lite.recipes import data_root, is_prepared, recipe_names

    wanted: dict[str, None] = {}
    for card in config.tasks:
        for spec in card.data.values():
            name = spec.partition(":")[0] if isinstance(spec, str) else ""
            if name in recipe_names():
                wanted[name] = None
    if all(is_prepared(data_root() / name) for name in wanted) or not config.data.get("prepare", True):
        return
    from ofasys_lite.codec.turns import turn
    from ofasys_lite.commands.data import main as data

    # ranks that torchrun starts at once, and jobs of a sweep, want the same data at the same time
    waiting = "another process prepares data: waiting for it"
    with turn(data_root() / ".preparing", lambda: print(waiting, file=sys.stderr)):
        missing = [name for name in wanted if not is_prepared(data_root() / name)]
        if missing:
            data(["prepare", *missing])


def _check(config: RunConfig) -> tuple[str, ...]:
    """What the user should know of the data before the first step."""
    from ofasys_lite.data.check_tasks import check_tasks

    limit = config.settings.train.quarantine
    report = check_tasks(config.tasks, config.modalities, rows=_ROWS, tolerate=limit)
    report.raise_errors()
    return report.notes


def _folder(config: RunConfig) -> tuple[Path, bool]:
    if isinstance(config.resume, str):
        folder = Path(config.resume)
        if not (folder / "config.yaml").exists():
            raise CheckpointError(f"resume: {folder} holds no run", help="name a folder under runs/, or resume=true")
        return folder, True
    return Path("runs") / config.name, bool(config.resume)


def _training_run(config: RunConfig, folder: Path, resume: bool) -> Any:
    from ofasys_lite.training.fit import TrainingRun

    begun, model = _start(config), None
    if begun.path:
        from ofasys_lite.generalist.generalist import Generalist

        model = Generalist.from_pretrained(find_run(begun.path).export, "cpu")
    return TrainingRun(
        cards=config.tasks,
        modalities=config.modalities,
        model=config.settings.model,
        settings=config.settings.train,
        folder=folder,
        data=config.settings.data if model is None else model.data,
        start=model,
        parts=config.parts,
        resume=resume,
        config=config.resolved,
    )


def _train(run: Any, config: RunConfig) -> None:
    from rich.console import Console

    from ofasys_lite.report.forgetting import changes, measured, note
    from ofasys_lite.report.validation import Validator
    from ofasys_lite.run.run_folder import RunFolder
    from ofasys_lite.training.fit import train

    console = Console(stderr=True, quiet=not _first_rank())
    names = [card.name for card in config.tasks]
    tasks = "1 task" if len(names) == 1 else f"{len(names)} tasks"
    console.print(f"training {tasks} into {run.folder}: {', '.join(names)}", markup=False, soft_wrap=True)
    validate = Validator(RunFolder(run.folder), run.settings.valid_samples)
    begun = _start(config)
    before = measured(run.start) if begun.path and _first_rank() else {}
    model = train(run, console, _loggers(config, run.folder), validate)
    if begun.path and _first_rank():
        for line in changes(note(begun.path, before, model, run.folder)):
            console.print(f"{begun.path}, {line}", highlight=False, markup=False)
    console.print(f"trained: {run.folder}/export", markup=False, soft_wrap=True)
    sys.stderr.flush()


def _first_rank() -> bool:
    """True in the process that speaks and writes for all ranks."""
    from lightning.pytorch.utilities import rank_zero_only

    return int(getattr(rank_zero_only, "rank", 0)) == 0


def _free(folder: Path, name: str) -> str:
    """`name`, or `name-2`, `name-3` ...: a resumed run keeps the logs it had."""
    number, found = 1, name
    while (folder / found).exists():
        number += 1
        found = f"{name}-{number}"
    return found


def _loggers(config: RunConfig, folder: Path) -> list[Any]:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    made: list[Any] = []
    for name in config.settings.loggers:
        if name == "csv":
            made.append(CSVLogger(folder, name="logs", version=_free(folder / "logs", "csv")))
        else:
            try:
                made.append(TensorBoardLogger(folder, name="logs", version="tensorboard"))
            except ModuleNotFoundError as error:
                raise CardError(f"logger=tensorboard needs {error.name}", help="pip install tensorboard") from None
    return made
