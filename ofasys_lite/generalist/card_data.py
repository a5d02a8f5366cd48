"""What the data of a model's tasks are and under which licences, as far as anybody said so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.spec import is_paths
from ofasys_lite.errors import OfasysError
from ofasys_lite.recipes import data_root, describe, load_manifest, recipe_names


@dataclass(frozen=True, slots=True)
class DataSource:
    """Data of some tasks.

    Attributes:
        name: Of the prepared data, the repository of Hugging Face (`hf:squad`) or the file; no path of the machine.
        about: What it is.
        licence: What its recipe or manifest says; None where nobody does.
        tasks: Names of the tasks that have it.
    """

    name: str
    about: str
    licence: str | None
    tasks: tuple[str, ...]

    @property
    def repository(self) -> str | None:
        """The data set on Hugging Face, if it is one."""
        name = self.name.removeprefix("hf:")
        return name if self.name.startswith("hf:") and not name.startswith((".", "/", "~")) else None


def sources_of(cards: Mapping[str, TaskCard]) -> tuple[DataSource, ...]:
    """The data of tasks by name, each source once, in the order in which tasks name them."""
    used: dict[str, list[str]] = {}
    for task, card in cards.items():
        for source in card.data.values():
            for name in _names(source):
                held = used.setdefault(name, [])
                held += [task] if task not in held else []
    return tuple(DataSource(name, *_said(name), tuple(tasks)) for name, tasks in used.items())


def _names(source: Any) -> Iterable[str]:
    if isinstance(source, Mapping):
        yield from [f"hf:{source['hf']}"] if "hf" in source else _names(source.get("path", ""))
    elif is_paths(source):
        for path in source:
            yield from _names(path)
    elif isinstance(source, (str, Path)):
        text = str(source)
        if text.startswith("<"):  # of rows in memory an export holds a description
            yield "rows in memory"
        elif text.startswith("hf:") and not text.startswith("hf://"):
            yield text.rpartition(":")[0]
        elif re.fullmatch(r"[\w-]+:(train|valid|test)", text):
            yield text.partition(":")[0]
        elif text:
            yield Path(text).name
    else:
        yield "rows in memory"


def _said(name: str) -> tuple[str, str | None]:
    """(what it is, its licence) of prepared data; of others nobody says."""
    if name in recipe_names():
        info = describe(name)
        return info.title, info.licence
    try:
        manifest = load_manifest(data_root() / name)
    except OfasysError:
        return "", None
    return manifest.title, manifest.licence or None
