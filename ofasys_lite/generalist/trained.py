"""What a model was trained on: its tasks, and which rows, in one small file beside its weights (rows.safetensors)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ofasys_lite.cards.types import TaskCard
from ofasys_lite.data.contents import Contents
from ofasys_lite.decoding.options import DecodeOptions
from ofasys_lite.errors import CheckpointError
from ofasys_lite.generalist.calls import decode_options
from ofasys_lite.plan import Plan
from ofasys_lite.plan.decoding import held_for
from ofasys_lite.writing import atomic

_ARRAYS = ("train_N", "known_K", "earlier_M")


def write_contents(contents: Mapping[str, Contents], path: Path) -> None:
    """Writes the contents of tasks by name: eight bytes a training row."""
    arrays, names = {}, {}
    for number, (task, held) in enumerate(contents.items()):
        names[str(number)] = {"task": task, "columns": list(held.columns)}
        arrays.update({f"{number}/{name}": getattr(held, name) for name in _ARRAYS})
    with atomic(path) as partial:
        save_file(arrays, partial, metadata={"tasks": json.dumps(names)})


def read_contents(path: Path) -> dict[str, Contents]:
    """The contents by task; empty where the file is not there: exports from before it was written have none.

    Raises:
        CheckpointError: The file is damaged.
    """
    if not path.exists():
        return {}
    try:
        with safe_open(path, "numpy") as file:
            names = json.loads(file.metadata()["tasks"])
            return {
                said["task"]: Contents(
                    tuple(said["columns"]), *(file.get_tensor(f"{number}/{name}") for name in _ARRAYS)
                )
                for number, said in names.items()
            }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged: {error}", help="copy it again; without it, rows that were trained on are not known"
        ) from None


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task as a model knows it: its card, and its plan with frozen closed sets."""

    card: TaskCard
    plan: Plan

    @property
    def decoding(self) -> dict[str, Any]:
        """What the line's `decode=` says, and over it what the card's `decoding` says."""
        return held_for(self.plan, self.plan.decoding(), self.card.decoding)

    def options(self, **given: Any) -> DecodeOptions:
        """The task's decoding, with what is given in its place; CardError if the line has no use for it."""
        found = decode_options(self.plan, self.card.decoding, given)
        return found or DecodeOptions.of(self.decoding, ways=self.plan.ways())
