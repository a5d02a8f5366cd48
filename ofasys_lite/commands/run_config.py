"""What a run is, once Hydra has composed it: cards and plain values. Nothing below commands/ sees a DictConfig."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ofasys_lite.cards.find import modalities, task_names
from ofasys_lite.cards.load import load_task_card
from ofasys_lite.cards.overrides import with_settings
from ofasys_lite.cards.types import ModalityCard, TaskCard
from ofasys_lite.commands.escapes import unescaped
from ofasys_lite.commands.hydra_sources import CARD
from ofasys_lite.commands.run_keys import Settings, noted, refuse_unknown, settings_of
from ofasys_lite.errors import CardError, OfasysError, did_you_mean, nearest, raise_all
from ofasys_lite.training.start import Start

_CHOOSE = (
    "choose an experiment (experiment=quickstart), tasks (tasks=[caption,vqa]) or give a line: "
    "'+tasks.mine.instruction=\"[TEXT:q] -> [TEXT:a]\"' +tasks.mine.data.train=qa.csv"
)


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Everything `train` was asked for.

    Attributes:
        tasks: Task cards, in the order they were chosen.
        modalities: Modality cards by name and alias, their settings as the presets changed them.
        settings: How it trains, the model's sizes, tokenizer and bins, loggers.
        data: Keys of presets/data.
        name: Folder under runs/.
        seed: Seed of the mixture, the weights and dropout.
        resume: False, True (from runs/<name>) or the path of a run.
        folders: Users' folders of cards.
        start: What the run begins with: None, or a mapping (`path`, `replay`, sources by modality).
        resolved: The whole configuration as plain values, to be written into the run's folder.
        parts: Weights of others that the parts of the model begin with, by modality, once they are read.
    """

    tasks: tuple[TaskCard, ...]
    modalities: Mapping[str, ModalityCard]
    settings: Settings
    data: Mapping[str, Any]
    name: str
    seed: int
    steps: int | None
    minutes: float | None
    resume: bool | str
    folders: tuple[str, ...] = ()
    start: Any = None
    resolved: Mapping[str, Any] = field(default_factory=dict)
    parts: Mapping[str, Any] = field(default_factory=dict)


def run_config(content: Mapping[str, Any], folders: tuple[str, ...] = (), job: str | None = None) -> RunConfig:
    """The run that a composed configuration describes; every mistake is told at once.

    Args:
        content: The composed configuration: plain values, instruction lines still escaped.
        job: Folder of this run under runs/ in a multirun, else None.

    Raises:
        CardError: A wrong value, or several as an ErrorGroup.
    """
    errors: list[OfasysError] = []
    if not content.get("tasks") and content.get("resume") is True:
        where = f"runs/{content['name']}" if content.get("name") else "runs/NAME"
        help = f"say its tasks again, or go on with the tasks and settings that the run has: train resume={where}"
        raise CardError("resume=true goes on with the tasks that are named, and none is", help=help)
    tasks = _tasks(content.get("tasks") or {}, folders, errors)
    seed = _number(content, "seed", int, errors)
    steps = _number(content, "steps", int, errors)
    minutes = _number(content, "minutes", float, errors)
    if content.get("steps") is None and content.get("minutes") is None:
        errors.append(CardError("nothing ends the run", help="give steps=5000 or minutes=10"))
    # a number that is wrong is told above
    end = {"steps": steps, "minutes": minutes if minutes is not None or steps is not None else 1.0, "seed": seed}
    chosen = {**content, **end}
    own = content.get("modalities") or {}
    noted(lambda: refuse_unknown({key: content[key] for key in content if key != "data"}, "train"), errors)
    noted(lambda: settings_of(chosen), errors)
    noted(lambda: _modalities(own, folders), errors)
    noted(lambda: Start.of(content.get("start"), modalities(folders)), errors)
    if not isinstance(content.get("resume"), (bool, str, type(None))):
        errors.append(CardError(f"`resume` is `{content['resume']}`", help="true, false or a run's folder: runs/x"))
    raise_all(errors)
    name = _name(content, tasks, job)
    shown = {key: value for key, value in content.items() if key != "tasks"}
    lines = {key: {**unescaped(task)} for key, task in (content.get("tasks") or {}).items()}
    return RunConfig(
        tasks=tasks,
        modalities=_modalities(own, folders),
        settings=settings_of(chosen),
        data=content.get("data") or {},
        name=name,
        seed=0 if seed is None else int(seed),
        steps=None if steps is None else int(steps),
        minutes=minutes,
        resume=content.get("resume") or False,
        folders=folders,
        start=content.get("start"),
        resolved={**shown, "tasks": lines, "name": name},
    )


def _tasks(content: Mapping[str, Any], folders: tuple[str, ...], errors: list[OfasysError]) -> tuple[TaskCard, ...]:
    if not isinstance(content, Mapping):
        raise CardError("`tasks` is not a mapping of names to cards", help=_CHOOSE)
    if not content:
        names = ", ".join(task_names(folders)) or "none"
        raise CardError("there is no task to train", help=f"{_CHOOSE}\n        tasks: {names}")
    cards: list[TaskCard] = []
    for name, value in content.items():
        card = noted(partial(_task, str(name), value, folders), errors)
        cards += [] if card is None else [card]
    return tuple(cards)


def _task(name: str, value: Any, folders: tuple[str, ...]) -> TaskCard:
    if not isinstance(value, Mapping):
        raise CardError(f"task {name} is `{value}`, not a card", help=_CHOOSE)
    given = dict(unescaped(dict(value)))
    path = given.pop(CARD, None)
    if path is None and "instruction" not in given:
        wrong = nearest("instruction", given)
        if wrong is not None:
            raise CardError(f"unknown key `{wrong}` in task {name}", help="did you mean `instruction`?")
        names = task_names(folders)
        near = did_you_mean(name, names, "cards") if names else "there are no cards"
        raise CardError(
            f"task {name} has no instruction",
            help=f"give +tasks.{name}.instruction=..., or choose a card: tasks=[NAME]; {near}",
        )
    card = load_task_card(given if path is None else Path(str(path)), name=name, overrides=given if path else None)
    if not card.data.get("train"):
        raise CardError(f"task {name} has no training data", help=f"name a source: +tasks.{name}.data.train=FILE")
    return card


def _modalities(content: Mapping[str, Any], folders: tuple[str, ...]) -> dict[str, ModalityCard]:
    """All modality cards, with the settings that the run changed."""
    if not isinstance(content, Mapping):
        raise CardError(f"`modalities` is `{content}`", help="modalities.NAME.KEY=VALUE changes a setting")
    return with_settings(modalities(folders), {str(name): unescaped(value) for name, value in content.items()})


def _number(content: Mapping[str, Any], key: str, kind: type, errors: list[OfasysError]) -> float | None:
    value = content.get(key)
    if value is None:
        return None
    allowed = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or value < 0 or (value == 0 and key != "seed"):
        wanted = "a whole number" if kind is int else "a number"
        least = "of at least 0" if key == "seed" else "above 0"
        errors.append(CardError(f"`{key}` is `{value}`", help=f"{key} is {wanted} {least}"))
        return None
    return value


def _name(content: Mapping[str, Any], tasks: tuple[TaskCard, ...], job: str | None) -> str:
    """The folder under runs/: what was given, else the tasks' names; the job's number below it in a multirun."""
    given = content.get("name")
    base = str(given) if given is not None else "-".join(task.name for task in tasks)[:60]
    if not re.fullmatch(r"[\w.+=-]+(/[\w.+=-]+)*", base) or {".", ".."} & set(base.split("/")):
        raise CardError(f"`name` is `{base}`", help="letters, digits and _ . + = - (and / for folders)")
    if job is None:
        return base
    return job if given is None else f"{base}/{job.rpartition('/')[2]}"
