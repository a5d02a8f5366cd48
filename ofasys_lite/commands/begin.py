"""`train start=runs/x`: a new run with the weights, the tokenizer and the settings of a trained model. No torch.

`train start.text=FOLDER`: a new run whose parts begin with weights of others.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ofasys_lite.cards.overrides import given_settings
from ofasys_lite.cards.stored import stored_card
from ofasys_lite.cards.types import ModalityCard
from ofasys_lite.commands.run_config import RunConfig
from ofasys_lite.errors import CardError, CheckpointError
from ofasys_lite.model.config import DRAWN, ModelConfig
from ofasys_lite.run.find_run import find_run
from ofasys_lite.run.run_folder import RunFolder
from ofasys_lite.training.begun_parts import begin_parts
from ofasys_lite.training.start import Start, replayed, unlearned
from ofasys_lite.writing import current


def start_named(arguments: Collection[str]) -> list[str]:
    """The arguments with `start=runs/x` written as the key of the mapping that it is: `start.path=runs/x`.

    Raises:
        CardError: A mapping, whose keys are written one by one.
    """
    for each in arguments:
        if each.startswith("start={"):
            help = "a run: start=runs/x; or parts, each by itself: start.text=FOLDER start.image=FOLDER"
            raise CardError(f"`start` is `{each[6:]}`", help=help)
    return [f"start.path={each[6:]}" if each.startswith("start=") else each for each in arguments]


def begin_with(config: RunConfig, given: Collection[str]) -> tuple[RunConfig, tuple[str, ...]]:
    """The run with what its start brings: sizes, settings of modalities, bins, tasks to replay; and notes of it.

    Args:
        given: The command line: what is said there and differs from the start is refused, presets give way.

    Raises:
        CheckpointError: There is no such model, or its sizes, tokenizer or settings are not those that were asked for.
    """
    start = Start.of(config.start) or Start()
    if not start.path:
        return _with_parts(config, start, _keys(given))
    found = find_run(start.path)
    stored = json.loads(current(found.export, "config.json").read_text(encoding="utf-8"))
    keys = _keys(given)
    asked = config.settings.model.to_dict()
    # as loading has them: an export of before a choice was named has what was usual, whatever a preset asks for now
    model = ModelConfig.of_export(stored["model"]).stored()
    _same_sizes(start.path, asked, model, keys)
    _same_data(start.path, config.data, stored["data"], keys)
    _same_modalities(start.path, config.modalities, found.modalities, keys)
    old = {name: stored_card(value["card"]) for name, value in found.tasks.items()}
    tasks, notes = replayed(config.tasks, old, start.replay)
    way = "" if start.replay else "start.replay=0.2 draws them, too, where their data are found"
    others = [
        f"task {card.name}: {start.path} learned it as: {old[card.name].instruction}"
        for card in config.tasks
        if card.name in old and old[card.name].instruction != card.instruction
    ]
    data = {**config.data, "bins": stored["data"]["bins"]}
    settings = replace(
        config.settings,
        model=ModelConfig.from_dict({**asked, **model}),
        data=replace(config.settings.data, bins=stored["data"]["bins"]),
    )
    return replace(
        config,
        tasks=tuple(tasks),
        modalities={**config.modalities, **found.modalities},
        settings=settings,
        data=data,
        resolved={**config.resolved, "model": model, "data": data},
    ), (*notes, *others, *unlearned(start.path, old, tasks, way))


def _keys(given: Collection[str]) -> set[str]:
    """Keys that stand on the command line."""
    return {each.partition("=")[0].lstrip("+") for each in given if "=" in each and each[0] != "-"}


def _with_parts(config: RunConfig, start: Start, keys: Collection[str]) -> tuple[RunConfig, tuple[str, ...]]:
    """The run with the parts that it begins with, their sizes and settings in it; and what is to be said of them."""
    folder = RunFolder(config.resume if isinstance(config.resume, str) else Path("runs") / config.name)
    begun = begin_parts(start, config.modalities, config.settings.model, folder, bool(config.resume), keys)
    if not begun.parts:
        return config, ()
    settings, data = replace(config.settings, model=begun.model), config.data
    if begun.bins is not None:
        data = {**data, "bins": begun.bins, "tokenizer": None}
        settings = replace(settings, data=replace(settings.data, bins=begun.bins, tokenizer=None))
    resolved = {**config.resolved, "model": begun.model.stored(), "data": data}
    new = replace(config, modalities=begun.cards, settings=settings, data=data, parts=begun.parts, resolved=resolved)
    return new, begun.notes


def measurable(folder: Path) -> tuple[str, ...]:
    """Tasks of a run that began with a model: its own, and those of the model whose rows were found."""
    told = json.loads((folder / "start.json").read_text(encoding="utf-8"))
    return tuple(name for name in find_run(str(folder)).tasks if "reason" not in told["before"].get(name, {}))


def _same_sizes(path: str, asked: Mapping[str, Any], stored: Mapping[str, Any], keys: Collection[str]) -> None:
    for key, value in stored.items():
        named = f"model.{key}" in keys or ("model" in keys and key not in DRAWN)
        if named and asked.get(key) is not None and asked[key] != value:
            raise CheckpointError(
                f"start={path}: model.{key} is {value} there, and {asked[key]} is asked for",
                help="leave the model out: its sizes come with its weights; another size begins without start=",
            )


def _same_data(path: str, asked: Mapping[str, Any], stored: Mapping[str, Any], keys: Collection[str]) -> None:
    for key in ("tokenizer", "pieces", "bins"):
        if f"data.{key}" in keys and (key == "tokenizer" or asked.get(key) != stored.get(key)):
            raise CheckpointError(
                f"start={path}: data.{key} cannot be chosen: the model brings its tokenizer and its bins",
                help="leave it out, or begin without start=",
            )


def _same_modalities(
    path: str, asked: Mapping[str, ModalityCard], stored: Mapping[str, ModalityCard], keys: Collection[str]
) -> None:
    for name, card in stored.items():
        settings = given_settings(asked[name].settings) if name in asked else {}
        for key, value in given_settings(card.settings).items():
            wanted, full = settings.get(key, value), f"modalities.{name}.{key}"
            if any(each == full or each.startswith(f"{full}.") for each in keys) and wanted != value:
                raise CheckpointError(
                    f"start={path}: modalities.{name}.{key} is {value} there, and {wanted} is asked for",
                    help="leave it out: the weights belong to these settings; others begin without start=",
                )
