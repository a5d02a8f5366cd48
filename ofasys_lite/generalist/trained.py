"""Which rows a model was trained on, as one small file beside its weights: rows.safetensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ofasys_lite.data.contents import Contents
from ofasys_lite.errors import CheckpointError
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
